"What the book's sources use stays valid for Quarto >= 1.9."

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

from tools.nb_filter import joined, split_options

ROOT = Path(__file__).resolve().parent.parent

# Keys of Quarto's schema, by the section they stand in. A section named
# here may hold only these; other values are free.
SCHEMA = {
    "": """project execute ipynb-filters book bibliography csl
        link-citations format lang website filters""",
    "project": "type output-dir render pre-render post-render resources",
    "execute": "enabled eval echo output warning error include freeze cache",
    "book": """title subtitle author date date-format abstract description
        chapters appendices references downloads sharing tools output-file
        cover-image cover-image-alt favicon site-url site-path repo-url
        repo-branch repo-subdir repo-actions search sidebar navbar
        page-footer page-navigation reader-mode""",
    "book.page-footer": "left right center border background foreground",
    "format": "html typst pdf epub docx",
    "format.html": """toc toc-depth toc-title toc-location toc-expand theme
        css code-copy code-fold code-tools code-overflow code-summary
        code-line-numbers number-sections number-depth html-math-method
        highlight-style fig-align fig-width fig-height lightbox anchor-sections
        smooth-scroll citations-hover footnotes-hover crossrefs-hover""",
    "format.html.theme": "light dark",
    "format.typst": """toc toc-depth papersize margin mainfont fontsize
        columns number-sections section-numbering fig-align keep-typ
        template template-partials bibliographystyle citeproc""",
}
OPTIONS = """label fig-cap fig-alt fig-subcap fig-align fig-link fig-width
    fig-height tbl-cap tbl-subcap tbl-colwidths lst-label lst-cap
    layout-ncol layout-nrow layout layout-align out-width out-height column
    echo eval output include warning error code-fold code-summary
    code-overflow code-line-numbers classes"""
CHAPTER_KEYS = {"part", "chapters", "file", "text", "href"}


def keys(section: dict, path: str = "") -> Iterator[tuple[str, str]]:
    "All keys with their sections, of the sections with a schema."
    for key, value in section.items():
        yield path, key
        inner = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and inner in SCHEMA:
            yield from keys(value, inner)


def settings() -> dict:
    "The book's settings."
    return yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))


def listed(items: list) -> Iterator[str]:
    "The files of a list of chapters and parts."
    for item in items:
        if isinstance(item, str):
            yield item
        else:
            assert set(item) <= CHAPTER_KEYS
            yield from listed(item.get("chapters", []))


def test_keys():
    "Every key of _quarto.yml is one of Quarto's."
    unknown = [
        f"{path}.{key}"
        for path, key in keys(settings())
        if key not in SCHEMA[path].split()
    ]
    assert unknown == []


def test_book_rules():
    "What Quarto asks of a book."
    given = settings()
    assert given["project"]["type"] == "book"
    files = list(listed(given["book"]["chapters"]))
    assert files[0] in ("index.qmd", "index.md", "index.ipynb")
    assert len(files) == len(set(files))
    assert given["execute"]["enabled"] is False
    assert set(given["book"].get("downloads", [])) <= {"pdf", "epub", "docx"}


def test_filter_is_found_from_the_notebooks():
    "Quarto runs the filters in the notebook's folder."
    folders = {Path(f).parent for f in listed(settings()["book"]["chapters"])}
    folders.discard(Path())
    for name in settings()["ipynb-filters"]:
        for folder in folders:
            assert (ROOT / folder / name).resolve().is_file()


def test_options():
    "Every `#|` line of a notebook is an option of Quarto's, as YAML."
    for path in (ROOT / "nbs").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                _, lines, _ = split_options(joined(cell["source"]))
                options = yaml.safe_load("\n".join(lines)) or {}
                unknown = set(options) - set(OPTIONS.split())
                assert not unknown, (path.name, cell.get("id"))
