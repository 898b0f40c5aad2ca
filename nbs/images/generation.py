"Draw the figures of the generation chapter: run this file."

import matplotlib.pyplot as plt
from draw import COLORS, PASTEL, arrow, box, canvas, draw_map, save

WORDS = ["<end>", "Lily", "lost", "her", "red", "ball"]
SOFT = "#3d4a59"


def draw_result() -> None:
    "The loop: scores, adjusted, drawn, appended, again."
    fig, ax = canvas(4.6, 2.55)
    x = 0.1
    for word in [*WORDS[1:], "?"]:
        width = 0.16 + 0.085 * len(word)
        fill = PASTEL[1] if word == "?" else PASTEL[0]
        box(ax, x, 2.1, width, 0.32, word, fill=fill, fontsize=9.5)
        x += width + 0.06
    steps = [
        (0.1, "model", "cache"),
        (1.23, "scores", "one a token"),
        (2.36, "adjust", "T, k, p"),
        (3.49, "draw", "one id"),
    ]
    for i, (x, title, below) in enumerate(steps):
        fill = PASTEL[2] if i in (0, 1) else PASTEL[4]
        box(ax, x, 1.05, 1.0, 0.52, title, fill=fill, fontsize=11)
        ax.text(x + 0.5, 0.88, below, ha="center", va="center",
                fontsize=9, color=SOFT)  # fmt: skip
        if i:
            arrow(ax, (x - 0.13, 1.31), (x, 1.31))
    arrow(ax, (0.6, 2.08), (0.6, 1.59))
    style = {"color": COLORS["grey"], "lw": 1.1, "marker": "", "ls": "-"}
    ax.plot([3.99, 3.99], [1.57, 1.85], **style)
    ax.plot([3.99, 2.77], [1.85, 1.85], **style)
    arrow(ax, (2.77, 1.85), (2.77, 2.09))
    ax.text(3.1, 1.73, "append, again", ha="center", va="center",
            fontsize=9, color=SOFT)  # fmt: skip
    box(ax, 2.36, 0.15, 2.13, 0.42, "stop: end marker, text, length",
        fill="#eef2f6", fontsize=8.6)  # fmt: skip
    arrow(ax, (3.99, 0.78), (3.99, 0.58))
    save(fig, "generation_result")


def draw_cache() -> None:
    "What is computed for three tokens in a row, without and with a cache."
    fig, ax = canvas(4.6, 2.75)
    cell, words = 0.3, ["Lily", "lost", "her", "red", "ball"]
    for side, left in enumerate((0.12, 2.42)):
        title = ("without a cache", "with a cache")[side]
        ax.text(left + 1.0, 2.58, title, ha="center", va="center", fontsize=11)
        for step, n in enumerate((3, 4, 5)):
            top = 2.3 - 0.72 * step
            for i in range(n):
                new = i == n - 1 or not side or not step
                fill = PASTEL[1] if new else "#ffffff"
                box(ax, left + i * (cell + 0.1), top - 0.3, cell + 0.06,
                    0.3, words[i], fill=fill, fontsize=8)  # fmt: skip
            count = n if not side or not step else 1
            told = f"{count} computed"
            if side and step:
                told += f", {n - 1} read"
            ax.text(left, top - 0.45, told, fontsize=9, va="center",
                    color=SOFT)  # fmt: skip
    ax.plot([2.3, 2.3], [0.15, 2.6], color="#c5ccd5", lw=0.8, marker="",
            ls="-")  # fmt: skip
    ax.text(0.12, 0.14, "12 in all", fontsize=10, va="center",
            color=COLORS["orange"], weight="bold")  # fmt: skip
    ax.text(2.42, 0.14, "5 in all", fontsize=10, va="center",
            color=COLORS["orange"], weight="bold")  # fmt: skip
    save(fig, "generation_cache")


def draw_padding() -> None:
    "Prompts of three lengths, aligned at their ends, with their positions."
    fig, ax = canvas(4.6, 1.95)
    rows = [
        ["Lily", "lost", "her", "red", "ball"],
        ["She", "asked", "Ben"],
        ["Once"],
    ]
    wide, high, left = 0.62, 0.34, 0.12
    for r, words in enumerate(rows):
        y = 1.42 - 0.52 * r
        for c in range(5):
            at = c - (5 - len(words))
            x = left + c * (wide + 0.06)
            if at < 0:
                box(ax, x, y, wide, high, "", fill="#e3e8ee", edge="#c5ccd5")
                continue
            box(ax, x, y, wide, high, words[at], fill=PASTEL[0], fontsize=9)
            ax.text(x + wide / 2, y - 0.09, str(at), ha="center",
                    va="center", fontsize=8, color=COLORS["blue"])  # fmt: skip
        x = left + 5 * (wide + 0.06)
        patch = plt.Rectangle(
            (x, y), wide, high, fill=False, ls=":", lw=1.2,
            edgecolor=COLORS["orange"],
        )  # fmt: skip
        ax.add_patch(patch)
        ax.text(x + wide / 2, y + high / 2, "next", ha="center", va="center",
                fontsize=9, color=COLORS["orange"])  # fmt: skip
        ax.text(x + wide / 2, y - 0.09, str(len(words)), ha="center",
                va="center", fontsize=8, color=COLORS["blue"])  # fmt: skip
    ax.text(left, 0.08, "blue: the position that the model is told",
            fontsize=9, va="center", color=SOFT)  # fmt: skip
    save(fig, "generation_padding")


if __name__ == "__main__":
    draw_result()
    draw_cache()
    draw_padding()
    draw_map("Pretraining", "map_generation")
