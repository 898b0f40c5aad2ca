"""Token files: ids in a flat file, an index, and a JSON header beside them.

Knows the format, checks it, and writes it so that it appears whole or not
at all. Knows nothing of cleaning, windows or batches, and imports no
torch, so that processes that only encode stay small.

    stories.json          the header: counts, sizes, hashes, file names
    stories-1a2b3c4d.bin  END, ids, END, ids, …, END: uint16 or uint32
    stories-1a2b3c4d.idx  for each document, and once more at the end:
                          which token it starts at, which byte of the text

All numbers are little-endian. The names of the two data files hold
the tokens' hash, so replacing the header switches from the old pair to the new
one in one step.
"""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from llm_from_scratch.files import END, file_mode, read_text, write_atomic
from llm_from_scratch.tokenization import BPETokenizer

FORMAT, VERSION = "llm-from-scratch tokens", 1
COUNTS = ("n_tokens", "n_documents", "text_bytes", "vocab_size", "end_id")
NAMES = ("dtype", "tokens_file", "index_file", "sha256", "tokenizer")


def check_sizes(
    **sizes: int,  # what must be counts
) -> None:
    "Raise `ValueError` for what is not a whole number from 1 on."
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"{name}={size!r} must be a whole number, 1 or greater"
            )


def header_path(
    path: str | Path,  # with or without .json
) -> Path:  # where the header stands
    "The header's path; the two other files stand beside it."
    path = Path(path)
    return (
        path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
    )


def token_dtype(
    vocab_size: int,  # one more than the greatest id
) -> np.dtype:  # the smallest type that holds every id
    "Two bytes an id up to 65,536 tokens, else four; little-endian."
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def tokenizer_hash(
    tokenizer: BPETokenizer,  # its vocab, merges, specials and pattern count
) -> str:  # sha256, 64 characters
    "A fingerprint: two tokenizers share it if they encode alike."
    names = ("vocab", "merges", "special_tokens", "pattern")
    parts = []
    for name in names:
        part = getattr(tokenizer, name, None)
        if isinstance(part, dict):
            part = sorted(part.items())
        parts.append(repr(part))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def encode_documents(
    tokenizer: BPETokenizer | str,  # str: the path of a saved one
    documents: list[str],  # a batch
) -> tuple[np.ndarray, np.ndarray]:  # all ids; tokens and bytes of each
    """Encode a batch, an end marker before each document.

    Of an empty document nothing is written, and its sizes are 0, 0.
    """
    if isinstance(tokenizer, str):
        tokenizer = _load(tokenizer)
    marker, flat, sizes = tokenizer.special_tokens[END], [], []
    for text in documents:
        start = len(flat)
        if text:
            flat.append(marker)
            flat += tokenizer.encode(text)
        sizes.append((len(flat) - start, len(text.encode())))
    ids = np.array(flat, token_dtype(len(tokenizer)))
    return ids, np.array(sizes, np.int64)


@lru_cache(maxsize=2)
def _load(path: str) -> BPETokenizer:
    "A tokenizer, once a process."
    return BPETokenizer.load(path)


