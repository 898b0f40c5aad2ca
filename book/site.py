"""Write the website: one page a chapter, the files it shows, an index."""

import html
import json
import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from . import tree
from .config import Book, Chapter
from .pandoc import write
from .tree import Blocks, Element, Inlines

ASSETS = Path(__file__).parent / "assets"
MARK = "<!--|-->"
PIXELS = 1.45  # CSS pixels for a point of the printed page
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader([ASSETS, ASSETS / "site"]), autoescape=True
)
# A function's name that is no base of an index, before its argument.
FUNCTION = re.compile(
    r"(?<!<msub>)(?<!<msup>)(?<!<msubsup>)(?<!<munder>)"
    r"(<mrow><mi[^>]*>\w+</mi><mo>(?:\u2061|&#8289;)</mo>)(?=</mrow><m[^o])"
)
# What pandoc leaves of a formula that it cannot read.
UNREADABLE = re.compile(r'<span class="math \w+">([^<]*)')


class PageWriter(tree.Visitor):
    """Turns the tree of a chapter into HTML."""

    def __init__(self, chapter: Chapter, book: Book) -> None:
        self.chapter, self.book = chapter, book
        self.folder = posixpath.dirname(chapter.out) or "."
        self.pages = {c.key: c.out for c in book.chapters}

    def rel(self, path: str) -> str:
        "A path in the site, as seen from the page."
        return posixpath.relpath(path, self.folder)

    def html(self) -> str:
        "The body of the page."
        blocks = self.visit(self.chapter.blocks)
        page = mathml(write(blocks, "html5", "--mathml", "--wrap=none"))
        for tex in UNREADABLE.findall(page):
            self.book.fault(self.chapter.key, f"formula not understood: {tex}")
        return page

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
        if kind == "file":
            item["c"][2][0] = self.rel(path)
        elif kind == "xref":
            page, _, anchor = path.partition("#")
            here = page == self.chapter.key
            url = "" if here and anchor else self.rel(self.pages[page])
            item["c"][2][0] = url + (f"#{anchor}" if anchor else "")

    def on_header(self, item: Element) -> None:
        "Show the number, and a link to the heading itself."
        level, (label, classes, pairs), title = item["c"]
        if number := dict(pairs).get("number"):
            mark = tree.span(tree.words(number), "secno")
            title = [mark, tree.SPACE, *title]
        if level > 1:
            link = tree.link(tree.words("#"), f"#{label}", "anchor")
            link["c"][0][2] = [["aria-label", "Link to this section"]]
            title = [*title, link]
        item["c"] = [level, tree.attributes(label, *classes), title]

    def on_box(self, item: Element) -> Blocks | None:
        "HTML round the head and the body of a box."
        name, _, pairs, head, body = found = tree.unbox(item)
        if name in ("tab", "slot"):
            return None  # until the box around it is reached
        if name == "only" and pairs["form"] != "html":
            return []
        if name == "theorem" and head:
            head = [*tree.words("("), *head, *tree.words(")")]
        if name == "gridof":
            body = [part for slot in body for part in tree.unbox(slot).body]
        if name == "tabset":
            tabs = [tree.unbox(tab) for tab in body]
            head = [part for tab in tabs for part in button(tab.head)]
            body = [part for tab in tabs for part in boxed(tab)]
        return boxed(found._replace(head=head, body=body))


def button(title: Inlines) -> Inlines:
    "The button of a tab."
    start = tree.raw_inline("html", '<button role="tab" type="button">')
    return [start, *title, tree.raw_inline("html", "</button>")]


def boxed(box: tree.Box) -> Blocks:
    "The template's HTML for a box, with head and body put in."
    template = TEMPLATES.get_template("boxes.html")
    text = template.render(name=box.name, id=box.id, **box.pairs)
    blocks: Blocks = []
    for piece in re.split("@(HEAD|BODY)@", text):
        if piece == "BODY":
            blocks += box.body
        else:
            is_head = piece == "HEAD"
            blocks.append(
                tree.line(box.head) if is_head else tree.raw("html", piece)
            )
    return blocks


