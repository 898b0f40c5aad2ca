"""The command line: build the book, check it, or serve it."""

import argparse
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from . import pdf, references, site
from .config import Book, load
from .structure import read_chapter
from .tree import BookError


def arguments(argv: list[str] | None) -> argparse.Namespace:
    "Read the command line."
    parser = argparse.ArgumentParser("python -m book", description=__doc__)
    add = parser.add_argument
    add("--root", type=Path, default=Path("."), help="folder of _quarto.yml")
    add("--check", action="store_true", help="list faults, keep no output")
    add("--serve", nargs="?", type=int, const=8000, metavar="PORT")
    return parser.parse_args(argv)


def read_book(root: Path) -> Book:
    "Read all sources and run the passes over the whole book."
    book = load(root)
    for chapter in book.chapters:
        read_chapter(book, chapter)
    references.number_book(book)
    references.link_book(book)
    return book


def build(root: Path, keep: bool) -> list[str]:
    "Build the book, all of it or nothing; return the faults found."
    book = read_book(root)
    output = root / book.options.get("project.output-dir", "_book")
    out = Path(tempfile.mkdtemp(prefix="_book.", dir=root if keep else None))
    try:
        out.chmod(0o755)
        site.render(book, out)
        pages = pdf.render(book, out)
        print(f"{len(book.chapters)} chapters, {pages} pages", flush=True)
        if keep:
            swap(out, output)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return [*book.faults]


def swap(new: Path, old: Path) -> None:
    "Put the new folder in the place of the old one."
    kept = new.with_name(new.name + ".old")
    if old.exists():
        old.rename(kept)
    new.rename(old)
    shutil.rmtree(kept, ignore_errors=True)


def serve(root: Path, port: int) -> None:
    "Serve the book on this machine, also when it is built again."
    folder = root / load(root).options.get("project.output-dir", "_book")
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def attempt(root: Path, keep: bool) -> int:
    "Run a build; print its faults, or the one mistake that stopped it."
    try:
        faults = build(root, keep)
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    kind = "warning" if keep else "fault"
    for fault in faults:
        print(f"{kind}: {fault}", file=sys.stderr)
    return 1 if faults and not keep else 0


def main(argv: list[str] | None = None) -> int:
    "Run the command; return the exit status."
    options = arguments(argv)
    status = attempt(options.root, keep=not options.check)
    if options.serve is not None and not status:
        serve(options.root, options.serve)
    return status
