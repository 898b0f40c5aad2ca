"""Turn Quarto's divs into boxes, and resolve images and comments."""

import json
import posixpath
import re
from pathlib import Path

from . import tree
from .cells import Source
from .config import Book, Chapter
from .outputs import natural_width
from .pandoc import parse
from .tree import Blocks, Element, Inlines

LABELS = {
    "fig": "Figure",
    "tbl": "Table",
    "lst": "Listing",
    "eq": "Equation",
    "sec": "Section",
    "thm": "Theorem",
    "lem": "Lemma",
    "cor": "Corollary",
    "prp": "Proposition",
    "def": "Definition",
    "exm": "Example",
    "exr": "Exercise",
    "predict": "Prediction",
}
THEOREMS = {"thm", "lem", "cor", "prp", "def", "exm", "exr"}
CALLOUTS = ("note", "tip", "warning", "important", "caution")
FORMATS = {"html": "html", "html:js": "html", "pdf": "typst", "typst": "typst"}
PLAIN_DIVS = {"cap", "md"}


def kind_of(label: str) -> str:
    "The kind a label names (`fig` of fig-mask), or nothing."
    kind = label.partition("-")[0]
    return kind if "-" in label and kind in LABELS else ""


def read_chapter(book: Book, chapter: Chapter) -> None:
    "Read a chapter, with the answers to its exercises put in."
    chapter.blocks = read(book, chapter.path)
    answers = chapter.path.parent / "solutions" / chapter.path.name
    found: dict[str, Blocks] = {}
    if chapter.path.suffix == ".ipynb" and (book.root / answers).is_file():
        found = split_answers(read(book, answers))
    chapter.blocks = place_answers(book, chapter, found)
    pair_predictions(book, chapter)


def read(book: Book, path: Path) -> Blocks:
    "Blocks of a file, in boxes."
    source = Source(book, path)
    reader = Normaliser(book, source)
    return reader.visit(source.blocks())


