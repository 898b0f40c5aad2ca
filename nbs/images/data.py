"""Draw the figures of the data chapter: python data.py

The batch comes from a tokenizer trained here on TinyStories, so it needs
that text (`LLMFS_DATA`).
"""

from draw import (
    COLORS,
    PASTEL,
    WIDTH,
    arrow,
    box,
    canvas,
    save,
    story_tokenizer,
)

from llm_from_scratch import BPETokenizer
from llm_from_scratch.files import END

ROWS = [
    "Lily lost her red ball, so she asked Ben.",
    "Ben looked under the big bed.",
    "He saw the ball!",
    "Lily said thank you to Ben.",
]
PALE = "#e3e8ee"


def draw_batch(tokenizer: BPETokenizer) -> None:
    "Input and output of a batch, one token apart."
    marker = tokenizer.special_tokens[END]
    lines = [[marker, *tokenizer.encode(text), marker] for text in ROWS]
    columns = len(lines[0]) - 1
    fig, ax = canvas(WIDTH, 2.85)
    step = (WIDTH - 0.1) / columns
    for part, (name, shift) in enumerate((("input", 0), ("output", 1))):
        top = 2.62 - part * 1.42
        ax.text(0.06, top, name, fontsize=8.5, weight="bold")
        for row, line in enumerate(lines):
            for column in range(columns):
                at = column + shift
                real = column < len(line) - 1
                text = show(tokenizer, line[at]) if real else ""
                fill = PASTEL[row] if real else PALE
                y = top - 0.34 - row * 0.27
                box(ax, 0.05 + column * step, y, step - 0.04, 0.23, text,
                    fill=fill, fontsize=7.6,
                    line=0.5)  # fmt: skip
    save(fig, "data_result")


def show(tokenizer: BPETokenizer, token: int) -> str:
    "A token as it stands in the figure."
    return tokenizer.decode([token]).replace(END, "END").replace(" ", "␣")


def draw_mojibake() -> None:
    "Two quotes, their bytes, and what was read."
    fig, ax = canvas(WIDTH, 1.75)
    for name, y in (("typed", 1.4), ("UTF-8", 0.87), ("read as cp1252", 0.3)):
        ax.text(0.05, y - 0.03, name, fontsize=8.5, color="#3d4a59")
    for k, (quote, signs) in enumerate((("“", "â€œ"), ("”", "â€×"))):
        left = 1.5 + k * 2.55
        box(ax, left + 0.62, 1.26, 0.5, 0.34, quote, fill=PASTEL[k],
            fontsize=13)  # fmt: skip
        for i, byte in enumerate(quote.encode()):
            x = left + i * 0.62
            lost = signs[i] == "×"
            box(ax, x, 0.72, 0.5, 0.3, f"{byte:02x}", fill=PASTEL[k],
                family="monospace", fontsize=9.5)  # fmt: skip
            arrow(ax, (left + 0.87, 1.24), (x + 0.25, 1.04))
            arrow(ax, (x + 0.25, 0.7), (x + 0.25, 0.52))
            edge = {"edge": COLORS["orange"]} if lost else {}
            text = "lost" if lost else signs[i]
            size = 8 if lost else 12
            box(ax, x, 0.14, 0.5, 0.34, text, fill="#ffffff",
                fontsize=size, **edge)  # fmt: skip
    save(fig, "data_mojibake")


def draw_packing() -> None:
    "Four stories of different lengths, packed and padded."
    lengths, size = [8, 15, 5, 12], 10
    step, height = 0.27, 0.24
    fig, ax = canvas(WIDTH, 1.75)
    stream = [i for i, n in enumerate(lengths) for _ in range(n)]
    ax.text(0.05, 1.52, "packed", fontsize=8.5, weight="bold")
    for place, story in enumerate(stream):
        row, column = divmod(place, size)
        cell(ax, 0.05 + column * step, 1.16 - row * 0.32, step, height, story)
    left = 3.15
    ax.text(left, 1.52, "padded", fontsize=8.5, weight="bold")
    for row, n in enumerate(lengths):
        for column in range(size):
            story = row if column < n else None
            cell(ax, left + column * step, 1.16 - row * 0.32, step, height,
                 story)  # fmt: skip
        if n > size:
            x = left + size * step + 0.04
            ax.text(x, 1.28 - row * 0.32, f"{n - size} cut", fontsize=8,
                    va="center", color=COLORS["orange"])  # fmt: skip
    save(fig, "data_packing")


def cell(ax, x, y, step, height, story: int | None) -> None:
    "A place in a window: of a story, or padding."
    fill = PALE if story is None else PASTEL[story]
    text = "" if story is None else "ABCD"[story]
    box(ax, x, y, step - 0.03, height, text, fill=fill, fontsize=7, line=0.5)


def main() -> None:
    "Draw them all."
    tokenizer = story_tokenizer()
    draw_batch(tokenizer)
    draw_mojibake()
    draw_packing()


if __name__ == "__main__":
    main()
