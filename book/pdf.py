"""Write the book as one Typst document and compile it to PDF/UA."""

import json
import re
import tempfile
from pathlib import Path

import typst

from . import tree
from .ansi import quoted
from .config import Book, Chapter
from .pandoc import BookError, write
from .references import labels_in
from .tree import Blocks, Element, Inlines

ASSETS = Path(__file__).parent / "assets"
# TeX that pandoc's Typst writer renders wrongly, and what works.
TEX = {
    r"\!": "",
    r"\lvert": r"\left|",
    r"\rvert": r"\right|",
    r"\left\|": r"\lVert ",
    r"\right\|": r"\rVert ",
}
OPERATOR = re.compile(r"\\operatorname(\*?)\{((?:[^{}]|\\,)*)\}")
LENGTH = re.compile(r"[\d.]+(%|pt|mm|cm|in|em)")


class ChapterWriter(tree.Visitor):
    """Turns the tree of a chapter into Typst."""

    def __init__(self, book: Book, chapter: Chapter) -> None:
        self.book, self.chapter = book, chapter
        self.labels = set(labels_in(chapter.blocks))
        self.subtitle: Blocks | None = None
        self.answers: Blocks = []

    def typst(self) -> str:
        "The source of the chapter, its answers last."
        blocks = self.chapter.blocks
        for item in blocks:
            if tree.is_box(item, "subtitle"):
                self.subtitle = self.visit(tree.unbox(item).body)
        blocks = self.visit(blocks)
        if self.answers:
            part = bool(self.chapter.part)
            blocks += call("answers", {"part": part}) + self.answers
        options = ["--wrap=none", "--syntax-highlighting=idiomatic"]
        return polish(write(blocks, "typst-citations", *options))

    def label(self, anchor: str) -> str | None:
        "The label of an anchor in this chapter, unique in the book."
        return f"{self.chapter.key}#{anchor}" if anchor else None

    def on_link(self, item: Element) -> Inlines | Element | None:
        "Internal links go to labels; linked files are on the web only."
        kind, _, path = item["c"][2][0].partition(":")
        if kind == "xref":
            if path.endswith("#"):
                ids = {c.key: c.id for c in self.book.chapters}
                path += ids[path[:-1]]
            return around(f"#goto({quoted(path)})[", item["c"][1], "]")
        if kind != "file":
            return None
        address = self.book.about.get("repo-url")
        if address is None:
            return tree.span(item["c"][1])
        item["c"][2][0] = f"{address.rstrip('/')}/blob/main/{path}"
        return None

    def on_image(self, item: Element) -> Element:
        "An image no wider than the text."
        options, url = dict(item["c"][0][2]), item["c"][2][0]
        width = options.get("width", "")
        if not LENGTH.fullmatch(width):
            pixels = float(re.match(r"[\d.]*", width)[0] or 0) * 0.75
            width = f"{options.get('points') or pixels or 400}pt"
        source = f"#picture({quoted(url)}, {width}, {quoted(options['alt'])})"
        return tree.raw_inline("typst", source)

    def on_span(self, item: Element) -> Inlines | None:
        "Text on a colour, such as the tokens of a displayed string."
        style = dict(item["c"][0][2]).get("style", "")
        colour = re.search(r"background(?:-color)?: *(#[0-9a-fA-F]{6})", style)
        if colour is None:
            return None
        start = f'#highlight(fill: rgb("{colour[1]}"))['
        return around(start, item["c"][1], "]")

    def on_math(self, item: Element) -> Inlines:
        "A formula with its TeX as alternative text."
        text = alt = " ".join(item["c"][1].split())
        for old, new in TEX.items():
            text = text.replace(old, new)
        item["c"][1] = OPERATOR.sub(operator, text)
        return around(f"#alt({quoted(alt)})[", [item], "]")

    def on_header(self, item: Element) -> Blocks:
        "A heading of the template."
        level, (anchor, _, pairs), title = item["c"]
        about = {"id": self.label(anchor), "number": dict(pairs)["number"]}
        about["part"] = bool(self.chapter.part)
        if level > 1:
            return call("section", {**about, "rank": level}, title)
        about["appendix"] = self.chapter.appendix
        return call("chapter", about, title, self.subtitle)

    def on_div(self, item: Element) -> Blocks:
        "Another div: only its anchor matters."
        (anchor, _, _), body = item["c"]
        if not anchor:
            return body
        return call("anchor", {"id": self.label(anchor)}, None, body)

    def on_box(self, item: Element) -> Blocks | None:
        "A call of the template's function of that name."
        name, anchor, pairs, head, body = found = tree.unbox(item)
        if name in ("tab", "slot"):
            return None  # until the box around it is reached
        if name in ("tabset", "gridof"):
            return call_parts(found)
        if name == "subtitle" or pairs.get("form") == "html":
            return []
        if name in ("cell", "output", "only"):
            return body
        if "owner" in pairs:
            self.answers += self.answer(found)
            return []
        about = {"id": self.label(anchor), **pairs}
        if pairs.get("more") == "predict" or pairs.get("kind") == "exr":
            about["answer"] = self.answer_to(anchor)
        if name == "source":
            about["lines"] = json.dumps(body).count(r"\n") + 1
        if name == "float":
            about["kind"] = anchor[:3] or "fig"
        return call(name, about, head, body)

    def answer_to(self, anchor: str) -> str | None:
        "The label of the answer to a question, if there is one."
        names = {f"sol-{anchor[4:]}", f"{anchor}-answer"} & self.labels
        return self.label(names.pop()) if names else None

    def answer(self, found: tree.Box) -> Blocks:
        "An entry of the chapter's answers, linked to its question."
        owner = self.book.targets[found.pairs["owner"]]
        title = tree.words(owner.words)
        if owner.name == "Exercise" and owner.title:
            title = [*title, tree.string(": "), *owner.title]
        question = self.label(found.pairs["owner"])
        about = {"id": self.label(found.id), "owner": question}
        return call("answer", about, title, found.body)


