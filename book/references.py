"""Passes over the whole book: numbers, cross-references, citations, links."""

import json
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from . import tree
from .config import Book, Chapter
from .pandoc import BookError, document, run
from .structure import LABELS, kind_of
from .tree import Blocks, Element, Inlines

EQUATION_LABEL = re.compile(r"\{#(eq-[\w-]+)\}(.*)")
SPACES = ("Space", "SoftBreak")
SOURCES = (".ipynb", ".qmd", ".md")


class Target(NamedTuple):
    """What a label names."""

    name: str  # Figure, Equation ...
    number: str
    chapter: Chapter
    title: Inlines

    @property
    def words(self) -> str:
        "The target as a reference calls it."
        number = f"({self.number})" if self.name == "Equation" else self.number
        return f"{self.name}\u00a0{number}"


def slug(text: str) -> str:
    "An anchor made of a heading."
    text = unicodedata.normalize("NFKC", text).lower()
    return re.sub(r"[^\w]+", "-", text).strip("-") or "section"


def number_book(book: Book) -> None:
    "Number the chapters and everything in them."
    counts = {False: 0, True: 0}
    for chapter in book.chapters:
        head = next((b for b in chapter.blocks if is_title(b)), None)
        if head is None:
            book.fault(chapter.key, "no heading of level 1")
            title = tree.words(chapter.path.stem)
            head = tree.element("Header", 1, tree.attributes(), title)
            chapter.blocks.insert(0, head)
        mark_subtitle(chapter.blocks, chapter.blocks.index(head) + 1)
        if "unnumbered" not in head["c"][1][1]:
            counts[chapter.appendix] += 1
            count = counts[chapter.appendix]
            chapter.number = (
                chr(64 + count) if chapter.appendix else f"{count}"
            )
        counter = Counter(book, chapter)
        chapter.blocks = counter.visit(chapter.blocks)


def mark_subtitle(blocks: Blocks, index: int) -> None:
    "A quotation right under the title is the chapter's subtitle."
    for quote in blocks[index : index + 1]:
        if quote["t"] == "BlockQuote":
            blocks[index] = tree.box("subtitle", quote["c"])


def is_title(item: Element) -> bool:
    "Whether it is a heading of level 1."
    return item["t"] == "Header" and item["c"][0] == 1


