"""Which text should a tokenizer learn from, and how many tokens?

Tokenizers are trained on more or less of the stories, and on as much
Python code, then judged in bytes per token on text that none has seen:
held-out stories, and code.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import MB, corpus, python_code, record, stories, table
from llm_from_scratch.files import END
from llm_from_scratch.tokenization import BPETokenizer

SHARES, SIZES = (0.01, 0.1, 1.0), (4096, 10_000)
VOCABS = (256, 512, 1024, 2048, 4096, 8192, 16_384)
CHANNELS = 256  # of the model whose embedding is counted
HELD_OUT = 1 * MB  # bytes of code kept for judging


def bytes_per_token(tokenizer: BPETokenizer, text: str) -> float:
    "How many bytes one token stands for, on average."
    parts = text.split(END)
    tokens = sum(map(len, tokenizer.encode_batch(parts)))
    return round(sum(len(part.encode()) for part in parts) / tokens, 4)


def head(text: str, share: float, end: str) -> str:
    "The first part of a text, up to an `end` if there is one."
    part = text[: round(len(text) * share)]
    return part[: part.rfind(end) + len(end)] if end in part else part


def sources() -> tuple[dict[str, str], dict[str, str]]:
    "Texts to train on, and those to judge on, by name."
    train = stories("train")
    size = len(train.encode())
    code = python_code(size + HELD_OUT).encode()
    held = code[size:].decode(errors="ignore")
    code = code[:size].decode(errors="ignore")
    samples = {}
    for share in SHARES:
        samples[f"stories {share:.0%}"] = head(train, share, END)
        samples[f"code {share:.0%}"] = head(code, share, "\n")
    return samples, {"stories": stories("valid"), "code": held}


def judge_samples() -> list[dict]:
    "Each sample and size: bytes per token on stories and on code."
    samples, judges = sources()
    rows = []
    train = partial(BPETokenizer.train, special_tokens=[END], progress=False)
    for name, text in samples.items():
        for size in SIZES:
            tokenizer = train(text, size)
            row = {"sample": name, "bytes": len(text.encode())}
            row |= {"vocab_size": size, "got": tokenizer.vocab_size}
            for judge, held in judges.items():
                row[judge] = bytes_per_token(tokenizer, held)
            rows.append(row)
    return rows


def judge_sizes(text: str) -> list[dict]:
    "Each size of vocabulary: what it buys and what it costs."
    valid, rows = stories("valid"), []
    documents = text.split(END)
    for size in VOCABS:
        tokenizer = BPETokenizer.train(documents, size, progress=False)
        used = Counter(
            i for ids in tokenizer.encode_batch(documents) for i in ids
        )
        parameters = size * CHANNELS
        rows.append(
            {
                "vocab_size": size,
                "bytes_per_token": bytes_per_token(tokenizer, valid),
                "never_used": round(1 - len(used) / size, 4),
                "used_below_100": round(
                    1 - sum(n >= 100 for n in used.values()) / size, 4
                ),
                "embedding_parameters": parameters,
            }
        )
    return rows


def main() -> None:
    "Train, judge, print and record."
    text = stories("train")
    result = {
        "channels": CHANNELS,
        "samples": judge_samples(),
        "sizes": judge_sizes(text),
    }
    for rows in (result["samples"], result["sizes"]):
        table([tuple(rows[0]), *(tuple(row.values()) for row in rows)])
    record("bpe_samples", corpus("TinyStories, all of train", text), result)


if __name__ == "__main__":
    main()
