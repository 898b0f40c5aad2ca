"""Read a notebook (or markdown file) into the blocks of one chapter.

A code cell becomes an empty placeholder div in the chapter's markdown and
is put into the tree after parsing: so divs may span cells, and no output
can break the markdown.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tools.nb_filter import joined, split_options

from . import tree
from .config import Book
from .outputs import merge_streams, output_blocks, store
from .pandoc import BookError, parse
from .tree import Blocks, Element, Inlines

OPTIONS = {
    *("label", "echo", "output", "include", "error", "eval"),
    *("fig-cap", "fig-alt", "fig-subcap", "layout-ncol", "out-width"),
    *("tbl-cap", "lst-label", "lst-cap", "code-fold", "code-summary"),
}
HIDDEN = {"hide", "default_exp"}
EXPORTED = {"export", "exporti", "exports"}


class Cell:
    """A code cell: its options, its code, and where it stands."""

    def __init__(self, book: Book, where: str, source: dict) -> None:
        self.book, self.where = book, where
        text = joined(source["source"])
        self.directives, lines, self.code = split_options(text)
        self.options = self.read_options(lines)
        self.outputs = merge_streams(source.get("outputs", []))
        self.check()

    def read_options(self, lines: list[str]) -> dict[str, Any]:
        "The `#| key: value` lines as a mapping."
        try:
            options = yaml.safe_load("\n".join(lines)) or {}
        except yaml.YAMLError:
            options = None
        if not isinstance(options, dict):
            self.book.fault(self.where, "the #| lines are not YAML")
            return {}
        return options

    def check(self) -> None:
        "Note what the reader of the book would stumble on."
        unknown = set(self.directives) - HIDDEN - EXPORTED
        for name in sorted(unknown | set(self.options) - OPTIONS):
            self.fault(f"option {name} is not honoured")
        wide = [ln for ln in self.code.split("\n") if len(ln) > 79]
        if wide and not self.hidden:
            self.fault(f"code of more than 79 columns: {wide[0].strip()}")
        failed = [o for o in self.outputs if o["output_type"] == "error"]
        if failed and self.options.get("error") is not True:
            self.fault("stored error without `#| error: true`")

    def fault(self, message: str) -> None:
        "Note a fault of this cell."
        self.book.fault(self.where, message)

    @property
    def hidden(self) -> bool:
        "Whether the cell is not part of the book."
        empty = not self.code.strip() and not self.outputs
        left_out = self.options.get("include") is False
        return bool(empty or left_out or HIDDEN & set(self.directives))

    def captions(self) -> list[str]:
        "Markdown of the caption and of the captions of subfigures."
        keys = ("fig-cap", "tbl-cap", "lst-cap")
        main = next((self.options[k] for k in keys if k in self.options), "")
        return [str(main), *self.options.get("fig-subcap", [])]

    def placeholder(self, number: int) -> str:
        "Markdown that holds the cell's place and its own markdown."
        parts = [f"::: cap\n{text}\n:::" for text in self.captions()]
        for index, output in enumerate(self.outputs):
            data = output.get("data", {})
            text = data.get("text/markdown") or data.get("text/latex") or ""
            parts.append(f":::: {{.md n={index}}}\n{joined(text)}\n::::")
        inner = "\n\n".join(parts)
        return f"::::::::: {{.placeholder n={number}}}\n{inner}\n:::::::::"

    def box(self, inner: Blocks) -> Element:
        "The cell as a box; `inner` is what the placeholder held."
        caps = [inlines_of(item) for item in inner if has(item, "cap")]
        markdown = [item["c"][1] for item in inner if has(item, "md")]
        blocks: Blocks = []
        if self.options.get("echo") is not False and self.code.strip():
            blocks.append(self.source(caps[0]))
        if self.options.get("output") is not False:
            pairs = zip(self.outputs, markdown, strict=True)
            shown = [
                output_blocks(self.book.files, output, text, self.options)
                for output, text in pairs
            ]
            blocks += self.arranged(shown, caps)
        return tree.box("cell", blocks)

    def source(self, caption: Inlines) -> Element:
        "The code, marked if it is exported, folded or a listing."
        code = tree.code(self.code, "python")
        label = self.options.get("lst-label")
        body = (
            [tree.box("float", [code], caption, id=label)] if label else [code]
        )
        fold = self.options.get("code-fold")
        exported = EXPORTED & set(self.directives)
        return tree.box(
            "source",
            body,
            tree.words(str(self.options.get("code-summary", "Code"))),
            export="yes" if exported else None,
            fold=fold if fold in (True, "show") else None,
        )

    def arranged(self, shown: Blocks, caps: list[Inlines]) -> Blocks:
        "Outputs, with those that a label names in a numbered float."
        label = str(self.options.get("label", ""))
        columns = self.options.get("layout-ncol")
        if not label.startswith(("fig-", "tbl-")):
            label = ""
        if not label and "fig-cap" not in self.options:
            return tree.grid(shown, columns)
        streams = [b for b in shown if "stream" in tree.unbox(b).pairs["kind"]]
        values = [b for b in shown if b not in streams]
        wanted = "Table" if label.startswith("tbl-") else "Image"
        if f'"{wanted}"' not in json.dumps(values):
            self.fault(f"label {label} without a stored {wanted.lower()}")
            return shown
        if not tree.plain(caps[0]).strip():
            self.fault(f"{label} has no caption")
        if self.options.get("fig-subcap"):
            values = [
                tree.box("subfig", [value], cap, id=f"{label}-{number}")
                for number, (value, cap) in enumerate(
                    zip(values, caps[1:], strict=False), start=1
                )
            ]
        body = tree.grid(values, columns)
        return [*streams, tree.box("float", body, caps[0], id=label)]


def has(item: Element, name: str) -> bool:
    "Whether the element is a div of this class."
    return item["t"] == "Div" and name in item["c"][0][1]


def inlines_of(item: Element) -> Inlines:
    "The inlines of a div that holds one paragraph."
    return item["c"][1][0]["c"] if item["c"][1] else []


class Source:
    """A notebook or markdown file on its way to a tree."""

    def __init__(self, book: Book, path: Path) -> None:
        self.book, self.path = book, path
        self.cells: dict[int, Cell] = {}

    def blocks(self) -> Blocks:
        "Parse the file; the placeholders are still in the tree."
        text = (self.book.root / self.path).read_text(encoding="utf-8")
        if self.path.suffix != ".ipynb":
            return parse(text)["blocks"]
        try:
            cells = json.loads(text)["cells"]
        except (ValueError, KeyError, TypeError) as error:
            message = f"{self.path} is not a notebook: {error}"
            raise BookError(message) from None
        pieces = [self.piece(n, cell) for n, cell in enumerate(cells)]
        return parse("\n\n".join(pieces))["blocks"]

    def piece(self, number: int, source: dict) -> str:
        "The markdown that stands for a cell."
        if source["cell_type"] == "markdown":
            return self.with_attachments(source)
        if source["cell_type"] != "code":
            return ""
        where = f"{self.path.as_posix()} cell {source.get('id', number)}"
        cell = Cell(self.book, where, source)
        self.cells[number] = cell
        return "" if cell.hidden else cell.placeholder(number)

    def with_attachments(self, source: dict) -> str:
        "Text of a markdown cell, its attachments stored as files."
        text = joined(source["source"])
        for name, data in source.get("attachments", {}).items():
            kind, content = next(iter(data.items()))
            url = store(self.book.files, kind, joined(content))
            text = text.replace(f"attachment:{name}", url)
        return "" if re.match(r"#\s*\|\s*hide\b", text) else text
