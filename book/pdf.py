"""Write the book as one Typst document and compile it to PDF/UA."""

import re
import shutil
import tempfile
from pathlib import Path

import typst

from . import tree
from .config import Book, Pass
from .pandoc import BookError, write
from .tree import Blocks, Element, Inlines, quoted

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


class ChapterWriter(Pass):
    """Turns the tree of a chapter into Typst."""

    answers: Blocks  # of the exercises and predictions so far

    def typst(self) -> str:
        "The source of the chapter, its answers last."
        self.answers = []
        blocks = self.visit(self.chapter.blocks)
        if self.answers:
            start = call("answers", {"part": bool(self.chapter.part)})
            blocks += start + self.answers
        options = ["--wrap=none", "--syntax-highlighting=idiomatic"]
        return polish(write(blocks, "typst-citations", *options))

    def label(self, anchor: str | None) -> str | None:
        "The label of an anchor in this chapter, unique in the book."
        return f"{self.chapter.key}#{anchor}" if anchor else None

    def on_link(self, item: Element) -> Inlines | None:
        "Internal links go to labels; linked files are on the web only."
        kind, _, path = item["c"][2][0].partition(":")
        if kind == "file":
            return item["c"][1]
        if kind != "xref":
            return None
        if path.endswith("#"):
            path += self.book.pages[path[:-1]].anchors[0]
        return around(f"#goto({quoted(path)})[", item["c"][1], "]")

    def on_image(self, item: Element) -> Element:
        "An image no wider than the text."
        options, url = dict(item["c"][0][2]), item["c"][2][0]
        width = options.get("width") or f"{options.get('points', 400)}pt"
        source = f"#picture({quoted(url)}, {width}, {quoted(options['alt'])})"
        return tree.raw("typst", source, "RawInline")

    def on_math(self, item: Element) -> Inlines:
        "A formula with its TeX as alternative text."
        text = alt = " ".join(item["c"][1].split())
        for old, new in TEX.items():
            text = text.replace(old, new)
        item["c"][1] = OPERATOR.sub(operator, text)
        return around(f"#alt({quoted(alt)})[", [item], "]")

    def on_header(self, item: Element) -> Blocks:
        "A heading of the template; a chapter's has its subtitle."
        level, (anchor, _, pairs), title = item["c"]
        about = {"id": self.label(anchor), **dict(pairs)}
        about["part"] = bool(self.chapter.part)
        if level > 1:
            return call("section", {**about, "rank": level}, title)
        about["appendix"] = self.chapter.appendix
        below = [b for b in self.chapter.blocks if tree.is_box(b, "subtitle")]
        body = self.visit(tree.unbox(below[0]).body) if below else None
        return call("chapter", about, title, body)

    def on_div(self, item: Element) -> Blocks:
        "Another div: only its anchor matters."
        (anchor, _, _), body = item["c"]
        about = {"id": self.label(anchor)}
        return call("anchor", about, None, body) if anchor else body

    def on_box(self, item: Element) -> Blocks:
        "A call of the template's function of that name."
        name, anchor, pairs, head, body = tree.unbox(item)
        if name in ("subtitle", "cell", "output"):
            return [] if name == "subtitle" else body
        about = {**pairs, "id": self.label(anchor)}
        about["answer"] = self.label(pairs.get("answer"))
        if "owner" not in pairs:
            return call(name, about, head, body)
        owner = self.book.targets[pairs["owner"]]
        title = tree.words(owner.words)
        if pairs["owner"].startswith("exr-"):
            title += [*tree.words(": "), *owner.title]
        about = {"id": about["id"], "owner": self.label(pairs["owner"])}
        self.answers += call("answer", about, title, body)
        return []


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
    first, last = (tree.raw("typst", t, "RawInline") for t in (start, end))
    return [first, *inlines, last]


def call(
    name: str,
    pairs: dict[str, object],
    head: Inlines | None = None,
    body: Blocks | None = None,
) -> Blocks:
    "A call of the template; parts of a box are arguments in its call."
    given = {k: v for k, v in pairs.items() if v not in (None, "")}
    options = "".join(f"{k}: {quoted(v)}, " for k, v in given.items())
    mark, end = ("", "),") if name in ("tab", "subfig") else ("#", ")")
    blocks = [tree.raw("typst", f"{mark}{name}({options}")]
    if head is not None:
        blocks.append(tree.element("Plain", around("[", head, "],")))
    if body is not None and name != "tabset" and "ncol" not in given:
        body = [tree.raw("typst", "["), *body, tree.raw("typst", "],")]
    return [*blocks, *(body or []), tree.raw("typst", end)]


def document(book: Book) -> str:
    "The Typst source of the book."
    names = ("title", "subtitle", "author", "date")
    about = {name: str(book.about.get(name, "")) for name in names}
    about["paper"] = book.options.get("format.typst.papersize", "a4")
    about["toc"] = book.options.get("format.typst.toc", True)
    options = ", ".join(f"{k}: {quoted(v)}" for k, v in about.items())
    lines = ['#import "book.typ": *', f"#show: book.with({options})"]
    for chapter in book.chapters:
        if chapter.opens_part:
            lines.append(f"#bookpart({quoted(chapter.part)})")
        lines.append(ChapterWriter(book, chapter).typst())
    return "\n".join(lines)


def render(book: Book, out: Path) -> int:
    "Compile the PDF below `out`; return its number of pages."
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        book.write_files(work)
        for asset in ("book.typ", "book.tmTheme"):
            shutil.copy(ASSETS / asset, work)
        main = work / "main.typ"
        main.write_text(document(book), encoding="utf-8")
        data = compiled(book, main)
    (out / book.pdf_name).write_bytes(data)
    return len(re.findall(rb"/Type\s*/Page\b", data))


def compiled(book: Book, main: Path) -> bytes:
    "The PDF; if it cannot be accessible (PDF/UA), a plain one."
    fonts = [ASSETS / "fonts"]
    compiler = typst.Compiler(
        main, root=main.parent, font_paths=fonts, ignore_system_fonts=True
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
    texts = {c.key: quoted(c.blocks) for c in book.chapters}
    for line in re.findall(r"(?m)^error: (.*)", error.diagnostic):
        lost = line.partition('`"')[2].partition('"`')[0]
        where = [key for key, text in texts.items() if lost and lost in text]
        book.fault(", ".join(where) or "PDF", line)
