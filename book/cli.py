"""The command line: build the book, check it, or serve it."""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from . import pdf, references, site
from .config import Book, load
from .pandoc import BookError
from .structure import read_chapter

FORMATS = ("html", "pdf")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    "Read the command line."
    parser = argparse.ArgumentParser(
        prog="python -m book", description=__doc__
    )
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--to", default="html,pdf", help="formats to write")
    parser.add_argument(
        "--check", action="store_true", help="list faults, keep no output"
    )
    parser.add_argument(
        "--serve", nargs="?", type=int, const=8000, metavar="PORT"
    )
    options = parser.parse_args(argv)
    options.to = options.to.split(",")
    if unknown := set(options.to) - set(FORMATS):
        parser.error(f"--to {','.join(unknown)}: only html and pdf")
    return options


def timed(start: float, message: str) -> None:
    "Print a line of progress."
    print(f"{message} {time.perf_counter() - start:.1f} s", flush=True)


def read_book(root: Path) -> Book:
    "Read all sources and run the passes over the whole book."
    start = time.perf_counter()
    book = load(root)
    for chapter in book.chapters:
        read_chapter(book, chapter)
    references.number_book(book)
    references.link_references(book)
    references.cite(book)
    references.resolve_links(book)
    timed(start, f"read {len(book.chapters)} chapters")
    return book


def write_book(book: Book, out: Path, formats: list[str]) -> None:
    "Write the formats below `out`."
    if "html" in formats:
        start = time.perf_counter()
        site.render(book, out)
        timed(start, f"site {len(book.chapters)} pages")
    if "pdf" in formats:
        start = time.perf_counter()
        pages = pdf.render(book, out)
        timed(start, f"pdf {pages} pages")


def swap(new: Path, old: Path) -> None:
    "Put the new folder in the place of the old one."
    kept = new.with_name(new.name + ".old")
    if old.exists():
        old.rename(kept)
    new.rename(old)
    shutil.rmtree(kept, ignore_errors=True)


def build(root: Path, formats: list[str], keep: bool = True) -> list[str]:
    "Build the book; return the faults found."
    book = read_book(root)
    where = root if keep else None
    out = Path(tempfile.mkdtemp(prefix="_book.", dir=where))
    try:
        out.chmod(0o755)
        if keep and book.output.is_dir() and len(formats) < len(FORMATS):
            shutil.copytree(book.output, out, dirs_exist_ok=True)
        write_book(book, out, formats)
        if keep:
            swap(out, book.output)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return book.faults


def serve(root: Path, formats: list[str], port: int) -> None:
    "Serve the book on this machine; build again when a source changes."
    folder = str(load(root).output)
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        watch(root, lambda: attempt(partial(build, root, formats)))
    except KeyboardInterrupt:
        server.shutdown()


def watch(root: Path, changed: Callable[[], object], pause: float = 1) -> None:
    "Call `changed` whenever a source has a new time, until interrupted."
    seen = times(root)
    while True:
        time.sleep(pause)
        now = times(root)
        if now != seen:
            seen = now
            changed()


def times(root: Path) -> dict[Path, int]:
    "When each source was last changed."
    patterns = ("*.yml", "*.qmd", "*.bib", "nbs/**/*", "book/assets/**/*")
    paths = [path for pattern in patterns for path in root.glob(pattern)]
    return {p: p.stat().st_mtime_ns for p in paths if p.is_file()}


def attempt(action: Callable[[], list[str]], kind: str = "warning") -> int:
    "Run a build; print its faults, or the one mistake that stopped it."
    try:
        faults = action()
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for fault in faults:
        print(f"{kind}: {fault}", file=sys.stderr)
    return 1 if faults and kind == "fault" else 0


def main(argv: list[str] | None = None) -> int:
    "Run the command; return the exit status."
    options = arguments(argv)
    if options.check:
        action = partial(build, options.root, [*FORMATS], keep=False)
        return attempt(action, "fault")
    status = attempt(partial(build, options.root, options.to))
    if options.serve is not None and not status:
        serve(options.root, options.to, options.serve)
    return status
