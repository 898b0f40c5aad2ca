"Draw the figures of the chapter on tensors: python tensors.py"

from draw import COLORS, PASTEL, arrow, box, canvas, save

SOFT = "#3d4a59"
PIECES = [
    ("axes and views", "heads, batches"),
    ("broadcasting", "positions, masks"),
    ("dot product", "attention: who fits whom"),
    ("softmax", "the next word's probability"),
    ("−log p", "the loss"),
    ("chain rule", "every step of training"),
]


def draw_pieces() -> None:
    "What this chapter makes, and what each piece becomes."
    fig, ax = canvas(5.2, 2.5)
    small = {"fontsize": 8, "color": SOFT, "ha": "center"}
    ax.text(1.05, 2.3, "in this chapter", **small)
    ax.text(3.85, 2.3, "in the model", **small)
    for i, (piece, later) in enumerate(PIECES):
        y = 1.88 - 0.36 * i
        fill = PASTEL[i]
        box(ax, 0.15, y, 1.8, 0.29, piece, fill=fill, fontsize=9.5)
        box(ax, 2.6, y, 2.45, 0.29, later, fill=fill, fontsize=9.5)
        arrow(ax, (1.97, y + 0.145), (2.58, y + 0.145))
    save(fig, "tensors_pieces")


def cell(
    ax, x: float, y: float, number: int | str, fill: str, **style
) -> None:
    "One number in a square."
    style = {"fontsize": 9, "family": "monospace", "line": 0.7} | style
    box(ax, x, y, 0.38, 0.3, str(number), fill=fill, **style)


def draw_memory() -> None:
    "One row of memory as a table, turned, and cut elsewhere."
    fig, ax = canvas(5.2, 2.45)
    numbers = [0, 1, 2, 10, 11, 12]
    fills = [PASTEL[0]] * 3 + [PASTEL[1]] * 3
    text = {"fontsize": 8.5, "color": SOFT}
    ax.text(0.1, 2.12, "memory", **text)
    for i, (number, fill) in enumerate(zip(numbers, fills, strict=True)):
        cell(ax, 1.0 + 0.4 * i, 2.02, number, fill)
    ax.text(3.55, 2.12, "Lily,", color=COLORS["blue"], fontsize=8.5)
    ax.text(3.95, 2.12, "Ben", color=COLORS["orange"], fontsize=8.5)
    tables = [  # title, signs below, rows, columns, strides
        (0.1, "x", "shape (2, 3)", "strides (3, 1)", 2, 3, (3, 1)),
        (1.95, "x.transpose(0, 1)", "shape (3, 2)", "strides (1, 3)", 3, 2,
         (1, 3)),
        (3.8, "x.view(3, 2)", "shape (3, 2)", "strides (2, 1)", 3, 2, (2, 1)),
    ]  # fmt: skip
    for x, title, shape, strides, rows, columns, (down, right) in tables:
        ax.text(x, 1.62, title, family="monospace", fontsize=8.5)
        for i in range(rows):
            for j in range(columns):
                at = i * down + j * right
                where = (x + 0.4 * j, 1.2 - 0.32 * i)
                cell(ax, *where, numbers[at], fills[at])
        ax.text(x, 0.3, shape, **text)
        ax.text(x, 0.1, strides, **text)
    save(fig, "tensors_memory")


def draw_broadcast() -> None:
    "A column and a row, each repeated to a table."
    fig, ax = canvas(5.9, 1.45)
    text = {"fontsize": 8.5, "color": SOFT, "ha": "center"}
    pale = {"color": "#8a95a3", "edge": "#c3ccd6"}
    titles = ["(3, 1)", "(4,)", "(3, 4)"]
    for block, title in enumerate(titles):
        start = 0.1 + 2.05 * block
        ax.text(start + 0.79, 1.23, title, **text)
        for i in range(3):
            for j in range(4):
                number = [10 * i, j, 10 * i + j][block]
                own = [j == 0, i == 0, True][block]
                fill = PASTEL[block] if own else "#ffffff"
                style = {} if own else pale
                where = (start + 0.4 * j, 0.82 - 0.34 * i)
                cell(ax, *where, number, fill, **style)
        if block < 2:
            ax.text(start + 1.8, 0.55, "+="[block], fontsize=13, ha="center")
    save(fig, "tensors_broadcast")


