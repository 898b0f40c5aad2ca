"""Build, walk and read pandoc's syntax tree, and the boxes in it."""

from collections.abc import Callable
from typing import Any, NamedTuple

Element = dict[str, Any]
Blocks = list[Element]
Inlines = list[Element]


def element(kind: str, *content: Any) -> Element:
    "An element of the tree."
    return {"t": kind, "c": content[0] if len(content) == 1 else [*content]}


def attributes(name: str = "", *classes: str, **pairs: Any) -> list:
    "Pandoc's attribute triple; pairs that are None are left out."
    kept = [[k, str(v)] for k, v in pairs.items() if v is not None]
    return [name, list(classes), kept]


SPACE: Element = {"t": "Space"}


def string(text: str) -> Element:
    "Text without spaces."
    return element("Str", text)


def line(inlines: Inlines) -> Element:
    "Inlines as a block that is no paragraph."
    return element("Plain", inlines)


def span(inlines: Inlines, *classes: str) -> Element:
    "Inlines with classes."
    return element("Span", attributes("", *classes), inlines)


def link(inlines: Inlines, url: str, *classes: str) -> Element:
    "A link."
    return element("Link", attributes("", *classes), inlines, [url, ""])


def code(text: str, *classes: str) -> Element:
    "A block of code."
    return element("CodeBlock", attributes("", *classes), text)


def words(text: str) -> Inlines:
    "Plain text as inlines."
    spaced: Inlines = []
    for word in text.split():
        spaced += [SPACE, string(word)]
    return spaced[1:]


def raw(form: str, text: str) -> Element:
    "A block that only the writer of `form` prints."
    return element("RawBlock", form, text)


def raw_inline(form: str, text: str) -> Element:
    "Inline text that only the writer of `form` prints."
    return element("RawInline", form, text)


class Box(NamedTuple):
    """A block of the book's own: a callout, a figure, a cell ..."""

    name: str
    id: str
    pairs: dict[str, str]
    head: Inlines
    body: Blocks


def box(
    name: str,
    body: Blocks,
    head: Inlines | None = None,
    *,
    id: str = "",
    **pairs: Any,
) -> Element:
    "A box as an element of the tree: a div whose first child is its head."
    title = element("Plain", head or [])
    return element("Div", attributes(id, "box", name, **pairs), [title, *body])


def grid(blocks: Blocks, columns: Any) -> Blocks:
    "Blocks side by side, if columns are asked for."
    if not columns:
        return blocks
    slots = [box("slot", [block]) for block in blocks]
    return [box("gridof", slots, ncol=columns)]


def unbox(item: Element) -> Box | None:
    "The box that `box` packed into a div, if it is one."
    if item["t"] != "Div" or item["c"][0][1][:1] != ["box"]:
        return None
    (name, classes, pairs), (head, *body) = item["c"]
    return Box(classes[1], name, dict(pairs), head["c"], body)


def is_box(item: Element, *names: str) -> bool:
    "Whether the element is a box, with one of the names if any."
    found = unbox(item)
    return found is not None and (found.name in names or not names)


Change = Callable[[Element], Element | list[Element] | None]


def walk(node: Any, change: Change) -> Any:
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


class Visitor:
    """Changes a tree by the method named after each element's type.

    `on_image` takes an image, `on_box` a box; what they return is what
    `walk` expects. Elements without a method stay as they are.
    """

    def visit(self, node: Any) -> Any:
        "A copy of the tree with everything changed."
        return walk(node, self.change)

    def change(self, item: Element) -> Element | list[Element] | None:
        "What takes the place of an element."
        name = "box" if is_box(item) else item["t"].lower()
        method = getattr(self, f"on_{name}", None)
        return method(item) if method else None


def plain(node: Any) -> str:
    "The words of a tree, for the search index and for messages."
    if isinstance(node, list):
        return "".join(map(plain, node))
    if not isinstance(node, dict) or "t" not in node:
        return ""
    kind, content = node["t"], node.get("c")
    if kind == "Str":
        return content
    if kind in ("Space", "SoftBreak", "LineBreak"):
        return " "
    if kind in ("Code", "Math", "CodeBlock"):
        return f"{content[1]} " if kind == "CodeBlock" else content[1]
    if kind in ("RawInline", "RawBlock", "Note", "Image"):
        return ""
    end = " " if kind in ("Para", "Plain", "Header", "Div") else ""
    return plain(content) + end