class Normaliser(tree.Visitor):
    """Changes the elements of one file, children first."""

    def __init__(self, book: Book, source: Source) -> None:
        self.book, self.source = book, source
        self.where = source.path.as_posix()
        self.folder = posixpath.dirname(self.where)

    def on_table(self, item: Element) -> Element | None:
        "A table of markdown with a label."
        (label, *_), (_, caption) = item["c"][:2]
        if not kind_of(label):
            return None
        item["c"][:2] = [tree.attributes(), [None, []]]
        return tree.box("float", [item], first_inlines(caption), id=label)

    def cell(self, item: Element) -> Blocks:
        "The code cell for its placeholder."
        (_, _, pairs), inner = item["c"]
        cell = self.source.cells[int(dict(pairs)["n"])]
        reader = Normaliser(self.book, self.source)
        reader.where = cell.where

        def change(part: Element) -> None:
            if part["t"] == "Image":
                reader.on_image(part)

        return tree.walk([cell.box(inner)], change)

    def on_rawinline(self, item: Element) -> Blocks | None:
        "Drop comments; other markup would be missing from the PDF."
        form, text = item["c"]
        if form != "html":
            return None
        if re.sub(r"(?s)<!--.*?-->|</\w+>", "", text).strip():
            self.book.fault(self.where, f"raw HTML is web only: {text}")
            return None
        return []

    on_rawblock = on_rawinline

    def on_image(self, item: Element) -> None:
        "Take in the file of an image, and settle its size and its alt."
        (_, _, pairs), caption, (url, _) = item["c"]
        name = url.lstrip("/") if url[0] == "/" else self.take_in(url)
        if name is None:
            self.book.fault(self.where, f"image {url} is missing")
            item.update(tree.string(f"[{url}]"))
            return
        options, words = dict(pairs), tree.plain(caption).strip()
        alt = options.pop("fig-alt", "")
        options["implied"] = "" if alt else "yes"
        options["alt"] = alt or words or "figure"
        if not (alt or words):
            self.book.fault(self.where, f"image {url} has no alt text")
        points = natural_width(self.book.files[name], Path(name).suffix)
        if points and "width" not in options:
            options["points"] = f"{points:.0f}"
        item["c"][0][2] = [*map(list, options.items())]
        item["c"][1:] = [[], [f"/{name}", ""]]

    def take_in(self, url: str) -> str | None:
        "Add a local file to the book; return its path from the root."
        name = posixpath.normpath(posixpath.join(self.folder, url))
        return name if self.book.add_file(name) else None

    def on_figure(self, item: Element) -> Element:
        "A figure of markdown; its alt text may not be its caption."
        (label, *_), (_, caption), body = item["c"]
        head = first_inlines(caption)
        name = label or tree.plain(head)
        if '["implied", "yes"]' in json.dumps(body):
            self.book.fault(self.where, f"figure {name} has no fig-alt")
        return tree.box("float", body, head, id=label)

    def on_codeblock(self, item: Element) -> Element | None:
        "A code block, which may be a listing."
        (label, classes, pairs), text = item["c"]
        options = dict(pairs)
        wide = [line for line in text.split("\n") if len(line) > 79]
        if wide:
            message = f"code of more than 79 columns: {wide[0].strip()}"
            self.book.fault(self.where, message)
        if kind_of(label) != "lst":
            return None
        caption = first_inlines(parse(options.get("lst-cap", ""))["blocks"])
        code = tree.code(text, *classes)
        return tree.box("float", [code], caption, id=label)

    def on_div(self, item: Element) -> Element | Blocks | None:
        "A div of Quarto's as a box."
        (label, classes, pairs), body = item["c"]
        options = dict(pairs)
        if "placeholder" in classes:
            return self.cell(item)
        kind, columns = kind_of(label), options.get("layout-ncol")
        callout = [c for c in CALLOUTS if f"callout-{c}" in classes]
        if callout:
            return self.callout(item, callout[0], options)
        if kind in THEOREMS or "proof" in classes:
            head, body = heading_first(body)
            return tree.box("theorem", flat(body), head, id=label, kind=kind)
        if "panel-tabset" in classes:
            return tabset(body)
        if any(c.startswith("content-") for c in classes):
            return conditional(classes, options, body)
        if kind in ("fig", "tbl") and body[-1:]:
            return figure_of(label, body, columns)
        unknown = set(classes) - PLAIN_DIVS
        if unknown and not label.startswith("ref"):
            self.book.fault(self.where, f"div class {unknown} not honoured")
        return tree.grid(body, columns) if columns else None

    def callout(
        self, item: Element, kind: str, options: dict[str, str]
    ) -> Element:
        "A callout; its title is an attribute or its first heading."
        (label, classes, _), body = item["c"]
        head, body = heading_first(body)
        if "title" in options:
            head = first_inlines(parse(options["title"])["blocks"])
        more = {"predict", "answer"} & set(classes)
        return tree.box(
            "callout",
            flat(body),
            head or [tree.string(kind.title())],
            id=label,
            kind=kind,
            more=more.pop() if more else None,
            collapse=options.get("collapse"),
        )


def figure_of(label: str, body: Blocks, columns: str | None) -> Element:
    "A div that is a figure: its last paragraph is the caption."
    has_caption = body[-1]["t"] in ("Para", "Plain")
    caption = body.pop()["c"] if has_caption else []
    parts = []
    for item in body:
        found = tree.unbox(item)
        if found and found.id.startswith(f"{label}-"):
            item = tree.box("subfig", found.body, found.head, id=found.id)
        parts.append(item)
    return tree.box("float", tree.grid(parts, columns), caption, id=label)


def first_inlines(blocks: Blocks) -> Inlines:
    "The inlines of the first block."
    return blocks[0]["c"] if blocks else []


def heading_first(body: Blocks) -> tuple[Inlines, Blocks]:
    "A leading heading's inlines, and the rest."
    if body and body[0]["t"] == "Header":
        return body[0]["c"][2], body[1:]
    return [], body


