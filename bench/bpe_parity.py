"""How much was compared with other projects, and how much differed?

Ids against tiktoken's and merges against Hugging Face's, on all of the
stories at hand, on Python code and on many languages.
"""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import (
    MB,
    ROOT,
    corpus,
    data_folder,
    python_code,
    record,
    stories,
    table,
)
from bench.bpe_speed import VOCAB, hf_blank
from llm_from_scratch.files import END
from llm_from_scratch.tokenization import BPETokenizer, train_bpe
from llm_from_scratch.tokenizer_files import from_symbols

LANGUAGES = ROOT / "tests" / "reference" / "languages.txt"


def texts() -> dict[str, list[str]]:
    "What is compared: documents, line by line where lines matter."
    languages = LANGUAGES.read_text(encoding="utf-8")
    return {
        "stories_train": stories("train").split(END),
        "stories_train_whole": [stories("train")],
        "stories_valid": stories("valid").split(END),
        "code": [python_code(2 * MB)],
        "languages": [languages, *languages.splitlines(keepends=True)],
    }


def different(ours: list, theirs: list) -> int:
    "In how many places two lists differ."
    pairs = zip_longest(ours, theirs, fillvalue=object())
    return sum(a != b for a, b in pairs)


def compare_ids(name: str) -> dict[str, dict[str, int]]:
    "Ids of a published encoding on every text, and the way back."
    import tiktoken

    theirs = tiktoken.get_encoding(name)
    ours = BPETokenizer.from_tiktoken(theirs)
    result = {}
    for what, documents in texts().items():
        count = {"tokens": 0, "differences": 0, "not_restored": 0}
        for text in documents:
            ids, wanted = ours.encode(text), theirs.encode_ordinary(text)
            count["tokens"] += len(wanted)
            count["differences"] += different(ids, wanted)
            count["not_restored"] += ours.decode(wanted) != text
        result[what] = count
    return result


def compare_merges(text: str) -> dict[str, int]:
    "Merges learned from all stories, against Hugging Face's."
    documents = text.split(END)
    tokenizer, trainer = hf_blank()
    tokenizer.train_from_iterator(documents, trainer)
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    theirs = [tuple(map(from_symbols, pair)) for pair in pairs]
    _, ours = train_bpe(documents, VOCAB, special_tokens=[END])
    return {
        "vocab_size": VOCAB,
        "merges": len(theirs),
        "differences": different(ours, theirs),
    }


def main() -> None:
    "Compare, print and record."
    data_folder()
    train = stories("train")
    result: dict = {"ids": {}, "merges": compare_merges(train)}
    rows = [("against", "text", "compared", "differences")]
    for name in ("gpt2", "cl100k_base"):
        result["ids"][name] = compare_ids(name)
        for what, count in result["ids"][name].items():
            rows.append((name, what, count["tokens"], count["differences"]))
    merges = result["merges"]
    rows.append(
        ("tokenizers", "merges", merges["merges"], merges["differences"])
    )
    every = [c for part in result["ids"].values() for c in part.values()]
    result["tokens"] = sum(c["tokens"] for c in every)
    result["differences"] = sum(c["differences"] for c in every)
    table(rows)
    record("bpe_parity", corpus("TinyStories, all of train", train), result)


if __name__ == "__main__":
    main()
