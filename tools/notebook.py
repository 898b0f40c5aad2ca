"A notebook as the checks see it: cells with directives and code parsed."

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

PACKAGE = "llm_from_scratch"
EXPORTS = {"export", "exports", "exporti"}
INLINE_CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\n).)*?(?<!`)\1(?!`)", re.S)
INLINE_MATHS = re.compile(
    r"(?<![\\$\w])\$(?=\S)(?:(?!\n\n)[^$])*?(?<=\S)\$(?!\d)"
)
FOLDED = re.compile(r"collapse|deeper|answer|fold")


class Finding(NamedTuple):
    "One thing that is wrong, or only worth a look."

    page: str
    cell: str
    text: str
    fault: bool = True

    def __str__(self) -> str:
        kind = "" if self.fault else "note: "
        cell = f" cell {self.cell}" if self.cell else ""
        return f"{kind}{self.page}{cell}: {self.text}"


@dataclass
class Cell:
    "One cell, with what its `#|` lines say."

    id: str
    kind: str
    source: str
    outputs: list[dict]

    def __post_init__(self) -> None:
        self.options: dict[str, str] = {}
        self.continued: set[str] = set()
        self.code = self.source if self.kind == "code" else ""
        self.error = ""
        if self.kind == "code":
            self._read_options()

    def _read_options(self) -> None:
        lines = self.source.splitlines()
        count = 0
        for count, line in enumerate([*lines, ""]):  # noqa: B007
            if not line.startswith("#|"):
                break
            self._read_option(line[2:])
        self.code = "\n".join(lines[count:])

    def _read_option(self, text: str) -> None:
        words = text.split()
        inside = text.startswith("  ") and self.options
        if inside:  # the next line of a caption
            self.continued |= set(words[:1])
            last = list(self.options)[-1]
            self.options[last] += " " + text.strip()
            return
        key, colon, value = text.strip().partition(":")
        if colon and " " not in key:
            self.options[key] = value.strip().removeprefix(">-").strip()
        elif words:
            self.options[words[0]] = " ".join(words[1:])

    @cached_property
    def tree(self) -> ast.Module:
        "The code, parsed; empty where it does not parse."
        code = re.sub(r"^(\s*)[%!].*", r"\1pass", self.code, flags=re.M)
        try:
            return ast.parse(code)
        except SyntaxError as error:
            self.error = str(error)
            return ast.Module([], [])

    @property
    def exported(self) -> bool:
        "Whether the cell goes into the module."
        return bool(EXPORTS & set(self.options))

    @property
    def evaluated(self) -> bool:
        "Whether the cell is executed."
        return self.options.get("eval", "").lower() != "false"

    @property
    def label(self) -> str:
        "The label of its figure or table."
        return self.options.get("label", "")

    @property
    def length(self) -> int:
        "How many lines of code it has, blank ones and options apart."
        return sum(bool(x.strip()) for x in self.code.splitlines())

    @property
    def definitions(self) -> list[str]:
        "The functions and classes at its top level."
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return [x.name for x in self.tree.body if isinstance(x, kinds)]


@dataclass
class Notebook:
    "One notebook."

    path: Path
    page: str
    cells: list[Cell]

    @property
    def number(self) -> str:
        "Its chapter number, two digits."
        return self.path.stem[:2]

    @property
    def name(self) -> str:
        "The name after the number, which is the module's too."
        return self.path.stem[3:]

    @property
    def code(self) -> list[Cell]:
        "Its code cells."
        return [x for x in self.cells if x.kind == "code"]

    @property
    def markdown(self) -> list[Cell]:
        "Its cells of prose."
        return [x for x in self.cells if x.kind == "markdown"]

    @property
    def exports(self) -> list[Cell]:
        "Its cells that go into the module."
        return [x for x in self.code if x.exported]

    @property
    def module(self) -> str:
        "The module that it exports to, or nothing."
        names = [x.options.get("default_exp", "") for x in self.code]
        return next(filter(None, names), "")

    @property
    def prose(self) -> str:
        "Its markdown, code samples and comments removed."
        return plain("\n\n".join(x.source for x in self.markdown))

    @property
    def text(self) -> str:
        "Its markdown and its captions, with the labels of its cells."
        parts = []
        for cell in self.cells:
            if cell.kind == "markdown":
                parts.append(cell.source)
            if cell.label:
                parts.append(f"{{#{cell.label}}}")
            for key in ("fig-cap", "tbl-cap"):
                parts.append(cell.options.get(key, ""))
        return "\n\n".join(parts)

    def fault(self, cell: Cell | None, text: str) -> Finding:
        "Something that is wrong here."
        return Finding(self.page, cell.id if cell else "", text)

    def note(self, text: str) -> Finding:
        "Something worth a look."
        return Finding(self.page, "", text, fault=False)