def draw_floats() -> None:
    "The bits of three float formats."
    fig, ax = canvas(5.2, 1.6)
    formats = [("float32", 8, 23), ("bfloat16", 8, 7), ("float16", 5, 10)]
    width = 0.125
    fills = [PASTEL[3], PASTEL[0], PASTEL[2]]
    for row, (name, exponent, fraction) in enumerate(formats):
        y, x = 0.98 - 0.45 * row, 0.95
        ax.text(0.1, y + 0.09, name, family="monospace", fontsize=9)
        for bits, fill in zip((1, exponent, fraction), fills, strict=True):
            for i in range(bits):
                box(ax, x + i * width, y, width, 0.3, fill=fill, line=0.5)
            ax.text(
                x + bits * width / 2, y + 0.14, str(bits), ha="center",
                va="center", fontsize=9, weight="bold",
                bbox={"fc": fill, "ec": "none", "pad": 1.2 if bits > 1 else 0},
            )  # fmt: skip
            x += bits * width
    text = {"fontsize": 8.5, "color": SOFT}
    ax.text(0.84, 1.38, "sign", **text)
    ax.text(1.35, 1.38, "exponent", **text)
    ax.text(3.1, 1.38, "fraction", **text)
    save(fig, "tensors_floats")


def edge(ax, start, end, slope: str, at: tuple[float, float]) -> None:
    "An arrow of the graph with its local slope."
    arrow(ax, start, end)
    style = {"ha": "center", "va": "center", "fontsize": 9}
    ax.text(*at, slope, color=SOFT, **style)


def draw_graph() -> None:
    "The graph of (ab + a)², with values and slopes."
    fig, ax = canvas(5.2, 2.42)
    nodes = [  # x, y, what, value, slope of e
        (0.1, 1.6, "a", "2", "16·3 + 16·1 = 64"),
        (0.1, 0.5, "b", "3", "16·2 = 32"),
        (1.75, 0.9, "c = a·b", "6", "16·1 = 16"),
        (3.1, 1.25, "d = c + a", "8", "8 + 8 = 16"),
        (4.45, 1.25, "e = d·d", "64", "1"),
    ]
    widths = [0.6, 0.6, 0.68, 0.68, 0.66]
    for (x, y, what, value, slope), width in zip(nodes, widths, strict=True):
        box(ax, x, y, width, 0.46, fill=PASTEL[0])
        middle = x + width / 2
        ax.text(middle, y + 0.31, what, ha="center", va="center", fontsize=8.5)
        ax.text(
            middle, y + 0.12, value, ha="center", va="center", fontsize=9.5,
            weight="bold",
        )  # fmt: skip
        side = {"ha": "left"} if x < 1 else {"ha": "center"}
        below = y + 0.53 if what == "a" else y - 0.19
        ax.text(
            x if x < 1 else middle, below, slope, fontsize=9,
            color=COLORS["blue"], weight="bold", **side,
        )  # fmt: skip
    edge(ax, (0.72, 1.7), (1.74, 1.27), "3", (1.2, 1.37))
    edge(ax, (0.72, 0.75), (1.74, 1.03), "2", (1.2, 0.77))
    edge(ax, (0.72, 1.87), (3.09, 1.57), "1", (2.0, 1.83))
    edge(ax, (2.45, 1.17), (3.09, 1.35), "1", (2.82, 1.13))
    edge(ax, (3.8, 1.57), (4.44, 1.57), "8", (4.1, 1.69))
    edge(ax, (3.8, 1.35), (4.44, 1.35), "8", (4.1, 1.23))
    ax.text(
        0.1, 0.03, "values flow to the right, slopes of e to the left",
        fontsize=8.5, color=SOFT, va="bottom",
    )  # fmt: skip
    save(fig, "tensors_graph")


if __name__ == "__main__":
    draw_pieces()
    draw_memory()
    draw_broadcast()
    draw_floats()
    draw_graph()
