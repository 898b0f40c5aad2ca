"""Files: writing without ever losing the old one, and finding text to read.

Knows where data may lie and how the built-in stories are made. Knows
nothing of tokens, models or training.
"""

import contextlib
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from llm_from_scratch.grammar import Grammar

END = "<|endoftext|>"  # stands after every story in a corpus file
# built-in stories: the first seed and how many, no story in both splits
SEEDS = {"train": (0, 6000), "valid": (10_000_000, 600)}
GRAMMAR = Path(__file__).with_name("story_world.txt")


def write_atomic(
    path: str | Path,  # where the file shall stand
    data: str | bytes,  # its whole content; text is written as UTF-8
    *,
    overwrite: bool = True,  # False: an existing file is an error
) -> Path:  # the path written
    """Write `data` to `path` so that a crash leaves the old file or the new.

    The bytes go to a temporary file beside the target, which is renamed
    when all of them are on the disk. Raises `FileExistsError` when the
    target exists and `overwrite` is false, and `OSError`, naming the file
    and what to do, when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists already; pass overwrite=True to replace it"
        )
    data = data.encode("utf-8") if isinstance(data, str) else data
    try:
        with open_atomic(path) as file:
            file.write(data)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {len(data)} bytes: {error.strerror}; nothing "
            "was changed, free some space or choose another folder",
            str(path),
        ) from error
    return path


@contextlib.contextmanager
def open_atomic(
    path: str | Path,  # where the file shall stand
    *,
    text: bool = False,  # True: takes text, writes UTF-8, line ends as given
) -> Iterator[IO]:  # open, for as many writes as needed
    """Write a file that gets its name when it is complete, else vanishes.

    Until the end of the `with` block the bytes go to a temporary file
    beside the target; an error in the block, Ctrl-C too, removes it.
    """
    path, how = Path(path), {"mode": "wb"}
    if text:
        how = {"mode": "w", "encoding": "utf-8", "newline": "\n"}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, own = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, **how) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(own, file_mode(path))
        os.replace(own, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(own)
        raise


def file_mode(path: Path) -> int:
    "The mode of the file replaced, else what a new file would have got."
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def read_text(
    path: str | Path,  # a text file
) -> str:  # its content, line ends kept as they are
    """Read a whole UTF-8 file.

    Raises `FileNotFoundError` when there is none and `ValueError`, with
    the offset of the first bad byte, when it is not UTF-8.
    """
    return "".join(read_pieces(path))


def read_pieces(
    path: str | Path,  # a text file
    size: int = 1 << 18,  # bytes read at a time
) -> Iterator[str]:  # consecutive pieces of its text
    """Yield a UTF-8 file piece by piece, never cutting a character in two.

    Raises as `read_text` does, when the bad piece is reached.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; check the path, and that it names a "
            "file, not a folder"
        )
    position, rest = 0, b""
    with path.open("rb") as file:
        while block := file.read(size):
            block = rest + block
            cut = len(block) - _unfinished(block)
            yield _decode(block[:cut], path, position)
            position, rest = position + cut, block[cut:]
    if rest:
        yield _decode(rest, path, position)


def _unfinished(block: bytes) -> int:
    "How many bytes at the end begin a character that is not complete."
    for back in range(1, min(4, len(block)) + 1):
        lead = block[-back]
        if lead >= 0xC0:
            need = 2 + (lead >= 0xE0) + (lead >= 0xF0)
            return back if need > back else 0
        if lead < 0x80:
            return 0
    return 0


def _decode(block: bytes, path: Path, position: int) -> str:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{block[error.start]:02x} at offset "
            f"{position + error.start}; convert it, for instance with "
            "iconv -t UTF-8"
        ) from error


def cache_dir() -> Path:
    "The folder where downloads are kept: `$LLMFS_CACHE`, else the user's."
    if told := os.environ.get("LLMFS_CACHE"):
        return Path(told)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(base) / "llm_from_scratch"


def find_tinystories(
    split: str = "train",  # "train" or "valid"
) -> Path | None:  # the file, or None when this machine has none
    "Look for real TinyStories in `$LLMFS_DATA`, then in `cache_dir()`."
    if split not in ("train", "valid"):
        raise ValueError(f"split={split!r} must be 'train' or 'valid'")
    folders = [cache_dir()]
    if told := os.environ.get("LLMFS_DATA"):
        folders.insert(0, Path(told))
    paths = (f / "tinystories" / f"{split}.txt" for f in folders)
    return next((p for p in paths if p.is_file()), None)


def corpus_name() -> str:
    "Which stories `load_stories` gives here, in words for a page."
    found = find_tinystories("train") and find_tinystories("valid")
    return "TinyStories" if found else "the built-in stories"


def load_stories(
    split: str = "train",  # "train" or "valid"
) -> str:  # stories, each followed by `END` and a line break
    "Real TinyStories when this machine has both splits, else built-in ones."
    path = find_tinystories(split)
    if corpus_name() == "TinyStories":
        return read_text(path)
    first, count = SEEDS[split]
    stories = (make_story(seed) for seed in range(first, first + count))
    return "".join(f"{story}\n{END}\n" for story in stories)


def make_story(
    seed: int,  # the same seed gives the same story
) -> str:  # a story of the built-in world
    "Tell a story; `StoryWorld` in `stories` knows how likely it is."
    world = _world()
    return world.tell(world.by_chance(random.Random(seed))).text


@cache
def _world() -> "Grammar":
    "The built-in world, read when it is first needed."
    from llm_from_scratch.grammar import Grammar

    return Grammar(GRAMMAR.read_text(encoding="utf-8"))
