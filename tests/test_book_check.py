"The book's check: every fault, provoked once."

import json
from pathlib import Path

import pytest

pytest.importorskip("pypandoc")
pytest.importorskip("typst")

from book import cli
from tests import book_sample
from tests.book_sample import code, md, png, shown, stream

IMAGE = shown("image/png", png())
FAULTS = {
    "unresolved": (md("See @fig-none."), "unresolved reference @fig-none"),
    "duplicate": (
        md("$$x$$ {#eq-a}\n\n$$y$$ {#eq-a}"),
        "duplicate label eq-a",
    ),
    "duplicate section": (
        md("## A {#sec-second}"),
        "duplicate label sec-second",
    ),
    "citation": (md("[@nobody2020]"), "unresolved reference @nobody2020"),
    "file": (md("[x](none.txt)"), "dead link none.txt"),
    "chapter": (md("[x](09_none.ipynb)"), "dead link 09_none.ipynb"),
    "anchor": (md("[x](#none)"), "dead link #none"),
    "image": (md("![x](none.png)"), "image none.png is missing"),
    "outside": (md("[x](../../x.txt)"), "dead link ../../x.txt"),
    "remote": (md("![x](https://a.org/b.png)"), "is missing"),
    "alt": (
        md("![](images/box.svg) x"),
        "image images/box.svg has no fig-alt",
    ),
    "figure alt": (
        md("![Caption](images/box.svg){#fig-x}"),
        "image images/box.svg has no fig-alt",
    ),
    "cell alt": (code("plot()", IMAGE), "cell c01: image without fig-alt"),
    "glyph": (md("Hangul 한."), "02_second.ipynb: PDF/UA-1 error: the text"),
    "wide": (
        code("x" * 80),
        "02_second.ipynb: code of more than 79 columns: xxx",
    ),
    "wide block": (md(f"```\n{'y' * 80}\n```"), "more than 79 columns: yyy"),
    "class": (md("::: {.column-margin}\nx\n:::"), "column-margin"),
    "formula": (md("$\\nosuch x$"), "formula not understood: $\\nosuch x$"),
    "option": (code("#| fig-width: 3\nx"), "option fig-width is not honoured"),
    "directive": (code("#| hide_input\nx"), "option hide_input is not"),
    "yaml": (code("#| label: [\nx"), "cell c01: the #| lines are not YAML"),
    "html": (md("a <kbd>b</kbd>"), "raw HTML is web only: <kbd>"),
    "label": (
        code("#| label: fig-x\n#| fig-cap: c\nx", stream("no figure")),
        "fig-x shows no image or has no caption",
    ),
    "caption": (
        code("#| label: fig-x\n#| fig-alt: a\nx", IMAGE),
        "fig-x shows no image or has no caption",
    ),
    "empty figure": (md("::: {#fig-x}\n:::"), "fig-x shows no image"),
    "loose caption": (
        code("#| fig-cap: c\n#| fig-alt: a\nx", IMAGE),
        "cell c01: a caption without a label",
    ),
    "width": (
        md('![](images/box.svg){fig-alt="a" width=300px}'),
        "width of images/box.svg is not in %",
    ),
    "div option": (
        md("::: {.callout-note icon=false}\nx\n:::"),
        "div: {'icon'} not honoured",
    ),
    "solution": (
        md("::: {#exr-new}\nDo it.\n:::"),
        "nbs/02_second.ipynb: exr-new has no answer",
    ),
    "answer": (
        md("::: {.callout-note .answer}\nForty-two.\n:::"),
        "answer without a question",
    ),
    "prediction": (
        md("::: {.callout-tip .predict}\nWhat?\n:::"),
        "predict-sec-second-1 has no answer",
    ),
}


def check(root: Path, capsys) -> list[str]:
    "The faults of the book, which must fail."
    assert cli.main(["--root", str(root), "--check"]) == 1
    assert not (root / "_book").exists()
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("cell", "message"), FAULTS.values(), ids=FAULTS)
def test_fault(tmp_path, capsys, cell, message):
    "A fault in a chapter is the only one listed, on one line."
    root = book_sample.make(tmp_path)
    cells = [*book_sample.SECOND, json.loads(json.dumps(cell))]
    text = book_sample.notebook(cells)
    (root / "nbs/02_second.ipynb").write_text(text, encoding="utf-8")
    faults = check(root, capsys)
    assert len(faults) == 1
    assert message in faults[0]


def test_solution_without_exercise(tmp_path, capsys):
    "An answer to nothing is a fault."
    root = book_sample.make(tmp_path)
    text = book_sample.notebook([md("## X {#sol-none}\n\nText.")])
    path = root / "nbs/solutions/02_second.ipynb"
    path.write_text(text, encoding="utf-8")
    (fault,) = check(root, capsys)
    assert fault.endswith("the solution of exr-none has no exercise")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("book:", "book:\n  sidebar: {style: docked}", "book.sidebar.style"),
        ("format:", "lightbox: true\nformat:", "lightbox"),
        ("toc-depth", "number-depth", "format.html.number-depth"),
    ],
)
def test_settings(tmp_path, capsys, old, new, key):
    "A key of the settings that has no effect here is a fault."
    root = book_sample.make(tmp_path)
    path = root / "_quarto.yml"
    text = path.read_text(encoding="utf-8").replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    assert check(root, capsys) == [
        f"fault: _quarto.yml: {key} is not honoured"
    ]


def test_faults_do_not_stop_the_build(tmp_path, capsys):
    "A normal build warns and goes on."
    root = book_sample.make(tmp_path)
    cells = [*book_sample.SECOND, md("@fig-none and [x](none.txt)")]
    text = book_sample.notebook(cells)
    (root / "nbs/02_second.ipynb").write_text(text, encoding="utf-8")
    assert cli.main(["--root", str(root)]) == 0
    assert "warning: nbs/02_second.ipynb: " in capsys.readouterr().err
    assert (root / "_book/Sample-Book.pdf").is_file()
