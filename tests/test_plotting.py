"The figure style: stored figures are the same bytes each time."

import io
from unittest.mock import Mock

import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from llm_from_scratch import plotting
from llm_from_scratch.plotting import (
    COLORS,
    STYLE,
    LiveCurve,
    running_mean,
    use_book_style,
)


@pytest.fixture(autouse=True)
def restored():
    "Figures and settings as they were."
    plt.switch_backend("agg")
    with plt.rc_context():
        yield
    plt.close("all")


def drawn() -> bytes:
    "A small figure as SVG."
    figure, axes = plt.subplots()
    for i in range(6):
        axes.plot([0, 1], [i, i], label=str(i))
    axes.legend()
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None}
    figure.savefig(file, format="svg", metadata=metadata)
    return file.getvalue()


def test_two_runs_give_the_same_bytes():
    use_book_style()
    first = drawn()
    plt.rcdefaults()
    use_book_style()
    assert drawn() == first
    assert b"<dc:date>" not in first
    assert b"<text" not in first  # glyphs are drawn, fonts not needed


def test_settings():
    use_book_style()
    assert plt.rcParams["figure.figsize"] == [6.3, 3.0]
    for name in ("savefig.dpi", "font.size", "svg.hashsalt"):
        assert plt.rcParams[name] == STYLE[name]


def test_lines_differ_without_colour():
    use_book_style()
    _, axes = plt.subplots()
    lines = [axes.plot([0, 1])[0] for _ in range(6)]
    looks = {(str(ln._dash_pattern), ln.get_marker()) for ln in lines}
    assert len(looks) == 6
    assert len({line.get_color() for line in lines}) == 6


def luminance(color: str) -> float:
    "Relative luminance of #rrggbb, 0 to 1."
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p < 0.04 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(
        x * y for x, y in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


def test_colours_are_seen_on_white():
    assert len(set(COLORS.values())) == len(COLORS)
    for color in COLORS.values():
        assert 1.05 / (luminance(color) + 0.05) > 2


def test_in_a_notebook_figures_become_svg(monkeypatch):
    inline = pytest.importorskip("matplotlib_inline.backend_inline")
    pytest.importorskip("IPython")
    told = []
    monkeypatch.setattr(plotting, "get_shell", lambda: object())
    monkeypatch.setattr(
        inline, "set_matplotlib_formats", lambda *a, **k: told.append((a, k))
    )
    use_book_style()
    wanted = {"metadata": {"Date": None, "Creator": None}}
    assert told == [(("svg",), wanted)]


def test_outside_a_notebook_nothing_is_needed(monkeypatch):
    monkeypatch.setattr(plotting, "get_shell", lambda: None)
    use_book_style()
    assert plt.rcParams["axes.grid"]
    assert plotting.get_shell() is None


# -- the curve that grows


def rows(n: int) -> list[dict]:
    "A log as `pretraining.train` keeps it."
    return [
        {"step": i + 1, "loss": 4.0 - i / n}
        | ({"valid": 3.0} if i % 5 == 4 else {})
        for i in range(n)
    ]


class Handle:
    "What `display(…, display_id=True)` gives back."

    def __init__(self):
        self.updates = 0

    def update(self, figure):
        self.updates += 1


@pytest.fixture
def notebook(monkeypatch):
    "A kernel, a display that counts, and a clock that we set."
    display = pytest.importorskip("IPython.display")
    shown, clock = [], [100.0]

    def fake(figure, display_id):
        shown.append(Handle())
        return shown[-1]

    monkeypatch.setattr(plotting, "in_notebook", lambda: True)
    monkeypatch.setattr(display, "display", fake)
    monkeypatch.setattr(plotting.time, "monotonic", lambda: clock[0])
    return shown, clock


def test_live_curve_is_drawn_at_most_once_a_second(notebook):
    shown, clock = notebook
    log = rows(40)
    with LiveCurve(every=1.0) as curve:
        for i in range(40):
            clock[0] += 0.1
            curve(log[: i + 1])
    assert len(shown) == 1  # one place in the notebook
    assert curve.drawn == 1 + shown[0].updates
    assert 4 <= curve.drawn <= 6  # four seconds, and the end
    assert curve.rows == log


def test_live_curve_ends_with_all_rows(notebook):
    shown, _ = notebook
    with LiveCurve(every=1e9) as curve:
        for i in range(30):
            curve(rows(30)[: i + 1])
        assert curve.drawn == 1
    assert (curve.drawn, shown[0].updates) == (2, 1)
    assert not plt.get_fignums()  # else the notebook would show it again


def test_live_curve_shows_the_rows():
    curve = LiveCurve(floor=1.5, smooth=2)
    curve.rows = rows(10)
    (axes,) = curve.figure().axes
    each, mean, held, floor = axes.get_lines()
    assert each.get_ydata().tolist() == [row["loss"] for row in rows(10)]
    assert mean.get_ydata()[3] == pytest.approx(3.75)  # of 3.8 and 3.7
    assert held.get_xdata().tolist() == [5, 10]
    assert set(floor.get_ydata()) == {1.5}


def test_live_curve_is_silent_elsewhere(monkeypatch, capsys):
    "In a script, and in an IPython that has no kernel."
    for shell in (None, object()):
        monkeypatch.setattr(plotting, "get_shell", lambda shell=shell: shell)
        with LiveCurve(every=0) as curve:
            curve(rows(3))
        assert curve.drawn == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(plotting, "get_shell", lambda: Mock(kernel=1))
    assert plotting.in_notebook()


def test_live_curve_without_a_step(notebook):
    with LiveCurve() as curve:
        pass
    assert curve.drawn == 0


def test_running_mean():
    assert running_mean([1, 2, 6, 10], 2) == [1, 1.5, 4, 8]
    assert running_mean([], 3) == []
