"The book builder: every construct in the website and in the PDF."

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pypandoc")
pytest.importorskip("typst")

from book import ansi, cli, pdf
from tests import book_sample

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    "The sample book, built."
    root = book_sample.make(tmp_path_factory.mktemp("book"))
    assert cli.main(["--root", str(root)]) == 0
    return root


@pytest.fixture(scope="module")
def page(root) -> str:
    "The first chapter's page."
    return (root / "_book/nbs/01_first.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(root) -> str:
    "The Typst source of the book."
    return pdf.document(cli.read_book(root))


WEB = {
    "subtitle": r'chapter-subtitle">\s*<p>Text becomes numbers',
    "exported": r'class="export".*?>exported<',
    "directives": r"(?s)^(?!.*default_exp)(?!.*secret).*$",
    "include": r"(?s)^(?!.*not shown).*$",
    "output": r"(?s)^(?!.*not printed).*$",
    "comment": r"(?s)^(?!.*from: runs/first).*$",
    "progress": r"<pre[^>]*>100%\n<span",
    "colour": r'<span class="ansi-fg-green">ok</span>',
    "error": r'(?s)output stream error.*ansi-bg-blue">x<',
    "citation": r'href="\.\./references.html#ref-vaswani2017"',
    "figure": r'<figure class="fig" id="fig-drawn">',
    "alt": r'alt="A grey box"',
    "alt with signs": r'alt="A &quot;dot&quot; on a \\"',
    "picture in SVG": r'<img [^>]*class="on-white"[^>]*alt="Heat"',
    "width": r'style="width:30%"',
    "caption": r"(?s)Figure.1\.3</strong>:.{0,9}A computed figure with",
    "fold": r'<details class="fold"><summary>\s*Show the code',
    "subfigure": r'(?s)class="grid" style="--n:2".*id="fig-pair-2"',
    "subfigure reference": r'href="#fig-pair-2"[^>]*>Figure.{1,6}1\.4 \(b\)',
    "parts of a div": r'href="#fig-div-right"[^>]*>Figure.{1,6}1\.2 \(b\)',
    "table": r'(?s)<figure class="tbl" id="tbl-html">\s*<figcaption>',
    "table text": r"<td[^>]*>241</td>",
    "no style": r"(?s)^(?!.*color: red).*$",
    "table wrap": r'<div class="table-wrap" tabindex="0">',
    "listing": r'(?s)<figure class="lst" id="lst-loop">.*?Listing.1\.1',
    "equation": r'(?s)id="eq-zipf">.*?<span class="eqno">\(1\.1\)',
    "equation reference": r'href="#eq-zipf"[^>]*>Equation.{1,6}\(1\.1\)',
    "bare number": r'href="#eq-zipf"[^>]*>1\.1<',
    "chapter reference": r'="02_second.html#sec-second"[^>]*>Chapter.{1,6}2<',
    "section": r'<span class="secno">1\.1</span>',
    "anchor": r'href="#sec-count" class="anchor"',
    "markdown output": r"<strong>bold</strong>",
    "plain output": r'class="output plain">\s*<pre[^>]*>42<',
    "predict": r'class="callout callout-tip predict" id="predict-sec-first-1"',
    "answer": r'<details class="callout callout-note answer"[^>]*><summary',
    "callout": r"(?s)callout-warning.*?>\s*Ties",
    "bare callout": r"(?s)callout-important.*?>\s*Important",
    "tabs": r"(?s)role=.tablist.*0\.2.*</button>.*1\.2.*role=.tabpanel.",
    "left out": r"(?s)^(?!.*Hidden heading).*$",
    "exercise": r'(?s)theorem exr" id="exr-trip".*?Exercise.1\.1.*?★',
    "solution": r'(?s)>answer.*id="sol-trip".*x solved.*After the stub',
    "markdown in output": r">````\n:::</pre>",
    "reference with words": r'href="#fig-made"[^>]*>Figs.1\.3<',
    "no empty heading": r"(?s)^(?!.*<th></th>).*<td></td>",
    "function": r"log</mi><mo>[^<]*</mo><mspace",
    "footnote": r'(?s)role="doc-noteref".*A note with',
    "definition": r"(?s)<dt>Term</dt>\s*<dd>",
    "notebook": r'href="01_first.ipynb"',
    "pdf": r'href="\.\./Sample-Book.pdf"',
}


@pytest.mark.parametrize("pattern", WEB.values(), ids=WEB.keys())
def test_page(page, pattern):
    "Each construct is in the page."
    assert re.search(pattern, page)


PAPER = {
    "part": r'#bookpart\("First part"\)',
    "chapter": r'(?s)#chapter\(id: "[^"]*", .*?\[First\],\s*\[\s*Text bec',
    "section": r"#section\(.*?rank: 2",
    "exported": r'(?s)#source\(export: "yes".*?def count',
    "reference": r'#goto\("nbs/01_first.ipynb#fig-drawn"\)\[Figure~?.*?1\.1',
    "citation": r'#goto\("references.qmd#ref-vaswani2017"\)',
    "formula": r'#alt\("V"\)\[\$V\$\]',
    "circled": r"times\.o",
    "operator": r'op\("arg.max", limits: #true\)',
    "alt": r'#picture\("/media/[0-9a-f]+\.svg", [\d.]+pt, "A grey box"\)',
    "figure": r'#float\(kind: "fig", label: "Figure.1\.3", id: "[^"]*made"',
    "grid": r'#float\([^\n]*ncol: "2"',
    "subfigure": r'(?s)\nsubfig\(label: "\(b\)".*?\[Fast\]',
    "table": r'(?s)kind: "tbl".*?table\(',
    "terminal": r'#terminal\(kind: "stdout", json\(bytes\("\[\{.*?100%',
    "callout": r'(?s)#callout\(kind: "warning".*?\[Ties\]',
    "prediction": r'more: "predict", label: "Prediction.1\.1", answer: "nbs',
    "small multiples": r'(?s)#tabset\(small: "yes".*?\[0\.2\]',
    "tabs": r"(?s)#tabset\(\s.*?\[PyTorch\]",
    "answers": r"(?s)#answers\(.*?Forty-two.*?x solved.*?#chapter",
    "back": r'#answer\(id: "[^"]*#sol-trip", owner: "[^"]*#exr-trip"',
    "comment": r"(?s)^(?!.*from: runs/first).*$",
}


@pytest.mark.parametrize("pattern", PAPER.values(), ids=PAPER.keys())
def test_typst(source, pattern):
    "Each construct is in the Typst source."
    assert re.search(pattern, source)


def test_answers_come_last(source):
    "In the PDF no answer stands beside its question."
    assert source.index("Forty-two") > source.index("After the stub")


def test_pdf(root):
    "The PDF is one, is tagged, and has pages."
    data = (root / "_book/Sample-Book.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert b"pdfuaid" in data
    assert len(re.findall(rb"/Type\s*/Page\b", data)) >= 7


def test_sample_has_no_faults(root):
    "The sample passes the check."
    assert cli.main(["--root", str(root), "--check"]) == 0


def test_same_bytes(root, tmp_path):
    "A second build writes the same bytes."
    other = book_sample.make(tmp_path)
    cli.main(["--root", str(other)])
    first, second = root / "_book", other / "_book"
    names = sorted(p.relative_to(first) for p in first.rglob("*"))
    assert names == sorted(p.relative_to(second) for p in second.rglob("*"))
    for name in names:
        if (first / name).is_file():
            same = (first / name).read_bytes() == (second / name).read_bytes()
            assert same, name


def test_copies(root):
    "Notebooks, linked files, licences and images are part of the site."
    book = root / "_book"
    assert (book / "nbs/01_first.ipynb").is_file()
    assert (book / "LICENSE").read_text(encoding="utf-8") == "free"
    assert (book / "nbs/images/box.svg").is_file()
    assert (book / "404.html").is_file()
    assert not list(root.glob("_book.*"))


def test_links_lead_somewhere(root):
    "Every relative link of every page names a file and an anchor."
    book = root / "_book"
    for path in book.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for url in re.findall(r'(?:href|src)="([^"]*)"', text):
            if ":" in url:
                continue
            name, _, anchor = url.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.is_file() or target.is_dir(), (path.name, url)
            if anchor:
                page = target.read_text(encoding="utf-8")
                assert f'id="{anchor}"' in page, (path.name, url)


def test_search_index(root):
    "The index holds sections, with the answers' text."
    text = (root / "_book/static/index.js").read_text(encoding="utf-8")
    rows = json.loads(text.removeprefix("window.BOOK=").rstrip(";\n"))
    by_url = {row[0]: row for row in rows}
    exercises = by_url["nbs/01_first.html#exercises"]
    assert exercises[1:3] == ["1 First", "Exercises"]
    assert "It holds" in exercises[3]
    assert "Forty-two" in by_url["nbs/01_first.html#sec-count"][3]


def test_colours():
    "The 16 colours; others become the nearest of them."
    text = "\x1b[91ma\x1b[38;5;208;1mb\x1b[48;2;1;2;250mc\x1b[0;44;38;5;2md"
    assert list(ansi.runs(text)) == [
        ("a", {"fg": "fg-bright-red"}),
        ("b", {"fg": "fg-yellow", "bold": "bold"}),
        ("c", {"fg": "fg-yellow", "bold": "bold", "bg": "bg-blue"}),
        ("d", {"bg": "bg-blue", "fg": "fg-green"}),
    ]
    page, _ = ansi.blocks("<\x1b[1mb\x1b[22mc", "plain")
    assert '>&lt;<span class="ansi-bold">b</span>c<' in page["c"][1]


FILTERED = {
    "directive": ("#| export\n#| label: fig-a\nx", "#| label: fig-a\nx"),
    "eval": ("#|eval: false\nx", "#| eval: false\nx"),
    "continued": ("#| fig-cap: >-\n#|   a: b\nx",) * 2,
    "plain": ("x = 1  #| export",) * 2,
    "hide": ("#| hide\nx", None),
    "default_exp": ("#|default_exp name", None),
}


@pytest.mark.parametrize(("before", "after"), FILTERED.values())
def test_filter(before, after):
    "The filter for Quarto, run as Quarto runs it."
    cells = [book_sample.md("é"), book_sample.code(before)]
    done = subprocess.run(
        [sys.executable, ROOT / "tools/nb_filter.py"],
        input=book_sample.notebook(cells).encode(),
        capture_output=True,
        check=True,
        cwd="/",
    )
    filtered = json.loads(done.stdout)["cells"]
    assert filtered[0]["source"] == "é"
    assert [c["source"] for c in filtered[1:]] == ([after] if after else [])


def test_filter_strips_codes():
    "Terminal codes go, the last frame of a progress line stays."
    from tools.nb_filter import clean

    first = book_sample.stream("1%\r")
    output = book_sample.stream("99%\r\n\x1b[31mred\x1b[0m")
    cells = [book_sample.code("x", first, output, book_sample.error())]
    outputs = clean({"cells": cells})["cells"][0]["outputs"]
    assert outputs[0]["text"] == "99%\nred"
    assert outputs[1]["traceback"] == ["ValueError: no such token", "  x"]


def test_failed_build_keeps_the_book(root, tmp_path, capsys):
    "A mistake is one sentence, and the old book stays."
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "nbs/01_first.ipynb").write_text("{", encoding="utf-8")
    assert cli.main(["--root", str(copy)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: nbs/01_first.ipynb is not a notebook")
    assert (copy / "_book/index.html").is_file()
    assert not list(copy.glob("_book.*"))


def test_missing_pieces(tmp_path, capsys):
    "No settings, no bibliography, and a listed file that is not there."
    assert cli.main(["--root", str(tmp_path)]) == 1
    assert "_quarto.yml does not exist" in capsys.readouterr().err
    root = book_sample.make(tmp_path)
    (root / "references.bib").rename(root / "other.bib")
    assert cli.main(["--root", str(root)]) == 1
    assert "bibliography references.bib does" in capsys.readouterr().err
    (root / "nbs/02_second.ipynb").unlink()
    assert cli.main(["--root", str(root)]) == 1
    assert "lists nbs/02_second.ipynb" in capsys.readouterr().err


def test_template_leaves_the_functions_of_math_alone():
    r"A variable called `sans` would print itself for `\mathsf{T}`."
    template = (ROOT / "book/assets/book.typ").read_text(encoding="utf-8")
    own = set(re.findall(r"^#let ([\w-]+)", template, re.M))
    names = "sans serif mono bb cal frak bold italic upright abs norm floor "
    names += "ceil vec mat cases frac binom sqrt root op accent hat tilde dot"
    assert "sans-fonts" in own
    assert own.isdisjoint(names.split())
