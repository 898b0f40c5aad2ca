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
    WIDTH,
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
    fig, ax = canvas(WIDTH, 3.55)
    swapped = "Ben lost his red ball , so he asked Lily ."
    for base, text in ((2.72, chapter["SENTENCE"]), (0.92, swapped)):
        words, ids = text.split(), chapter["encode"](text)[None]
        weights = chapter["look"](
            chapter["reader"], ids, chapter["everything"]
        )[0]
        wide = [0.24 + 0.085 * len(word) for word in words]
        gap = (WIDTH - 0.1 - sum(wide)) / (len(words) - 1)
        at, x = [], 0.05
        for t, (word, width) in enumerate(zip(words, wide, strict=True)):
            fill = PASTEL[1] if t in (2, 7) else PALE
            box(ax, x, base, width, 0.3, word, fill=fill, fontsize=10)
            at.append(x + width / 2)
            x += width + gap
        for t, y, side in ((2, base + 0.31, 1), (7, base - 0.01, -1)):
            for s, weight in enumerate(weights[t].tolist()):
                if s != t and weight >= 0.005:
                    draw_arc(ax, at[t], at[s], y, weight, side)
    save(fig, "attention_result")


def draw_arc(ax, start, end, y, weight: float, side: int) -> None:
    "An arc above (1) or below (-1) the words, with its weight."
    bend = 0.36 if abs(start - end) < 2.5 else 0.24
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
    fig, ax = canvas(WIDTH, 2.95)
    left_side(ax, words)
    for at, text in ((3.0, "key"), (3.62, "score"), (4.42, "weight"),
                     (5.62, "value")):  # fmt: skip
        ax.text(at, 2.42, text, ha="center", fontsize=8.5, color=INK)
    box(ax, 2.3, 2.62, 1.5, 0.27, "query: her", fill=PASTEL[1])
    for i, word in enumerate(words):
        y = 2.1 - 0.29 * i
        box(ax, 2.65, y, 0.7, 0.25, word, fill=PALE)
        ax.text(3.62, y + 0.12, scores[i], ha="center", va="center")
        bar = Rectangle((3.9, y + 0.03), max(weights[i], 0.004), 0.19,
                        color=COLORS["orange"])  # fmt: skip
        ax.add_patch(bar)
        ax.text(3.95 + weights[i], y + 0.12, f"{weights[i]:.2f}",
                va="center", fontsize=8)  # fmt: skip
        text = ", ".join(map(str, x[i]))
        box(ax, 5.15, y, 0.94, 0.25, text, fill=PASTEL[0])
    mixed = [sum(w * v[c] for w, v in zip(weights, x, strict=True))
             for c in range(3)]  # fmt: skip
    text = ", ".join(f"{number:.2f}" for number in mixed)
    ax.text(4.9, 0.24, "sum of weight · value:", ha="right", va="center",
            fontsize=8.5, color=INK)  # fmt: skip
    box(ax, 5.0, 0.1, 1.25, 0.29, text, fill=PASTEL[2], weight="bold")
    arrow(ax, (5.62, 0.64), (5.62, 0.4))
    save(fig, "attention_lookup")


def left_side(ax, words: list[str]) -> None:
    "The dictionary."
    box(ax, 0.05, 2.62, 1.5, 0.27, "query: Lily", fill=PASTEL[1])
    ax.text(0.42, 2.42, "key", ha="center", fontsize=8.5, color=INK)
    ax.text(1.25, 2.42, "value", ha="center", fontsize=8.5, color=INK)
    for i, word in enumerate(words):
        y, hit = 2.1 - 0.29 * i, i == 0
        box(ax, 0.07, y, 0.7, 0.25, word, fill=PASTEL[1] if hit else PALE)
        value = f"value {i}"
        box(ax, 0.92, y, 0.7, 0.25, value, fill=PASTEL[0] if hit else PALE)
    box(ax, 0.92, 0.1, 0.7, 0.29, "value 0", fill=PASTEL[2], weight="bold")
    ax.text(0.82, 0.24, "found:", ha="right", va="center", fontsize=8.5,
            color=INK)  # fmt: skip
    ax.plot([2.0, 2.0], [0.1, 2.85], ":", color="#9aa5b1", marker="")


