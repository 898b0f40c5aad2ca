"""The book's figure style: one look, readable in grey and without colour.

Knows matplotlib and the book's sizes. Knows nothing of what is drawn.
matplotlib is imported when a function is called, since the library does
not need it.
"""

import sys

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
