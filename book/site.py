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

from .config import Book, Chapter
from .pandoc import (
    Blocks,
    Box,
    Element,
    Inlines,
    attributes,
    element,
    plain,
    raw,
    raw_inline,
    unbox,
    walk,
    words,
    write,
)

ASSETS = Path(__file__).parent / "assets" / "site"
MARK = "<!--|-->"
PIXELS = 1.45  # CSS pixels for a point of the printed page

# What stands before the head of a box, between head and body, and after.
SHAPES = {
    "callout": (
        '<div class="callout callout-{kind}{more}"{id} role="note">'
        '<p class="callout-title">',
        "</p>",
        "</div>",
    ),
    "details": (
        '<details class="callout callout-{kind}{more}"{id}{open}>'
        '<summary class="callout-title">',
        "</summary>",
        "</details>",
    ),
    "theorem": (
        '<div class="theorem {kind}"{id}><p class="theorem-title">'
        "<strong>{label}</strong> ",
        "</p>",
        "</div>",
    ),
    "fold": (
        '<details class="fold"{open}><summary>',
        "</summary>",
        "</details>",
    ),
}
PAIRS = {
    "gridof": ('<div class="grid" style="--n:{ncol}">', "</div>"),
    "equation": (
        '<div class="equation"{id}>',
        '<span class="eqno">{label}</span></div>',
    ),
    "source": ('<div class="cell-source">{badge}', "</div>"),
    "output": ('<div class="output {kind}">', "</div>"),
    "table": ('<div class="table-wrap" tabindex="0">', "</div>"),
    "subtitle": ('<div class="chapter-subtitle">', "</div>"),
}
BADGE = '<span class="export" title="Exported to the library">exported</span>'


class PageWriter:
    """Turns the tree of a chapter into HTML."""

    def __init__(self, chapter: Chapter, book: Book) -> None:
        self.chapter = chapter
        self.folder = posixpath.dirname(chapter.out) or "."
        self.pages = {c.key: c.out for c in book.chapters}

    def rel(self, path: str) -> str:
        "A path in the site, as seen from the page."
        return posixpath.relpath(path, self.folder)

    def html(self) -> str:
        "The body of the page."
        blocks = walk(self.chapter.blocks, self.change)
        return mathml(write(blocks, "html5", "--mathml", "--wrap=none"))

    def change(self, item: Element) -> Element | Blocks | None:
        "Prepare one element for pandoc's HTML writer."
        found = unbox(item)
        if found is not None:
            return self.box(found)
        changes = {
            "Image": self.image,
            "Link": self.link,
            "Header": self.heading,
            "Table": lambda item: wrapped("table", {}, [item]),
        }
        method = changes.get(item["t"])
        return method(item) if method else None

    def image(self, item: Element) -> None:
        "Set size and URL."
        (label, classes, pairs), _, (url, _) = item["c"]
        options = dict(pairs)
        style = f"width:{options['width']}" if "width" in options else None
        if "points" in options:
            style = f"width:{float(options['points']) * PIXELS:.0f}px"
        item["c"] = [
            attributes(label, *classes, style=style, loading="lazy"),
            words(options["alt"]),
            [self.rel(url.lstrip("/")), ""],
        ]

    def link(self, item: Element) -> None:
        "Point at the page or the copied file."
        kind, _, path = item["c"][2][0].partition(":")
        if kind == "file":
            item["c"][2][0] = self.rel(path)
        elif kind == "xref":
            page, _, anchor = path.partition("#")
            here = page == self.chapter.key
            url = "" if here and anchor else self.rel(self.pages[page])
            item["c"][2][0] = url + (f"#{anchor}" if anchor else "")

    def heading(self, item: Element) -> None:
        "Show the number, and a link to the heading itself."
        level, (label, classes, pairs), title = item["c"]
        number = dict(pairs).get("number")
        if number:
            mark = element("Span", attributes("", "secno"), words(number))
            title = [mark, {"t": "Space"}, *title]
        if level > 1:
            about = {"aria-label": "Link to this section"}
            link = attributes("", "anchor", **about)
            sign = element("Link", link, words("#"), [f"#{label}", ""])
            title = [*title, sign]
        item["c"] = [level, attributes(label, *classes), title]

    def box(self, found: Box) -> Blocks | None:
        "HTML round the body of a box."
        name, _, pairs, head, body = found
        if name in ("tab", "slot"):
            return None
        if name == "only":
            return body if pairs["form"] == "html" else []
        if name == "callout" and "collapse" in pairs:
            return wrapped("details", values(found), body, head)
        if name == "source" and "fold" in pairs:
            return wrapped("fold", values(found), body, head)
        if name in ("float", "subfig"):
            return figure(found)
        if name == "tabset":
            return tabset([unbox(tab) for tab in body])
        if name == "gridof":
            body = [part for slot in body for part in unbox(slot).body]
        if name == "theorem" and head:
            head = [*words("("), *head, *words(")")]
        if name == "output" and pairs["kind"] == "display":
            pairs["kind"] = ""
        return wrapped(name, values(found), body, head)


def values(found: Box) -> dict[str, str]:
    "What the shapes of a box may name."
    pairs = found.pairs
    closed = "true" in (pairs.get("collapse"), str(pairs.get("fold")).lower())
    filled = dict.fromkeys(("label", "kind", "ncol", "form"), "") | pairs
    return filled | {
        "id": f' id="{html.escape(found.id)}"' if found.id else "",
        "more": " " + pairs["more"] if "more" in pairs else "",
        "open": "" if closed else " open",
        "badge": BADGE if "export" in pairs else "",
    }