def operator(match: re.Match) -> str:
    "A named operator as text that `polish` will find again."
    mark = "@limits:" if match[1] else "@op:"
    return r"\text{" + mark + match[2].replace(r"\,", " ") + "}"


def polish(source: str) -> str:
    "Mend what pandoc's Typst writer gets wrong in formulas."
    circles = r"\b(dot|times|plus|minus|ast)\.circle\b"
    source = re.sub(circles, r"\1.o", source)
    source = re.sub(r'"@op:([^"]*)"', r'op("\1")', source)
    limits = r'op("\1", limits: #true)'
    return re.sub(r'"@limits:([^"]*)"', limits, source)


def around(start: str, inlines: Inlines, end: str) -> Inlines:
    "Inlines between two pieces of Typst."
    first, last = (tree.raw_inline("typst", text) for text in (start, end))
    return [first, *inlines, last]


def call(
    name: str,
    pairs: dict[str, object],
    head: Inlines | None = None,
    body: Blocks | None = None,
) -> Blocks:
    "A call of a function of the template."
    given = {k: v for k, v in pairs.items() if v not in (None, "")}
    options = "".join(f"{k}: {value(v)}, " for k, v in given.items())
    blocks: Blocks = [tree.raw("typst", f"#{name}({options}")]
    if head is not None:
        blocks.append(tree.line(around("[", head, "],")))
    if body is not None:
        start, end = (tree.raw("typst", text) for text in ("[", "],"))
        blocks += [start, *body, end]
    return [*blocks, tree.raw("typst", ")")]


def call_parts(found: tree.Box) -> Blocks:
    "A call with an array of head and body for each part of a box."
    blocks = call(found.name, found.pairs)
    for part in map(tree.unbox, found.body):
        head = tree.line(around("([", part.head, "], ["))
        blocks[-1:] = [head, *part.body, tree.raw("typst", "]),"), blocks[-1]]
    return blocks


def value(given: object) -> str:
    "A Python value in Typst."
    if isinstance(given, bool | int):
        return str(given).lower()
    return quoted(str(given))


def document(book: Book) -> str:
    "The Typst source of the book."
    names = ("title", "subtitle", "author", "date")
    about = {name: book.about.get(name, "") for name in names}
    about["paper"] = book.option("typst", "papersize", "a4")
    about["toc"] = book.option("typst", "toc", True)
    options = ", ".join(f"{k}: {value(v)}" for k, v in about.items())
    lines = ['#import "book.typ": *', f"#show: book.with({options})"]
    for chapter in book.chapters:
        if chapter.opens_part:
            lines.append(f"#bookpart({quoted(str(chapter.part))})")
        lines.append(ChapterWriter(book, chapter).typst())
    return "\n".join(lines)


def render(book: Book, out: Path) -> int:
    "Compile the PDF below `out`; return its number of pages."
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        book.write_files(work)
        for path in [*ASSETS.glob("*.typ"), *ASSETS.glob("*.tmTheme")]:
            (work / path.name).write_bytes(path.read_bytes())
        main = work / "main.typ"
        main.write_text(document(book), encoding="utf-8")
        data = compiled(book, main)
    (out / book.pdf_name).write_bytes(data)
    return len(re.findall(rb"/Type\s*/Page\b", data))


def compiled(book: Book, main: Path) -> bytes:
    "The PDF; if it cannot be accessible (PDF/UA), a plain one."
    compiler = typst.Compiler(
        main,
        root=main.parent,
        font_paths=[ASSETS / "fonts"],
        ignore_system_fonts=True,
    )
    try:
        return compiler.compile(format="pdf", pdf_standards="ua-1")
    except typst.TypstError as error:
        note_errors(book, error)
    try:
        return compiler.compile(format="pdf")
    except typst.TypstError as error:
        raise BookError(f"Typst failed: {error.diagnostic}") from None


def note_errors(book: Book, error: typst.TypstError) -> None:
    "Note what keeps the PDF from being accessible, such as lost glyphs."
    for line in re.findall(r"(?m)^error: (.*)", error.diagnostic):
        text = line.partition('`"')[2].partition('"`')[0]
        where = [c.key for c in book.chapters if holds(c, text)]
        book.fault(", ".join(where) or "PDF", line)


def holds(chapter: Chapter, text: str) -> bool:
    "Whether the text stands in the chapter."
    return bool(text) and text in json.dumps(
        chapter.blocks, ensure_ascii=False
    )
