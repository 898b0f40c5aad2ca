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
    fig, ax = canvas(4.4, 2.5)
    small = {"fontsize": 8.5, "color": SOFT, "ha": "center"}
    ax.text(0.8, 2.3, "in this chapter", **small)
    ax.text(3.2, 2.3, "in the model", **small)
    for i, (piece, later) in enumerate(PIECES):
        y = 1.88 - 0.36 * i
        fill = PASTEL[i]
        box(ax, 0.05, y, 1.5, 0.29, piece, fill=fill, fontsize=9.5)
        box(ax, 2.0, y, 2.35, 0.29, later, fill=fill, fontsize=9.5)
        arrow(ax, (1.57, y + 0.145), (1.98, y + 0.145))
    save(fig, "tensors_pieces")


def cell(ax, x: float, y: float, number: int, fill: str, **style) -> None:
    "One number in a square."
    style = {"fontsize": 9.5, "family": "monospace", "line": 0.7} | style
    box(ax, x, y, 0.31, 0.3, str(number), fill=fill, **style)


def draw_memory() -> None:
    "One row of memory as a table, turned, and cut elsewhere."
    fig, ax = canvas(3.75, 2.6)
    numbers = [0, 1, 2, 10, 11, 12]
    fills = [PASTEL[0]] * 3 + [PASTEL[1]] * 3
    text = {"fontsize": 10, "color": SOFT}
    ax.text(0.05, 2.27, "memory", **text)
    for i, (number, fill) in enumerate(zip(numbers, fills, strict=True)):
        cell(ax, 0.75 + 0.33 * i, 2.17, number, fill)
    ax.text(2.84, 2.27, "Lily,", color=COLORS["blue"], fontsize=10)
    ax.text(3.25, 2.27, "Ben", color=COLORS["orange"], fontsize=10)
    tables = [  # where, title, shape, strides
        (0.05, "words", (2, 3), (3, 1)),
        (1.25, ".transpose(0,1)", (3, 2), (1, 3)),
        (2.75, ".view(3,2)", (3, 2), (2, 1)),
    ]
    for x, title, (rows, columns), strides in tables:
        ax.text(x, 1.77, title, family="monospace", fontsize=10)
        for i in range(rows):
            for j in range(columns):
                at = i * strides[0] + j * strides[1]
                where = (x + 0.33 * j, 1.35 - 0.32 * i)
                cell(ax, *where, numbers[at], fills[at])
        ax.text(x, 0.42, f"shape {rows, columns}", **text)
        ax.text(x, 0.2, f"strides {strides}", **text)
    save(fig, "tensors_memory")


def draw_broadcast() -> None:
    "A column and a row, each repeated to a table."
    fig, ax = canvas(4.6, 1.4)
    text = {"fontsize": 9, "color": SOFT, "ha": "center"}
    pale = {"color": "#8a95a3", "edge": "#c3ccd6"}
    titles = ["(3, 1)", "(4,)", "(3, 4)"]
    for block, title in enumerate(titles):
        start = 0.05 + 1.6 * block
        ax.text(start + 0.65, 1.22, title, **text)
        for i in range(3):
            for j in range(4):
                number = [10 * i, j, 10 * i + j][block]
                own = [j == 0, i == 0, True][block]
                fill = PASTEL[block] if own else "#ffffff"
                style = {} if own else pale
                where = (start + 0.33 * j, 0.82 - 0.32 * i)
                cell(ax, *where, number, fill, **style)
        if block < 2:
            x = start + 1.45
            ax.text(x, 0.58, "+="[block], fontsize=13, ha="center")
    save(fig, "tensors_broadcast")


def draw_floats() -> None:
    "The bits of three float formats."
    fig, ax = canvas(3.75, 1.75)
    formats = [("float32", 8, 23), ("bfloat16", 8, 7), ("float16", 5, 10)]
    width, left = 0.0895, 0.84
    fills = [PASTEL[3], PASTEL[0], PASTEL[2]]
    for row, (name, exponent, fraction) in enumerate(formats):
        y, x = 1.03 - 0.47 * row, left
        ax.text(0.03, y + 0.1, name, family="monospace", fontsize=10)
        for bits, fill in zip((1, exponent, fraction), fills, strict=True):
            for i in range(bits):
                box(ax, x + i * width, y, width, 0.34, fill=fill, line=0.5)
            ax.text(
                x + bits * width / 2, y + 0.16, str(bits), ha="center",
                va="center", fontsize=10, weight="bold",
                bbox={"fc": fill, "ec": "none", "pad": 1.2 if bits > 1 else 0},
            )  # fmt: skip
            x += bits * width
    text = {"fontsize": 10, "color": SOFT}
    ax.text(left - 0.12, 1.5, "sign", **text)
    ax.text(left + 0.28, 1.5, "exponent", **text)
    ax.text(left + 1.6, 1.5, "fraction", **text)
    save(fig, "tensors_floats")


def edge(ax, start, end, slope: str, at: tuple[float, float]) -> None:
    "An arrow of the graph with its local slope."
    arrow(ax, start, end)
    style = {"ha": "center", "va": "center", "fontsize": 9}
    ax.text(*at, slope, color=SOFT, **style)


def draw_graph() -> None:
    "The graph of (ab + a)², with values and slopes."
    fig, ax = canvas(4.4, 2.45)
    centre = {"ha": "center", "va": "center"}
    slopes = {"fontsize": 9.5, "color": COLORS["blue"], "weight": "bold"}
    nodes = [  # x, y, width, what, value
        (0.05, 1.6, 0.45, "a", "2"),
        (0.05, 0.52, 0.45, "b", "3"),
        (1.3, 0.92, 0.74, "c = a·b", "6"),
        (2.45, 1.27, 0.8, "d = c + a", "8"),
        (3.64, 1.27, 0.7, "e = d·d", "64"),
    ]
    for x, y, width, what, value in nodes:
        box(ax, x, y, width, 0.46, fill=PASTEL[0])
        ax.text(x + width / 2, y + 0.32, what, fontsize=9, **centre)
        bold = {"fontsize": 9.5, "weight": "bold"}
        ax.text(x + width / 2, y + 0.12, value, **bold, **centre)
    ax.text(0.05, 2.15, "16·3 + 16·1 = 64", **slopes)
    ax.text(0.05, 0.33, "16·2 = 32", **slopes)
    for x, y, text in (
        (1.67, 0.78, "16·1 = 16"),
        (2.85, 1.13, "8 + 8 = 16"),
        (3.99, 1.13, "1"),
    ):
        ax.text(x, y, text, **slopes, **centre)
    edge(ax, (0.52, 1.7), (1.29, 1.27), "3", (0.85, 1.4))
    edge(ax, (0.52, 0.77), (1.29, 1.05), "2", (0.92, 0.79))
    edge(ax, (0.52, 1.87), (2.44, 1.59), "1", (1.5, 1.83))
    edge(ax, (2.06, 1.19), (2.44, 1.37), "1", (2.3, 1.17))
    edge(ax, (3.26, 1.6), (3.63, 1.6), "8", (3.43, 1.71))
    edge(ax, (3.26, 1.38), (3.63, 1.38), "8", (3.43, 1.27))
    words = "values flow to the right, slopes of e to the left"
    ax.text(0.05, 0.06, words, fontsize=9, color=SOFT)
    save(fig, "tensors_graph")


if __name__ == "__main__":
    draw_pieces()
    draw_memory()
    draw_broadcast()
    draw_floats()
    draw_graph()