def wrapped(
    name: str, filled: dict[str, str], body: Blocks, head: Inlines = ()
) -> Blocks:
    "Body (and head) between the pieces of a shape."
    if name in PAIRS:
        start, end = (piece.format(**filled) for piece in PAIRS[name])
        return [raw("html", start), *body, raw("html", end)]
    if name not in SHAPES:
        return body
    start, middle, end = (part.format(**filled) for part in SHAPES[name])
    title = [raw("html", start), element("Plain", [*head])]
    return [*title, raw("html", middle), *body, raw("html", end)]


def figure(found: Box) -> Blocks:
    "A float or a part of one; a table's caption stands above it."
    kind = found.name if found.name == "subfig" else found.id[:3] or "fig"
    label = values(found)["label"]
    name = words(label) if kind == "subfig" else []
    if label and not name:
        colon = words(":") if found.head else []
        name = [element("Strong", words(label)), *colon]
    caption = element("Plain", [*name, {"t": "Space"}, *found.head])
    lines = [
        raw("html", "<figcaption>"),
        caption,
        raw("html", "</figcaption>"),
    ]
    above = kind in ("tbl", "lst")
    parts = [*lines, *found.body] if above else [*found.body, *lines]
    start = f'<figure class="{kind}"{values(found)["id"]}>'
    return [raw("html", start), *parts, raw("html", "</figure>")]


def tabset(tabs: list[Box]) -> Blocks:
    "Buttons and panels; the page's script joins them."
    buttons: Inlines = []
    panels: Blocks = []
    for tab in tabs:
        start, end = '<button role="tab" type="button">', "</button>"
        buttons += [raw_inline("html", start), *tab.head]
        buttons.append(raw_inline("html", end))
        panels.append(raw("html", '<div role="tabpanel">'))
        panels += [*tab.body, raw("html", "</div>")]
    start = '<div class="tabset"><div role="tablist">'
    line = [raw("html", start), element("Plain", buttons)]
    return [*line, raw("html", "</div>"), *panels, raw("html", "</div>")]


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
    function = r"(<mi>(?:log|ln|exp|sin|cos|max|min)</mi>(?:<mo>\u2061</mo>)?)"
    return re.sub(rf"{function}(?=<mi)", r'\1<mspace width="0.167em"/>', page)


def headings_html(headings: list[Inlines]) -> list[str]:
    "HTML of many headings in one call of pandoc."
    blocks: Blocks = []
    for heading in headings:
        blocks += [element("Plain", heading), raw("html", MARK)]
    page = write(blocks, "html5", "--mathml", "--wrap=none")
    return [text.strip() for text in page.split(MARK)]


def set_titles(book: Book) -> None:
    "Give chapters and contents their HTML."
    titles = [c.title for c in book.chapters]
    titles += [row[3] for c in book.chapters for row in c.toc]
    texts = iter(headings_html(titles))
    for chapter in book.chapters:
        chapter.title_html = next(texts)
    for chapter in book.chapters:
        chapter.toc = [(*row[:3], next(texts)) for row in chapter.toc]


def search_rows(chapter: Chapter) -> Iterator[list[str]]:
    "A row for each section: URL, chapter, title, text."
    name = f"{chapter.number} {plain(chapter.title)}".strip()
    row = [chapter.out, name, name, ""]
    for item in chapter.blocks:
        if item["t"] == "Header" and item["c"][0] in (2, 3):
            yield row
            url = f"{chapter.out}#{item['c'][1][0]}"
            row = [url, name, plain(item["c"][2]).strip(), ""]
        elif item["t"] != "Header":
            row[3] = f"{row[3]} {plain(item)}".strip()
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
    depth = int(book.option("html", "toc-depth", 3))
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
        "plain": plain,
        "notebook": writer.rel(chapter.key) if is_notebook else None,
        "pdf": writer.rel(book.pdf_name) if pdf else None,
    }


def render(book: Book, out: Path) -> None:
    "Write the whole site below `out`."
    loader = jinja2.FileSystemLoader(ASSETS)
    template = jinja2.Environment(loader=loader, autoescape=True)
    page = template.get_template("page.html")
    shutil.copytree(ASSETS / "static", out / "static")
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
    write_missing(book, page, out)


def copy_files(book: Book, out: Path) -> None:
    "Copy images, linked files, notebooks and the licences of the fonts."
    book.write_files(out)
    for chapter in book.chapters:
        if chapter.path.suffix == ".ipynb":
            shutil.copy(book.root / chapter.path, out / chapter.path)
    for path in (ASSETS.parent / "fonts").glob("OFL-*.txt"):
        shutil.copy(path, out / "static")


def write_missing(book: Book, page: jinja2.Template, out: Path) -> None:
    "A page for wrong addresses, and a site map if the address is known."
    chapter = Chapter(Path("404.md"), title=words("Page not found"))
    chapter.title_html = "Page not found"
    writer = PageWriter(chapter, book)
    about = page_values(book, 0, writer)
    about |= {"ch": chapter, "toc": [], "next": None, "notebook": None}
    body = "<h1>Page not found</h1><p>There is no such page in this book.</p>"
    text = page.render(body=body, **about)
    (out / "404.html").write_text(text, encoding="utf-8")
    if address := book.about.get("site-url"):
        urls = [f"{address.rstrip('/')}/{c.out}" for c in book.chapters]
        (out / "sitemap.xml").write_text(sitemap(urls), encoding="utf-8")


def sitemap(urls: list[str]) -> str:
    "The pages, for search engines."
    rows = "".join(f"<url><loc>{html.escape(url)}</loc></url>" for url in urls)
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<urlset xmlns="{space}">{rows}</urlset>\n'
