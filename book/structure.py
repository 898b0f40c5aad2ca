"""Read a chapter into pandoc's tree, with Quarto's divs as boxes."""

import json
import re
from string import ascii_lowercase
from typing import Any

from tools.nb_filter import joined

from . import ansi, tree
from .cells import Cell
from .config import TABLES, Book, Chapter, Pass, path_of
from .tree import Blocks, BookError, Element, Inlines, parse

# A displayed equation on lines of its own, with or without a label.
EQUATION = re.compile(
    r"(?m)^([ >]*)(\$\$(?:(?!\$\$)[\s\S])+\$\$)[ \t]*(?:\{(#eq-[\w-]+)\})?$"
)
EQUATION_DIV = r"\1\n\1::: {.equation \3}\n\1\2\n\1:::\n"


def kind_of(label: str) -> str:
    "The kind a label names (`fig` of fig-mask), or nothing."
    kind = label.partition("-")[0]
    return kind if "-" in label and kind in TABLES["labels"] else ""


def read_chapter(book: Book, chapter: Chapter) -> None:
    "Read a chapter, with the answers to its exercises put in."
    blocks = Reader(book, chapter).blocks()
    if not blocks or blocks[0]["t"] != "Header" or blocks[0]["c"][0] != 1:
        raise BookError(f"{chapter.key} has no heading of level 1 on top")
    if blocks[1:] and blocks[1]["t"] == "BlockQuote":
        blocks[1] = tree.box("subtitle", blocks[1]["c"])
    folder, _, name = chapter.key.rpartition("/")
    path, answers = f"{folder}/solutions/{name}", {}
    if (book.root / path).is_file():
        answers = answers_in(Reader(book, Chapter(path)).blocks())
    chapter.blocks = placed(blocks, answers)
    for label in answers:
        book.fault(chapter.key, f"the solution of {label} has no exercise")


class Reader(Pass):
    """Turns one file into blocks."""

    def blocks(self) -> Blocks:
        "The blocks of the file."
        key = self.chapter.key
        text = (self.book.root / key).read_text(encoding="utf-8")
        cells = [{"cell_type": "markdown", "source": text}]
        if key.endswith(".ipynb"):
            try:
                cells = json.loads(text)["cells"]
            except (ValueError, KeyError, TypeError) as error:
                raise BookError(f"{key} is not a notebook: {error}") from None
            self.book.add_file(key)
        return self.visit(parse("\n\n".join(map(self.markdown, cells))))

    def markdown(self, cell: dict) -> str:
        "The markdown of a cell."
        if cell["cell_type"] == "code":
            where = f"{self.chapter.key} cell {cell.get('id')}"
            return Cell(self.book, where, cell).markdown()
        return EQUATION.sub(EQUATION_DIV, joined(cell["source"]))

    def on_header(self, item: Element) -> Blocks | None:
        "Drop the headings that nbdev leaves out of its contents."
        return [] if tree.plain(item).endswith(" - ") else None

    def on_table(self, item: Element) -> Element | None:
        "A table of markdown with a label."
        (label, *_), (_, caption) = item["c"][:2]
        if kind_of(label) != "tbl":
            return None
        item["c"][:2] = [tree.attributes(), [None, []]]
        return float_of(label, [item], first_inlines(caption))

    def on_rawinline(self, item: Element) -> None:
        "Note markup that would be missing from the PDF."
        form, text = item["c"]
        if form == "html" and text and not text.startswith("</"):
            self.fault(f"raw HTML is web only: {text}")

    on_rawblock = on_rawinline

    def on_image(self, item: Element) -> Element | None:
        "Take in the file of an image, and settle its size and its alt."
        (_, classes, pairs), _, (url, _) = item["c"]
        name, options = path_of(self.chapter.key, url), dict(pairs)
        if not self.book.add_file(name):
            self.fault(f"image {url} is missing")
            return tree.element("Str", f"[{url}]")
        if "fig-alt" not in options:
            self.fault(f"image {url} has no fig-alt")
        options["alt"] = options.pop("fig-alt", "figure")
        if not options.get("width", "%").endswith("%"):
            self.fault(f"width of {url} is not in %")
            del options["width"]
        data = self.book.files[name]
        points = natural_width(data)
        if points and "width" not in options:
            options["points"] = f"{points:.0f}"
        if b"<svg" in data and b"<image" in data:
            classes.append("on-white")
        about = tree.attributes("", *classes, **options)
        item["c"] = [about, [], [f"/{name}", ""]]
        return None

    def on_figure(self, item: Element) -> Element:
        "A figure of markdown."
        (label, *_), (_, caption), body = item["c"]
        return float_of(label, body, first_inlines(caption))

    def on_codeblock(self, item: Element) -> Element | Blocks | None:
        "A block of code, or an output of a cell."
        (_, classes, _), text = item["c"]
        if "terminal" in classes:
            return ansi.blocks(text, classes[-1])
        if "shown-html" in classes:
            tables = re.findall(r"(?s)<table[^>]*(>.*?</table>)", text)
            text = "".join(f"<table{table}" for table in tables) or text
            return self.visit(parse(text, "html"))
        if "shown-markdown" in classes:
            return self.visit(parse(text))
        if wide := [line for line in text.split("\n") if len(line) > 79]:
            self.fault(f"code of more than 79 columns: {wide[0].strip()}")
        return None

    def on_div(self, item: Element) -> Element | None:
        "A div of Quarto's as a box."
        (label, classes, pairs), body = item["c"]
        options = dict(pairs)
        if unknown := {*classes, *options} - {*TABLES["divs"]}:
            self.fault(f"div: {unknown} not honoured")
        if set(TABLES["boxes"]).intersection(classes):
            head = tree.words(options.pop("head", ""))
            return tree.box(classes[0], flat(body), head, id=label, **options)
        if "panel-tabset" in classes:
            return tabset(body)
        if kind_of(label) in TABLES["floats"]:
            return self.figure(label, body, options)
        kind = next((c[8:] for c in classes if c.startswith("callout-")), "")
        if not kind and kind_of(label) != "exr":
            return None
        first = body[:1] and body[0]["t"] == "Header"
        head = body.pop(0)["c"][2] if first else tree.words(kind.title())
        if "title" in options:
            head = first_inlines(parse(options["title"]))
        about = {"id": label, "kind": kind}
        about["collapse"] = options.get("collapse")
        about["more"] = " ".join({"predict", "answer"}.intersection(classes))
        name = "callout" if kind else "exercise"
        return tree.box(name, flat(body), head, **about)

    def figure(self, label: str, body: Blocks, about: dict) -> Element | None:
        "A div that is a float; its last paragraph is the caption."
        wanted = TABLES["floats"][kind_of(label)]
        *body, last = body or [tree.raw("html", "")]
        has_caption = last["t"] in ("Para", "Plain")
        if not has_caption or f'"{wanted}"' not in json.dumps(body):
            self.fault(f"{label} shows no {wanted.lower()} or has no caption")
            return None
        columns = about.get("layout-ncol")
        if columns or any(tree.is_box(part, "float") for part in body):
            body = [subfigure(n, part) for n, part in enumerate(body)]
            columns = columns or "1"
        return float_of(label, body, last["c"], ncol=columns)


