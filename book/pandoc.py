"""Run pandoc, with a cache: text to a syntax tree (JSON) and back."""

import hashlib
import json
import os
import subprocess
from functools import cache
from pathlib import Path

from .tree import Blocks, Element

API = [1, 23, 1]
CACHE = Path(__file__).parents[1] / ".cache" / "book"
MARKDOWN = (
    "markdown+lists_without_preceding_blankline+autolink_bare_uris"
    "-auto_identifiers-implicit_header_references"
)


class BookError(Exception):
    """A mistake in the sources or the set-up that stops the build."""


@cache
def executable() -> str:
    "Path of the pandoc that comes with pypandoc_binary."
    try:
        import pypandoc

        return pypandoc.get_pandoc_path()
    except (ImportError, OSError):
        raise BookError(
            "pandoc is missing: pip install pypandoc_binary"
        ) from None


def run(args: list[str], text: str, salt: str = "") -> str:
    "Run pandoc on `text`; results are cached by the hash of all input."
    key = json.dumps([args, text, salt]).encode()
    path = CACHE / hashlib.sha256(key).hexdigest()[:32]
    if path.is_file():
        return path.read_text(encoding="utf-8")
    done = subprocess.run(
        [executable(), *args], input=text.encode(), capture_output=True
    )
    if done.returncode:
        raise BookError(f"pandoc failed: {done.stderr.decode().strip()}")
    CACHE.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(done.stdout)
    part.replace(path)
    return done.stdout.decode()


def parse(text: str, form: str = MARKDOWN) -> Element:
    "Read markdown (or `form`) into a document tree."
    return json.loads(run(["-f", form, "-t", "json"], text))


def document(blocks: Blocks) -> str:
    "A document of these blocks, in JSON."
    tree = {"pandoc-api-version": API, "meta": {}, "blocks": blocks}
    return json.dumps(tree)


def write(blocks: Blocks, form: str, *args: str) -> str:
    "Write blocks as `form`."
    return run(["-f", "json", "-t", form, *args], document(blocks))
