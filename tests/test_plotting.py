"The figure style: stored figures are the same bytes each time."

import io

import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from llm_from_scratch import plotting
from llm_from_scratch.plotting import COLORS, STYLE, use_book_style


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