def flat(body: Blocks) -> Blocks:
    "Blocks whose headings are bold lines, kept out of the contents."
    return [
        tree.element("Para", [tree.element("Strong", item["c"][2])])
        if item["t"] == "Header"
        else item
        for item in body
    ]


def tabset(body: Blocks) -> Element:
    "Tabs at the level of the first heading."
    level = next((b["c"][0] for b in body if b["t"] == "Header"), 0)
    tabs: list[tuple[Inlines, Blocks]] = []
    for item in body:
        if item["t"] == "Header" and item["c"][0] == level:
            tabs.append((item["c"][2], []))
        elif tabs:
            tabs[-1][1].append(item)
    small = all(is_picture(blocks) for _, blocks in tabs)
    boxes = [tree.box("tab", flat(blocks), head) for head, blocks in tabs]
    return tree.box("tabset", boxes, small="yes" if small else None)


def is_picture(blocks: Blocks) -> bool:
    "Whether a tab holds one image, or a cell that shows only one."
    if len(blocks) != 1:
        return False
    inner = tree.unbox(blocks[0])
    if inner is not None:
        return inner.name in ("cell", "output") and is_picture(inner.body)
    content = blocks[0].get("c") or [{}]
    return len(content) == 1 and content[0].get("t") == "Image"


def conditional(
    classes: list[str], options: dict[str, str], body: Blocks
) -> Blocks:
    "Content of one format only."
    form = options.get("when-format") or options.get("unless-format")
    shown = ("content-visible" in classes) == ("when-format" in options)
    return [
        tree.box("only", body, form=name)
        for name in ("html", "typst")
        if (FORMATS.get(str(form)) == name) == shown
    ]


def split_answers(blocks: Blocks) -> dict[str, Blocks]:
    "Blocks below each heading `{#sol-name}`, by the exercise's label."
    answers: dict[str, Blocks] = {}
    current: Blocks = []
    for item in blocks:
        if item["t"] == "Header" and item["c"][1][0].startswith("sol-"):
            current = []
            answers["exr-" + item["c"][1][0][4:]] = current
        else:
            current.append(item)
    return answers


def place_answers(
    book: Book, chapter: Chapter, answers: dict[str, Blocks]
) -> Blocks:
    "Put each answer after its exercise and the cells that follow it."
    placed: Blocks = []
    pending: Blocks = []
    for item in [*chapter.blocks, None]:
        if item is None or not tree.is_box(item, "cell"):
            placed, pending = placed + pending, []
        if item is None:
            break
        placed.append(item)
        label = item["c"][0][0] if tree.is_box(item, "theorem") else ""
        if not label.startswith("exr-"):
            continue
        if label in answers:
            pending = [answer_box(label, answers.pop(label))]
        else:
            book.fault(chapter.key, f"{label} has no solution")
    for label in answers:
        book.fault(chapter.key, f"the solution of {label} has no exercise")
    return placed


def answer_box(label: str, body: Blocks) -> Element:
    "A folded solution."
    return tree.box(
        "callout",
        flat(body),
        [tree.string("Solution")],
        id="sol-" + label[4:],
        kind="note",
        more="answer",
        collapse="true",
        owner=label,
    )


def pair_predictions(book: Book, chapter: Chapter) -> None:
    "Give each predict-first box and the answer after it labels."
    name, count, is_open = chapter.path.stem, 0, False

    def change(item: Element) -> None:
        nonlocal count, is_open
        found = tree.unbox(item)
        more = found.pairs.get("more") if found else None
        if more is None or "owner" in found.pairs:
            return
        if (more == "predict") == is_open:
            words = tree.plain(found.body).strip()[:40]
            book.fault(chapter.key, f"{more} box out of turn: {words}")
            if more == "answer":
                return
        is_open = more == "predict"
        count += is_open
        label = f"predict-{name}-{count}"
        item["c"][0][0] = label if is_open else f"{label}-answer"
        if not is_open:
            item["c"][0][2].append(["owner", label])

    chapter.blocks = tree.walk(chapter.blocks, change)
    if is_open:
        book.fault(chapter.key, "a predict box has no answer")