class Counter(tree.Visitor):
    """Numbers the elements of one chapter in reading order."""

    def __init__(self, book: Book, chapter: Chapter) -> None:
        self.book, self.chapter = book, chapter
        self.counts: dict[str, int] = {}
        self.sections = [0] * 7
        self.anchors: set[str] = set()

    def on_box(self, item: Element) -> None:
        "Number floats, theorems and predictions."
        found = tree.unbox(item)
        kind = kind_of(found.id)
        if found.pairs.get("more") == "predict":
            self.labelled(item, "predict")
        if kind and found.name in ("float", "theorem"):
            self.labelled(item, kind)
            owner, letters = self.book.targets[found.id], iter("abcdefghi")
            change = partial(self.subfigure, owner, letters)
            item["c"][1] = tree.walk(item["c"][1], change)

    def labelled(self, item: Element, kind: str) -> None:
        "Give a box its number."
        label, _, pairs = item["c"][0]
        number = self.register(label, kind, item["c"][1][0]["c"])
        pairs.append(["label", f"{LABELS[kind]} {number}"])
        if number == "":
            item["c"][0][0] = ""

    def register(self, label: str, kind: str, title: Inlines) -> str:
        "The next number of a kind; the label must be new."
        if label in self.book.targets:
            self.book.fault(self.chapter.key, f"duplicate label {label}")
            return ""
        count = self.counts[kind] = self.counts.get(kind, 0) + 1
        number = f"{self.chapter.number}.{count}".lstrip(".")
        target = Target(LABELS[kind], number, self.chapter, title)
        self.book.targets[label] = target
        return number

    def subfigure(
        self, owner: Target, letters: Iterator[str], item: Element
    ) -> None:
        "Number the parts of a figure (a), (b) ..."
        if tree.is_box(item, "subfig"):
            label, _, pairs = item["c"][0]
            letter = f"({next(letters)})"
            part = owner._replace(number=f"{owner.number} {letter}")
            self.book.targets[label] = part
            pairs.append(["label", letter])

    def on_header(self, item: Element) -> None:
        "Number a heading and give it an anchor."
        level, (label, classes, pairs), title = item["c"]
        number, chapter = "", self.chapter
        if level == 1:
            number = chapter.number
            chapter.id = label or slug(chapter.path.stem)
            chapter.title = title
        elif chapter.number and "unnumbered" not in classes:
            self.sections[level] += 1
            self.sections[level + 1 :] = [0] * (6 - level)
            counts = self.sections[2 : level + 1]
            number = ".".join([chapter.number, *map(str, counts)])
        anchor = self.anchor(label, tree.plain(title))
        item["c"][1] = [anchor, classes, [*pairs, ["number", number]]]
        if level > 1:
            chapter.toc.append((level, anchor, number, title))
        name = "Section" if level > 1 else "Chapter"
        if level == 1 and chapter.appendix:
            name = "Appendix"
        if kind_of(label) == "sec":
            target = Target(name, number, chapter, title)
            self.book.targets[label] = target

    def anchor(self, label: str, title: str) -> str:
        "The heading's label, or a slug that is new in this chapter."
        if label in self.book.targets:
            self.book.fault(self.chapter.key, f"duplicate label {label}")
            label = ""
        base = name = label or slug(title)
        count = 1
        while name in self.anchors:
            count += 1
            name = f"{base}-{count}"
        self.anchors.add(name)
        return name

    def on_para(self, item: Element) -> Blocks | None:
        "Split a paragraph at its displayed equations."
        result: Blocks = []
        text: Inlines = []
        for inline in item["c"]:
            label = EQUATION_LABEL.fullmatch(str(inline.get("c")))
            if is_display(inline):
                result += paragraph(item, text)
                para = tree.element("Para", [inline])
                result.append(tree.box("equation", [para]))
                text = []
            elif label and result and not paragraph(item, text):
                number = self.register(label[1], "eq", [])
                result[-1]["c"][0][0] = label[1] if number else ""
                result[-1]["c"][0][2].append(["label", f"({number})"])
                text = tree.words(label[2])
            else:
                text.append(inline)
        return result + paragraph(item, text) if result else None

    on_plain = on_para


def paragraph(item: Element, text: Inlines) -> Blocks:
    "A block of the kind of `item`, unless the text is only space."
    solid = any(inline["t"] not in SPACES for inline in text)
    return [tree.element(item["t"], text)] if solid else []


def is_display(inline: Element) -> bool:
    "Whether it is a displayed equation."
    return inline["t"] == "Math" and inline["c"][0]["t"] == "DisplayMath"


def link_references(book: Book) -> None:
    "Turn `@fig-mask` into a link that names and numbers its target."
    for chapter in book.chapters:
        referrer = Referrer(book, chapter)
        chapter.blocks = referrer.visit(chapter.blocks)


class Referrer(tree.Visitor):
    """Writes the cross-references of one chapter."""

    def __init__(self, book: Book, chapter: Chapter) -> None:
        self.book, self.chapter = book, chapter

    def on_cite(self, item: Element) -> Inlines | None:
        "Links for labels; citations of works are left to citeproc."
        cited = item["c"][0]
        if not all(kind_of(cite["citationId"]) for cite in cited):
            return None
        links: Inlines = []
        for cite in cited:
            links += [tree.string(","), tree.SPACE] if links else []
            links += reference(self.book, self.chapter, cite)
        return links


def reference(book: Book, chapter: Chapter, cite: dict) -> Inlines:
    "One cross-reference."
    label = cite["citationId"]
    if label not in book.targets:
        book.fault(chapter.key, f"unresolved reference @{label}")
        return tree.words(f"?{label}")
    target = book.targets[label]
    if cite["citationMode"]["t"] == "SuppressAuthor":
        inlines: Inlines = [tree.string(target.number)]
    elif cite["citationPrefix"]:
        tail = target.words.partition("\u00a0")[2]
        inlines = [
            *cite["citationPrefix"],
            tree.string(f"\u00a0{tail}"),
        ]
    elif target.number:
        inlines = [tree.string(target.words)]
    else:
        inlines = target.title
    url = f"xref:{target.chapter.key}#{label}"
    link = tree.link(inlines, url, "xref")
    return [link, *cite["citationSuffix"]]


