"""The website's template, styles, scripts and fonts, without building it."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

ASSETS = Path(__file__).parents[1] / "book" / "assets"
STATIC = ASSETS / "site" / "static"
CSS = (STATIC / "style.css").read_text(encoding="utf-8")
PAIR = re.compile(r"(--[\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
COLOURS = {name: (light, dark) for name, light, dark in PAIR.findall(CSS)}
ANSI = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
BOXES = ["note", "tip", "warning", "important", "caution", "predict"]
CODE = [name for name in COLOURS if name.startswith("--code")]

READABLE = [
    *itertools.product(
        ["--fg", "--fg-strong", "--muted", "--accent"],
        ["--bg", "--bg-side", "--bg-soft", "--bg-code", "--bg-raised"],
    ),
    *itertools.product(["--fg", "--accent", "--muted"], ["--accent-soft"]),
    *itertools.product(CODE, ["--bg", "--bg-code"]),
    *((f"--{box}", ground) for box in BOXES for ground in (f"--{box}-soft",)),
    *itertools.product(["--fg", "--accent"], [f"--{b}-soft" for b in BOXES]),
    *((f"--{box}", "--bg") for box in BOXES),
    ("--fg", "--mark"),
    ("--muted", "--mark"),
    *itertools.product(
        [f"--ansi-{name}" for name in ANSI],
        ["--bg", "--important-soft", *(f"--ansi-on-{n}" for n in ANSI)],
    ),
]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in parts
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast(theme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    poor = {
        (ink, ground): round(ratio, 2)
        for ink, ground in READABLE
        if (ratio := contrast(COLOURS[ink][theme], COLOURS[ground][theme]))
        < 4.5
    }
    assert not poor


def test_no_remote_address():
    namespace = "http://www.w3.org/2000/svg"
    for path in (ASSETS / "site").rglob("*"):
        if path.suffix in {".html", ".css", ".js", ".svg"}:
            text = path.read_text(encoding="utf-8").replace(namespace, "")
            assert not re.search(r"(https?:)?//[\w-]+\.\w", text), path


def test_fonts_and_variables_exist():
    files = re.findall(r'url\("([^"]+)"\)', CSS)
    assert files
    assert all((STATIC / name).is_file() for name in files)
    assert {p.name for p in STATIC.glob("*.woff2")} == set(files)
    used = set(re.findall(r"var\((--[\w-]+)\)", CSS))
    assert used <= set(re.findall(r"(--[\w-]+):", CSS))


def test_fonts_are_small_and_licensed():
    fonts = [*ASSETS.rglob("*.ttf"), *ASSETS.rglob("*.woff2")]
    assert sum(path.stat().st_size for path in fonts) < 2_000_000
    readme = (ASSETS / "fonts" / "README.md").read_text(encoding="utf-8")
    for name in (
        "Inter",
        "JetBrains Mono",
        "STIX Two Math",
        "Noto Sans SC",
        "Noto Sans Symbols 2",
        "Noto Emoji",
    ):
        licence = ASSETS / "fonts" / f"OFL-{name.replace(' ', '')}.txt"
        text = licence.read_text(encoding="utf-8")
        assert "SIL OPEN FONT LICENSE Version 1.1" in text
        assert f"| {name} |" in readme


def chapter(number: str, title: str, part: str = "", opens: bool = False):
    return SimpleNamespace(
        number=number,
        title=title,
        title_html=title.replace("&", "&amp;"),
        part=part,
        opens_part=opens,
        path=Path(f"nbs/{title}.ipynb"),
        out=f"nbs/{title}.html",
    )


def render(**changes) -> str:
    jinja2 = pytest.importorskip("jinja2")
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS / "site"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    chapters = [
        chapter("", "Preface"),
        chapter("1", "Bytes & pairs", "Tokenization", True),
        chapter("2", "Models", "Learning", True),
    ]
    values = {
        "book": {
            "title": 'The "Book"',
            "subtitle": "A subtitle",
            "author": "The authors",
            "description": "Words & pictures",
            "lang": "en",
            "repo-url": "",
            "page-footer": {"left": "Licence", "center": ""},
        },
        "chapters": chapters,
        "ch": chapters[1],
        "prev": chapters[0],
        "next": chapters[2],
        "body": "<h1 id='top'>Bytes</h1><p>Text</p>",
        "toc": [(2, "a", "1.1", "Section <code>a</code>"), (3, "b", "", "B")],
        "notebook": "bytes.ipynb",
        "pdf": "../book.pdf",
        "rel": lambda path: f"../{path}",
        "plain": str,
    }
    return env.get_template("page.html").render(values | changes)


def test_template_renders():
    html = render()
    assert "<title>Bytes &amp; pairs – The &#34;Book&#34;</title>" in html
    assert '<html lang="en">' in html
    assert '<a href="#a"><span class="secno">1.1</span>' in html
    assert html.count('aria-current="page"') == 1
    assert 'href="bytes.ipynb"' in html
    assert 'href="../book.pdf"' in html
    assert html.count("<main") == html.count("</main>") == 1
    assert 'class="contents"' not in html
    for target in re.findall(r'aria-controls="([^"]+)"', html):
        assert f'id="{target}"' in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_template_without_the_optional():
    html = render(prev=None, next=None, toc=[], notebook=None, pdf=None)
    assert "On this page</summary>" not in html
    assert "PDF" not in html
    assert 'rel="prev"' not in html


def test_buttons_have_names():
    html = render()
    for attributes, text in re.findall(
        r"<button\b([^>]*)>(.*?)</button>", html, re.DOTALL
    ):
        name = re.sub(r"<[^>]+>", "", text).strip()
        assert "aria-label=" in attributes or name


@pytest.mark.parametrize("name", ["app.js", "search.js"])
def test_script_parses(name):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    subprocess.run([node, "--check", STATIC / name], check=True)
