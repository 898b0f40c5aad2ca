"Draw the figures of the quantization chapter: run this file."

from draw import COLORS, PASTEL, arrow, box, canvas, draw_map, save

WEIGHTS = [1.2, -0.3, 0.05, 0.62, -0.9, 0.33, -1.1, 0.1]
SOFT = "#3d4a59"
CELL, LEFT = 0.4, 1.0


def draw_result() -> None:
    "Weights, codes, bytes, and weights again."
    fig, ax = canvas(4.6, 2.75)
    step = max(map(abs, WEIGHTS)) / 7
    codes = [round(w / step) for w in WEIGHTS]
    rows = [
        (2.2, "weights", [f"{w:.2f}" for w in WEIGHTS], PASTEL[0]),
        (1.55, "codes", [str(c).replace("-", "−") for c in codes], PASTEL[1]),
        (0.15, "back", [f"{c * step:.2f}" for c in codes], PASTEL[0]),
    ]
    for y, name, texts, fill in rows:
        label(ax, y, name)
        for i, text in enumerate(texts):
            x = LEFT + (CELL + 0.04) * i
            box(ax, x, y, CELL, 0.36, text.replace("-", "−"), fill=fill,
                fontsize=8.6)  # fmt: skip
    label(ax, 0.9, "bytes")
    for i in range(4):
        low, high = (c + 8 for c in codes[2 * i : 2 * i + 2])
        x = LEFT + (CELL + 0.04) * 2 * i
        box(ax, x, 0.9, 2 * CELL + 0.04, 0.36, f"{high:04b} {low:04b}",
            fill=PASTEL[2], fontsize=8.6)  # fmt: skip
        for side in (0.2, 0.64):
            arrow(ax, (x + side, 1.53), (x + side, 1.28))
    for i in range(8):
        x = LEFT + (CELL + 0.04) * i + 0.2
        arrow(ax, (x, 2.18), (x, 1.93))
        arrow(ax, (x, 0.88), (x, 0.53))
    ax.text(0.08, 2.02, f"step {step:.3f}", fontsize=8.6, va="center",
            color=COLORS["orange"])  # fmt: skip
    ax.text(0.08, 1.38, "plus 8", fontsize=8.6, va="center",
            color=COLORS["orange"])  # fmt: skip
    ax.text(0.08, 0.79, "minus 8,", fontsize=8.6, va="center",
            color=COLORS["orange"])  # fmt: skip
    ax.text(0.08, 0.63, "times step", fontsize=8.6, va="center",
            color=COLORS["orange"])  # fmt: skip
    save(fig, "quantization_result")


def label(ax, y: float, text: str) -> None:
    "The name of a row."
    ax.text(0.08, y + 0.18, text, fontsize=10, va="center", color=SOFT)


def main() -> None:
    "Draw them all."
    draw_map("Quantization", "map_quantization")
    draw_result()


if __name__ == "__main__":
    main()
