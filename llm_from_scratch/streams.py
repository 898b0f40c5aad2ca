"""Streams of text: cut where it is safe, batched, spread over processes.

Knows where special tokens and lone spaces stand. Knows nothing of tokens,
vocabularies or what is done with a batch.
"""

import re
import signal
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from warnings import warn

from llm_from_scratch.files import read_pieces

BATCH = 1 << 20  # characters, about 1 MB of English
FEW = 20  # batches that are not worth starting processes for
LONE = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")


def check_specials(
    special_tokens: Iterable[str],  # strings, in the order of their ids
) -> list[str]:  # the same
    "Raise `ValueError` for special tokens that are empty or repeated."
    if isinstance(special_tokens, str):
        raise ValueError(
            f"special_tokens={special_tokens!r} is one string; give a list"
        )
    tokens = list(special_tokens)
    if "" in tokens:
        raise ValueError(f"special_tokens={tokens} holds an empty string")
    if twice := [t for t, n in Counter(tokens).items() if n > 1]:
        raise ValueError(f"special_tokens={tokens} repeats {twice[0]!r}")
    return tokens


def find_special(
    special_tokens: Iterable[str],  # strings that are never cut
) -> re.Pattern:  # finds any of them, of two that overlap the longer
    "Compile a pattern for special tokens; without any it finds nothing."
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def safe_blocks(
    pieces: Iterable[str],  # consecutive pieces of one text
    special_tokens: Iterable[str] = (),  # strings that are never cut
    *,
    at_spaces: bool = True,  # may a cut go before a lone space?
    size: int = 1 << 16,  # characters to collect before cutting
) -> Iterator[str]:  # the same text in blocks
    """Cut a stream so that its blocks can be encoded one by one.

    A cut goes after a special token, or, if `at_spaces`, before a lone
    space or after a lone line break. What has none of them comes whole.
    """
    special_tokens = list(special_tokens)
    special = find_special(special_tokens)
    hold = 2 + max(map(len, special_tokens), default=0)  # perhaps unfinished
    text, need = "", size
    for piece in pieces:
        text += piece
        if len(text) < need:
            continue
        cut = _last_cut(text, special, len(text) - hold, at_spaces)
        if cut:
            yield text[:cut]
        text = text[cut:]
        need = max(size, 2 * len(text))
    if text:
        yield text


def _last_cut(text: str, special: re.Pattern, stop: int, lone: bool) -> int:
    "The last place up to `stop` where `text` may be cut, or 0."
    spans = [m.span() for m in special.finditer(text)]
    cut = max((end for _, end in spans if end <= stop), default=0)
    for back in (1 << 7, 1 << 16) if lone and stop > 0 else ():
        tail = LONE.finditer(text, max(stop - back, 0), stop)
        places = [m.start() for m in tail]
        while places and _inside(places[-1], spans):
            places.pop()
        if places:
            return max(cut, places[-1])
    return cut


def _inside(place: int, spans: list[tuple[int, int]]) -> bool:
    "Whether a cut at `place` would go through one of the sorted spans."
    before = bisect_left(spans, (place,)) - 1
    return before >= 0 and place < spans[before][1]


def read_documents(
    texts: str | Path | Iterable[str],  # a text, a file, or documents
    special_tokens: Iterable[str] = (),  # where documents end
    *,
    at_spaces: bool = True,  # as in `safe_blocks`
    size: int = BATCH,  # characters a batch, about
) -> Iterator[list[str]]:  # batches of documents, without the specials
    """Stream a corpus in batches, holding one batch in memory.

    Raises `TypeError` for a document that is not text, and what
    `read_pieces` raises for a file.
    """
    if isinstance(texts, str | Path):
        pieces = [texts] if isinstance(texts, str) else read_pieces(texts)
        texts = safe_blocks(
            pieces, special_tokens, at_spaces=at_spaces, size=size
        )
    special, batch, held = find_special(special_tokens), [], 0
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(
                f"a document is {text!r:.40} of type {type(text).__name__}; "
                "give str, and decode bytes with .decode('utf-8') first"
            )
        batch += special.split(text)
        held += len(text)
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def map_batches(
    function: Callable[[list[str]], Any],  # importable, for other processes
    batches: Iterable[list[str]],  # see `read_documents`
    workers: int | None = None,  # processes; None: 1 up to 20 MB, then all
) -> Iterator[Any]:  # its results, in order
    """Apply a function to every batch, in several processes if it pays.

    Holds a few batches at a time. When the processes cannot start, it
    warns, names the remedy and goes on in this one.
    """
    batches = iter(batches)
    serial = {1: None, None: FEW}.get(workers, 0)
    yield from map(function, islice(batches, serial))
    group = list(islice(batches, 8))
    pool = None
    if group:
        pool = ProcessPoolExecutor(
            workers, get_context("spawn"), _ignore_ctrl_c
        )
    try:
        while group:
            pool, results = _map_group(function, group, pool)
            yield from results
            group = list(islice(batches, 8))
    finally:
        if pool:
            pool.shutdown()


def _ignore_ctrl_c() -> None:
    "For other processes: this one hears Ctrl-C and ends them."
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    "What starts in here never hears Ctrl-C; we hear it at the end."
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _map_group(
    function: Callable, group: list, pool: ProcessPoolExecutor | None
) -> tuple[ProcessPoolExecutor | None, list]:
    "The results of a group, and the pool, or None when it is broken."
    if pool:
        try:
            with _ctrl_c_held():  # while processes are started
                results = pool.map(function, group)
            return pool, list(results)
        except BrokenProcessPool:
            warn(
                "working in one process: a script that reads a large corpus "
                "needs `if __name__ == '__main__':` round its main call",
                stacklevel=4,
            )
    return None, list(map(function, group))
