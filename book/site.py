"""Write the website: one page a chapter, the files it shows, an index."""

import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jinja2

from . import tree
from .config import Book, Chapter, Pass
from .pandoc import write
from .tree import Blocks, Element

ASSETS = Path(__file__).parent / "assets"
PIXELS = 1.45  # CSS pixels for a point of the printed page
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader([ASSETS, ASSETS / "site"]), autoescape=True
)
# Level, anchor, number and title of a heading.
HEADING = re.compile(
    r'(?s)<h([1-6])[^>]*id="([^"]*)"[^>]*>'
    r'(?:<span class="secno">(.*?)</span> )?'
    r'(.*?)(?:<a [^>]*class="anchor"|</h1>)'
)
TAB = re.compile(r'(?s)<span class="tab">(.*?)</span>')
# What pandoc leaves of a formula that it cannot read.
UNREADABLE = re.compile(r'<span class="math \w+">([^<]*)')
# A function's name that is no base of an index, before its argument.
FUNCTION = re.compile(
    r"(?<!<msub>)(?<!<msup>)(?<!<msubsup>)(?<!<munder>)"
    r"(<mrow><mi[^>]*>\w+</mi><mo>(?:\u2061|&#8289;)</mo>)(?=</mrow><m[^o])"
)
# Code that scrolls by key, no empty headings of columns, and formulas that
# Chromium aligns.
MENDED = {
    "<pre class=": '<pre tabindex="0" class=',
    "<th></th>": "<td></td>",
    'style="text-align: right; padding-right: 0"': 'class="mr"',
    'style="text-align: left; padding-left: 0"': 'class="ml"',
    "<semantics><mtable>": '<semantics><mtable displaystyle="true">',
}


class PageWriter(Pass):
    """Turns the tree of a chapter into HTML."""

    def rel(self, path: str) -> str:
        "A path in the site, as seen from the page."
        folder = posixpath.dirname(self.chapter.out) or "."
        return posixpath.relpath(path, folder)

    def html(self) -> str:
        "The body of the page; its headings are noted in the chapter."
        blocks = self.visit(self.chapter.blocks)
        page = write(blocks, "html5", "--mathml", "--wrap=none")
        for tex in UNREADABLE.findall(page):
            self.fault(f"formula not understood: {tex}")
        for old, new in MENDED.items():
            page = page.replace(old, new)
        page = TAB.sub(r'<button role="tab" type="button">\1</button>', page)
        (_, _, _, title), *toc = HEADING.findall(page)
        self.chapter.title_html, self.chapter.toc = title, toc
        return FUNCTION.sub(r'\1<mspace width="0.167em"/>', page)

    def on_table(self, item: Element) -> Blocks:
        "Let wide tables scroll."
        return boxed(tree.Box("table", "", {}, [], [item]))

    def on_image(self, item: Element) -> None:
        "Set size and URL."
        (label, classes, pairs), _, (url, _) = item["c"]
        options = dict(pairs)
        style = f"width:{options['width']}" if "width" in options else None
        if "points" in options:
            style = f"width:{float(options['points']) * PIXELS:.0f}px"
        more = tree.attributes(label, *classes, style=style, loading="lazy")
        url = self.rel(url.lstrip("/"))
        item["c"] = [more, tree.words(options["alt"]), [url, ""]]

    def on_link(self, item: Element) -> None:
        "Point at the page or the copied file."
        kind, _, path = item["c"][2][0].partition(":")
        page, _, anchor = path.partition("#")
        if kind == "file":
            item["c"][2][0] = self.rel(path)
        elif kind == "xref":
            here = page == self.chapter.key and anchor
            url = "" if here else self.rel(self.book.pages[page].out)
            item["c"][2][0] = url + (f"#{anchor}" if anchor else "")

    def on_header(self, item: Element) -> None:
        "Show the number, and a link to the heading itself."
        level, about, title = item["c"]
        if number := dict(about[2])["number"]:
            mark = tree.attributes("", "secno")
            span = tree.element("Span", mark, tree.words(number))
            title[:0] = [span, *tree.words(" ")]
        about[2] = []
        if level > 1:
            link = tree.link(tree.words("#"), f"#{about[0]}", "anchor")
            link["c"][0][2] = [["aria-label", "Link to this section"]]
            title.append(link)

    def on_box(self, item: Element) -> Blocks:
        "HTML round the head and the body of a box."
        return boxed(tree.unbox(item))


def boxed(box: tree.Box) -> Blocks:
    "The template's HTML for a box, with head and body put in."
    template = TEMPLATES.get_template("boxes.html")
    text = template.render(name=box.name, id=box.id, **box.pairs)
    blocks: Blocks = []
    parts = {"HEAD": [tree.element("Plain", box.head)], "BODY": box.body}
    for piece in re.split("@(HEAD|BODY)@", text):
        blocks += parts.get(piece, [tree.raw("html", piece)])
    return blocks


def search_rows(chapter: Chapter) -> Iterator[list[str]]:
    "A row for each section: URL, chapter, title, text."
    name = f"{chapter.number} {tree.plain(chapter.title)}".strip()
    row = [chapter.out, name, name, ""]
    for item in chapter.blocks:
        if item["t"] == "Header" and item["c"][0] in (2, 3):
            yield row
            url = f"{chapter.out}#{item['c'][1][0]}"
            row = [url, name, tree.plain(item["c"][2]).strip(), ""]
        elif item["t"] != "Header":
            row[3] = f"{row[3]} {tree.plain(item)}".strip()
    yield row


def write_index(book: Book, out: Path) -> None:
    "The search index: a script, so that it also loads from a disk."
    rows = [row for chapter in book.chapters for row in search_rows(chapter)]
    text = f"window.BOOK={tree.quoted(rows)}\n"
    (out / "static" / "index.js").write_text(text, encoding="utf-8")


def write_page(
    book: Book, out: Path, chapter: Chapter, **more: str | Chapter | None
) -> None:
    "One page of the site."
    rel = PageWriter(book, chapter).rel
    depth = book.options.get("format.html.toc-depth", 3)
    text = TEMPLATES.get_template("page.html").render(
        book=book.about,
        ch=chapter,
        chapters=book.chapters,
        rel=rel,
        plain=tree.plain,
        toc=[row for row in chapter.toc if int(row[0]) <= depth],
        notebook=rel(chapter.key) if chapter.key in book.files else None,
        pdf=rel(book.pdf_name) if book.about.get("downloads") else None,
        **more,
    )
    path = out / chapter.out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def copy_files(book: Book, out: Path) -> None:
    "Copy images, linked files, notebooks and the licences of the fonts."
    static = ASSETS / "site" / "static"
    shutil.copytree(static, out / "static", dirs_exist_ok=True)
    book.write_files(out)
    for path in (ASSETS / "fonts").glob("OFL-*.txt"):
        shutil.copy(path, out / "static")


def render(book: Book, out: Path) -> None:
    "Write the whole site below `out`."
    bodies = [PageWriter(book, chapter).html() for chapter in book.chapters]
    near = [None, *book.chapters, None]
    for index, chapter in enumerate(book.chapters):
        more = {"prev": near[index], "next": near[index + 2]}
        write_page(book, out, chapter, body=bodies[index], **more)
    missing = Chapter("404.md", title=tree.words("Page not found"))
    text = TEMPLATES.get_template("boxes.html").render(name="missing")
    write_page(book, out, missing, body=text, prev=None, next=None)
    copy_files(book, out)
    write_index(book, out)