def draw_masks() -> None:
    "Four masks over three words and two places of padding."
    names = ["Lily", "lost", "her", "–", "–"]
    real = torch.tensor([[True, True, True, False, False]])
    own, both = causal_mask(5), padding_mask(real)[0, 0]
    masks = {
        "none": torch.ones(5, 5, dtype=torch.bool),
        "padding": real.expand(5, 5),
        "causal": own,
        "both": both,
    }
    fig, ax = canvas(WIDTH, 1.82)
    cell = 0.235
    for number, (title, mask) in enumerate(masks.items()):
        left, top = 0.45 + number * 1.48, 1.38
        middle = left + 2.5 * cell
        ax.text(middle, 1.64, title, ha="center", fontsize=9.5,
                weight="bold")  # fmt: skip
        for i in range(5):
            y = top - (i + 1) * cell
            if number == 0:
                ax.text(left - 0.06, y + cell / 2, names[i], ha="right",
                        va="center", fontsize=8)  # fmt: skip
            ax.text(left + (i + 0.5) * cell, top + 0.05, names[i],
                    ha="center", fontsize=6.6)  # fmt: skip
            for j in range(5):
                full = COLORS["blue"]
                if title == "both" and not real[0, j]:
                    full = COLORS["gold"]
                ax.add_patch(Rectangle(
                    (left + j * cell, y), cell - 0.025, cell - 0.025,
                    facecolor=full if mask[i, j] else "white",
                    edgecolor="#9aa5b1", lw=0.6,
                ))  # fmt: skip
    ax.text(0.05, 0.03, "rows ask, columns answer", fontsize=7.8, color=INK)
    save(fig, "attention_masks")


def table(ax, x, y, rows, columns, fills, size=0.2) -> None:
    "Cells with the upper left corner at (x, y), a colour for each column."
    for i in range(rows):
        for j in range(columns):
            ax.add_patch(Rectangle(
                (x + j * size, y - (i + 1) * size), size - 0.02, size - 0.02,
                facecolor=fills(i, j), edgecolor="#9aa5b1", lw=0.5,
            ))  # fmt: skip


def draw_heads() -> None:
    "The way of three words of six channels through two heads."
    fig, ax = canvas(WIDTH, 2.35)
    shades = [COLORS["sky"], COLORS["gold"]]
    weights = [[[1, 0, 0], [0.9, 0.1, 0], [0.8, 0.1, 0.1]],
               [[1, 0, 0], [0.3, 0.7, 0], [0.05, 0.9, 0.05]]]  # fmt: skip
    note = {"ha": "center", "fontsize": 8, "color": INK}

    def shade(i: int, j: int) -> str:
        return shades[j // 3]

    for i, word in enumerate(("Lily", "lost", "her")):
        ax.text(0.42, 1.4 - i * 0.2, word, ha="right", va="center",
                fontsize=8.5)  # fmt: skip
    table(ax, 0.48, 1.5, 3, 6, shade)
    ax.text(1.08, 1.6, "(T, C)", **note)
    for h in (0, 1):
        top = 2.05 - h * 1.1
        arrow(ax, (1.72, 1.2), (2.15, top - 0.3))
        table(ax, 2.2, top, 3, 3, lambda i, j, h=h: shades[h])
        ax.text(2.5, top + 0.08, f"head {h}: (T, D)", **note)
        for i in range(3):
            for j in range(3):
                ink = 1 - 0.8 * weights[h][i][j]
                ax.add_patch(Rectangle(
                    (3.35 + j * 0.2, top - (i + 1) * 0.2), 0.18, 0.18,
                    facecolor=(ink, ink, ink) if j <= i else "white",
                    edgecolor="#9aa5b1", lw=0.5,
                ))  # fmt: skip
        arrow(ax, (2.86, top - 0.3), (3.3, top - 0.3))
        ax.text(3.65, top + 0.08, "weights (T, T)", **note)
        arrow(ax, (4.0, top - 0.3), (4.46, 1.2))
    table(ax, 4.5, 1.5, 3, 6, shade)
    ax.text(5.1, 1.6, "side by side", **note)
    box(ax, 5.84, 0.86, 0.42, 0.68, "out_\nproj", fill=PASTEL[2],
        fontsize=8)  # fmt: skip
    for x, text in ((1.08, "split"), (5.1, "merge")):
        ax.text(x, 0.72, f"{text}_heads", **note)
    save(fig, "attention_heads")


if __name__ == "__main__":
    draw_map("Attention", "map_attention")
    draw_lookup()
    draw_masks()
    draw_heads()
    draw_result()