def natural_width(data: bytes) -> float | None:
    "Width in points that an image states: SVG, or PNG with a density."
    if data.startswith(b"\x89PNG"):
        at = data.find(b"pHYs", 0, 4096)
        stated = int.from_bytes(data[at + 4 : at + 8], "big") * 0.0254
        density = stated if at > 0 else 144
        return int.from_bytes(data[16:20], "big") * 72 / density
    tag = re.search(rb'<svg[^>]*?\bwidth="([\d.]+)(pt|px)?"', data)
    return float(tag[1]) * (1 if tag[2] == b"pt" else 0.75) if tag else None


def float_of(label: str, body: Blocks, head: Inlines, **more: Any) -> Element:
    "A figure, table or listing."
    more |= {"id": label, "kind": kind_of(label) or "fig"}
    return tree.box("float", body, head, **more)


def subfigure(index: int, part: Element) -> Element:
    "A part of a figure, numbered with a letter."
    found = tree.unbox(part)
    if found is None or found.name != "float":
        found = tree.Box("float", "", {}, [], [part])
    about = {"id": found.id, "label": f"({ascii_lowercase[index]})"}
    return tree.box("subfig", found.body, found.head, **about)


def first_inlines(blocks: Blocks) -> Inlines:
    "The inlines of the first block."
    return blocks[0]["c"] if blocks else []


def flat(body: Blocks) -> Blocks:
    "Blocks as paragraphs, with headings in bold, out of the contents."
    for item in body:
        if item["t"] == "Header":
            strong = tree.element("Strong", item["c"][2])
            item.update(tree.element("Para", [strong]))
        elif item["t"] == "Plain":
            item["t"] = "Para"
    return body


def tabset(body: Blocks) -> Element:
    "Tabs at the level of the first heading, and a head with their names."
    levels = [item["c"][0] for item in body if item["t"] == "Header"]
    tabs: Blocks = []
    for item in body:
        if item["t"] == "Header" and item["c"][0] == levels[0]:
            tabs.append(tree.box("tab", [], item["c"][2]))
        elif tabs:
            tabs[-1]["c"][1] += flat([item])
    mark = tree.attributes("", "tab")
    names = [tree.element("Span", mark, tree.unbox(t).head) for t in tabs]
    small = all(is_picture(tree.unbox(tab).body) for tab in tabs)
    return tree.box("tabset", tabs, names, small="yes" if small else None)


def is_picture(blocks: Blocks) -> bool:
    "Whether images are all there is."
    text = json.dumps(blocks)
    others = re.search('"t": "(Str|Math|Code|CodeBlock|RawBlock|Table)"', text)
    return '"t": "Image"' in text and not others


def answers_in(blocks: Blocks) -> dict[str, Element]:
    "Folded answers from the blocks below each heading `{#sol-name}`."
    answers: dict[str, Element] = {}
    about = {"kind": "note", "more": "answer", "collapse": "true"}
    for item in blocks:
        label = item["c"][1][0] if item["t"] == "Header" else ""
        if label.startswith("sol-"):
            head = tree.words("Solution")
            answer = tree.box("callout", [], head, id=label, **about)
            answers[f"exr-{label[4:]}"] = answer
        elif answers:
            answer["c"][1] += flat([item])
    return answers


def placed(blocks: Blocks, answers: dict[str, Element]) -> Blocks:
    "Put each answer after its exercise and the cells that follow it."
    result: Blocks = []
    pending: Blocks = []
    for item in blocks:
        if not tree.is_box(item, "cell"):
            result, pending = result + pending, []
        result.append(item)
        label = item["c"][0][0] if item["t"] == "Div" else ""
        if label in answers:
            pending = [answers.pop(label)]
    return result + pending
