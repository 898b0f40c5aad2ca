"""Draw the figures of the chapter on embeddings: python embeddings.py

The ids come from a tokenizer trained here on TinyStories, so it needs
that text (`LLMFS_DATA`).
"""

import torch
from draw import COLORS, PASTEL, WIDTH, arrow, box, canvas, draw_map, save
from matplotlib import colormaps
from torch import Tensor

from llm_from_scratch import BPETokenizer
from llm_from_scratch.embeddings import Embedding
from llm_from_scratch.files import END, corpus_name, load_stories

SENTENCE = "Lily lost her red ball, so she asked Ben."
SHOWN = 6  # channels of the drawing
PALE = "#eef2f6"


def color_of(value: float, scale: float) -> tuple:
    "Violet for negative numbers, white for zero, orange for positive ones."
    return colormaps["PuOr_r"](0.5 + 0.4 * max(-1, min(1, value / scale)))


def strip(ax, x: float, top: float, values: Tensor, width: float) -> None:
    "A column of coloured cells, one a channel."
    for i, value in enumerate(values.tolist()):
        y = top - (i + 1) * 0.13
        box(ax, x, y, width, 0.12, fill=color_of(value, 0.05), line=0.4)


def draw_result(tokenizer: BPETokenizer) -> None:
    "Token, id, two strips and their sum for each position."
    ids = tokenizer.encode(SENTENCE)
    torch.manual_seed(0)
    tables = Embedding(len(tokenizer), 48), Embedding(64, 48)
    with torch.no_grad():
        words = tables[0](torch.tensor([ids]))[0, :, :SHOWN]
        places = tables[1](torch.arange(len(ids))[None])[0, :, :SHOWN]
    fig, ax = canvas(WIDTH, 4.0)
    left, step = 0.88, (WIDTH - 0.9) / len(ids)
    rows = {
        "token": 3.83,
        "id": 3.53,
        "row of the\ntoken table": 2.87,
        "position": 2.3,
        "+ row of the\nposition table": 1.64,
        "= what the\nmodel sees": 0.43,
    }
    for name, y in rows.items():
        ax.text(0.03, y, name, fontsize=7.6, va="center", color="#3d4a59")
    for t, token in enumerate(ids):
        x, width = left + t * step, step - 0.07
        middle, text = x + width / 2, tokenizer.decode([token])
        text, fill = text.replace(" ", "␣"), PASTEL[t % 2]
        box(ax, x, 3.7, width, 0.26, text, fill=fill, fontsize=7.6)
        strip(ax, x, 3.27, words[t], width)
        strip(ax, x, 2.04, places[t], width)
        strip(ax, x, 0.83, words[t] + places[t], width)
        for number, y in ((token, 3.53), (t, 2.3)):
            ax.text(middle, y, number, ha="center", va="center", fontsize=8)
            arrow(ax, (middle, y - 0.07), (middle, y - 0.26))
        ax.text(middle, 1.05, "=", ha="center", va="center", fontsize=10)
    save(fig, "embeddings_result")


def grid(ax, x, y, numbers: list, fills: list, size=(0.36, 0.27)) -> None:
    "A matrix of boxes with its upper left corner at (x, y)."
    for i, (row, fill) in enumerate(zip(numbers, fills, strict=True)):
        for j, number in enumerate(row):
            shade = fill[j] if isinstance(fill, list) else fill
            at = (x + j * size[0], y - (i + 1) * size[1])
            box(ax, *at, size[0] - 0.04, size[1] - 0.04, str(number),
                fill=shade, fontsize=9, line=0.5)  # fmt: skip


def draw_lookup() -> None:
    "The one-hot product and its transpose, with numbers."
    ids, hues = [3, 1, 3], [PASTEL[1], PASTEL[0], PASTEL[2]]
    onehot = [[int(v == i) for v in range(5)] for i in ids]
    table = [[3 * v + c for c in range(3)] for v in range(5)]
    rows = [PALE, PASTEL[0], PALE, PASTEL[1], PALE]
    fig, ax = canvas(WIDTH, 3.9)
    marked = [[PASTEL[1 - (i == 1)] if n else "#ffffff" for n in row]
              for i, row in enumerate(onehot)]  # fmt: skip
    ax.text(0.05, 3.7, "forward", fontsize=9.5, weight="bold")
    grid(ax, 0.62, 3.25, onehot, marked)
    grid(ax, 2.95, 3.52, table, rows)
    grid(ax, 4.75, 3.25, [table[i] for i in ids],
         [PASTEL[1], PASTEL[0], PASTEL[1]])  # fmt: skip
    for t, i in enumerate(ids):
        ax.text(0.5, 3.09 - t * 0.27, f"id {i}", ha="right", fontsize=9)
    label(ax, 1.52, 3.36, "one-hot (T, V)")
    label(ax, 3.49, 3.62, "table (V, C)")
    label(ax, 5.29, 3.36, "rows (T, C)")
    sign(ax, 2.67, 2.85, "×")
    sign(ax, 4.4, 2.85, "=")
    ax.text(0.05, 1.85, "backward", fontsize=9.5, weight="bold")
    grads = [["a"] * 3, ["b"] * 3, ["c"] * 3]
    turned = [[row[v] for row in onehot] for v in range(5)]
    marked = [[hues[t] if n else "#ffffff" for t, n in enumerate(row)]
              for row in turned]  # fmt: skip
    grid(ax, 0.98, 1.62, turned, marked)
    grid(ax, 2.95, 1.35, grads, hues)
    home = [["0"] * 3, ["b"] * 3, ["0"] * 3, ["a+c"] * 3, ["0"] * 3]
    grid(ax, 4.75, 1.62, home, [PALE, PASTEL[0], PALE, PASTEL[4], PALE])
    for v in range(5):
        ax.text(0.86, 1.46 - v * 0.27, f"row {v}", ha="right", fontsize=9)
    label(ax, 1.52, 1.72, "transposed (V, T)")
    label(ax, 3.49, 1.46, "gradient (T, C)")
    label(ax, 5.29, 1.72, "of the table (V, C)")
    sign(ax, 2.5, 0.95, "×")
    sign(ax, 4.4, 0.95, "=")
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
    if corpus_name() != "TinyStories":
        raise SystemExit("set LLMFS_DATA to a folder with TinyStories")
    tokenizer = BPETokenizer.train(
        load_stories("train"), 4096, special_tokens=[END]
    )
    draw_map("Attention", "map_embeddings")
    draw_result(tokenizer)
    draw_lookup()


if __name__ == "__main__":
    main()