class TokenWriter:
    "Collects batches in temporary files, which `commit` gives their names."

    def __init__(
        self,
        path: str | Path,  # the header's; see `header_path`
        tokenizer: BPETokenizer,  # what the ids come from
        overwrite: bool = False,  # False: an existing header is an error
    ):
        """Raise before any work is done.

        `FileExistsError` for an existing file, `ValueError` for a
        tokenizer without the end marker.
        """
        self.path, self.tokenizer = header_path(path), tokenizer
        if self.path.exists() and not overwrite:
            raise FileExistsError(
                f"{self.path} exists already; pass overwrite=True to "
                "replace it"
            )
        if END not in tokenizer.special_tokens:
            raise ValueError(
                f"the tokenizer has no special token {END!r}, only "
                f"{list(tokenizer.special_tokens)}; train it with "
                f"special_tokens=[{END!r}]"
            )
        self.at = np.zeros(2, np.int64)  # tokens and bytes written
        self.n_documents = self.n_empty = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> "TokenWriter":
        folder, name = self.path.parent, f".{self.path.stem}."
        folder.mkdir(parents=True, exist_ok=True)
        self._files = []
        for end in (".bin", ".idx"):
            handle, own = tempfile.mkstemp(end, name, folder)
            self._files.append((os.fdopen(handle, "wb"), Path(own)))
        return self

    @contextlib.contextmanager
    def encoder(
        self,
        workers: int | None,  # as in `map_batches`
    ) -> Iterator[Callable[[list[str]], tuple[np.ndarray, np.ndarray]]]:
        """Give `encode_documents` its tokenizer, in a form that travels.

        Other processes read it from a file, once, and keep what they
        learn; so it must be one that can be saved when there are several
        workers.
        """
        if workers == 1:
            yield partial(encode_documents, self.tokenizer)
            return
        with tempfile.TemporaryDirectory() as folder:
            saved = str(self.tokenizer.save(folder))
            yield partial(encode_documents, saved)

    def add(
        self,
        ids: np.ndarray,  # of some documents, from `encode_documents`
        sizes: np.ndarray,  # tokens and bytes of each
    ) -> None:
        "Append a batch."
        kept = sizes[sizes[:, 0] > 0]
        ends = self.at + np.cumsum(kept, 0)
        self._write(0, ids.tobytes())
        self._write(1, (ends - kept).astype("<u8").tobytes())
        self.at = ends[-1] if len(ends) else self.at
        self.n_documents += len(kept)
        self.n_empty += len(sizes) - len(kept)

    def _write(self, which: int, data: bytes) -> None:
        self._files[which][0].write(data)
        if which == 0:
            self._hash.update(data)

    def commit(
        self,
        **about,  # what else the header shall say
    ) -> Path:  # the header's path
        """Close the files, name them, and write the header last.

        Raises `ValueError` when no document had any text.
        """
        if not self.n_documents:
            raise ValueError(
                f"none of {self.n_empty} documents has any text, so "
                f"{self.path} was not written"
            )
        dtype = token_dtype(len(self.tokenizer))
        marker = self.tokenizer.special_tokens[END]
        self._write(0, np.array([marker], dtype).tobytes())
        self._write(1, self.at.astype("<u8").tobytes())
        digest, old = self._hash.hexdigest(), self._old_files()
        names = [f"{self.path.stem}-{digest[:8]}{x}" for x in (".bin", ".idx")]
        for (file, own), name in zip(self._files, names, strict=True):
            _finish(file, own, self.path.with_name(name))
        header = {
            "format": FORMAT,
            "version": VERSION,
            "dtype": dtype.name,
            "n_tokens": int(self.at[0]) + 1,
            "n_documents": self.n_documents,
            "text_bytes": int(self.at[1]),
            "vocab_size": len(self.tokenizer),
            "end_id": marker,
            "tokenizer": tokenizer_hash(self.tokenizer),
            "tokens_file": names[0],
            "index_file": names[1],
            "sha256": digest,
        }
        write_atomic(self.path, json.dumps(header | about, indent=1) + "\n")
        for path in old - {self.path.with_name(name) for name in names}:
            with contextlib.suppress(OSError):  # Windows: still open
                path.unlink()
        return self.path

    def _old_files(self) -> set[Path]:
        "The data files of a header that is about to be replaced."
        try:
            header = json.loads(read_text(self.path))
            names = header["tokens_file"], header["index_file"]
            own = f"{self.path.stem}-"
            return {self.path.with_name(x) for x in names if x.startswith(own)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return set()

    def __exit__(self, kind, error, _) -> None:
        "Drop what was not committed."
        for file, own in self._files:
            with contextlib.suppress(OSError):
                file.close()
            own.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise OSError(
                errno.ENOSPC,
                "the disk is full; nothing was changed, free some space or "
                "choose another folder",
                str(self.path),
            ) from error


def _finish(file: BinaryIO, own: Path, path: Path) -> None:
    "Make sure that a file is on the disk, then give it its name."
    file.flush()
    os.fsync(file.fileno())
    file.close()
    own.chmod(file_mode(path))
    os.replace(own, path)


def read_header(
    path: str | Path,  # of a header; see `header_path`
    tokenizer: BPETokenizer | None = None,  # whose ids they are; None: any
) -> tuple[Path, dict]:  # the header's path, and what it says
    """Read a header and check it against the two files beside it.

    Raises `FileNotFoundError`, or `ValueError` that says what is wrong.
    """
    path = header_path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no token file {path}; make one with write_tokens"
        )
    try:
        header = json.loads(read_text(path))
        _check_header(header)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no token file: {error}") from error
    _check_files(path, header)
    own = tokenizer and tokenizer_hash(tokenizer)
    if tokenizer and own != header["tokenizer"]:
        raise ValueError(
            f"{path} was made by another tokenizer: its hash is "
            f"{header['tokenizer'][:12]}…, yours is {own[:12]}…; load the "
            "one it was made with, or write the tokens again"
        )
    return path, header


def _check_header(header: dict) -> None:
    "Raise `ValueError` or `TypeError` for what the format does not allow."
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"it has no format={FORMAT!r}")
    if header.get("version") != VERSION:
        raise ValueError(
            f"version={header.get('version')!r} must be {VERSION}; a newer "
            "library may read it"
        )
    for name in COUNTS:
        if type(header.get(name)) is not int or header[name] < 0:
            raise ValueError(
                f"{name}={header.get(name)!r} must be a whole number, not "
                "negative"
            )
    for name in NAMES:
        if not isinstance(header.get(name), str):
            raise ValueError(f"{name}={header.get(name)!r} must be a string")
    wanted = token_dtype(header["vocab_size"]).name
    if header["dtype"] != wanted:
        raise ValueError(
            f"dtype={header['dtype']!r} must be {wanted!r} for "
            f"vocab_size={header['vocab_size']}"
        )
    for name in ("tokens_file", "index_file"):
        if Path(header[name]).name != header[name] or "\\" in header[name]:
            raise ValueError(f"{name}={header[name]!r} must be a bare name")


