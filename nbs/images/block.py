"Draw the figures of the chapter on the block: python block.py"

from draw import COLORS, PASTEL, arrow, box, canvas, draw_map, save

SOFT = "#3d4a59"
STREAM = {"color": COLORS["blue"], "lw": 5, "marker": "", "zorder": 0.5}
PARTS = [("attention", "fetches from", "other positions"),
         ("MLP", "works on", "each position")]  # fmt: skip


def line(ax, xs: list[float], ys: list[float], **style) -> None:
    "A thin path beside the stream."
    style = {"color": COLORS["grey"], "lw": 1.3, "marker": ""} | style
    ax.plot(xs, ys, "-", **style)


def plus(ax, x: float, y: float) -> None:
    "The place where something is added to the stream."
    ax.plot(
        [x], [y], "o", ms=15, mfc="white", mec=COLORS["blue"], mew=1.6,
        zorder=3,
    )  # fmt: skip
    ax.text(x, y - 0.005, "+", ha="center", va="center", fontsize=13, zorder=4)


def draw_stream() -> None:
    "One block: two parts read a copy of the stream and add to it."
    fig, ax = canvas(5.4, 2.1)
    y, text = 0.5, {"fontsize": 8.8, "ha": "center", "va": "center"}
    ax.plot([0.15, 5.0], [y, y], "-", solid_capstyle="butt", **STREAM)
    ax.annotate(
        "", (5.38, y), (4.98, y),
        arrowprops={"arrowstyle": "-|>", "color": COLORS["blue"], "lw": 5},
    )  # fmt: skip
    for i, (name, does, where) in enumerate(PARTS):
        x = 0.62 + 2.3 * i
        line(ax, [x, x], [y, 0.95])
        arrow(ax, (x, 0.9), (x, 1.05))
        box(ax, x - 0.3, 1.06, 0.6, 0.34, "norm", fill="#e3e8ee")
        arrow(ax, (x + 0.3, 1.23), (x + 0.5, 1.23))
        box(ax, x + 0.51, 1.06, 0.98, 0.34, name, fill=PASTEL[1 + i])
        line(ax, [x + 1.49, x + 1.7, x + 1.7], [1.23, 1.23, 0.8])
        arrow(ax, (x + 1.7, 0.85), (x + 1.7, y + 0.13))
        plus(ax, x + 1.7, y)
        ax.text(x + 0.7, 1.9, does, color=SOFT, **text)
        ax.text(x + 0.7, 1.68, where, color=SOFT, **text)
        ax.text(x + 1.77, 0.86, "added", color=SOFT, **text | {"ha": "left"})
        ax.text(x + 0.07, 0.77, "a copy", color=SOFT, **text | {"ha": "left"})
    ax.text(
        0.15, 0.17, "the residual stream: one vector of C channels a position",
        color=COLORS["blue"], **text | {"ha": "left"},
    )  # fmt: skip
    save(fig, "block_stream")


def draw_orders() -> None:
    "The stream through one block, in both orders."
    fig, ax = canvas(5.2, 4.05)
    text = {"fontsize": 8.8, "ha": "center", "va": "center"}
    for side, (title, who) in enumerate(
        [("Post-LN", "Transformer, 2017"), ("Pre-LN", "GPT-2, 2019")]
    ):
        x = 0.62 + 2.65 * side
        ax.text(x - 0.45, 3.9, title, fontsize=11, weight="bold", va="center")
        ax.text(x + 0.32, 3.895, who, color=SOFT, **text | {"ha": "left"})
        ax.plot([x, x], [3.7, 0.3], "-", solid_capstyle="butt", **STREAM)
        ax.annotate(
            "", (x, 0.02), (x, 0.34),
            arrowprops={"arrowstyle": "-|>", "color": COLORS["blue"], "lw": 5},
        )  # fmt: skip
        for i, (name, _, _) in enumerate(PARTS):
            top = 3.55 - 1.65 * i
            line(ax, [x, x + 1.1], [top, top])
            if side == 0:
                arrow(ax, (x + 1.1, top), (x + 1.1, top - 0.35))
                low = top - 0.7
                box(ax, x + 0.6, low, 1.0, 0.34, name, fill=PASTEL[1 + i])
            else:
                arrow(ax, (x + 1.1, top), (x + 1.1, top - 0.14))
                box(ax, x + 0.75, top - 0.44, 0.7, 0.29, "norm",
                    fill="#e3e8ee")  # fmt: skip
                arrow(ax, (x + 1.1, top - 0.44), (x + 1.1, top - 0.6))
                low = top - 0.92
                box(ax, x + 0.6, low, 1.0, 0.31, name, fill=PASTEL[1 + i])
            at = top - 1.13
            line(ax, [x + 1.1, x + 1.1], [low, at])
            arrow(ax, (x + 1.1, at), (x + 0.13, at))
            plus(ax, x, at)
            if side == 0:
                box(ax, x - 0.42, at - 0.44, 0.84, 0.28, "norm",
                    fill="#e3e8ee", edge=COLORS["orange"], line=1.6,
                    zorder=5)  # fmt: skip
    save(fig, "block_orders")


if __name__ == "__main__":
    draw_map("GPT block", "map_block")
    draw_stream()
    draw_orders()