def mathml(page: str) -> str:
    "Let code scroll by key, and Chromium align and space formulas."
    changes = {
        "<pre class=": '<pre tabindex="0" class=',
        'style="text-align: right; padding-right: 0"': 'class="mr"',
        'style="text-align: left; padding-left: 0"': 'class="ml"',
        "<semantics><mtable>": '<semantics><mtable displaystyle="true">',
    }
    for old, new in changes.items():
        page = page.replace(old, new)
    return FUNCTION.sub(r'\1<mspace width="0.167em"/>', page)


def set_titles(book: Book) -> None:
    "Give chapters and contents their HTML, in one call of pandoc."
    titles = [c.title for c in book.chapters]
    titles += [row[3] for c in book.chapters for row in c.toc]
    mark = tree.raw("html", MARK)
    blocks = [part for title in titles for part in (tree.line(title), mark)]
    page = write(blocks, "html5", "--mathml", "--wrap=none")
    texts = iter(text.strip() for text in page.split(MARK))
    for chapter in book.chapters:
        chapter.title_html = next(texts)
    for chapter in book.chapters:
        chapter.toc = [(*row[:3], next(texts)) for row in chapter.toc]


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
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    path = out / "static" / "index.js"
    path.write_text(f"window.BOOK={text}\n", encoding="utf-8")


def page_values(book: Book, index: int, writer: PageWriter) -> dict[str, Any]:
    "What the page template may name."
    chapters, chapter = book.chapters, book.chapters[index]
    depth = book.option("html", "toc-depth", 3)
    pdf = "pdf" in (book.about.get("downloads") or [])
    is_notebook = chapter.path.suffix == ".ipynb"
    return {
        "book": book.about,
        "ch": chapter,
        "chapters": chapters,
        "rel": writer.rel,
        "toc": [row for row in chapter.toc if row[0] <= depth],
        "prev": chapters[index - 1] if index else None,
        "next": chapters[index + 1] if chapters[index + 1 :] else None,
        "plain": tree.plain,
        "notebook": writer.rel(chapter.key) if is_notebook else None,
        "pdf": writer.rel(book.pdf_name) if pdf else None,
    }


def copy_files(book: Book, out: Path) -> None:
    "Copy images, linked files, notebooks and the licences of the fonts."
    static = ASSETS / "site" / "static"
    shutil.copytree(static, out / "static", dirs_exist_ok=True)
    book.write_files(out)
    for chapter in book.chapters:
        if chapter.path.suffix == ".ipynb":
            shutil.copy(book.root / chapter.path, out / chapter.path)
    for path in (ASSETS / "fonts").glob("OFL-*.txt"):
        shutil.copy(path, out / "static")


def render(book: Book, out: Path) -> None:
    "Write the whole site below `out`."
    page = TEMPLATES.get_template("page.html")
    set_titles(book)
    for index, chapter in enumerate(book.chapters):
        writer = PageWriter(chapter, book)
        about = page_values(book, index, writer)
        path = out / chapter.out
        path.parent.mkdir(parents=True, exist_ok=True)
        text = page.render(body=writer.html(), **about)
        path.write_text(text, encoding="utf-8")
    copy_files(book, out)
    write_index(book, out)
    write_extras(book, out)


def write_extras(book: Book, out: Path) -> None:
    "A page for wrong addresses, and a site map if the address is known."
    missing = Chapter(Path("404.md"), title=tree.words("Page not found"))
    about = page_values(book, 0, PageWriter(missing, book))
    about |= {"ch": missing, "toc": [], "next": None, "notebook": None}
    body = TEMPLATES.get_template("boxes.html").render(name="missing")
    text = TEMPLATES.get_template("page.html").render(body=body, **about)
    (out / "404.html").write_text(text, encoding="utf-8")
    if address := book.about.get("site-url"):
        urls = [f"{address.rstrip('/')}/{c.out}" for c in book.chapters]
        rows = "".join(f"<url><loc>{html.escape(u)}</loc></url>" for u in urls)
        space = "http://www.sitemaps.org/schemas/sitemap/0.9"
        text = f'<urlset xmlns="{space}">{rows}</urlset>\n'
        (out / "sitemap.xml").write_text(text, encoding="utf-8")
