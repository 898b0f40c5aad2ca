"""Draw the figures of the chapter on modern parts: python modern.py"""

import json
import math

from draw import COLORS, HERE, PASTEL, arrow, box, canvas, draw_map, plt, save
from matplotlib.patches import Circle, Rectangle

SOFT = "#3d4a59"
OLD, NEW = "#eef2f6", PASTEL[1]


def column(ax, x: float, title: str, parts: list[tuple], width: float) -> None:
    "A model as a stack of boxes, read downwards; new parts are coloured."
    ax.text(x + width / 2, 4.3, title, ha="center", fontsize=10.5,
            weight="bold")  # fmt: skip
    y = 4.05
    for text, new, height in parts:
        y -= height
        box(ax, x, y, width, height - 0.1, text, fill=NEW if new else OLD,
            fontsize=8.8)  # fmt: skip
        if text != parts[-1][0]:
            middle = x + width / 2
            arrow(ax, (middle, y + 0.005), (middle, y - 0.105))
        if text.startswith(("attention", "MLP", "SwiGLU")):
            ax.text(x + width / 2 + 0.14, y - 0.05, "+", fontsize=11,
                    weight="bold", ha="center", va="center")  # fmt: skip
        y -= 0.1
    top, bottom = 4.05 - parts[0][2] - 0.14, y + sum(
        height + 0.1 for _, _, height in parts[-2:]) - 0.06  # fmt: skip
    ax.add_patch(Rectangle((x - 0.07, bottom), width + 0.14, top - bottom,
                           fill=False, ls="--", lw=0.9,
                           edgecolor=COLORS["grey"]))  # fmt: skip
    ax.text(x + width, bottom + 0.095, "× N", ha="right", va="center",
            fontsize=9, color=SOFT)  # fmt: skip


def draw_result() -> None:
    "GPT-2 beside Qwen3: what was exchanged."
    fig, ax = canvas(4.7, 4.55)
    width = 2.1
    old = [
        ("token embedding\n+ position embedding", False, 0.52),
        ("LayerNorm", False, 0.36),
        ("attention:\nas many keys as queries", False, 0.66),
        ("LayerNorm", False, 0.36),
        ("MLP: up, GELU, down", False, 0.5),
        ("LayerNorm", False, 0.36),
        ("head", False, 0.36),
    ]
    new = [
        ("token embedding", True, 0.52),
        ("RMSNorm", True, 0.36),
        ("attention: fewer keys,\nnormed, rotated", True, 0.66),
        ("RMSNorm", True, 0.36),
        ("SwiGLU:\n(gate, SiLU) × up, down", True, 0.5),
        ("RMSNorm", True, 0.36),
        ("head", False, 0.36),
    ]
    column(ax, 0.12, "GPT-2, 2019", old, width)
    column(ax, 2.48, "Qwen3, 2025", new, width)
    ax.text(2.35, 0.06, "biases in attention and MLP → none", ha="center",
            fontsize=9, color=SOFT)  # fmt: skip
    save(fig, "modern_result")


def draw_minutes() -> None:
    "Held-out bits per byte over minutes of training, from the record."
    canvas(1, 1)  # sets the style
    plt.close("all")
    path = HERE.parents[1] / "runs" / "quality_per_minute.json"
    arms = json.loads(path.read_text("utf-8"))["arms"]
    fig, ax = plt.subplots(figsize=(4.6, 2.9))
    drawn = {
        "plain": ("GPT-2, float32, AdamW", "grey", "--", (3.3, 1.38)),
        "avx2": ("this chapter, AVX2 only", "sky", "-", (4.7, 1.04)),
        "ten": ("this chapter", "blue", "-", (1.0, 0.72)),
    }
    for name, (label, tint, line, place) in drawn.items():
        rows = [row for row in arms[name]["history"] if "valid" in row]
        minutes = [row["seconds"] / 60 for row in rows]
        values = [row["valid"] for row in rows]
        style = {"color": COLORS[tint], "ls": line, "marker": "."}
        ax.plot(minutes, values, **style)
        ax.text(*place, label, color=COLORS[tint], fontsize=9.5)
    ax.set(xlabel="minutes of training", ylabel="bits per byte, held out")
    ax.set(xlim=(0, 10.4), ylim=(0.6, 2.0))
    save(fig, "modern_minutes")


def draw_layouts() -> None:
    "Which channels of a head turn together."
    fig, ax = canvas(4.6, 2.35)
    side, left = 0.42, 0.62
    for top, name in ((1.45, "interleaved"), (0.4, "half")):
        ax.text(left - 0.02, top + 0.62, name, fontsize=10, weight="bold")
        for channel in range(8):
            pair = channel // 2 if name == "interleaved" else channel % 4
            x = left + channel * side
            box(ax, x, top, side - 0.04, 0.3, str(channel),
                fill=PASTEL[pair], fontsize=9.5)  # fmt: skip
        for pair in range(4):
            a, b = (2 * pair, 2 * pair + 1) if name == "interleaved" else (
                pair, pair + 4)  # fmt: skip
            xs = [left + c * side + 0.19 for c in (a, b)]
            high = top + (0.4 if name == "interleaved" else 0.36 + 0.05 * pair)
            ax.plot([xs[0], xs[0], xs[1], xs[1]],
                    [top + 0.31, high, high, top + 0.31], lw=1.1, ls="-",
                    marker="", color=COLORS["grey"])  # fmt: skip
    for pair in range(4):
        angle = 1.25 * 10 ** (-2 * pair / 8)  # as with a base of 10
        x, y = 4.25, 2.0 - 0.52 * pair
        circle = Circle((x, y), 0.19, facecolor=PASTEL[pair], lw=0.8)
        circle.set_edgecolor(COLORS["grey"])
        ax.add_patch(circle)
        arrow(ax, (x, y), (x + 0.2 * math.cos(angle),
                           y + 0.2 * math.sin(angle)),
              COLORS["black"])  # fmt: skip
    ax.text(4.25, 0.08, "one step", ha="center", fontsize=8.5, color=SOFT)
    ax.text(0.05, 0.08, "one colour: one pair, turned by one angle",
            fontsize=8.5, color=SOFT)  # fmt: skip
    save(fig, "modern_layouts")


def draw_groups() -> None:
    "Queries that share keys, in three degrees."
    fig, ax = canvas(4.6, 1.75)
    for i, (name, n_kv) in enumerate(
        (("multi-head", 4), ("grouped", 2), ("multi-query", 1))
    ):
        x0 = 0.22 + 1.5 * i
        ax.text(x0 + 0.6, 1.58, name, ha="center", fontsize=9.5,
                weight="bold")  # fmt: skip
        for head in range(4):
            x = x0 + 0.31 * head
            box(ax, x, 0.98, 0.26, 0.4, f"q{head}",
                fill=PASTEL[head * n_kv // 4], fontsize=8.5)  # fmt: skip
            group = 4 // n_kv
            key = head * n_kv // 4
            to = x0 + 0.31 * (key * group + (group - 1) / 2) + 0.13
            arrow(ax, (x + 0.13, 0.96), (to, 0.64))
        for key in range(n_kv):
            group = 4 // n_kv
            x = x0 + 0.31 * (key * group + (group - 1) / 2)
            box(ax, x, 0.22, 0.26, 0.4, f"k{key}\nv{key}",
                fill=PASTEL[key], fontsize=8)  # fmt: skip
    save(fig, "modern_groups")


def main() -> None:
    "Draw them all."
    draw_map("Pretraining", "map_modern")
    draw_result()
    draw_minutes()
    draw_layouts()
    draw_groups()


if __name__ == "__main__":
    main()