def cite(book: Book) -> None:
    "One run of citeproc over all chapters, so that styles number once."
    names = book.settings.get("bibliography") or []
    names = [names] if isinstance(names, str) else names
    paths = [book.root / name for name in names]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise BookError(f"bibliography {missing[0]} does not exist")
    texts = [path.read_text(encoding="utf-8") for path in paths]
    check_citations(book, set(re.findall(r"@\w+\{\s*([^,\s]+)", str(texts))))
    if not paths:
        return
    args = ["--citeproc", "-f", "json", "-t", "json", "-M"]
    args += ["link-citations=true"]
    args += [f"--bibliography={path}" for path in paths]
    if style := book.settings.get("csl"):
        args.append(f"--csl={book.root / style}")
    around = tree.attributes()
    divs = [tree.element("Div", around, c.blocks) for c in book.chapters]
    cited = json.loads(run(args, document(divs), salt=str(texts)))["blocks"]
    for chapter, division in zip(book.chapters, cited, strict=False):
        chapter.blocks = division["c"][1]


def check_citations(book: Book, known: set[str]) -> None:
    "Note citations that no bibliography holds."
    for chapter in book.chapters:
        cited = re.findall(
            r'"citationId": "([^"]+)"', json.dumps(chapter.blocks)
        )
        for key in sorted(set(cited) - known):
            book.fault(chapter.key, f"unknown citation @{key}")


def resolve_links(book: Book) -> None:
    "Point every internal link at a chapter, an anchor or a file."
    anchors = {f"{c.key}#" for c in book.chapters}
    home = ""
    for chapter in book.chapters:
        labels = set(labels_in(chapter.blocks))
        anchors |= {f"{chapter.key}#{label}" for label in labels}
        home = chapter.key if "refs" in labels else home
    for chapter in book.chapters:
        linker = Linker(book, chapter, anchors, home)
        chapter.blocks = linker.visit(chapter.blocks)


def labels_in(blocks: Blocks) -> list[str]:
    "All anchors of a tree."
    labels: list[str] = []
    places = {"Div": 0, "Span": 0, "Header": 1}

    def collect(item: Element) -> None:
        if item["t"] in places:
            labels.append(item["c"][places[item["t"]]][0])

    tree.walk(blocks, collect)
    return [label for label in labels if label]


class Linker(tree.Visitor):
    """Resolves the links of one chapter."""

    def __init__(
        self, book: Book, chapter: Chapter, anchors: set[str], home: str
    ) -> None:
        self.book, self.chapter = book, chapter
        self.anchors, self.home = anchors, home
        self.pages = {c.key for c in book.chapters}

    def on_link(self, item: Element) -> Element | None:
        "Resolve one link; a dead one becomes plain text."
        if re.match(r"[a-z]+:", item["c"][2][0]):
            return self.checked(item)
        url = item["c"][2][0]
        path, _, anchor = url.partition("#")
        folder = posixpath.dirname(self.chapter.key)
        name = posixpath.normpath(posixpath.join(folder, path))
        if url.startswith("#ref-"):
            item["c"][2][0] = f"xref:{self.home}{url}"
        elif not path or name in self.pages:
            page = name if path else self.chapter.key
            item["c"][2][0] = f"xref:{page}#{anchor}"
        elif self.book.add_file(name):
            item["c"][2][0] = f"file:{name}"
        else:
            return self.dead(item, url)
        return self.checked(item)

    def checked(self, item: Element) -> Element | None:
        "The link, if its anchor exists."
        url = item["c"][2][0]
        if not url.startswith("xref:") or url[5:] in self.anchors:
            return None
        if self.home and url.startswith(f"xref:{self.home}#ref-"):
            return tree.span(item["c"][1])
        return self.dead(item, url[5:])

    def dead(self, item: Element, url: str) -> Element:
        "The text of a link that leads nowhere."
        self.book.fault(self.chapter.key, f"dead link {url}")
        return tree.span(item["c"][1])
