"""A code cell and its stored outputs as Quarto's markdown.

Code and outputs stand in fenced blocks, whose fences are longer than any
in the text, so that nothing printed can break the chapter.
"""

import base64
import hashlib
import html
import re
from typing import Any

import yaml

from tools.nb_filter import DROPPED, joined, merged, screen, split_options

from .config import TABLES, Book

EXPORTED = {"export", "exporti", "exports"}
IMAGES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
SHOWN = [*IMAGES, "text/html", "text/markdown", "text/plain"]  # best first


class Cell:
    """A code cell, and where it stands."""

    def __init__(self, book: Book, where: str, source: dict) -> None:
        self.book, self.where = book, where
        text = joined(source["source"])
        self.directives, lines, self.code = split_options(text)
        self.options = self.read_options(lines)
        self.outputs = merged(source.get("outputs", []))
        label = str(self.options.get("label", ""))
        self.label = label if label.startswith(("fig-", "tbl-")) else ""
        self.check()

    def fault(self, message: str) -> None:
        "Note a fault of this cell."
        self.book.fault(self.where, message)

    def read_options(self, lines: list[str]) -> dict[str, Any]:
        "The `#| key: value` lines as a mapping."
        try:
            return dict(yaml.safe_load("\n".join(lines)) or {})
        except (yaml.YAMLError, ValueError, TypeError):
            self.fault("the #| lines are not YAML")
            return {}

    def check(self) -> None:
        "Note what has no effect."
        unknown = set(self.directives) - DROPPED - EXPORTED
        unknown |= set(self.options) - set(TABLES["options"])
        for name in sorted(unknown):
            self.fault(f"option {name} is not honoured")
        if {"fig-cap", "tbl-cap"} & set(self.options) and not self.label:
            self.fault("a caption without a label")

    def markdown(self) -> str:
        "A div of code and printed text, then one of the figure or table."
        left_out = self.options.get("include") is False
        if left_out or DROPPED & set(self.directives):
            return ""
        pieces, values = [], []
        if self.options.get("echo") is not False and self.code.strip():
            pieces.append(self.source())
        hidden = self.options.get("output") is False
        for output in [] if hidden else self.outputs:
            named = self.label and "data" in output
            (values if named else pieces).append(self.shown(output))
        parts = [div(".cell", *pieces)] if pieces else []
        if self.label:
            caption = self.options.get(f"{self.label[:3]}-cap", "")
            parts.append(div(f"#{self.label}", *values, str(caption)))
        return "\n\n".join(parts)

    def source(self) -> str:
        "The code, marked if it is exported; it may be folded or a listing."
        code = fenced(".python", self.code)
        if label := self.options.get("lst-label"):
            code = div(f"#{label}", code, str(self.options.get("lst-cap", "")))
        about = attributes(
            export="yes" if EXPORTED & set(self.directives) else None,
            fold=self.options.get("code-fold") or None,
            head=self.options.get("code-summary", "Code"),
            lines=self.code.count("\n") + 1,
        )
        return div(f".source {about}", code)

    def shown(self, output: dict) -> str:
        "One output."
        if output["output_type"] == "stream":
            return terminal(f"stream {output['name']}", output["text"])
        if output["output_type"] == "error":
            return terminal("stream error", "\n".join(output["traceback"]))
        data = output["data"]
        kind = next((kind for kind in SHOWN if kind in data), "text/plain")
        content = joined(data.get(kind, ""))
        if kind == "text/plain":
            return terminal("plain", content)
        if kind in IMAGES:
            return div('.output kind=""', self.image(kind, content))
        form = kind.removeprefix("text/")
        return div('.output kind=""', fenced(f".shown-{form}", content))

    def image(self, kind: str, content: str) -> str:
        "An image, added to the files of the book under its hash."
        svg = kind == "image/svg+xml"
        data = content.encode() if svg else base64.b64decode(content)
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.{IMAGES[kind]}"
        self.book.files[f"media/{name}"] = data
        if "fig-alt" not in self.options:
            self.fault("image without fig-alt")
        alt = self.options.get("fig-alt", "figure")
        about = attributes(**{"fig-alt": alt})
        return f"![](/media/{name}){{{about}}}"


def attributes(**pairs: Any) -> str:
    "Attributes of a div or a block; those that are None are left out."
    texts = {k: html.escape(str(v)) for k, v in pairs.items() if v is not None}
    kept = {key: text.replace("\\", "&#92;") for key, text in texts.items()}
    return " ".join(f'{key}="{text}"' for key, text in kept.items())


def div(about: str, *pieces: str) -> str:
    "A div round pieces of markdown."
    return "\n\n".join([f"::: {{{about}}}", *pieces, ":::"])


def fenced(about: str, text: str) -> str:
    "A block that may hold any text."
    longest = max(map(len, re.findall("`+", text)), default=2)
    fence = "`" * max(longest + 1, 3)
    return f"{fence} {{{about}}}\n{text}\n{fence}"


def terminal(kind: str, text: str | list[str]) -> str:
    "Text as a terminal shows it."
    text = screen(joined(text)).strip("\n")
    block = fenced(f".terminal .{kind.split()[-1]}", text)
    return div(f'.output kind="{kind}"', block if text.strip() else "")
