"""The book's figure style, and a curve that grows while a model trains.

Knows matplotlib, the book's sizes and a training log's rows. matplotlib is
imported when a function is called, since the library does not need it.
"""

import math
import sys
import time

COLORS = {  # Okabe and Ito's palette, told apart by colour-blind readers
    "blue": "#0072b2",
    "orange": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "sky": "#56b4e9",
    "gold": "#e69f00",
    "grey": "#6b7684",
    "black": "#1c2733",
}
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1))]
MARKERS = ["o", "s", "^", "D", "v", "P"]
WIDTH = 6.3  # inches: the width of the PDF's text
STYLE = {
    "figure.figsize": (WIDTH, 3.0),
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e8ee",
    "grid.linewidth": 0.7,
    "axes.edgecolor": "#6b7684",
    "text.color": "#1c2733",
    "axes.labelcolor": "#1c2733",
    "xtick.color": "#3d4a59",
    "ytick.color": "#3d4a59",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "image.cmap": "viridis",
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "llm-from-scratch",
}


def use_book_style() -> None:
    """Draw all later figures in the book's style.

    In a notebook, figures are stored as SVG without a date, so that a
    second run leaves the same bytes.
    """
    import matplotlib.pyplot as plt
    from cycler import cycler

    plt.rcParams.update(STYLE)
    colors = [c for n, c in COLORS.items() if n not in ("grey", "black")]
    plt.rcParams["axes.prop_cycle"] = cycler(
        color=colors, linestyle=LINES
    ) + cycler(marker=MARKERS)
    if "IPython" not in sys.modules or get_shell() is None:
        return
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})


def get_shell() -> object | None:
    "The running IPython shell, or None outside a notebook."
    from IPython import get_ipython

    return get_ipython()


class LiveCurve:
    """A plot of a training log that grows in the notebook.

    Hand it to `train(…, watch=curve)` inside `with LiveCurve() as curve:`.
    It is drawn at most once every few seconds, so that it does not slow
    training down, and once more at the end. Outside a notebook it is
    silent.
    """

    def __init__(
        self,
        every: float = 1.0,  # seconds from drawing to drawing, at least
        *,
        floor: float | None = None,  # a loss to draw a line at; None: none
        smooth: int = 10,  # steps that the thick line is the mean of
    ):
        self.every, self.floor, self.smooth = every, floor, smooth
        self.rows, self.drawn, self._handle = [], 0, None
        self._last = -math.inf

    def __enter__(self) -> "LiveCurve":
        return self

    def __exit__(self, *_) -> None:
        self.finish()

    def __call__(
        self,
        rows: list[dict],  # with "step", "loss" and perhaps "valid"
    ) -> None:
        "Draw, unless it was done a moment ago."
        self.rows = rows
        if in_notebook() and time.monotonic() - self._last >= self.every:
            self.draw()

    def finish(self) -> None:
        "Draw what was left out since the last drawing."
        if self.rows and in_notebook():
            self.draw()

    def draw(self) -> None:
        "Show the figure, or put it in the place of the last one."
        import matplotlib.pyplot as plt
        from IPython.display import display

        figure = self.figure()
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        plt.close(figure)  # else the notebook shows it a second time
        self.drawn, self._last = self.drawn + 1, time.monotonic()

    def figure(self) -> object:  # of matplotlib
        "Losses of steps, their running mean, and what was held out."
        import matplotlib.pyplot as plt

        steps = [row["step"] for row in self.rows]
        losses = [row["loss"] for row in self.rows]
        held = [row for row in self.rows if "valid" in row]
        figure, axes = plt.subplots(figsize=(0.75 * WIDTH, 2.6))
        plain = {"marker": "", "ls": "-"}
        style = {"color": COLORS["sky"], "lw": 0.8} | plain
        axes.plot(steps, losses, label="each step", **style)
        style = {"color": COLORS["blue"]} | plain
        means = running_mean(losses, self.smooth)
        axes.plot(steps, means, label=f"mean of {self.smooth}", **style)
        if held:
            where = [row["step"] for row in held]
            values = [row["valid"] for row in held]
            style = {"color": COLORS["orange"], "ls": "--", "marker": "o"}
            axes.plot(where, values, label="held out", **style)
        if self.floor is not None:
            style = {"color": COLORS["grey"], "ls": ":", "marker": ""}
            axes.axhline(self.floor, label="floor", **style)
        axes.set(xlabel="step", ylabel="loss")
        axes.legend()
        return figure


def running_mean(
    values: list[float],  # one a step
    width: int,  # how many are averaged, fewer at the beginning
) -> list[float]:  # as many
    "The mean of each value and those just before it."
    parts = (values[max(i - width, 0) : i] for i in range(1, len(values) + 1))
    return [sum(part) / len(part) for part in parts]


def in_notebook() -> bool:
    "Whether a display can be replaced here: there is a kernel."
    return "IPython" in sys.modules and hasattr(get_shell(), "kernel")
