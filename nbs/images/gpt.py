"""Draw the figures of the GPT chapter: python gpt.py

The ids come from a tokenizer trained here on TinyStories, so they need
that text (`LLMFS_DATA`).
"""

from draw import (
    COLORS,
    PASTEL,
    arrow,
    box,
    canvas,
    draw_map,
    save,
    story_tokenizer,
)

from llm_from_scratch import BPETokenizer

SENTENCE = "Lily lost her red ball, so she asked Ben."
SOFT = "#3d4a59"
LEFT, WIDE = 0.42, 2.3  # the column of boxes
MIDDLE = LEFT + WIDE / 2


def draw_tokens(ax, tokenizer: BPETokenizer, y: float) -> int:
    "The first and last tokens of the sentence with their ids; how many."
    ids = tokenizer.encode(SENTENCE)
    shown = [*ids[:3], None, *ids[-2:]]
    for i, token in enumerate(shown):
        x = LEFT + i * 0.39
        if token is None:
            ax.text(x + 0.16, y + 0.1, "…", ha="center", fontsize=10)
            continue
        piece = tokenizer.decode([token]).replace(" ", "␣")
        box(ax, x, y, 0.37, 0.24, piece, fill=PASTEL[0], fontsize=7.8,
            family="monospace", line=0.6)  # fmt: skip
        ax.text(x + 0.185, y - 0.15, str(token), ha="center", fontsize=8.5,
                color=COLORS["blue"], weight="bold")  # fmt: skip
    return len(ids)


def say_shape(ax, y: float, letters: str, numbers: str) -> None:
    "The shape of what flows here, in letters and in this example."
    ax.text(3.02, y, letters, fontsize=9.5, va="center")
    ax.text(3.77, y, numbers, fontsize=9, va="center", color=COLORS["blue"])


def draw_result(tokenizer: BPETokenizer) -> None:
    "The whole model, with the shape of what flows between its parts."
    fig, ax = canvas(4.6, 4.75)
    ax.text(3.02, 4.62, "shape", fontsize=8.5, color=SOFT)
    ax.text(3.77, 4.62, "here", fontsize=8.5, color=SOFT)
    count = draw_tokens(ax, tokenizer, 4.33)
    say_shape(ax, 4.45, "(B, T)", f"(1, {count})")
    half = WIDE / 2 - 0.06
    right = LEFT + half + 0.12
    box(ax, LEFT, 3.46, half, 0.42, "token\nembedding", fill=PASTEL[1])
    box(ax, right, 3.46, half, 0.42, "position\nembedding", fill=PASTEL[4])
    arrow(ax, (LEFT + half / 2, 4.13), (LEFT + half / 2, 3.89))
    arrow(ax, (right + half / 2, 4.13), (right + half / 2, 3.89))
    ax.text(right + half / 2 + 0.09, 4.0, f"0 … {count - 1}", fontsize=8.5,
            va="center", color=SOFT)  # fmt: skip
    say_shape(ax, 3.67, "(B, T, C)", f"(1, {count}, 256)")
    for x in (LEFT + half / 2, right + half / 2):
        arrow(ax, (x, 3.45), (MIDDLE + (0.09 if x > MIDDLE else -0.09), 3.2))
    ax.text(MIDDLE, 3.16, "+", ha="center", va="center", fontsize=13)
    arrow(ax, (MIDDLE, 3.07), (MIDDLE, 2.88))
    for i, text in enumerate(("block 1", "block 2", "⋮", "block 6")):
        y = 2.6 - 0.33 * i
        if text == "⋮":
            ax.text(MIDDLE, y + 0.13, text, ha="center", va="center",
                    fontsize=11)  # fmt: skip
            continue
        box(ax, LEFT, y, WIDE, 0.27, text, fill=PASTEL[2])
    say_shape(ax, 2.24, "(B, T, C)", f"(1, {count}, 256)")
    arrow(ax, (MIDDLE, 1.6), (MIDDLE, 1.41))
    box(ax, LEFT, 1.12, WIDE, 0.27, "layer norm", fill="#eef2f6")
    say_shape(ax, 1.26, "(B, T, C)", f"(1, {count}, 256)")
    arrow(ax, (MIDDLE, 1.11), (MIDDLE, 0.92))
    box(ax, LEFT, 0.5, WIDE, 0.4, "head: the token\nembedding again",
        fill=PASTEL[1])  # fmt: skip
    tie = {"lw": 1.2, "ls": "--", "color": COLORS["orange"], "marker": ""}
    ax.plot([LEFT - 0.02, 0.22, 0.22, LEFT - 0.02], [3.67, 3.67, 0.7, 0.7],
            **tie)  # fmt: skip
    ax.text(0.12, 2.2, "one table, tied", rotation=90, fontsize=8.5,
            ha="center", va="center", color=COLORS["orange"])  # fmt: skip
    arrow(ax, (MIDDLE, 0.49), (MIDDLE, 0.3))
    ax.text(MIDDLE, 0.16, "scores of the next token", ha="center",
            fontsize=9.5, va="center", weight="bold")  # fmt: skip
    say_shape(ax, 0.16, "(B, T, V)", f"(1, {count}, 4096)")
    save(fig, "gpt_result")


def draw_c_attn() -> None:
    "One stored matrix becomes three, each turned."
    fig, ax = canvas(4.5, 1.95)
    ax.text(0.05, 1.77, "in the file: c_attn.weight", fontsize=9.5)
    ax.text(2.95, 1.77, "in our model", fontsize=9.5)
    side = 0.62
    line = {"color": COLORS["blue"], "lw": 1.6, "ls": "-", "marker": ""}
    for i, name in enumerate("qkv"):
        x = 0.3 + side * i
        box(ax, x, 0.78, side, side, name, fill=PASTEL[i], fontsize=12)
        ax.plot([x + 0.06, x + side - 0.06], [1.3, 1.3], **line)
        top = 1.12 - 0.5 * i
        box(ax, 3.1, top, 0.45, 0.45, name, fill=PASTEL[i], fontsize=11)
        ax.plot([3.16, 3.16], [top + 0.06, top + 0.39], **line)
        ax.text(3.65, top + 0.22, f"{name}_proj", fontsize=9.5, va="center",
                family="monospace")  # fmt: skip
    small = {"fontsize": 9, "color": SOFT, "va": "center"}
    ax.text(0.17, 1.09, "C in", rotation=90, ha="center", **small)
    ax.text(0.3 + 1.5 * side, 0.62, "3 C out", ha="center", **small)
    ax.text(0.3, 0.3, "blue: the weights of one input", **small)
    arrow(ax, (2.3, 1.09), (2.95, 1.09))
    ax.text(2.62, 1.22, "cut, turn", ha="center", fontsize=9, color=SOFT)
    save(fig, "gpt_c_attn")


def main() -> None:
    "Draw them all."
    tokenizer = story_tokenizer()
    draw_map("GPT block", "map_gpt")
    draw_result(tokenizer)
    draw_c_attn()


if __name__ == "__main__":
    main()