def read(path: Path, root: Path) -> Notebook:
    "Read a notebook; its page is its path from `root`."
    cells = [
        Cell(
            str(x.get("id", number)),
            x["cell_type"],
            "".join(x["source"]),
            x.get("outputs", []),
        )
        for number, x in enumerate(
            json.loads(path.read_text(encoding="utf-8"))["cells"]
        )
    ]
    return Notebook(path, path.relative_to(root).as_posix(), cells)


@dataclass
class Book:
    "All notebooks, and what they are checked against."

    root: Path
    chapters: list[Notebook] = field(default_factory=list)
    answers: dict[str, Notebook] = field(default_factory=dict)

    @cached_property
    def numbers(self) -> dict[str, str]:
        "The chapter number of each exported module."
        return {x.name: x.number for x in self.chapters if x.module}

    @cached_property
    def by_hand(self) -> set[str]:
        "The modules that any chapter may import."
        return {x.stem for x in hand_written(self.root)} - {"__init__", "cli"}

    @cached_property
    def tested(self) -> set[str]:
        "Every name that the tests mention."
        found: set[str] = set()
        for path in sorted((self.root / "tests").glob("**/*.py")):
            found |= mentioned(ast.parse(path.read_text(encoding="utf-8")))
        return found

    @cached_property
    def pages(self) -> dict[str, str]:
        "All text in which labels and references may stand."
        pages = {
            path.name: path.read_text(encoding="utf-8")
            for path in [
                *sorted(self.root.glob("*.qmd")),
                *self.root.glob("README.md"),
            ]
        }
        for book in (*self.chapters, *self.answers.values()):
            pages[book.page] = book.text
        return pages


def hand_written(root: Path) -> list[Path]:
    "The modules of the package that no notebook writes."
    return [
        path
        for path in sorted((root / PACKAGE).glob("*.py"))
        if "AUTOGENERATED" not in path.read_text(encoding="utf-8")[:2000]
        and path.name != "_modidx.py"
    ]


def mentioned(tree: ast.AST) -> set[str]:
    "The names that some code uses, imports or looks up."
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {x.name for x in node.names}
    return found


def bound(node: ast.AST) -> set[str]:
    "The names that a cell's top level binds."
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(
            child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ):
            found.add(child.name)
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            names = (x.asname or x.name.split(".")[0] for x in child.names)
            found.update(names)
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            found.add(child.id)
        if not isinstance(child, ast.Lambda | ast.comprehension):
            found |= bound(child)
    return found


def load(root: Path) -> Book:
    "Read every notebook below `root`."
    book = Book(root)
    for path in sorted((root / "nbs").glob("*.ipynb")):
        book.chapters.append(read(path, root))
    for path in sorted((root / "nbs" / "solutions").glob("*.ipynb")):
        answers = read(path, root)
        book.answers[answers.name] = answers
    return book


def plain(text: str) -> str:
    "Markdown without code, mathematics and comments."
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(
        r"^[ ]{0,3}(```+|~~~+).*?^[ ]{0,3}\1`*\s*$",
        "",
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(INLINE_CODE, "", text)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    return INLINE_MATHS.sub("", text)


def unfolded(text: str) -> str:
    "Markdown without the boxes that a reader has to open."
    kept, stack = [], []
    for line in text.splitlines():
        fence = re.match(r"\s*:{3,}\s*(.*)", line)
        if fence and fence[1].strip(": "):
            stack.append(bool(FOLDED.search(fence[1])))
        elif fence:
            stack = stack[:-1]
        elif not any(stack):
            kept.append(line)
    return "\n".join(kept)
