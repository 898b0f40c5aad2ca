"""Stored outputs of a code cell as blocks of the tree."""

import base64
import hashlib
import re
from typing import Any

from tools.nb_filter import joined

from . import ansi, tree
from .pandoc import parse
from .tree import Blocks, Element

IMAGES = {
    "image/svg+xml": ".svg",
    "image/png": ".png",
    "image/jpeg": ".jpg",
}
PREFERRED = [
    *IMAGES,
    "text/html",
    "text/markdown",
    "text/latex",
    "text/plain",
]


def merge_streams(outputs: list[dict]) -> list[dict]:
    "Join neighbouring pieces of one stream, so that frames meet."
    merged: list[dict] = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if "name" in output and last.get("name") == output["name"]:
            text = joined(last["text"]) + joined(output["text"])
            merged[-1] = {**last, "text": text}
        else:
            merged.append(output)
    return merged


def terminal(text: str, classes: str) -> Element:
    "Text as a terminal shows it."
    text = text.strip("\n")
    page = f'<pre tabindex="0">{ansi.to_html(text)}</pre>'
    kind = "error" if "error" in classes else "text"
    call = f'#terminal(kind: "{kind}", {ansi.to_typst(text)})'
    blank = not ansi.screen(text).strip()
    body = [] if blank else [tree.raw("html", page), tree.raw("typst", call)]
    return tree.box("output", body, kind=classes)


def natural_width(data: bytes, suffix: str) -> float | None:
    "Width in points that an image states: SVG, or PNG with a density."
    if suffix == ".svg":
        tag = re.search(rb'<svg[^>]*?\bwidth="([\d.]+)(pt|px)?"', data)
        scale = 1 if tag and tag[2] == b"pt" else 0.75
        return float(tag[1]) * scale if tag else None
    if suffix != ".png":
        return None
    density = 144.0
    if (at := data.find(b"pHYs", 0, 4096)) > 0:
        density = int.from_bytes(data[at + 4 : at + 8], "big") * 0.0254
    return int.from_bytes(data[16:20], "big") * 72 / density


def decoded(kind: str, content: str) -> bytes:
    "Bytes of an image in a notebook: text (SVG) or base64."
    if kind == "image/svg+xml":
        return content.encode()
    return base64.b64decode(content)


def store(files: dict[str, bytes], kind: str, content: str) -> str:
    "Add an image to the files of the book under its hash; return its URL."
    data = decoded(kind, content)
    digest = hashlib.sha256(data).hexdigest()[:16]
    name = f"media/{digest}{IMAGES[kind]}"
    files[name] = data
    return f"/{name}"


def table_blocks(markup: str) -> Blocks:
    "HTML as blocks; of markup with tables only the tables, without styles."
    markup = re.sub(r"(?s)<style.*?</style>", "", markup)
    blocks = parse(markup, "html")["blocks"]
    tables: Blocks = []

    def collect(item: Element) -> None:
        if item["t"] == "Table":
            item["c"][0][1:] = [[], []]
            tables.append(item)

    tree.walk(blocks, collect)
    return tables or blocks


def data_blocks(
    files: dict[str, bytes],
    data: dict[str, Any],
    markdown: Blocks,
    options: dict[str, Any],
) -> Blocks:
    "The best representation of a displayed value."
    kind = next((kind for kind in PREFERRED if kind in data), "")
    content = joined(data.get(kind, ""))
    if kind in IMAGES:
        width = options.get("out-width")
        alt = tree.words(str(options.get("fig-alt", "")))
        image = tree.attributes("", width=width)
        url = [store(files, kind, content), ""]
        picture = tree.element("Image", image, alt, url)
        return [tree.element("Para", [picture])]
    if kind == "text/html":
        return table_blocks(content)
    if kind in ("text/markdown", "text/latex"):
        return markdown
    return [terminal(content, "plain")] if kind else []


def output_blocks(
    files: dict[str, bytes],
    output: dict[str, Any],
    markdown: Blocks,
    options: dict[str, Any],
) -> Element:
    "One output as a box."
    kind = output["output_type"]
    if kind == "stream":
        return terminal(joined(output["text"]), f"stream {output['name']}")
    if kind == "error":
        return terminal("\n".join(output["traceback"]), "stream error")
    body = data_blocks(files, output["data"], markdown, options)
    if len(body) == 1 and tree.is_box(body[0]):
        return body[0]
    return tree.box("output", body, kind="display")
