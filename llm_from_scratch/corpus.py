"""Text for a run: where it comes from, its tokenizer, its token files.

Knows files, TinyStories and the built-in story world. Knows nothing of
models or of how long they are trained.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from .data import read_stories, split_by_hash, write_tokens
from .downloads import LICENCE
from .files import END, SEEDS, find_tinystories, make_story
from .run_folder import UNFINISHED, checksum
from .token_files import TokenFile
from .tokenization import BPETokenizer

LEAST = 200  # documents: fewer make no tokenizer and no validation
HELD_OUT = 1000  # stories of the built-in world
SHARE = 0.05  # of documents, held out where no file is
SAMPLE = 20_000_000  # bytes that a tokenizer is trained on, at most
BUILT_IN = "the built-in story world"
SIDES = ("train", "valid")


def quiet(
    text: str,  # what begins
) -> None:
    "Tell nobody."


class Corpus:
    "Documents to train on and documents held out, from files or built in."

    def __init__(
        self,
        paths: list[str | Path] | None = None,  # None: what is here
        valid: str | Path | None = None,  # None: TinyStories' own, or a share
        *,
        stories: int = 100_000,  # of the built-in world, if it is that
    ):
        """Find the text; nothing is read yet.

        Raises `FileNotFoundError` for a file that is not there, and
        `ValueError` if text is both trained on and held out.
        """
        self.paths = [Path(path) for path in paths or []]
        self.valid, self.stories = valid and Path(valid), stories
        self.name = ", ".join(path.name for path in self.paths)
        self.licence = "what its owner allows"
        self.cut = False  # whether some text was left
        if valid and not self.paths:
            raise ValueError(f"valid={valid} needs paths to train on")
        for path in self.files():
            if not path.is_file():
                raise FileNotFoundError(f"there is no file {path}")
        for path in self.paths if valid else ():
            if path.samefile(valid):
                raise ValueError(
                    f"valid={valid} is trained on, too: hold out other text"
                )
        if not self.paths:
            self.find()

    def find(self) -> None:
        "Take what this machine has."
        self.name, self.licence = BUILT_IN, "Apache-2.0, as this package"
        found = [find_tinystories(side) for side in SIDES]
        if all(found):
            self.name, self.licence = "TinyStories", LICENCE
            self.paths, self.valid = found[:1], found[1]

    def files(self) -> list[Path]:
        "All that is read."
        return [*self.paths, *([self.valid] if self.valid else [])]

    def documents(
        self,
        megabytes: float = math.inf,  # read, about; the rest is left
        say: Callable[[str], None] = quiet,  # is told if some is left
    ) -> tuple[Iterator[str], Iterator[str]]:
        """Documents to train on, and those held out, each once.

        Of files without a validation file, every document is on the
        side that its text decides, one in twenty held out. When they
        are read, `cut` says whether text was left. Raises `ValueError`
        if there are too few.
        """

        def note() -> None:
            self.cut = True
            say(f"took {megabytes:g} MB of text, enough for this budget")

        limit = partial(limited, most=megabytes * 1e6, then=note)
        self.cut = False
        if not self.paths:
            first, end = SEEDS["train"][0], SEEDS["valid"][0]
            seeds = range(first, min(first + self.stories, end))
            held = range(end, end + HELD_OUT)
            return limit(map(make_story, seeds)), map(make_story, held)
        read = chain.from_iterable(map(read_stories, self.paths))
        read = limit(enough(read, self.name, LEAST))
        if self.valid:
            held = read_stories(self.valid)
            return read, enough(held, self.valid.name, 2)
        texts = list(read)
        sides = split_by_hash(texts, valid_share=SHARE)
        train, held = ([texts[i] for i in side] for side in sides)
        return iter(train), enough(iter(held), f"held out of {self.name}", 2)

    def facts(self) -> dict:  # JSON can hold it
        "What a resumed run must find again: names and contents."
        facts = {"corpus": self.name, "licence": self.licence}
        if not self.paths:
            return facts | {"stories": self.stories}
        return facts | {"sha256": [checksum(path) for path in self.files()]}


def enough(
    documents: Iterator[str],  # a stream
    name: str,  # what it is called
    least: int,  # documents
) -> Iterator[str]:  # the same stream
    "Raise `ValueError` for a stream that ends too soon."
    first = list(islice(documents, least))
    if len(first) < least:
        raise ValueError(
            f"{name}: {len(first)} documents, at least {least} are needed; "
            f"a document ends at {END} or with its file"
        )
    return chain(first, documents)


def limited(
    documents: Iterator[str],  # a stream
    most: float,  # bytes
    then: Callable[[], None] | None = None,  # is called if some is left
) -> Iterator[str]:  # its beginning
    "End a stream with the document that makes it long enough."
    size = 0
    for text in documents:
        yield text
        size += len(text.encode())
        if size >= most:
            if then and next(documents, None) is not None:
                then()
            return


def check_marker(
    tokenizer: BPETokenizer,  # perhaps without the special token `END`
) -> None:
    "Raise `ValueError` if no id can stand between documents."
    if END not in tokenizer.special_tokens:
        raise ValueError(
            f"the tokenizer has no special token {END!r}, only "
            f"{list(tokenizer.special_tokens)}: train one that has, with "
            f"special_tokens=[{END!r}] or llmfs tokenizer train"
        )


@contextmanager
def growing(
    target: Path,  # where the folder shall stand, in that of a run
) -> Iterator[Path]:  # a new one, which is deleted unless it is renamed
    """Let a folder be filled where it can be renamed to its place.

    That is in the run's folder if there is one, else in the nearest one
    above, so that an error leaves nothing behind.
    """
    above = target.absolute().parents
    place = next(folder for folder in above if folder.is_dir())
    with TemporaryDirectory(dir=place, prefix=UNFINISHED) as top:
        new = Path(top) / target.name
        new.mkdir()
        yield new


def prepare(
    corpus: Corpus,  # where text comes from
    folder: Path,  # gets a tokenizer and token files
    *,
    tokenizer: BPETokenizer | None = None,  # None: one is trained
    vocab_size: int = 4096,  # of that one, at most
    megabytes: float = math.inf,  # of text to train on, about
    progress: bool = False,  # show bars
    say: Callable[[str], None] = quiet,  # is told what begins
) -> None:
    "Train a tokenizer and write tokens. Raises what `documents` raises."
    say(f"reading {corpus.name}")
    both = corpus.documents(megabytes, say)
    documents = dict(zip(SIDES, both, strict=True))
    if tokenizer is None:
        say("training the tokenizer")
        sample = list(limited(documents["train"], SAMPLE))
        documents["train"] = chain(sample, documents["train"])
        tokenizer = BPETokenizer.train(
            sample, vocab_size, special_tokens=[END]
        )
    check_marker(tokenizer)
    tokenizer.save(folder / "tokenizer.json")
    say("writing tokens")
    for side, texts in documents.items():
        options = {"source": f"{corpus.name}, {side}", "progress": progress}
        write_tokens(folder / side, texts, tokenizer, **options)


def open_prepared(
    folder: Path,  # of `prepare`
) -> tuple[BPETokenizer, TokenFile, TokenFile]:  # and train, valid
    "Raise `ValueError` unless all is there as it was written."
    try:
        tokenizer = BPETokenizer.load(folder / "tokenizer.json")
        files = [TokenFile(folder / side, tokenizer) for side in SIDES]
        for file in files:
            file.verify()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the text of the run, in {folder}, is gone or damaged: {error}. "
            "Put it back, or start again and overwrite the run"
        ) from error
    return tokenizer, *files
