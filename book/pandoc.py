"""Run pandoc, with a cache: text to a syntax tree (JSON) and back."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pypandoc

from .tree import Blocks

API = [1, 23, 1]
CACHE = Path(__file__).parents[1] / ".cache" / "book"
MARKDOWN = (
    "markdown+lists_without_preceding_blankline+autolink_bare_uris"
    "-implicit_header_references"
)


class BookError(Exception):
    """A mistake in the sources or the set-up that stops the build."""


def run(args: list[str], text: str, salt: str = "") -> str:
    "Run pandoc on `text`; results are cached by the hash of all input."
    key = json.dumps([args, text, salt]).encode()
    path = CACHE / hashlib.sha256(key).hexdigest()[:32]
    if path.is_file():
        return path.read_text(encoding="utf-8")
    done = subprocess.run(
        [pypandoc.get_pandoc_path(), *args],
        input=text.encode(),
        capture_output=True,
    )
    if done.returncode:
        raise BookError(f"pandoc failed: {done.stderr.decode().strip()}")
    CACHE.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(done.stdout)
    part.replace(path)
    return done.stdout.decode()


def parse(text: str, form: str = MARKDOWN) -> Blocks:
    "Read markdown (or `form`) into blocks."
    args = ["-f", form, "-t", "json", "--strip-comments", "--preserve-tabs"]
    return json.loads(run(args, text))["blocks"]


def mended(text: str, rules: dict[str, str]) -> str:
    "The text with each pattern of the rules replaced."
    for pattern, new in rules.items():
        text = re.sub(pattern, new, text)
    return text


def write(blocks: Blocks, form: str, *args: str, salt: str = "") -> str:
    "Write blocks as `form`."
    tree = {"pandoc-api-version": API, "meta": {}, "blocks": blocks}
    return run(["-f", "json", "-t", form, *args], json.dumps(tree), salt)
