"""Draw the figures of the chapter on embeddings: python embeddings.py

The ids come from a tokenizer trained here on TinyStories, so it needs
that text (`LLMFS_DATA`).
"""

import torch
from draw import COLORS, PASTEL, box, canvas, draw_map, save, story_tokenizer
from matplotlib import colormaps
from torch import Tensor

from llm_from_scratch import BPETokenizer
from llm_from_scratch.embeddings import Embedding

SENTENCE = "Lily lost her red ball, so she asked Ben."
SHOWN = 6  # channels of the drawing
PALE = "#eef2f6"


def color_of(value: float, scale: float) -> tuple:
    "Violet for negative numbers, white for zero, orange for positive ones."
    return colormaps["PuOr_r"](0.5 + 0.4 * max(-1, min(1, value / scale)))


def strip(ax, x: float, y: float, values: Tensor) -> None:
    "A row of coloured cells, one a channel."
    for i, value in enumerate(values.tolist()):
        fill = color_of(value, 0.05)
        box(ax, x + i * 0.145, y, 0.13, 0.21, fill=fill, line=0.4)


def draw_result(tokenizer: BPETokenizer) -> None:
    "Token, id, two strips and their sum for each position."
    ids = tokenizer.encode(SENTENCE)
    torch.manual_seed(0)
    tables = Embedding(len(tokenizer), 48), Embedding(64, 48)
    with torch.no_grad():
        words = tables[0](torch.tensor([ids]))[0, :, :SHOWN]
        places = tables[1](torch.arange(len(ids))[None])[0, :, :SHOWN]
    fig, ax = canvas(4.6, 3.5)
    middle = {"ha": "center", "va": "center"}
    heads = {0.16: "at", 0.65: "token", 1.2: "id", 1.87: "of the\ntoken",
             2.97: "of the\nposition", 4.08: "sum"}  # fmt: skip
    for x, text in heads.items():
        ax.text(x, 3.28, text, fontsize=9, color="#3d4a59", **middle)
    for t, token in enumerate(ids):
        y = 2.84 - t * 0.277
        text = tokenizer.decode([token]).replace(" ", "␣")
        box(ax, 0.33, y - 0.02, 0.63, 0.25, text, fill=PASTEL[t % 2])
        ax.text(0.16, y + 0.1, t, fontsize=9, **middle)
        ax.text(1.2, y + 0.1, token, fontsize=9, **middle)
        strip(ax, 1.44, y, words[t])
        ax.text(2.42, y + 0.1, "+", fontsize=10, **middle)
        strip(ax, 2.54, y, places[t])
        ax.text(3.53, y + 0.1, "=", fontsize=10, **middle)
        strip(ax, 3.65, y, words[t] + places[t])
    save(fig, "embeddings_result")


def grid(ax, x, y, numbers: list, fills: list, width=0.28) -> None:
    "A matrix of boxes with its upper left corner at (x, y)."
    for i, (row, fill) in enumerate(zip(numbers, fills, strict=True)):
        for j, number in enumerate(row):
            shade = fill[j] if isinstance(fill, list) else fill
            at = (x + j * width, y - (i + 1) * 0.27)
            box(ax, *at, width - 0.03, 0.24, str(number),
                fill=shade, fontsize=9, line=0.5)  # fmt: skip


def draw_lookup() -> None:
    "The one-hot product and its transpose, with numbers."
    ids, hues = [3, 1, 3], [PASTEL[1], PASTEL[0], PASTEL[2]]
    onehot = [[int(v == i) for v in range(5)] for i in ids]
    table = [[3 * v + c for c in range(3)] for v in range(5)]
    rows = [PALE, PASTEL[0], PALE, PASTEL[1], PALE]
    fig, ax = canvas(4.5, 4.0)
    marked = [[PASTEL[1 - (i == 1)] if n else "#ffffff" for n in row]
              for i, row in enumerate(onehot)]  # fmt: skip
    ax.text(0.05, 3.8, "forward", fontsize=9.5, weight="bold")
    grid(ax, 0.5, 3.23, onehot, marked)
    grid(ax, 2.2, 3.5, table, rows)
    grid(ax, 3.4, 3.23, [table[i] for i in ids],
         [PASTEL[1], PASTEL[0], PASTEL[1]])  # fmt: skip
    for t, i in enumerate(ids):
        ax.text(0.42, 3.07 - t * 0.27, f"id {i}", ha="right", fontsize=9)
    label(ax, 1.2, 3.35, "one-hot (T, V)")
    label(ax, 2.62, 3.62, "table (V, C)")
    label(ax, 3.82, 3.35, "rows (T, C)")
    sign(ax, 2.05, 2.83, "×")
    sign(ax, 3.22, 2.83, "=")
    ax.text(0.05, 1.9, "backward", fontsize=9.5, weight="bold")
    grads = [["a"] * 3, ["b"] * 3, ["c"] * 3]
    turned = [[row[v] for row in onehot] for v in range(5)]
    marked = [[hues[t] if n else "#ffffff" for t, n in enumerate(row)]
              for row in turned]  # fmt: skip
    grid(ax, 0.7, 1.5, turned, marked)
    grid(ax, 1.98, 1.23, grads, hues)
    home = [["0"] * 3, ["b"] * 3, ["0"] * 3, ["a+c"] * 3, ["0"] * 3]
    fills = [PALE, PASTEL[0], PALE, PASTEL[4], PALE]
    grid(ax, 3.2, 1.5, home, fills, width=0.39)
    for v in range(5):
        ax.text(0.6, 1.34 - v * 0.27, f"row {v}", ha="right", fontsize=9)
    label(ax, 1.11, 1.69, "transposed\n(V, T)")
    label(ax, 2.4, 1.42, "gradient\n(T, C)")
    label(ax, 3.77, 1.69, "gradient of the\ntable (V, C)")
    sign(ax, 1.76, 0.83, "×")
    sign(ax, 3.02, 0.83, "=")
    save(fig, "embeddings_lookup")


def label(ax, x: float, y: float, text: str) -> None:
    "What a matrix is, above it."
    ax.text(x, y, text, ha="center", va="center", fontsize=8.5,
            color="#3d4a59")  # fmt: skip


def sign(ax, x: float, y: float, text: str) -> None:
    "An operator between two matrices."
    ax.text(x, y, text, ha="center", va="center", fontsize=14,
            color=COLORS["black"])  # fmt: skip


def main() -> None:
    "Draw them all."
    tokenizer = story_tokenizer()
    draw_map("Attention", "map_embeddings")
    draw_result(tokenizer)
    draw_lookup()


if __name__ == "__main__":
    main()
