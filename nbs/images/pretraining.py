"""Draw the figures of the pretraining chapter: python pretraining.py

The result is drawn from `runs/pretrain_coffee.json`, the recorded run of
the coffee preset; without it, only the other figures are drawn.
"""

import json

from draw import COLORS, HERE, PASTEL, arrow, box, canvas, draw_map, plt, save

RECORD = HERE.parents[1] / "runs" / "pretrain_coffee.json"
SOFT = "#3d4a59"


def smooth(values: list[float], width: int = 25) -> list[float]:
    "The mean of each value and those just before it."
    parts = (values[max(i - width, 0) : i] for i in range(1, len(values) + 1))
    return [sum(part) / len(part) for part in parts]


def draw_result(record: dict) -> None:
    "Loss of the steps over minutes, and bits per byte of held-out stories."
    history = record["history"]
    minutes = [row["seconds"] / 60 for row in history]
    losses = [row["loss"] for row in history]
    held = [row for row in history if row.get("valid") is not None]
    canvas(1, 1)  # sets the style
    plt.close("all")
    fig, ax = plt.subplots(figsize=(4.6, 2.9))
    plain = {"ls": "-", "marker": ""}
    ax.plot(minutes, losses, lw=0.5, color=COLORS["sky"], **plain)
    ax.plot(minutes, smooth(losses), color=COLORS["blue"], lw=1.6, **plain)
    ax.set(xlabel="minutes", ylabel="loss, nats a token")
    ax.yaxis.label.set_color(COLORS["blue"])
    low = min(losses)
    ax.set_ylim(low - 0.3, min(max(losses), low + 4.5))
    other = ax.twinx()
    where = [row["seconds"] / 60 for row in held]
    values = [row["valid"] for row in held]
    other.plot(where, values, ls="--", marker="o", color=COLORS["orange"])
    other.annotate(
        f"{values[-1]:.2f}",
        (where[-1], values[-1]),
        (0, 9),
        textcoords="offset points",
        ha="center",
        weight="bold",
        color=COLORS["orange"],
    )
    other.set_ylabel("bits per byte, held out", color=COLORS["orange"])
    other.set_ylim(min(values) - 0.15, min(max(values), 2.6) + 0.1)
    other.spines["right"].set_visible(True)
    other.grid(False)
    save(fig, "pretraining_result")


def draw_steps(ax, y: float, first: int, last: int, **style) -> None:
    "A line of steps; a box for each checkpoint."
    left, unit = 0.35, 0.16
    ends = [left + first * unit, left + last * unit]
    ax.plot(ends, [y, y], marker="", lw=2.2, **style)


def draw_run() -> None:
    "A run that is killed after step 15, and one that goes on from 12."
    fig, ax = canvas(4.7, 2.35)
    left, unit = 0.35, 0.16

    def x(step: float) -> float:
        return left + step * unit

    words = {"fontsize": 9, "ha": "center", "va": "center"}
    line = {"ls": "-", "color": COLORS["blue"]}
    draw_steps(ax, 1.75, 0, 12, **line)
    draw_steps(ax, 1.75, 12, 15, ls="-", color="#b9c3ce")
    cross = {"marker": "x", "ms": 10, "mew": 2.4, "color": COLORS["orange"]}
    ax.plot([x(15)], [1.75], **cross)
    ax.text(x(15) + 0.12, 1.75, "killed after step 15", fontsize=9,
            va="center", color=COLORS["orange"])  # fmt: skip
    ax.text(x(13.5), 1.93, "lost", color=SOFT, **words)
    draw_steps(ax, 0.95, 12, 24, **line)
    for row, steps in ((1.75, (6, 12)), (0.95, (18, 24))):
        for step in steps:
            box(ax, x(step) - 0.2, row - 0.5, 0.4, 0.26, str(step),
                fill=PASTEL[2], fontsize=9)  # fmt: skip
            arrow(ax, (x(step), row - 0.03), (x(step), row - 0.23))
    arrow(ax, (x(12), 1.24), (x(12), 0.99))
    ax.text(x(12) - 0.12, 1.1, "resumed", fontsize=9, va="center", ha="right",
            color=SOFT)  # fmt: skip
    ax.text(x(0), 1.93, "0", color=SOFT, **words)
    box(ax, 0.2, 0.08, 0.4, 0.22, "", fill=PASTEL[2])
    ax.text(0.7, 0.19, "a checkpoint: weights, averages, position, chance, "
            "counters", fontsize=8.5, va="center")  # fmt: skip
    save(fig, "pretraining_run")


def main() -> None:
    "Draw them all."
    draw_map("Pretraining", "map_pretraining")
    draw_run()
    if RECORD.is_file():
        draw_result(json.loads(RECORD.read_text("utf-8")))
    else:
        print(f"no {RECORD.name}: the result is not drawn")


if __name__ == "__main__":
    main()
