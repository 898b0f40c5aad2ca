"""Draw the figures of the chapter on attention: python attention.py

The arcs come from the chapter's own layer: its cells are executed here
up to the training of that layer.
"""

import contextlib
import io
import json
import math

import torch
from draw import (
    COLORS,
    HERE,
    PASTEL,
    arrow,
    box,
    canvas,
    draw_map,
    save,
)
from matplotlib.patches import FancyArrowPatch, Rectangle

from llm_from_scratch.attention import causal_mask, padding_mask

NOTEBOOK = HERE.parent / "06_attention.ipynb"
CELLS = ["imports", "setup", "reader", "train", "look"]
WHO = ["who-data", "who-batch", "who-train"]
INK = "#3d4a59"
PALE = "#eef2f6"


def run_cells() -> dict:
    "The names that the chapter's cells define, the layer trained."
    names = {"__name__": "chapter"}
    exec("from llm_from_scratch.attention import *", names)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = {cell["id"]: "".join(cell["source"]) for cell in cells}
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in CELLS + WHO:
            exec(sources[cell], names)
    return names


def draw_result() -> None:
    "Two sentences, and arcs from their pronouns as wide as the weights."
    chapter = run_cells()
    fig, ax = canvas(3.9, 3.1)
    swapped = "Ben lost his red ball , so he asked Lily ."
    for base, text in ((2.35, chapter["SENTENCE"]), (0.8, swapped)):
        words, ids = text.split(), chapter["encode"](text)[None]
        weights = chapter["look"](
            chapter["reader"], ids, chapter["everything"]
        )[0]
        wide = [0.07 + 0.078 * len(word) for word in words]
        gap = (3.86 - sum(wide)) / (len(words) - 1)
        at, x = [], 0.02
        for t, (word, width) in enumerate(zip(words, wide, strict=True)):
            fill = PASTEL[1] if t in (2, 7) else PALE
            box(ax, x, base, width, 0.3, word, fill=fill, fontsize=9)
            at.append(x + width / 2)
            x += width + gap
        for t, y, side in ((2, base + 0.31, 1), (7, base - 0.01, -1)):
            for s, weight in enumerate(weights[t].tolist()):
                if s != t and weight >= 0.005:
                    draw_arc(ax, at[t], at[s], y, weight, side)
    save(fig, "attention_result")


def draw_arc(ax, start, end, y, weight: float, side: int) -> None:
    "An arc above (1) or below (-1) the words, with its weight."
    bend = 0.42 if abs(start - end) < 1.8 else 0.28
    color = COLORS["orange"] if side > 0 else COLORS["blue"]
    turn = bend * side * (1 if start > end else -1)
    ax.add_patch(
        FancyArrowPatch(
            (start, y), (end, y), connectionstyle=f"arc3,rad={turn}",
            arrowstyle="-|>", mutation_scale=11, color=color,
            lw=0.4 + 3.2 * weight, shrinkA=0, shrinkB=1,
        )
    )  # fmt: skip
    top = y + side * (bend * abs(start - end) / 2 + 0.13)
    ax.text((start + end) / 2, top, f"{weight:.2f}", ha="center",
            va="center", fontsize=9, weight="bold", color=color)  # fmt: skip


def draw_lookup() -> None:
    "A dictionary beside attention, with the numbers of the page."
    words = ["Lily", "lost", "her", "ball", "asked", "Ben"]
    x = [[2, 0, 0], [0, 0, 1], [2, 0, 1], [0, 0, 2], [1, 1, 0], [0, 2, 0]]
    scores = [sum(a * b for a, b in zip(x[2], k, strict=True)) for k in x]
    powers = [math.exp(score) for score in scores]
    weights = [power / sum(powers) for power in powers]
    fig, ax = canvas(4.6, 2.95)
    left_side(ax, words)
    heads = {2.07: "key", 2.62: "score", 3.12: "weight", 4.17: "value"}
    for at, text in heads.items():
        ax.text(at, 2.43, text, ha="center", fontsize=9.5, color=INK)
    box(ax, 1.75, 2.64, 1.2, 0.27, "query: her", fill=PASTEL[1])
    for i, word in enumerate(words):
        y = 2.1 - 0.29 * i
        box(ax, 1.75, y, 0.64, 0.25, word, fill=PALE)
        ax.text(2.6, y + 0.12, scores[i], ha="center", va="center")
        long = max(0.62 * weights[i], 0.004)
        ax.add_patch(
            Rectangle((2.83, y + 0.03), long, 0.19, color=COLORS["orange"])
        )
        ax.text(2.88 + long, y + 0.12, f"{weights[i]:.2f}", va="center",
                fontsize=9.5)  # fmt: skip
        text = ", ".join(map(str, x[i]))
        box(ax, 3.8, y, 0.74, 0.25, text, fill=PASTEL[0])
    mixed = [sum(w * v[c] for w, v in zip(weights, x, strict=True))
             for c in range(3)]  # fmt: skip
    text = ", ".join(f"{number:.2f}" for number in mixed)
    ax.text(3.24, 0.24, "sum of weight · value", ha="right", va="center",
            fontsize=9.5, color=INK)  # fmt: skip
    box(ax, 3.3, 0.1, 1.28, 0.29, text, fill=PASTEL[2], weight="bold")
    arrow(ax, (4.17, 0.64), (4.17, 0.4))
    save(fig, "attention_lookup")


