"Draw the figures of the chapter on LoRA: python lora.py"

from draw import COLORS, PASTEL, arrow, box, canvas, draw_map, save

SOFT = "#3d4a59"


def draw_result() -> None:
    "One frozen matrix, and two thin ones beside it."
    fig, ax = canvas(4.7, 2.75)
    box(ax, 0.1, 1.2, 0.42, 0.36, "x", fontsize=11)
    box(ax, 1.0, 1.5, 1.15, 1.15, "W\n256 × 256\nfrozen", fill="#e3e8ee",
        fontsize=10)  # fmt: skip
    box(ax, 1.0, 0.55, 1.15, 0.2, "A   8 × 256", fill=PASTEL[1],
        fontsize=8.8)  # fmt: skip
    box(ax, 2.62, 0.08, 0.24, 1.15, "", fill=PASTEL[1])
    ax.text(2.74, 0.655, "B   256 × 8", rotation=90, ha="center",
            va="center", fontsize=8.8)  # fmt: skip
    box(ax, 3.32, 1.2, 0.36, 0.36, "+", fontsize=13)
    box(ax, 4.14, 1.2, 0.42, 0.36, "y", fontsize=11)
    arrow(ax, (0.54, 1.44), (0.98, 2.0))
    arrow(ax, (0.54, 1.32), (0.98, 0.68), COLORS["orange"])
    arrow(ax, (2.17, 0.65), (2.6, 0.65), COLORS["orange"])
    ax.text(2.38, 0.73, "8", ha="center", fontsize=9, color=SOFT)
    arrow(ax, (2.17, 2.05), (3.3, 1.47))
    arrow(ax, (2.88, 0.7), (3.32, 1.19), COLORS["orange"])
    arrow(ax, (3.7, 1.38), (4.12, 1.38))
    ax.text(3.16, 0.72, "alpha / 8", fontsize=9, color=SOFT, va="center")
    ax.text(0.1, 0.3, "orange: 4,096 numbers learn,", fontsize=9,
            color=SOFT, va="center")  # fmt: skip
    ax.text(0.1, 0.1, "grey: 65,536 stay", fontsize=9, color=SOFT,
            va="center")  # fmt: skip
    save(fig, "lora_result")


def draw_swap() -> None:
    "One base, and adapters that take turns."
    fig, ax = canvas(4.7, 1.9)
    box(ax, 0.1, 0.62, 1.5, 0.9, "the storyteller\n4.9 M numbers,\nfrozen",
        fill="#e3e8ee", fontsize=9.5)  # fmt: skip
    rows = (
        (1.42, "no adapter", "Once upon a time, …", "#ffffff"),
        (0.84, "letters", "Dear Mia, greetings from …", PASTEL[1]),
        (0.26, "riddles", "Guess, Mia! I am red …", PASTEL[2]),
    )
    for y, name, text, fill in rows:
        box(ax, 2.06, y, 0.82, 0.36, name, fill=fill, fontsize=9.5)
        arrow(ax, (1.62, 1.07), (2.04, y + 0.18))
        ax.text(2.98, y + 0.18, text, va="center", fontsize=9, color=SOFT)
    save(fig, "lora_swap")


if __name__ == "__main__":
    draw_result()
    draw_swap()
    draw_map("Finetuning", "map_lora")
