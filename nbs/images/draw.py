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

from llm_from_scratch import BPETokenizer
from llm_from_scratch.files import END, corpus_name, load_stories
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
    "The way of the book in two rows, with a stage, four or all highlighted."
    fig, ax = canvas(0.8 * WIDTH, 1.75)
    width, gap, carried = 1.3, 0.36, [
        "bytes → ids",
        "what matters",
        "ids → scores",
        "a model",
        "it answers",
        "4 bits, chat",
    ]  # fmt: skip
    for i, title in enumerate(STAGES):
        here, y = stage in (title, "all"), 1.2 - 0.88 * (i // 3)
        here = here or (stage == "overview" and i < 4)
        x = 0.22 + i % 3 * (width + gap)
        box(
            ax,
            x,
            y,
            width,
            0.42,
            f"{PARTS[i]}  {title}",
            fill=COLORS["blue"] if here else "#eef2f6",
            color="white" if here else COLORS["black"],
            fontsize=9,
            weight="bold" if here else "normal",
        )
        middle = x + width / 2
        style = {"ha": "center", "fontsize": 8.5, "color": "#3d4a59"}
        ax.text(middle, y - 0.2, carried[i], **style)
        if i % 3:
            arrow(ax, (x - gap, y + 0.21), (x, y + 0.21))
    last = 0.22 + 2 * (width + gap) + width
    ax.plot(  # from the end of the first row to the second one
        [last, last + 0.08, last + 0.08, 0.06, 0.06],
        [1.41, 1.41, 0.86, 0.86, 0.53],
        color=COLORS["grey"],
        lw=1.1,
        marker="",
        ls="-",
    )
    arrow(ax, (0.02, 0.53), (0.22, 0.53))
    save(fig, name)


def story_tokenizer() -> BPETokenizer:
    "The book's tokenizer, trained on TinyStories; without them, stop."
    if corpus_name() != "TinyStories":
        raise SystemExit("set LLMFS_DATA to a folder with TinyStories")
    return BPETokenizer.train(
        load_stories("train"), 4096, special_tokens=[END]
    )