def left_side(ax, words: list[str]) -> None:
    "The dictionary."
    box(ax, 0.03, 2.64, 1.2, 0.27, "query: Lily", fill=PASTEL[1])
    ax.text(0.35, 2.43, "key", ha="center", fontsize=9.5, color=INK)
    ax.text(1.05, 2.43, "value", ha="center", fontsize=9.5, color=INK)
    for i, word in enumerate(words):
        y, hit = 2.1 - 0.29 * i, i == 0
        box(ax, 0.03, y, 0.64, 0.25, word, fill=PASTEL[1] if hit else PALE)
        fill = PASTEL[0] if hit else PALE
        box(ax, 0.75, y, 0.6, 0.25, f"v{i}", fill=fill)
    ax.text(0.68, 0.24, "found", ha="right", va="center", fontsize=9.5,
            color=INK)  # fmt: skip
    box(ax, 0.75, 0.1, 0.6, 0.29, "v0", fill=PASTEL[2], weight="bold")
    ax.plot([1.55, 1.55], [0.1, 2.88], ":", color="#9aa5b1", marker="")


def cells(ax, x, y, fills: list[list[str]], size: float) -> None:
    "A grid of coloured squares with its upper left corner at (x, y)."
    for i, row in enumerate(fills):
        for j, fill in enumerate(row):
            at = (x + j * size, y - (i + 1) * size)
            ax.add_patch(
                Rectangle(at, size - 0.02, size - 0.02, facecolor=fill,
                          edgecolor="#9aa5b1", lw=0.6)
            )  # fmt: skip


def draw_masks() -> None:
    "Four masks over two places of padding and three words."
    names = ["–", "–", "Lily", "lost", "her"]
    real = torch.tensor([[False, False, True, True, True]])
    masks = {
        "none": torch.ones(5, 5, dtype=torch.bool),
        "padding": real.expand(5, 5),
        "causal": causal_mask(5),
        "both": padding_mask(real)[0, 0],
    }
    fig, ax = canvas(3.9, 4.3)
    for number, (title, mask) in enumerate(masks.items()):
        left, top = 0.45 + number % 2 * 1.95, 3.77 - number // 2 * 2.18
        ax.text(left + 0.75, top + 0.34, title, ha="center", fontsize=11,
                weight="bold")  # fmt: skip
        for i, name in enumerate(names):
            ax.text(left - 0.07, top - 0.3 * i - 0.16, name, ha="right",
                    va="center", fontsize=10)  # fmt: skip
            ax.text(left + 0.3 * i + 0.14, top + 0.07, name, ha="center",
                    fontsize=9.5)  # fmt: skip
        own = COLORS["gold"] if title == "both" else COLORS["blue"]
        fills = [
            [
                "white" if not ok else COLORS["blue"] if real[0, j] else own
                for j, ok in enumerate(row)
            ]
            for row in mask.tolist()
        ]
        cells(ax, left, top, fills, 0.3)
    save(fig, "attention_masks")


def draw_heads() -> None:
    "The way of three words of six channels through two heads."
    fig, ax = canvas(4.6, 2.6)
    shades = [COLORS["sky"], COLORS["gold"]]
    weights = [[[1, 0, 0], [0.9, 0.1, 0], [0.8, 0.1, 0.1]],
               [[1, 0, 0], [0.3, 0.7, 0], [0.05, 0.9, 0.05]]]  # fmt: skip
    note = {"ha": "center", "fontsize": 10.5, "color": INK}
    whole = [[shades[0]] * 3 + [shades[1]] * 3] * 3
    for i, word in enumerate(("Lily", "lost", "her")):
        ax.text(0.33, 1.35 - i * 0.17, word, ha="right", va="center",
                fontsize=10)  # fmt: skip
    cells(ax, 0.38, 1.44, whole, 0.17)
    ax.text(0.89, 1.73, "q, k, v", **note)
    ax.text(0.89, 1.53, "(T, C)", **note)
    ax.text(0.8, 0.68, "split_heads", **note)
    for h in (0, 1):
        top = 2.12 - h * 1.25
        arrow(ax, (1.43, 1.18), (1.74, top - 0.27))
        cells(ax, 1.77, top, [[shades[h]] * 3] * 3, 0.17)
        ax.text(2.02, top + 0.1, f"head {h}", **note)
        tones = [[str(1 - 0.8 * w) for w in row] for row in weights[h]]
        cells(ax, 2.62, top, tones, 0.17)
        arrow(ax, (2.3, top - 0.27), (2.6, top - 0.27))
        ax.text(2.87, top + 0.1, "weights", **note)
        arrow(ax, (3.15, top - 0.27), (3.46, 1.18))
    cells(ax, 3.5, 1.44, whole, 0.17)
    ax.text(4.0, 1.73, "result", **note)
    ax.text(4.0, 1.53, "(T, C)", **note)
    ax.text(4.02, 0.68, "merge_heads", **note)
    save(fig, "attention_heads")


if __name__ == "__main__":
    draw_map("Attention", "map_attention")
    draw_lookup()
    draw_masks()
    draw_heads()
    draw_result()
