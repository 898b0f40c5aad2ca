"""Write the book as one Typst document and compile it to PDF/UA."""

import re
import tempfile
from pathlib import Path

import typst

from .ansi import quoted
from .config import Book, Chapter
from .pandoc import (
    Blocks,
    Box,
    Element,
    Inlines,
    element,
    is_box,
    raw,
    raw_inline,
    unbox,
    walk,
    words,
    write,
)

ASSETS = Path(__file__).parent / "assets"
# TeX that pandoc's Typst writer renders wrongly, and what works.
TEX = {
    r"\!": "",
    r"\lvert": r"\left|",
    r"\rvert": r"\right|",
    r"\lVert": r"\left\|",
    r"\rVert": r"\right\|",
}
OPERATOR = re.compile(r"\\operatorname(\*?)\{((?:[^{}]|\\,)*)\}")
# Boxes that the PDF sees through.
TRANSPARENT = {"cell", "output"}


class ChapterWriter:
    """Turns the tree of a chapter into Typst."""

    def __init__(self, book: Book, chapter: Chapter) -> None:
        self.book, self.chapter = book, chapter
        self.answers: Blocks = []
        self.subtitle: list[Blocks] = []

    def typst(self) -> str:
        "The source of the chapter, its answers last."
        blocks = self.chapter.blocks
        found = [b for b in blocks if is_box(b, "subtitle")]
        blocks = [b for b in blocks if b not in found]
        self.subtitle = [walk(unbox(b).body, self.change) for b in found]
        blocks = walk(blocks, self.change)
        if self.answers:
            blocks += [
                *call("answers", {"part": bool(self.chapter.part)}),
                *self.answers,
            ]
        source = write(
            blocks,
            "typst-citations",
            "--wrap=none",
            "--syntax-highlighting=idiomatic",
        )
        return polish(source)

    def change(self, item: Element) -> Element | list[Element] | None:
        "Prepare one element for pandoc's Typst writer."
        found = unbox(item)
        if found is not None:
            return self.box(found)
        changes = {
            "Image": self.image,
            "Link": self.link,
            "Math": self.formula,
            "Header": self.heading,
            "Div": self.division,
        }
        method = changes.get(item["t"])
        return method(item) if method else None

    def label(self, anchor: str) -> str | None:
        "The label of an anchor in this chapter."
        return f"{self.chapter.key}#{anchor}" if anchor else None

    def whole(self, path: str) -> str:
        "The label of a link; one without an anchor means the chapter."
        if not path.endswith("#"):
            return path
        ids = {c.key: c.id for c in self.book.chapters}
        return path + ids[path[:-1]]

    def image(self, item: Element) -> Element:
        "An image no wider than the text."
        options, url = dict(item["c"][0][2]), item["c"][2][0]
        width = options.get("width", "")
        if not re.fullmatch(r"[\d.]+(%|pt|mm|cm|in|em)", width):
            pixels = float(re.match(r"[\d.]*", width)[0] or 0) * 0.75
            width = f"{options.get('points') or pixels or 400}pt"
        alt = quoted(options["alt"])
        source = f"#picture({quoted(url)}, {width}, {alt})"
        return raw_inline("typst", source)

    def link(self, item: Element) -> Inlines | Element | None:
        "Internal links go to labels; linked files are on the web only."
        kind, _, path = item["c"][2][0].partition(":")
        if kind == "xref":
            start = f"#goto({quoted(self.whole(path))})["
            return surrounded(start, item["c"][1], "]")
        if kind != "file":
            return None
        address = self.book.about.get("repo-url")
        if address is None:
            return element("Span", ["", [], []], item["c"][1])
        item["c"][2][0] = f"{address.rstrip('/')}/blob/main/{path}"
        return None

    def formula(self, item: Element) -> Inlines:
        "A formula with its TeX as alternative text."
        alt = " ".join(item["c"][1].split())
        text = item["c"][1]
        for old, new in TEX.items():
            text = text.replace(old, new)
        item["c"][1] = OPERATOR.sub(operator, text)
        return surrounded(f"#alt({quoted(alt)})[", [item], "]")

    def heading(self, item: Element) -> Blocks:
        "A heading of the template."
        level, (anchor, _, pairs), title = item["c"]
        pairs = {"number": dict(pairs).get("number")}
        pairs["part"] = bool(self.chapter.part)
        pairs["id"] = self.label(anchor)
        if level > 1:
            return call("section", {**pairs, "rank": level}, title)
        pairs["appendix"] = self.chapter.appendix
        return call("chapter", pairs, title, *self.subtitle)

    def division(self, item: Element) -> Blocks | None:
        "Another div: only its anchor matters."
        anchor, body = item["c"][0][0], item["c"][1]
        if not anchor:
            return body
        return call("anchor", {"id": self.label(anchor)}, body)

    def box(self, found: Box) -> Blocks | None:
        "A call of the template's function of that name."
        name, anchor, pairs, head, body = found
        if name in ("tab", "slot"):
            return None
        if name == "only":
            return body if pairs["form"] == "typst" else []
        if name in TRANSPARENT or (name == "source" and not pairs):
            return body
        if name in ("tabset", "gridof"):
            return self.parts(found)
        if "owner" in pairs:
            self.answers += self.answer(found)
            return []
        options = {"id": self.label(anchor), **pairs}
        target = self.book.targets.get(anchor)
        if name == "callout" and pairs.get("more") == "predict":
            options["answer"] = self.label(f"{anchor}-answer")
        if name == "theorem" and anchor.startswith("exr-"):
            options["answer"] = self.answer_label(anchor)
        if name == "float":
            options["kind"] = anchor[:3] if target else "fig"
        return call(name, options, head, body)

    def answer_label(self, anchor: str) -> str | None:
        "The label of an exercise's solution, if there is one."
        answer = f"sol-{anchor[4:]}"
        known = f'"{answer}"' in str(self.chapter.blocks).replace("'", '"')
        return self.label(answer) if known else None

    def answer(self, found: Box) -> Blocks:
        "An entry of the chapter's answers, linked to its question."
        owner = self.book.targets.get(found.pairs["owner"])
        title = words(owner.words) if owner else []
        if owner and owner.title and owner.name == "Exercise":
            title = [*title, *words("·"), *owner.title]
        options = {
            "id": self.label(found.id),
            "owner": self.label(found.pairs["owner"]),
        }
        return call("answer", options, title, found.body)

    def parts(self, found: Box) -> Blocks:
        "A box whose children are each an argument."
        pairs = "".join(f"{k}: {quoted(v)}, " for k, v in found.pairs.items())
        blocks = [raw("typst", f"#{found.name}({pairs}")]
        for part in map(unbox, found.body):
            head = surrounded("([", part.head, "], [")
            blocks += [element("Plain", head), *part.body]
            blocks.append(raw("typst", "]),"))
        return [*blocks, raw("typst", ")")]


