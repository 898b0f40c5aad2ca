"""Pandoc: run it, and build, walk and read its syntax tree."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pypandoc

CACHE = Path(__file__).parents[1] / ".cache" / "book"
MARKDOWN = (
    "markdown+lists_without_preceding_blankline+autolink_bare_uris"
    "-implicit_header_references"
)
Element = dict[str, Any]
Blocks = list[Element]
Inlines = list[Element]

SILENT = ("RawInline", "RawBlock", "Note", "Image")
BLOCKS = ("Para", "Plain", "Header", "Div", "CodeBlock")


class BookError(Exception):
    """A mistake in the sources or the set-up that stops the build."""


def run(args: list[str], text: str, salt: str = "") -> str:
    "Run pandoc on `text`; results are cached by the hash of all input."
    key = json.dumps([args, text, salt]).encode()
    path = CACHE / hashlib.sha256(key).hexdigest()[:32]
    if path.is_file():
        return path.read_text(encoding="utf-8")
    command = [pypandoc.get_pandoc_path(), *args]
    done = subprocess.run(command, input=text.encode(), capture_output=True)
    if done.returncode:
        raise BookError(f"pandoc failed: {done.stderr.decode().strip()}")
    CACHE.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(done.stdout)
    part.replace(path)
    return done.stdout.decode()


def parse(text: str, form: str = MARKDOWN) -> Blocks:
    "Read markdown (or `form`) into blocks."
    args = ["-f", form, "-t", "json", "--strip-comments", "--preserve-tabs"]
    return json.loads(run(args, text))["blocks"]


def mended(text: str, rules: dict[str, str]) -> str:
    "The text with each pattern of the rules replaced."
    for pattern, new in rules.items():
        text = re.sub(pattern, new, text)
    return text


def write(blocks: Blocks, form: str, *args: str, salt: str = "") -> str:
    "Write blocks as `form`."
    tree = {"pandoc-api-version": [1, 23, 1], "meta": {}, "blocks": blocks}
    return run(["-f", "json", "-t", form, *args], json.dumps(tree), salt)


def element(kind: str, *content: Any) -> Element:
    "An element of the tree."
    return {"t": kind, "c": content[0] if len(content) == 1 else [*content]}


def attributes(name: str = "", *classes: str, **pairs: Any) -> list:
    "Pandoc's attribute triple; pairs that are None are left out."
    kept = [[k, str(v)] for k, v in pairs.items() if v is not None]
    return [name, list(classes), kept]


def words(text: str) -> Inlines:
    "Plain text as inlines."
    return [element("Str", text)] if text else []


def raw(form: str, text: str, kind: str = "RawBlock") -> Element:
    "Text that only the writer of `form` prints."
    return element(kind, form, text)


def quoted(value: Any) -> str:
    "A string or a number in JSON, which Typst reads too."
    return json.dumps(value, ensure_ascii=False)


class Box(NamedTuple):
    """A block of the book's own: a callout, a figure, a cell ..."""

    name: str
    id: str
    pairs: dict[str, str]
    head: Inlines
    body: Blocks


def box(
    name: str, body: Blocks, head: Inlines | None = None, **pairs: Any
) -> Element:
    "A box as an element of the tree: a div whose first child is its head."
    about = attributes(pairs.pop("id", ""), "box", name, **pairs)
    return element("Div", about, [element("Plain", head or []), *body])


def unbox(item: Element) -> Box | None:
    "The box that `box` packed into a div, if it is one."
    if item["t"] != "Div" or item["c"][0][1][:1] != ["box"]:
        return None
    (name, classes, pairs), (head, *body) = item["c"]
    return Box(classes[1], name, dict(pairs), head["c"], body)


def is_box(item: Element, name: str) -> bool:
    "Whether the element is a box of that name."
    found = unbox(item)
    return found is not None and found.name == name


def walk(node: Any, change: Callable[[Element], Any]) -> Any:
    """Copy a tree, children first, with `change` applied to each element.

    `change` returns None to keep it, or what takes its place.
    """
    if isinstance(node, dict):
        return {key: walk(value, change) for key, value in node.items()}
    if not isinstance(node, list):
        return node
    result = []
    for item in node:
        item = walk(item, change)
        new = change(item) if isinstance(item, dict) and "t" in item else None
        result += new if isinstance(new, list) else [new or item]
    return result


def plain(node: Any) -> str:
    "The words of a tree, for the search index and for messages."
    if isinstance(node, list):
        return "".join(map(plain, node))
    if not isinstance(node, dict) or node.get("t") in (None, *SILENT):
        return ""
    kind, content = node["t"], node.get("c", " ")  # a space has none
    if kind in ("Code", "Math", "CodeBlock"):
        content = content[1]
    text = content if isinstance(content, str) else plain(content)
    return f"{text} " if kind in BLOCKS else text