def _check_files(path: Path, header: dict) -> None:
    "Raise when the data files are missing or not as long as they must be."
    width = np.dtype(header["dtype"]).itemsize
    sizes = {
        "tokens_file": header["n_tokens"] * width,
        "index_file": (header["n_documents"] + 1) * 16,
    }
    for name, size in sizes.items():
        file = path.with_name(header[name])
        if not file.is_file():
            raise FileNotFoundError(
                f"{path} needs {file.name} beside it; move the three files "
                "together, or write the tokens again"
            )
        if (found := file.stat().st_size) != size:
            raise ValueError(
                f"{file} has {found} bytes, its header demands {size}: it "
                "was cut or changed; copy it again, or write the tokens again"
            )
    with path.with_name(header["index_file"]).open("rb") as file:
        file.seek(-16, os.SEEK_END)
        last = np.frombuffer(file.read(), "<u8").tolist()
    if last != [header["n_tokens"] - 1, header["text_bytes"]]:
        raise ValueError(
            f"{path.with_name(header['index_file'])} ends with {last}, its "
            f"header demands {[header['n_tokens'] - 1, header['text_bytes']]}"
            ": it belongs to another file; write the tokens again"
        )


class TokenFile:
    """A token file, memory-mapped: the disk is read where one looks.

    Opening checks the header and the files' sizes; `verify` reads all.
    """

    def __init__(
        self,
        path: str | Path,  # the header's, with or without .json
        tokenizer: BPETokenizer | None = None,  # whose ids; None: any
    ):
        """Open and check; raises what `read_header` raises.

        Without a tokenizer, `text_bytes` cannot count within windows.
        """
        self.path, self.header = read_header(path, tokenizer)
        dtype = np.dtype(self.header["dtype"]).newbyteorder("<")
        self.tokens = np.memmap(self._beside("tokens_file"), dtype, "r")
        flat = np.memmap(self._beside("index_file"), "<u8", "r")
        self.index = flat.reshape(-1, 2)  # first token, first byte
        self._tokenizer = tokenizer

    def _beside(self, name: str) -> Path:
        return self.path.with_name(self.header[name])

    def __len__(self) -> int:
        "How many documents there are."
        return len(self.index) - 1

    @property
    def documents(self) -> int:
        "How many documents there are."
        return len(self)

    def __repr__(self) -> str:
        "For instance TokenFile(3,228 documents, 651,000 tokens)."
        return (
            f"TokenFile({len(self):,} documents, {len(self.tokens):,} tokens)"
        )

    def __getitem__(
        self,
        i: int,  # which document; -1 is the last
    ) -> np.ndarray:  # its ids, int64, without the end markers
        "Copy one document out of the file."
        i = range(len(self))[i]  # IndexError, as for a list
        start, stop = self.index[i : i + 2, 0].tolist()
        return self.tokens[start + 1 : stop].astype(np.int64)

    def text_bytes(
        self,
        n_documents: int | None = None,  # the first so many; None: all
        context_len: int | None = None,  # cut to windows; None: whole
    ) -> int:  # UTF-8 bytes of their text, markers not counted
        """Count what bits per byte are divided by.

        With `context_len`, bytes of tokens that a window of one document
        does not reach are not counted, which needs the tokenizer.
        """
        return int(self.document_bytes(n_documents, context_len).sum())

    def document_bytes(
        self,
        n_documents: int | None = None,  # the first so many; None: all
        context_len: int | None = None,  # cut to windows; None: whole
    ) -> np.ndarray:  # UTF-8 bytes of each document, (N,)
        "What `text_bytes` sums up."
        n = len(self) if n_documents is None else n_documents
        if not 0 <= n <= len(self):
            raise ValueError(
                f"n_documents={n} must lie between 0 and {len(self)}"
            )
        sizes = np.diff(self.index[: n + 1, 1].astype(np.int64))
        if context_len is None:
            return sizes
        check_sizes(context_len=context_len)
        starts, stops = self.index[:n, 0], self.index[1 : n + 1, 0]
        for i in np.flatnonzero(stops - starts > context_len):
            if self._tokenizer is None:
                raise ValueError(
                    f"document {i} is longer than context_len={context_len}; "
                    "open the file with its tokenizer to count what is left"
                )
            lost = self[int(i)][context_len:].tolist()
            sizes[i] -= len(self._tokenizer.decode_bytes(lost))
        return sizes

    def verify(self) -> None:
        "Read everything; `ValueError` if it is not as it was written."
        digest, step = hashlib.sha256(), 1 << 22
        for start in range(0, len(self.tokens), step):
            digest.update(self.tokens[start : start + step].tobytes())
        if (found := digest.hexdigest()) != self.header["sha256"]:
            raise ValueError(
                f"{self._beside('tokens_file')} has sha256 {found}, its "
                f"header demands {self.header['sha256']}; write it again"
            )
        steps = np.diff(self.index.astype(np.int64), axis=0)
        if self.index[0].any() or (steps < 1).any():
            raise ValueError(
                f"{self._beside('index_file')} does not rise from 0; write "
                "it again"
            )
