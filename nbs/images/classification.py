"Draw the figures of the chapter on classification: python classification.py"

from draw import COLORS, PASTEL, arrow, box, canvas, draw_map, save

SOFT = "#3d4a59"


def draw_result() -> None:
    "From the end of a story to four shares."
    fig, ax = canvas(4.75, 2.5)
    words = ["…", "Max", "felt", "relaxed", "and", "warm", "."]
    widths = [0.28, 0.48, 0.44, 0.74, 0.44, 0.6, 0.24]
    x, places = 0.1, []
    for word, width in zip(words, widths, strict=True):
        last = word == "."
        box(ax, x, 0.3, width, 0.32, word, fontsize=10.5,
            fill=PASTEL[1] if last else "#eef2f6")  # fmt: skip
        places.append(x + width / 2)
        x += width + 0.05
    right = x - 0.05
    box(ax, 0.1, 0.98, right - 0.1, 0.52, "the storyteller: six blocks",
        fill=PASTEL[0], fontsize=11.5)  # fmt: skip
    for place in places:
        arrow(ax, (place, 0.65), (place, 0.96))
    for place in places[:-1]:
        ax.plot([place, place], [1.52, 1.66], lw=1.1, ls="-", marker="",
                color="#b9c3ce")  # fmt: skip
    y = 2.05
    ax.text(places[2], 1.84, "not read", ha="center", fontsize=11, color=SOFT)
    arrow(ax, (places[-1], 1.52), (places[-1], y - 0.04), COLORS["orange"])
    box(ax, places[-1] - 0.34, y, 0.68, 0.36, "score", fill=PASTEL[1],
        fontsize=11)  # fmt: skip
    shares = (("calm", 0.88), ("happy", 0.06), ("proud", 0.04),
              ("sad", 0.02))  # fmt: skip
    for i, (name, share) in enumerate(shares):
        top = 1.4 - 0.27 * i
        ax.text(4.15, top, name, ha="right", va="center", fontsize=10.5)
        bar = {"fill": COLORS["blue"], "edge": "none"}
        box(ax, 4.2, top - 0.08, 0.5 * share, 0.16, **bar)
    side = places[-1] + 0.35
    ax.plot([side, 4.3, 4.3], [y + 0.18, y + 0.18, 1.8], lw=1.1, ls="-",
            marker="", color=COLORS["orange"])  # fmt: skip
    arrow(ax, (4.3, 1.82), (4.3, 1.58), COLORS["orange"])
    ax.text(0.1, 0.1, "the end of a story", fontsize=11, va="center",
            color=SOFT)  # fmt: skip
    save(fig, "classification_result")


def draw_padding() -> None:
    "Where the last real token stands, and where the last column."
    fig, ax = canvas(4.7, 1.95)
    rows = (
        ("Ben was sad .", 4, 1.22),
        ("Max felt relaxed and so warm .", 7, 0.62),
    )
    for text, real, y in rows:
        words = [*text.split(), *["pad"] * (7 - real)]
        for i, word in enumerate(words):
            fill = "#eef2f6" if i < real else "#ffffff"
            fill = PASTEL[1] if i == real - 1 else fill
            style = {"color": SOFT if i >= real else COLORS["black"]}
            box(ax, 0.12 + 0.645 * i, y, 0.61, 0.34, word, fill=fill,
                fontsize=10.3, **style)  # fmt: skip
    x = 0.12 + 0.645 * 6
    ax.add_patch(box_outline(x - 0.035, 0.52, 0.68, 1.14))
    ax.text(x + 0.3, 1.76, "last column", ha="center", fontsize=10.5,
            color=COLORS["blue"])  # fmt: skip
    ax.text(0.12, 0.33, "orange: the last real token, has seen all its text",
            fontsize=10.5, va="center", color=SOFT)  # fmt: skip
    ax.text(0.12, 0.11, "pad: behind the end, seen by no real token",
            fontsize=10.5, va="center", color=SOFT)  # fmt: skip
    save(fig, "classification_padding")


def box_outline(x: float, y: float, width: float, height: float):
    "A dotted frame."
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), width, height, fill=False, ls=":", lw=1.3,
                     edgecolor=COLORS["blue"])  # fmt: skip


if __name__ == "__main__":
    draw_result()
    draw_padding()
    draw_map("Finetuning", "map_classification")
