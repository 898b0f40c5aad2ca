"Draw the figures of the chapter on instructions: python instructions.py"

from draw import COLORS, PASTEL, box, canvas, draw_map, plt, save

SOFT = "#3d4a59"
MARK, ASKED, ANSWER = PASTEL[4], "#eef2f6", PASTEL[1]


def pieces(ax, x: float, y: float, parts: list[tuple], height=0.34) -> None:
    "Boxes side by side: text, width, colour."
    for text, width, fill in parts:
        box(ax, x, y, width, height, text, fill=fill, fontsize=8.6)
        x += width + 0.05


def draw_result() -> None:
    "A dialog as the model reads it, and where it learns."
    fig, ax = canvas(4.7, 2.6)
    style = {"va": "center", "fontsize": 9, "color": SOFT}
    rows = [
        [("<|im_start|>", 0.98, MARK), ("user ⏎", 0.62, ASKED)],
        [("Tell a story with these words: Lily, kite.", 3.2, ASKED),
         ("<|im_end|>", 0.86, MARK)],
        [("<|im_start|>", 0.98, MARK), ("assistant ⏎", 0.98, ASKED)],
        [("The wind was strong. Lily took …", 3.2, ANSWER),
         ("<|im_end|>", 0.86, ANSWER)],
    ]  # fmt: skip
    for i, row in enumerate(rows):
        pieces(ax, 0.1, 2.12 - 0.44 * i, row)
    ax.text(1.95, 2.29, "who speaks", **style)
    ax.text(2.3, 1.41, "here a prompt ends", **style)
    ax.plot([0.1, 4.5], [0.62, 0.62], color="#c5ccd5", lw=0.8, marker="",
            ls="-")  # fmt: skip
    box(ax, 0.1, 0.22, 0.24, 0.24, fill=ANSWER)
    ax.text(0.44, 0.34, "learned", **style)
    box(ax, 1.35, 0.22, 0.24, 0.24, fill=ASKED)
    ax.text(1.69, 0.34, "only read", **style)
    box(ax, 2.75, 0.22, 0.24, 0.24, fill=MARK)
    ax.text(3.09, 0.34, "new tokens, read", **style)
    save(fig, "instructions_result")


def draw_packing() -> None:
    "Three dialogs in rows of their own, and in one row."
    fig, ax = canvas(4.7, 2.3)
    lengths, names = [1.5, 2.3, 0.7], ["A", "B", "C"]
    fills = [PASTEL[0], PASTEL[1], PASTEL[2]]
    style = {"ha": "left", "va": "center", "fontsize": 10}
    ax.text(0.1, 2.16, "padded: three rows", **style)
    for i, (n, name) in enumerate(zip(lengths, names, strict=True)):
        y = 1.78 - 0.33 * i
        box(ax, 0.1, y, n, 0.27, name, fill=fills[i])
        if n < 2.3:
            box(ax, 0.1 + n, y, 2.3 - n, 0.27, "filling", fill="#ffffff",
                fontsize=8, color=SOFT)  # fmt: skip
    ax.text(0.1, 0.83, "packed: one row, and who sees whom", **style)
    x = 0.1
    for n, name, fill in zip(lengths, names, fills, strict=True):
        box(ax, x, 0.42, n, 0.27, name, fill=fill)
        ax.text(x + 0.04, 0.25, "0 1 2 …", fontsize=8.5, va="center",
                color=SOFT)  # fmt: skip
        x += n
    ax.text(0.1, 0.08, "positions start again", fontsize=8.5, va="center",
            color=SOFT)  # fmt: skip
    left, top, side = 2.95, 2.05, 1.3
    total = sum(lengths)
    ax.add_patch(plt.Rectangle((left, top - side), side, side, fill=False,
                               edgecolor=COLORS["grey"], lw=0.9))  # fmt: skip
    ax.text(left + side / 2, top + 0.11, "is seen", ha="center", va="center",
            fontsize=8.5, color=SOFT)  # fmt: skip
    ax.text(left - 0.11, top - side / 2, "looks", ha="center", va="center",
            fontsize=8.5, color=SOFT, rotation=90)  # fmt: skip
    at = 0.0
    for n, name, fill in zip(lengths, names, fills, strict=True):
        a, b = side * at / total, side * (at + n) / total
        ax.add_patch(plt.Polygon(
            [(left + a, top - a), (left + a, top - b), (left + b, top - b)],
            facecolor=fill, edgecolor=COLORS["grey"], lw=0.9))  # fmt: skip
        ax.text(left + a + (b - a) / 3, top - a - 2 * (b - a) / 3, name,
                ha="center", va="center", fontsize=9)  # fmt: skip
        at += n
    save(fig, "instructions_packing")


if __name__ == "__main__":
    draw_result()
    draw_packing()
    draw_map("Finetuning", "map_instructions")
