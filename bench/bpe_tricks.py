"""What does each trick of the fast trainer give?

The same stories are learned by a row of trainers, each with one trick
more than the one before. All must give the same merges.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import MB, corpus, record, spread, stories, table
from llm_from_scratch.files import END
from llm_from_scratch.tokenization import (
    GPT2,
    PreTokenizer,
    count_words,
    learn_merges,
    tie_key,
)

SIZE, VOCAB = MB // 2, 1000
Ids = list[int]
Pair = tuple[int, int]
BYTES = [tie_key("first", b, bytes([b])) for b in range(256)]


def order(pair: Pair) -> tuple[int, int]:
    "Of equally frequent pairs the one with the smallest order wins."
    a, b = (BYTES[i] if i < 256 else 256 + i for i in pair)
    return a, b


def best_of(count: dict[Pair, int]) -> Pair:
    "The most frequent pair, looked for among all."
    most = max(count.values())
    return min((p for p, n in count.items() if n == most), key=order)


def merged(ids: Ids, pair: Pair, new: int) -> Ids:
    "The list with every `pair` replaced, from left to right."
    out, i, last = [], 0, len(ids) - 1
    while i <= last:
        if i < last and ids[i] == pair[0] and ids[i + 1] == pair[1]:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


def split_all(documents: list[str]) -> list[str]:
    "Every word of every document."
    split = PreTokenizer(GPT2)
    return [word for text in documents for word in split(text)]


def naive(documents: list[str], steps: int) -> list[Pair]:
    "(a) Recount every pair of every word after each merge."
    words, merges = [list(w.encode()) for w in split_all(documents)], []
    for new in range(256, 256 + steps):
        count = Counter(pair for ids in words for pair in pairwise(ids))
        merges.append(best_of(count))
        words = [merged(ids, merges[-1], new) for ids in words]
    return merges


def unique(documents: list[str], steps: int) -> list[Pair]:
    "(b) The same, each distinct word once, with its frequency."
    freqs, merges = Counter(split_all(documents)), []
    words = [(list(w.encode()), n) for w, n in freqs.items()]
    for new in range(256, 256 + steps):
        count: Counter[Pair] = Counter()
        for ids, n in words:
            for pair in pairwise(ids):
                count[pair] += n
        merges.append(best_of(count))
        words = [(merged(ids, merges[-1], new), n) for ids, n in words]
    return merges


class Table:
    "Words as lists of ids, and the counts of their pairs."

    def __init__(self, freqs: dict[str, int]):
        "Count every pair once."
        self.words = [list(word.encode()) for word in freqs]
        self.freqs = list(freqs.values())
        self.count: dict[Pair, int] = defaultdict(int)
        self.where: dict[Pair, set[int]] = defaultdict(set)
        for i, ids in enumerate(self.words):
            for pair in pairwise(ids):
                self.count[pair] += self.freqs[i]
                self.where[pair].add(i)

    def merge(self, pair: Pair, new: int, where: Iterable[int]) -> set[Pair]:
        "Merge in these words; correct counts; the pairs that grew."
        grown = set()
        for i in where:
            before, n = self.words[i], self.freqs[i]
            after = self.words[i] = merged(before, pair, new)
            if len(after) == len(before):
                continue
            for old in pairwise(before):
                self.count[old] -= n
            for fresh in pairwise(after):
                self.count[fresh] += n
                self.where[fresh].add(i)
                if new in fresh:
                    grown.add(fresh)
        return grown


def deltas(documents: list[str], steps: int) -> list[Pair]:
    "(c) Correct the counts by the words that changed; scan all words."
    table, merges = Table(Counter(split_all(documents))), []
    for new in range(256, 256 + steps):
        merges.append(best_of(table.count))
        table.merge(merges[-1], new, range(len(table.words)))
    return merges


def indexed(documents: list[str], steps: int) -> list[Pair]:
    "(d) An index from each pair to its words: touch only those."
    table, merges = Table(Counter(split_all(documents))), []
    for new in range(256, 256 + steps):
        merges.append(best_of(table.count))
        table.merge(merges[-1], new, table.where.pop(merges[-1]))
    return merges


def heaped(documents: list[str], steps: int) -> list[Pair]:
    "(e) A heap whose entries are put right when they come up."
    table, merges = Table(Counter(split_all(documents))), []
    heap = [(-n, order(pair), pair) for pair, n in table.count.items()]
    heapify(heap)
    while len(merges) < steps:
        n, key, pair = heappop(heap)
        if -n != table.count[pair]:
            heappush(heap, (-table.count[pair], key, pair))
            continue
        new = 256 + len(merges)
        merges.append(pair)
        for fresh in table.merge(pair, new, table.where.pop(pair)):
            heappush(heap, (-table.count[fresh], order(fresh), fresh))
    return merges


def as_ids(merges: list[tuple[bytes, bytes]]) -> list[Pair]:
    "Merges of bytes as merges of ids."
    ids = {bytes([b]): b for b in range(256)}
    pairs = []
    for left, right in merges:
        pairs.append((ids[left], ids[right]))
        ids.setdefault(left + right, len(ids))
    return pairs


def strings(documents: list[str], steps: int) -> list[Pair]:
    "(f) A word as a `str`, a merge as `str.replace` and `partition`."
    freqs = Counter(split_all(documents))
    return as_ids(learn_merges(freqs, steps, progress=False))


def chunks(documents: list[str], steps: int) -> list[Pair]:
    "(g) Count chunks between spaces first: the library's trainer."
    freqs = count_words(documents)
    return as_ids(learn_merges(freqs, steps, progress=False))


VARIANTS: dict[str, tuple[Callable, int]] = {  # and how often to time it
    "naive": (naive, 1),
    "unique": (unique, 3),
    "deltas": (deltas, 3),
    "indexed": (indexed, 3),
    "heaped": (heaped, 5),
    "strings": (strings, 5),
    "chunks": (chunks, 5),
}


def timed(
    function: Callable, documents: list[str], steps: int, rounds: int
) -> tuple[list[Pair], dict[str, float]]:
    "The merges, and the spread of the seconds."
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        merges = function(documents, steps)
        seconds.append(time.perf_counter() - start)
    seconds *= 2 if rounds == 1 else 1  # quartiles need two values
    return merges, spread(seconds)


def main() -> None:
    "Measure each variant, print and record."
    text = stories("train", SIZE)
    documents, steps = text.split(END), VOCAB - 256
    result, rows = {}, [("variant", "seconds", "times faster", "in all")]
    wanted, before, first = None, None, None
    for name, (function, rounds) in VARIANTS.items():
        merges, seconds = timed(function, documents, steps, rounds)
        wanted = wanted or merges
        assert merges == wanted, f"{name} learns other merges"
        now = seconds["median"]
        first, before = first or now, before or now
        gain, total = round(before / now, 2), round(first / now, 1)
        trick = (function.__doc__ or "").strip()
        result[name] = {"trick": trick, "seconds": seconds, "rounds": rounds}
        result[name] |= {"gain": gain, "total_gain": total}
        rows.append((name, now, gain, total))
        before = now
    table(rows)
    about = corpus("TinyStories, train", text)
    record("bpe_tricks", about, {"vocab_size": VOCAB, "variants": result})


if __name__ == "__main__":
    main()
