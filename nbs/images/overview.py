"Draw the figures of the overview: python overview.py"

from draw import COLORS, PASTEL, arrow, box, canvas, draw_map, save

SOFT = "#3d4a59"
MODELS = "Tensors … GPT,\nModern parts"
STEPS = [  # what it is, on this page, the chapters that replace it
    ("text", "a file of stories", "Stories"),
    ("ids", "one number a letter", "Tokenization"),
    ("batches", "random windows", "Data"),
    ("model", "a table of pairs,\nthen a tiny GPT", MODELS),
    ("loss", "bits of surprise", "Pretraining"),
    ("samples", "one letter at a time", "Generation"),
]
TOP, ROW, HIGH = 3.68, 0.72, 0.5


def draw_pipeline() -> None:
    "The six boxes of a language model, today and later in the book."
    fig, ax = canvas(4.6, 4.5)
    head = {"fontsize": 9.5, "color": SOFT, "ha": "center"}
    ax.text(0.98, TOP + 0.62, "the box", **head)
    ax.text(2.4, TOP + 0.62, "on this page", **head)
    ax.text(3.84, TOP + 0.62, "in the book", **head)
    for i, (name, here, later) in enumerate(STEPS):
        y = TOP - ROW * i
        big = {"fontsize": 12, "weight": "bold"}
        box(ax, 0.47, y, 1.02, HIGH, name, fill=PASTEL[i], **big)
        ax.text(2.4, y + HIGH / 2, here, ha="center", va="center",
                fontsize=9.5)  # fmt: skip
        box(ax, 3.16, y, 1.36, HIGH, later, fill=PASTEL[i], fontsize=9.5)
        if i < len(STEPS) - 2:
            arrow(ax, (0.98, y - 0.01), (0.98, y - ROW + HIGH + 0.01))
    draw_side_ways(ax)
    save(fig, "overview_pipeline")


def draw_side_ways(ax) -> None:
    "From the loss back to the model: training; from there to samples."
    model, loss, samples = (TOP - ROW * i + HIGH / 2 for i in (3, 4, 5))
    line = {"lw": 1.3, "ls": "-", "marker": ""}
    blue, grey = COLORS["blue"], COLORS["grey"]
    ax.plot([0.46, 0.27, 0.27], [loss, loss, model], color=blue, **line)
    arrow(ax, (0.27, model), (0.47, model), color=blue)
    ax.text(0.14, (model + loss) / 2, "training", rotation=90, color=blue,
            fontsize=9.5, ha="center", va="center")  # fmt: skip
    ax.plot([1.5, 1.63, 1.63], [model, model, samples], color=grey, **line)
    arrow(ax, (1.64, samples), (1.49, samples))


def main() -> None:
    "Draw them all."
    draw_map("overview", "map_overview")
    draw_pipeline()


if __name__ == "__main__":
    main()
