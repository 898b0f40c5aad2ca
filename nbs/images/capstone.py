"Draw the figures of the capstone: run this file."

from draw import COLORS, PASTEL, arrow, box, canvas, draw_map, save

SOFT = "#3d4a59"
STEPS = [  # what there is, which command makes the next, where it is taught
    ("stories.txt", "llmfs tokenizer train", "Tokenization"),
    ("tokenizer.json", "llmfs pretrain", "Data to Modern parts"),
    ("model", "llmfs finetune instruct", "Instructions"),
    ("assistant", "llmfs quantize", "Quantization"),
    ("small", "llmfs chat", "Generation"),
    ("a talk", "", ""),
]
TOP, ROW, HIGH = 3.72, 0.72, 0.4


def draw_chain() -> None:
    "Files in a column, and the commands between them."
    fig, ax = canvas(4.0, 4.2)
    for i, (name, command, chapter) in enumerate(STEPS):
        y = TOP - ROW * i
        box(ax, 0.1, y, 1.4, HIGH, name, fill=PASTEL[i], fontsize=11)
        if command:
            arrow(ax, (0.8, y - 0.01), (0.8, y - ROW + HIGH + 0.01))
            middle, style = y - (ROW - HIGH) / 2, {"va": "center"}
            ax.text(1.66, middle + 0.1, command, fontsize=10.5,
                    family="monospace", color=COLORS["blue"],
                    **style)  # fmt: skip
            ax.text(1.66, middle - 0.11, chapter, fontsize=9.5, color=SOFT,
                    **style)  # fmt: skip
    save(fig, "capstone_chain")


def main() -> None:
    "Draw them all."
    draw_map("all", "map_capstone")
    draw_chain()


if __name__ == "__main__":
    main()
