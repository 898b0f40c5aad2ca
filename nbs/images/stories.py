"Draw the figures of the chapter on predicting by hand: run this file."

import math

import matplotlib.pyplot as plt
from draw import COLORS, PASTEL, arrow, box, canvas, draw_map, save

WORDS = [
    "Lily",
    "lost",
    "her",
    "red",
    "ball",
    ",",
    "so",
    "she",
    "asked",
    "Ben",
    ".",
]
# draws of the toy world: a hero of 3, a look of 3, a thing and a friend of 2
CHOICES = {"Lily": 3, "red": 3, "ball": 2, "Ben": 2}


def draw_result() -> None:
    "The travelling sentence, a bar of surprise below each word."
    fig, ax = canvas(4.6, 1.75)
    wide = [0.1 + 0.083 * len(word) for word in WORDS]
    x = (4.6 - sum(wide) - 0.04 * (len(wide) - 1)) / 2
    for word, width in zip(WORDS, wide, strict=True):
        bits = math.log2(CHOICES.get(word, 1))
        fill = PASTEL[1] if bits else "#ffffff"
        box(ax, x, 1.3, width, 0.32, word, fill=fill, fontsize=10)
        height, thick = 0.5 * bits, min(0.24, width)
        bar = plt.Rectangle(
            (x + width / 2 - thick / 2, 1.2 - height),
            *(thick, max(height, 0.015)),
            color=COLORS["orange"] if bits else COLORS["grey"],
        )
        ax.add_patch(bar)
        label = f"{bits:.2f}" if bits else "0"
        ax.text(x + width / 2, 1.08 - height, label, ha="center", va="center")
        x += width + 0.04
    total = sum(map(math.log2, CHOICES.values()))
    text = f"together {total:.2f} bits: one sentence out of {2**total:.0f}"
    ax.text(2.3, 0.1, text, ha="center", va="center", fontsize=10)
    save(fig, "stories_result")


def draw_tree() -> None:
    "The draws behind the travelling sentence."
    fig, ax = canvas(4.6, 2.75)
    box(ax, 1.8, 2.35, 1.0, 0.32, "story", fill=PASTEL[0])
    tops = [
        (0.02, "Hero\n= Lily", "1 of 3"),
        (0.95, "Friend\n= Ben", "1 of 2"),
        (1.88, "Thing\n= ball", "1 of 2"),
        (2.81, "loss", ""),
        (3.74, "search,\nend", ""),
    ]
    for x, text, share in tops:
        fill = PASTEL[1] if share else PASTEL[0]
        box(ax, x, 1.45, 0.84, 0.48, text, fill=fill)
        arrow(ax, (2.3, 2.35), (x + 0.42, 1.93))
        ax.text(x + 0.42, 1.32, share, ha="center", va="center", fontsize=9)
    box(ax, 2.81, 0.72, 0.84, 0.48, "look\n= red", fill=PASTEL[1])
    arrow(ax, (3.23, 1.45), (3.23, 1.2))
    ax.text(3.72, 0.96, "1 of 3", ha="left", va="center", fontsize=9)
    text = "Lily lost her red ball, so she asked Ben.  …"
    ax.text(2.3, 0.42, text, ha="center", va="center", fontsize=11)
    ax.text(
        *(2.3, 0.15),
        "1/3 · 1/2 · 1/2 · 1/3 = 1/36",
        **{"ha": "center", "va": "center", "fontsize": 10},
    )
    save(fig, "stories_tree")


if __name__ == "__main__":
    draw_result()
    draw_tree()
    draw_map("Tokenization", "map_stories")
