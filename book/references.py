"""Passes over the whole book: numbers, cross-references, citations, links."""

import json
import re
from itertools import count
from string import ascii_uppercase
from typing import NamedTuple

from . import tree
from .config import TABLES, Book, Chapter, Pass, path_of
from .structure import kind_of
from .tree import BookError, Element, Inlines, write


class Target(NamedTuple):
    """What a label names."""

    name: str  # Figure, Equation ...
    number: str
    page: str  # the chapter's key
    title: Inlines

    @property
    def words(self) -> str:
        "The target as a reference calls it."
        number = f"({self.number})" if self.name == "Equation" else self.number
        return f"{self.name}\u00a0{number}"


def number_book(book: Book) -> None:
    "Number the chapters and everything in them."
    numbers, letters = count(1), iter(ascii_uppercase)
    for chapter in book.chapters:
        _, (_, classes, _), chapter.title = chapter.blocks[0]["c"]
        if "unnumbered" not in classes:
            series = letters if chapter.appendix else numbers
            chapter.number = str(next(series))
        counter = Counter(book, chapter)
        chapter.blocks = counter.visit(chapter.blocks)
        counter.ask(None)


class Counter(Pass):
    """Numbers the elements of one chapter in reading order."""

    def __init__(self, book: Book, chapter: Chapter) -> None:
        super().__init__(book, chapter)
        self.counts = dict.fromkeys(TABLES["labels"], 0)
        self.sections: list[int] = []  # numbers of the present ones
        self.question: list | None = None  # attributes, before the answer

    def on_div(self, item: Element) -> None:
        "Note the anchor, which links may name."
        self.chapter.anchors += filter(None, item["c"][0][:1])

    on_span = on_div

    def on_box(self, item: Element) -> None:
        "Number a box that has a label; join questions and answers."
        found, about = tree.unbox(item), item["c"][0]
        more = found.pairs.get("more")
        if more == "predict":
            number = self.counts["predict"] + 1
            about[0] = f"predict-{self.chapter.anchors[0]}-{number}"
        if more == "predict" or found.name == "exercise":
            self.ask(about)
        kind = kind_of(about[0])
        if kind and found.name != "subfig":
            self.number(about, kind, found)
        if more == "answer":
            self.answer(about)
        self.on_div(item)

    def number(self, about: list, kind: str, found: tree.Box) -> None:
        "Give a box and its parts the next number."
        self.counts[kind] += 1
        number = f"{self.chapter.number}.{self.counts[kind]}".lstrip(".")
        name = TABLES["labels"][kind]
        target = Target(name, number, self.chapter.key, found.head)
        self.register(about, target)
        about[2].append(["label", target.words])
        for part in filter(None, map(tree.unbox, found.body)):
            if part.name == "subfig" and part.id:
                lettered = f"{number} {part.pairs['label']}"
                self.register([part.id], target._replace(number=lettered))

    def register(self, about: list, target: Target) -> None:
        "Note what a label names; the label must be new."
        if about[0] in self.book.targets:
            self.fault(f"duplicate label {about[0]}")
            about[0] = ""
        else:
            self.book.targets[about[0]] = target

    def ask(self, about: list | None) -> None:
        "Note a question; the one before it must have its answer."
        if self.question:
            self.fault(f"{self.question[0]} has no answer")
        self.question = about

    def answer(self, about: list) -> None:
        "Join an answer to the question before it."
        if not self.question:
            self.fault("answer without a question")
            return
        owner, _, pairs = self.question
        about[0] = about[0] or f"{owner}-answer"
        about[2].append(["owner", owner])
        pairs.append(["answer", about[0]])
        self.question = None

    def on_header(self, item: Element) -> None:
        "Number a heading."
        level, about, title = item["c"]
        number = self.chapter.number
        name = "Appendix" if self.chapter.appendix else "Chapter"
        if level > 1:
            name, number = "Section", self.section(level, about[1])
        about[2] = [["number", number]]
        if kind_of(about[0]) == "sec":
            target = Target(name, number, self.chapter.key, title)
            self.register(about, target)
        self.chapter.anchors += filter(None, about[:1])

    def section(self, level: int, classes: list[str]) -> str:
        "The number of a section."
        if not self.chapter.number or "unnumbered" in classes:
            return ""
        self.sections = [*self.sections, *[0] * level][: level - 1]
        self.sections[-1] += 1
        return ".".join([self.chapter.number, *map(str, self.sections)])


def link_book(book: Book) -> None:
    "Resolve the cross-references and links; then write the citations."
    name = str(book.options["bibliography"])
    if not (book.root / name).is_file():
        raise BookError(f"bibliography {name} does not exist")
    works = (book.root / name).read_text(encoding="utf-8")
    book.works = re.findall(r"@\w+\{\s*([^,\s]+)", works)
    for chapter in book.chapters:
        chapter.blocks = Linker(book, chapter).visit(chapter.blocks)
    homes = [c.key for c in book.chapters if "refs" in c.anchors]
    linked = f"link-citations={'true' if homes else 'false'}"
    args = ["--citeproc", f"--bibliography={book.root / name}", "-M", linked]
    divs = [tree.box("chapter", chapter.blocks) for chapter in book.chapters]
    cited = json.loads(write(divs, "json", *args, salt=works))["blocks"]

    def change(item: Element) -> None:
        if item["t"] == "Link" and item["c"][2][0].startswith("#ref-"):
            item["c"][2][0] = f"xref:{homes[0]}{item['c'][2][0]}"

    for chapter, division in zip(book.chapters, cited, strict=True):
        chapter.blocks = tree.walk(tree.unbox(division).body, change)


class Linker(Pass):
    """Resolves the cross-references and links of one chapter."""

    def on_cite(self, item: Element) -> Inlines | None:
        "Links for labels; citations of works are left to citeproc."
        links: Inlines = []
        for cite in item["c"][0]:
            key = cite["citationId"]
            if key in self.book.works:
                return None
            links += tree.words(", ") if links else []
            links += self.reference(key, cite)
        return links

    def reference(self, key: str, cite: dict) -> Inlines:
        "A cross-reference as a link that names and numbers its target."
        if key not in self.book.targets:
            self.fault(f"unresolved reference @{key}")
            return tree.words(f"?{key}")
        target, prefix = self.book.targets[key], cite["citationPrefix"]
        inlines = tree.words(target.words)
        if prefix:
            inlines = [*prefix, *tree.words(f"\u00a0{target.number}")]
        elif cite["citationMode"]["t"] == "SuppressAuthor":
            inlines = tree.words(target.number)
        elif not target.number:
            inlines = target.title
        about, url = tree.attributes("", "xref"), f"xref:{target.page}#{key}"
        link = tree.element("Link", about, inlines, [url, ""])
        return [link, *cite["citationSuffix"]]

    def on_link(self, item: Element) -> Element | None:
        "Resolve one link; a dead one becomes plain text."
        url = item["c"][2][0]
        path, _, anchor = url.partition("#")
        if re.match(r"[a-z]+:", url):
            return None
        name = path_of(self.chapter.key, path) if path else self.chapter.key
        page = self.book.pages.get(name)
        if page and anchor in ["", *page.anchors]:
            item["c"][2][0] = f"xref:{name}#{anchor or page.anchors[0]}"
        elif not page and self.book.add_file(name):
            item["c"][2][0] = f"file:{name}"
        else:
            self.fault(f"dead link {url}")
            return tree.element("Span", tree.attributes(), item["c"][1])
        return None
