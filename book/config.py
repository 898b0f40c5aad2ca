"""Read the part of `_quarto.yml` that the builder honours."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .pandoc import BookError
from .tree import Blocks, Inlines

HONOURED = {
    "": "project execute ipynb-filters book bibliography csl link-citations"
    " format lang",
    "project": "type output-dir",
    "execute": "enabled",
    "book": "title subtitle author date description downloads page-footer"
    " chapters appendices repo-url repo-actions site-url",
    "book.page-footer": "left",
    "format": "html typst",
    "format.html": "toc toc-depth theme code-copy",
    "format.html.theme": "light dark",
    "format.typst": "papersize toc",
}


@dataclass
class Chapter:
    """One source file, and what the passes over the book learn of it."""

    path: Path  # relative to the root of the project
    part: str | None = None  # title of the part it stands in
    opens_part: bool = False
    appendix: bool = False
    number: str = ""
    id: str = ""
    title: Inlines = field(default_factory=list)
    title_html: str = ""
    blocks: Blocks = field(default_factory=list)
    toc: list[tuple] = field(default_factory=list)

    @property
    def key(self) -> str:
        "The path with slashes."
        return self.path.as_posix()

    @property
    def out(self) -> str:
        "The page in the site."
        return self.path.with_suffix(".html").as_posix()


@dataclass
class Book:
    """The sources of the book and the faults found in them."""

    root: Path
    settings: dict[str, Any]
    chapters: list[Chapter] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # to be copied
    faults: list[str] = field(default_factory=list)
    targets: dict[str, Any] = field(default_factory=dict)  # by label

    @property
    def about(self) -> dict[str, Any]:
        "The `book:` section."
        return self.settings["book"]

    @property
    def output(self) -> Path:
        "The folder that holds the rendered book."
        project = self.settings.get("project") or {}
        return self.root / project.get("output-dir", "_book")

    @property
    def pdf_name(self) -> str:
        "File name of the PDF, as Quarto makes it from the title."
        return "-".join(str(self.about["title"]).split()) + ".pdf"

    def option(self, form: str, key: str, default: Any = None) -> Any:
        "An option of an output format."
        options = (self.settings.get("format") or {}).get(form)
        return options.get(key, default) if options else default

    def fault(self, where: Any, message: str) -> None:
        "Note a fault in the sources once."
        line = f"{where}: {message}"
        if line not in self.faults:
            self.faults.append(line)

    def add_file(self, name: str) -> bool:
        "Take in a file by its path from the root, if there is one."
        path = self.root / name
        inside = not name.startswith("..") and path.is_file()
        if inside:
            self.files[name] = path.read_bytes()
        return inside

    def write_files(self, folder: Path) -> None:
        "Write images and linked files below a folder."
        for name, data in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


def load(root: Path) -> Book:
    "Read `_quarto.yml` under `root`."
    path = root / "_quarto.yml"
    if not path.is_file():
        raise BookError(f"{path} does not exist")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BookError(f"{path} is not valid YAML: {error}") from None
    about = settings.get("book") or {} if isinstance(settings, dict) else {}
    for key in ("title", "chapters"):
        if key not in about:
            raise BookError(f"{path} has no book: {key}:")
    book = Book(root, settings)
    check_keys(book, settings)
    add_chapters(book, about["chapters"])
    add_chapters(book, about.get("appendices") or [], appendix=True)
    return book


def check_keys(book: Book, section: dict[str, Any], path: str = "") -> None:
    "Note the keys that have no effect here."
    for key, value in section.items():
        here = f"{path}.{key}".lstrip(".")
        if key not in HONOURED[path].split():
            book.fault("_quarto.yml", f"{here} is not honoured")
        elif isinstance(value, dict) and here in HONOURED:
            check_keys(book, value, here)


def add_chapters(
    book: Book,
    items: list[Any],
    part: str | None = None,
    appendix: bool = False,
) -> None:
    "Append the chapters of a list, which may hold parts."
    for item in items:
        if isinstance(item, dict) and "part" in item:
            first = len(book.chapters)
            add_chapters(book, item.get("chapters", []), item["part"])
            if len(book.chapters) > first:
                book.chapters[first].opens_part = True
            continue
        path = Path(item)
        if not (book.root / path).is_file():
            raise BookError(f"_quarto.yml lists {path}, which does not exist")
        book.chapters.append(Chapter(path, part, appendix=appendix))
