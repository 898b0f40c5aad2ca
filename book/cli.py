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


def arguments(argv: list[str] | None) -> argparse.Namespace:
    "Read the command line."
    parser = argparse.ArgumentParser("python -m book", description=__doc__)
    add = parser.add_argument
    add("--root", type=Path, default=Path("."), help="folder of _quarto.yml")
    add("--to", choices=("html", "pdf"), help="write only this format")
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


def build(root: Path, only: str | None, keep: bool = True) -> list[str]:
    "Build the book, all of it or nothing; return the faults found."
    start = time.perf_counter()
    book = read_book(root)
    output = root / book.options.get("project.output-dir", "_book")
    out = Path(tempfile.mkdtemp(prefix="_book.", dir=root if keep else None))
    try:
        out.chmod(0o755)
        if keep and only and output.is_dir():
            shutil.copytree(output, out, dirs_exist_ok=True)
        if only != "pdf":
            site.render(book, out)
        if only != "html":
            print(f"{pdf.render(book, out)} pages of PDF")
        if keep:
            swap(out, output)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    seconds = time.perf_counter() - start
    print(f"{len(book.chapters)} chapters in {seconds:.1f} s", flush=True)
    return book.faults


def swap(new: Path, old: Path) -> None:
    "Put the new folder in the place of the old one."
    kept = new.with_name(new.name + ".old")
    if old.exists():
        old.rename(kept)
    new.rename(old)
    shutil.rmtree(kept, ignore_errors=True)


def serve(root: Path, only: str | None, port: int) -> None:
    "Serve the book on this machine; build again when a source changes."
    folder = load(root).options.get("project.output-dir", "_book")
    handler = partial(SimpleHTTPRequestHandler, directory=root / folder)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        watch(root, partial(attempt, partial(build, root, only)))
    except KeyboardInterrupt:
        server.shutdown()


def watch(root: Path, changed: Callable[[], object], pause: float = 1) -> None:
    "Call `changed` whenever a source has a new time, until interrupted."
    seen = times(root)
    while True:
        time.sleep(pause)
        before, seen = seen, times(root)
        if before != seen:
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
        return attempt(partial(build, options.root, None, False), "fault")
    status = attempt(partial(build, options.root, options.to))
    if options.serve is not None and not status:
        serve(options.root, options.to, options.serve)
    return status
