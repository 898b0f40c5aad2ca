"""Boxes, arrows and words for the book's drawn figures, as SVG.

Text becomes outlines, so that a figure looks alike in the browser, in the
PDF and in JupyterLab. Run a figure's own script to draw it again.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from llm_from_scratch.plotting import COLORS, WIDTH, use_book_style

PASTEL = ["#cfe3f3", "#fbe0cc", "#cdebdf", "#f3dcea", "#f8ebc8", "#d9eef8"]
PARTS = ["I", "II", "III", "IV", "V", "VI"]
STAGES = [
    "Tokenization",
    "Attention",
    "GPT block",
    "Pretraining",
    "Finetuning",
    "Quantization",
]


def canvas(width: float, height: float) -> tuple[plt.Figure, plt.Axes]:
    "An empty drawing; one unit is an inch on the page."
    use_book_style()
    fig = plt.figure(figsize=(width, height), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return fig, ax


def box(ax, x, y, width, height, text="", *, fill="#ffffff", **style) -> None:
    "A rounded box with its lower left corner at (x, y)."
    edge = style.pop("edge", COLORS["grey"])
    radius = min(0.06, width / 8)
    line = style.pop("line", 0.9)
    patch = FancyBboxPatch(
        (x, y),
        width,
        height,
        boxstyle=f"round,pad=0,rounding_size={radius}",
        facecolor=fill,
        edgecolor=edge,
        linewidth=line,
    )
    ax.add_patch(patch)
    style = {"ha": "center", "va": "center", "fontsize": 9} | style
    ax.text(x + width / 2, y + height / 2, text, **style)


def arrow(ax, start, end, color=COLORS["grey"]) -> None:
    "An arrow from one point to another."
    ax.annotate(
        "",
        end,
        start,
        arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.1},
    )


def save(fig: plt.Figure, name: str) -> None:
    "Write the drawing beside this script, without a date."
    path = HERE / f"{name}.svg"
    fig.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(fig)
    print(path.name)


def draw_map(stage: str, name: str) -> None:
    "The way of the book, with one stage highlighted."
    fig, ax = canvas(WIDTH, 1.05)
    width, gap = 0.88, 0.18
    for i, title in enumerate(STAGES):
        here, x = title == stage, 0.02 + i * (width + gap)
        ax.text(x + 0.02, 0.86, PARTS[i], fontsize=7.5)
        box(
            ax,
            x,
            0.36,
            width,
            0.42,
            title,
            fill=COLORS["blue"] if here else "#eef2f6",
            color="white" if here else COLORS["black"],
            fontsize=7.6,
            weight="bold" if here else "normal",
        )
        if i:
            arrow(ax, (x - gap, 0.57), (x, 0.57))
    carried = [
        "bytes → ids",
        "what matters",
        "ids → logits",
        "a model",
        "it answers",
    ]
    for i, text in enumerate([*carried, "4 bits, chat"]):
        x = 0.02 + i * (width + gap) + width / 2
        ax.text(x, 0.17, text, ha="center", fontsize=7, color="#3d4a59")
    save(fig, name)
