"""Write the book as one Typst document and compile it to PDF/UA."""

import re
from pathlib import Path

import typst

from . import tree
from .config import ASSETS, TABLES, Book, Pass
from .tree import Blocks, BookError, Element, Inlines, mended, quoted, write

Part = list[Element] | None


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
        source = write(blocks, "typst-citations", *options)
        return mended(source, TABLES["typst"])

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
        return around(f"#goto({quoted(path)})[", item["c"][1], "]")

    def on_image(self, item: Element) -> Element:
        "An image no wider than the text."
        options, url = dict(item["c"][0][2]), item["c"][2][0]
        width = options.get("width") or f"{options.get('points', 400)}pt"
        source = f"#picture({quoted(url)}, {width}, {quoted(options['alt'])})"
        return tree.raw("typst", source, "RawInline")

    def on_math(self, item: Element) -> Inlines:
        "A formula with its TeX as alternative text."
        text = " ".join(item["c"][1].split())
        item["c"][1] = mended(text, TABLES["tex"])
        return around(f"#alt({quoted(text)})[", [item], "]")

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


def around(start: str, inlines: Inlines, end: str) -> Inlines:
    "Inlines between two pieces of Typst."
    first, last = (tree.raw("typst", t, "RawInline") for t in (start, end))
    return [first, *inlines, last]


def call(
    name: str, pairs: dict, head: Part = None, body: Part = None
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
    lines = ['#import "book.typ": *', '#show: book.with(json("book.json"))']
    for chapter in book.chapters:
        if chapter.opens_part:
            lines.append(f"#bookpart({quoted(chapter.part)})")
        lines.append(ChapterWriter(book, chapter).typst())
    return "\n".join(lines)


def render(book: Book, out: Path) -> int:
    "Add the PDF to a website; return its number of pages."
    files = {"main": document(book).encode()}
    for name in ("book.typ", "book.tmTheme"):
        files[name] = (ASSETS / name).read_bytes()
    files["book.json"] = quoted(book.options).encode()
    data = compiled(book, files, out)
    (out / book.pdf_name).write_bytes(data)
    return len(re.findall(rb"/Type\s*/Page\b", data))


def compiled(book: Book, files: dict[str, bytes], root: Path) -> bytes:
    "The PDF; if it cannot be accessible (PDF/UA), a plain one."
    options = {"root": root, "font_paths": [ASSETS / "fonts"]}
    options["ignore_system_fonts"] = True
    for standards in ("ua-1", []):
        try:
            return typst.compile(files, pdf_standards=standards, **options)
        except typst.TypstError as error:
            note_errors(book, problem := error)
    raise BookError(f"Typst failed: {problem.diagnostic}")


def note_errors(book: Book, error: typst.TypstError) -> None:
    "Note what keeps the PDF from being accessible, such as lost glyphs."
    texts = {c.key: quoted(c.blocks) for c in book.chapters}
    for line in re.findall(r"(?m)^error: (.*)", error.diagnostic):
        lost = line.partition('`"')[2].partition('"`')[0]
        where = [key for key, text in texts.items() if lost and lost in text]
        book.fault(", ".join(where) or "PDF", line)