def surrounded(start: str, inlines: Inlines, end: str) -> Inlines:
    "Inlines between two pieces of Typst."
    first, last = raw_inline("typst", start), raw_inline("typst", end)
    return [first, *inlines, last]


def call(name: str, pairs: dict, *contents: list[Element]) -> Blocks:
    "A call of a function of the template, with content arguments."
    given = {k: v for k, v in pairs.items() if v not in (None, "")}
    options = "".join(f"{k}: {typst_value(v)}, " for k, v in given.items())
    blocks: Blocks = [raw("typst", f"#{name}({options}")]
    for content in contents:
        if is_inline(content):
            blocks.append(element("Plain", surrounded("[", content, "],")))
        else:
            blocks += [raw("typst", "["), *content, raw("typst", "],")]
    return [*blocks, raw("typst", ")")]


def typst_value(value: object) -> str:
    "A Python value in Typst."
    if isinstance(value, bool | int):
        return str(value).lower()
    return quoted(str(value))


def is_inline(content: list[Element]) -> bool:
    "Whether these are inlines, not blocks."
    blocks = "Para Plain CodeBlock RawBlock Div Table BulletList OrderedList"
    kinds = {*blocks.split(), "DefinitionList", "BlockQuote", "LineBlock"}
    return not any(item["t"] in kinds for item in content)


def operator(match: re.Match) -> str:
    "A named operator as text that `polish` will find again."
    mark = "@limits:" if match[1] else "@op:"
    return rf"\text{{{mark}{match[2].replace(chr(92) + ',', ' ')}}}"


def polish(source: str) -> str:
    "Mend what pandoc's Typst writer gets wrong in formulas."
    circles = r"\b(dot|times|plus|minus|ast)\.circle\b"
    source = re.sub(circles, r"\1.o", source)
    source = re.sub(r'"@op:([^"]*)"', r'op("\1")', source)
    limits = r'op("\1", limits: #true)'
    return re.sub(r'"@limits:([^"]*)"', limits, source)


def document(book: Book) -> str:
    "The Typst source of the book."
    about = book.about
    names = ("title", "subtitle", "author", "date")
    pairs = {name: str(about.get(name) or "") for name in names}
    pairs["paper"] = book.option("typst", "papersize", "a4")
    options = ", ".join(f"{k}: {quoted(v)}" for k, v in pairs.items())
    toc = str(bool(book.option("typst", "toc", True))).lower()
    lines = [
        '#import "book.typ": *',
        f"#show: book.with({options}, toc: {toc})",
    ]
    for chapter in book.chapters:
        if chapter.opens_part:
            lines.append(f"#bookpart({quoted(chapter.part or '')})")
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
        book.fault("PDF", error.message)
    return compiler.compile(format="pdf")
