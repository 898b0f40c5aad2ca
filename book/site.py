"""Write the website: one page a chapter, the files it shows, an index."""

import posixpath
import re
import shutil
from pathlib import Path

import jinja2

from . import tree
from .config import ASSETS, TABLES, Book, Chapter, Pass
from .tree import Blocks, Element, mended, write

PIXELS = 1.45  # CSS pixels for a point of the printed page
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader([ASSETS, ASSETS / "site"]), autoescape=True
)
# Level, anchor, number and title of a heading.
HEADING = re.compile(
    r'<h([1-6])(?: id="([^"]*)")?[^>]*>(?:<span class="secno">(.*?)</span> )?'
    r'\s*(.*?)\s*(?:<a [^>]*class="anchor"|</h1>)'
)
# What pandoc leaves of a formula that it cannot read.
UNREADABLE = re.compile(r'<span class="math \w+">([^<]*)')


class PageWriter(Pass):
    """Turns the tree of a chapter into HTML."""

    def rel(self, path: str) -> str:
        "A path in the site, as seen from the page."
        return posixpath.relpath(path, posixpath.dirname(self.chapter.out))

    def html(self) -> str:
        "The body of the page; its headings are noted in the chapter."
        blocks = self.visit(self.chapter.blocks)
        page = write(blocks, "html5", "--mathml", "--wrap=none")
        for tex in UNREADABLE.findall(page):
            self.fault(f"formula not understood: {tex}")
        page = mended(page, TABLES["html"])
        (_, _, _, title), *toc = HEADING.findall(page)
        self.chapter.title_html, self.chapter.toc = title, toc
        return page

    def on_table(self, item: Element) -> Blocks:
        "Let wide tables scroll."
        return boxed(tree.Box("table", "", {}, [], [item]))

    def on_image(self, item: Element) -> None:
        "Set size and URL."
        (label, classes, pairs), _, (url, _) = item["c"]
        options = dict(pairs)
        pixels = float(options.get("points", 0)) * PIXELS
        width = options.get("width") or f"{pixels:.0f}px"
        about = {"style": f"width:{width}", "loading": "lazy"}
        item["c"][0] = tree.attributes(label, *classes, **about)
        item["c"][1:] = [tree.words(options["alt"]), [self.rel(url[1:]), ""]]

    def on_link(self, item: Element) -> None:
        "Point at the page or the copied file."
        kind, _, path = item["c"][2][0].partition(":")
        page, _, anchor = path.partition("#")
        if kind == "file":
            item["c"][2][0] = self.rel(path)
        elif kind == "xref":
            here = page == self.chapter.key
            url = "" if here else self.rel(self.book.pages[page].out)
            item["c"][2][0] = f"{url}#{anchor}"

    def on_header(self, item: Element) -> Blocks:
        "A heading with its number and a link to itself."
        level, (label, classes, pairs), title = item["c"]
        about = {**dict(pairs), "level": level, "classes": classes}
        return boxed(tree.Box("heading", label, about, title, []))

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


def search_rows(chapter: Chapter) -> list[list[str]]:
    "A row for each section: URL, chapter, title, text."
    name = f"{chapter.number} {tree.plain(chapter.title)}".strip()
    rows = [[chapter.out, name, name, ""]]
    for item in chapter.blocks[1:]:
        text = tree.plain(item).strip()
        if item["t"] == "Header" and item["c"][0] < 4:
            url = f"{chapter.out}#{item['c'][1][0]}"
            rows.append([url, name, text, ""])
        elif text:
            rows[-1][3] = f"{rows[-1][3]} {text}".strip()
    return rows


def write_page(book: Book, out: Path, chapter: Chapter, near: list) -> None:
    "One page of the site; `near` holds its neighbours."
    rel = PageWriter(book, chapter).rel
    depth = book.options.get("format.html.toc-depth", 3)
    text = TEMPLATES.get_template("page.html").render(
        book=book.about,
        ch=chapter,
        chapters=book.chapters,
        prev=near[0],
        next=near[2],
        rel=rel,
        plain=tree.plain,
        body=chapter.html,
        toc=[row for row in chapter.toc if int(row[0]) <= depth],
        notebook=rel(chapter.key) if chapter.key in book.files else None,
        pdf=rel(book.pdf_name) if book.about.get("downloads") else None,
    )
    path = out / chapter.out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_static(book: Book, out: Path) -> None:
    "Images, linked files, notebooks, styles, licences, the search index."
    static = out / "static"
    shutil.copytree(ASSETS / "site" / "static", static)
    for name, data in book.files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    for path in (ASSETS / "fonts").glob("OFL-*.txt"):
        shutil.copy(path, static)
    rows = [row for chapter in book.chapters for row in search_rows(chapter)]
    script = f"window.BOOK={tree.quoted(rows)}\n"  # also read from a disk
    (static / "index.js").write_text(script, encoding="utf-8")


def render(book: Book, out: Path) -> None:
    "Write the whole site below `out`."
    for chapter in book.chapters:
        chapter.html = PageWriter(book, chapter).html()
    missing = Chapter("404.md", title=tree.words("Page not found"))
    missing.html = TEMPLATES.get_template("boxes.html").render(name="missing")
    write_page(book, out, missing, [None, None, None])
    near = [None, *book.chapters, None]
    for index, chapter in enumerate(book.chapters):
        write_page(book, out, chapter, near[index : index + 3])
    write_static(book, out)
