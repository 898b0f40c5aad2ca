"""Does our n-gram model give the probabilities that NLTK's gives?

Both count the same windows of words. NLTK's `KneserNeyInterpolated` ends
at the share of contexts that a word follows, which is 0 for a word it has
never seen; ours is discounted once more and falls back on equal chances.
So that the rest can be compared, NLTK's model is given our formula for
that last step, computed from NLTK's own counts. Everything above it,
counts, discounts, weights and back-off, is NLTK's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import corpus, record, stories, table
from llm_from_scratch.files import END, make_story
from llm_from_scratch.stories import NGram

ORDERS = (2, 3, 4)
TRAIN, VALID = 300, 30  # stories
DISCOUNT = 0.75


def windows(n: int, row: Sequence[int]) -> Iterator[tuple[int, ...]]:
    "Each symbol but the first with the `n - 1` before it; -1 before those."
    padded = [-1] * (n - 2) + list(row)
    return zip(*(padded[i:] for i in range(n)), strict=False)


def nltk_model(n: int, vocab_size: int, rows: list[list[int]]):
    "NLTK's model, fitted on the windows and all their endings."
    from nltk.lm.models import KneserNeyInterpolated
    from nltk.lm.smoothing import KneserNey

    class WithUniformBase(KneserNey):
        "Kneser–Ney smoothing that ends in equal chances."

        _continuation_counts = cache(KneserNey._continuation_counts)

        @cache  # noqa: B019 – lives as long as the comparison
        def kinds(self) -> int:
            "How many different symbols were seen."
            seen = {str(w) for row in rows for w in row[1:]}
            return sum(self._continuation_counts(w)[0] > 0 for w in seen)

        def unigram_score(self, word: str) -> float:
            times, total = self._continuation_counts(word)
            freed = self.discount * self.kinds() / vocab_size
            return (max(times - self.discount, 0) + freed) / total

    model = KneserNeyInterpolated(n, discount=DISCOUNT)
    grams = [
        [
            tuple(map(str, window[-size:]))
            for window in windows(n, row)
            for size in range(1, n + 1)
        ]
        for row in rows
    ]
    model.fit(grams, vocabulary_text=map(str, range(-1, vocab_size)))
    model.estimator = WithUniformBase(
        model.vocab, model.counts, discount=DISCOUNT, order=n
    )
    return model


def compare(
    n: int, vocab_size: int, train: list[list[int]], valid: list[list[int]]
) -> dict[str, float]:
    "The greatest difference of two probabilities of the same word."
    theirs = nltk_model(n, vocab_size, train)
    ours = NGram(n, vocab_size, discount=DISCOUNT).fit(train)
    count, greatest, unseen = 0, 0.0, 0
    for row in [*train[:10], *valid]:
        for window in windows(n, row):
            given, symbol = window[:-1], window[-1]
            p = ours.prob(given, symbol)
            q = theirs.unmasked_score(str(symbol), tuple(map(str, given)))
            count += 1
            unseen += window not in ours.counts
            greatest = max(greatest, abs(p - q) / q)
    return {
        "order": n,
        "probabilities": count,
        "of_unseen_ngrams": unseen,
        "greatest_relative_difference": greatest,
    }


def rows_of(texts: list[str]) -> tuple[list[list[int]], int]:
    "Words as numbers, and how many there are; 0 begins and ends a text."
    ids: dict[str, int] = {END: 0}
    rows = [
        [0, *(ids.setdefault(w, len(ids)) for w in words), 0]
        for words in (re.findall(r"\w+|[^\w\s]", text) for text in texts)
    ]
    return rows, len(ids)


def main() -> None:
    "Compare on TinyStories and on the built-in stories, and record."
    from importlib.metadata import version

    real = stories("train", 1_000_000).split(END)[: TRAIN + VALID]
    texts = {
        "tinystories": real,
        "built_in": [make_story(seed) for seed in range(TRAIN + VALID)],
    }
    result: dict = {"nltk": version("nltk"), "discount": DISCOUNT}
    result["runs"] = []
    for name, some in texts.items():
        rows, size = rows_of(some)
        for n in ORDERS:
            found = compare(n, size, rows[:TRAIN], rows[TRAIN:])
            result["runs"].append({"corpus": name, "words": size, **found})
    runs = result["runs"]
    result["probabilities"] = sum(x["probabilities"] for x in runs)
    result["greatest_relative_difference"] = max(
        x["greatest_relative_difference"] for x in runs
    )
    table([tuple(runs[0]), *(tuple(x.values()) for x in runs)])
    record("ngram_parity", corpus("TinyStories", "".join(real)), result)


if __name__ == "__main__":
    main()
