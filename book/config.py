"""Read the part of `_quarto.yml` that the builder honours."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .tree import Blocks, BookError, Element, Inlines, unbox, walk

ASSETS = Path(__file__).parent / "assets"
TABLES = yaml.safe_load((ASSETS / "tables.yml").read_text(encoding="utf-8"))


@dataclass
class Chapter:
    """One source file, and what the passes over the book learn of it."""

    key: str  # path from the root of the project, with slashes
    part: str | None = None  # title of the part it stands in
    opens_part: bool = False
    appendix: bool = False
    number: str = ""
    title: Inlines = field(default_factory=list)
    title_html: str = ""
    html: str = ""  # the body of its page
    blocks: Blocks = field(default_factory=list)
    toc: list[tuple] = field(default_factory=list)
    anchors: list[str] = field(default_factory=list)

    @property
    def out(self) -> str:
        "The page in the site."
        return posixpath.splitext(self.key)[0] + ".html"


@dataclass
class Book:
    """The sources of the book and the faults found in them."""

    root: Path
    about: dict[str, Any]  # the `book:` section
    options: dict[str, Any]  # all values by their dotted keys
    pages: dict[str, Chapter] = field(default_factory=dict)  # by key
    files: dict[str, bytes] = field(default_factory=dict)  # to be copied
    faults: dict[str, None] = field(default_factory=dict)  # each once
    targets: dict[str, Any] = field(default_factory=dict)  # by label
    works: list[str] = field(default_factory=list)  # in the bibliography

    @property
    def chapters(self) -> list[Chapter]:
        "The chapters in order."
        return [*self.pages.values()]

    @property
    def pdf_name(self) -> str:
        "File name of the PDF, as Quarto makes it from the title."
        return "-".join(str(self.about["title"]).split()) + ".pdf"

    def fault(self, where: str, message: str) -> None:
        "Note a fault in the sources."
        self.faults[f"{where}: {message}"] = None

    def add_file(self, name: str) -> bool:
        "Take in a file by its path from the root, if there is one."
        path = self.root / name
        if not name.startswith("..") and path.is_file():
            self.files[name] = path.read_bytes()
        return name in self.files


def path_of(source: str, url: str) -> str:
    "The path from the root that a URL in a source means."
    joined = posixpath.join(posixpath.dirname(source), url)
    return posixpath.normpath(joined).lstrip("/")


def flat(section: dict[str, Any], path: str = "") -> Iterator[tuple]:
    "The values of nested sections with their dotted keys."
    for key, value in section.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def load(root: Path) -> Book:
    "Read `_quarto.yml` under `root`."
    path = root / "_quarto.yml"
    if not path.is_file():
        raise BookError(f"{path} does not exist")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BookError(f"{path} is not valid YAML: {error}") from None
    options = dict(flat(settings)) if isinstance(settings, dict) else {}
    for key in ("book.title", "book.chapters", "bibliography"):
        if key not in options:
            raise BookError(f"{path} has no {key}")
    book = Book(root, settings["book"], options)
    for key in sorted({*options} - {*TABLES["settings"]}):
        book.fault("_quarto.yml", f"{key} is not honoured")
    add_chapters(book, book.about["chapters"])
    add_chapters(book, book.about.get("appendices") or [], appendix=True)
    return book


def add_chapters(book: Book, items: list[Any], **about: Any) -> None:
    "Append the chapters of a list, which may hold parts."
    for item in items:
        if isinstance(item, dict):
            add_chapters(book, item["chapters"], part=item["part"])
            book.pages[item["chapters"][0]].opens_part = True
        elif (book.root / item).is_file():
            book.pages[item] = Chapter(item, **about)
        else:
            raise BookError(f"_quarto.yml lists {item}, which does not exist")


class Pass:
    """A pass over a chapter: methods named after the elements they change.

    `on_image` takes an image, `on_box` a box; what they return is what
    `walk` expects. Elements without a method stay as they are.
    """

    def __init__(self, book: Book, chapter: Chapter) -> None:
        self.book, self.chapter = book, chapter

    def visit(self, node: Any) -> Any:
        "A copy of the tree with everything changed."
        return walk(node, self.change)

    def change(self, item: Element) -> Element | list[Element] | None:
        "What takes the place of an element."
        name = "box" if unbox(item) else item["t"].lower()
        method = getattr(self, f"on_{name}", None)
        return method(item) if method else None

    def fault(self, message: str) -> None:
        "Note a fault of the chapter."
        self.book.fault(self.chapter.key, message)
