"""How fast is our tokenizer beside tiktoken, tokenizers and rustbpe?

All of them train on the same 5 MB of TinyStories to 10,000 tokens and
encode and decode the same text, on one thread, in turns. Training is
measured a second time with two threads for those that can use them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import (
    MB,
    corpus,
    data_folder,
    in_turns,
    machine,
    ratios,
    record,
    spread,
    stories,
    table,
)
from llm_from_scratch.files import END
from llm_from_scratch.tokenization import GPT2, BPETokenizer, train_bpe

SIZE, VOCAB = 5 * MB, 10_000
TARGETS = {
    "train.ratio_hf": ("≤", 0.45),
    "train_two_threads.ratio_hf": ("≤", 0.45),
    "train.ratio_rustbpe": ("≤", 2.2),
    "encode.gpt2.documents.warm.ratio": ("≥", 0.9),
    "encode.gpt2.documents.cold.ratio": ("≥", 0.4),
    "encode.gpt2.documents.plain.ratio": ("≥", 0.5),
    "encode.gpt2.whole.warm.ratio": ("≥", 0.9),
    "encode.gpt2.whole.cold.ratio": ("≥", 0.4),
    "encode.gpt2.whole.plain.ratio": ("≥", 0.5),
    "encode.own.documents.warm.ratio": ("≥", 0.9),
    "encode.own.documents.cold.ratio": ("≥", 0.4),
    "encode.own.documents.plain.ratio": ("≥", 0.5),
    "encode.own.whole.warm.ratio": ("≥", 0.9),
    "encode.own.whole.cold.ratio": ("≥", 0.4),
    "encode.own.whole.plain.ratio": ("≥", 0.5),
    "decode.gpt2.ratio": ("≥", 0.7),
    "decode.own.ratio": ("≥", 0.7),
}


def hf_blank() -> tuple:
    "Hugging Face's byte-level BPE before training, and its trainer."
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    level = pre_tokenizers.ByteLevel
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = level(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[END],
        initial_alphabet=level.alphabet(),
        show_progress=False,
    )
    return tokenizer, trainer


def trainers(text: str, path: Path) -> dict[str, Callable[[], object]]:
    "Everybody's training on the same text."
    import rustbpe

    documents = text.split(END)
    options = {"special_tokens": [END], "progress": False}

    def hf_documents() -> None:
        tokenizer, trainer = hf_blank()
        tokenizer.train_from_iterator(documents, trainer)

    def hf_file() -> None:
        tokenizer, trainer = hf_blank()
        tokenizer.train([str(path)], trainer)

    def rust() -> None:
        tokenizer = rustbpe.Tokenizer()
        tokenizer.train_from_iterator(iter(documents), VOCAB, pattern=GPT2)

    return {
        "ours": lambda: train_bpe(documents, VOCAB, **options),
        "ours_file": lambda: train_bpe(path, VOCAB, **options),
        "hf_documents": hf_documents,
        "hf_file": hf_file,
        "rustbpe": rust,
    }


def bench_train(text: str) -> dict:
    "Training: ours over theirs, in seconds; the faster of HF's two ways."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        path.write_text(text, encoding="utf-8", newline="")
        seconds = in_turns(trainers(text, path), rounds=7)
    sums = {name: spread(values) for name, values in seconds.items()}
    ways = ("hf_documents", "hf_file")
    best = min(ways, key=lambda way: sums[way]["median"])
    return {
        "vocab_size": VOCAB,
        "seconds": sums,
        "hf_faster_way": best,
        "ratio_hf": ratios(seconds, "ours", best),
        "ratio_rustbpe": ratios(seconds, "ours", "rustbpe"),
        "speed_hf": ratios(seconds, best, "ours"),
        "speed_rustbpe": ratios(seconds, "rustbpe", "ours"),
        "ratio_file_hf": ratios(seconds, "ours_file", best),
    }


def bench_two_threads() -> dict:
    "Training once more, in a process that gives the peers two threads."
    threads = {"RAYON_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run(
        [sys.executable, __file__, "--train"],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def encoders(
    ours: BPETokenizer, theirs: object, texts: list[str]
) -> dict[str, Callable[[], object]]:
    "Everybody's way to encode the same texts one after the other."
    from tokenizers import Tokenizer

    with tempfile.TemporaryDirectory() as folder:
        hf = Tokenizer.from_file(str(ours.save(folder)))
    hf.encode_special_tokens = True  # as plain text, like the others
    split, words = ours._split, ours._words

    def cold() -> list[list[int]]:
        words.clear()
        ours._chunks.clear()
        return [ours.encode(text) for text in texts]

    def plain() -> list[list[int]]:
        each = (map(words.__getitem__, split(text)) for text in texts)
        return [list(chain.from_iterable(parts)) for parts in each]

    return {
        "cold": cold,
        "warm": lambda: [ours.encode(text) for text in texts],
        "plain": plain,
        "tiktoken": lambda: [theirs.encode_ordinary(text) for text in texts],
        "hf": lambda: [hf.encode(text) for text in texts],
    }


def bench_encode(ours: BPETokenizer, theirs: object, text: str) -> dict:
    "Encoding: tiktoken's seconds over ours."
    result = {}
    for way, texts in (("documents", text.split(END)), ("whole", [text])):
        for part in texts:
            assert ours.encode(part) == theirs.encode_ordinary(part)
        seconds = in_turns(encoders(ours, theirs, texts), rounds=9)
        size = len(text.encode()) / MB
        result[way] = {
            name: {
                "mb_per_s": spread([size / s for s in values]),
                "ratio": ratios(seconds, "tiktoken", name),
            }
            for name, values in seconds.items()
        }
    return result


def bench_decode(ours: BPETokenizer, theirs: object, text: str) -> dict:
    "Decoding the ids of each document: tiktoken's seconds over ours."
    ids = [ours.encode(part) for part in text.split(END)]
    calls = {
        "ours": lambda: [ours.decode(part) for part in ids],
        "tiktoken": lambda: [theirs.decode(part) for part in ids],
    }
    assert calls["ours"]() == calls["tiktoken"]()
    seconds = in_turns(calls, rounds=11)
    size = len(text.encode()) / MB
    return {
        "mb_per_s": {
            name: spread([size / s for s in values])
            for name, values in seconds.items()
        },
        "ratio": ratios(seconds, "tiktoken", "ours"),
    }


def overview(result: dict) -> list[dict]:
    "The lines that the book shows: our speed over theirs."
    encode = result["encode"]["gpt2"]["documents"]
    train = "train 10,000 tokens"
    lines = [
        (train, "tokenizers, 1 thread", result["train"]["speed_hf"]),
        (
            train,
            "tokenizers, 2 threads",
            result["train_two_threads"]["speed_hf"],
        ),
        (train, "rustbpe, 1 thread", result["train"]["speed_rustbpe"]),
        ("encode as GPT-2", "tiktoken", encode["warm"]["ratio"]),
        ("the same, cold", "tiktoken", encode["cold"]["ratio"]),
        ("the same, plain", "tiktoken", encode["plain"]["ratio"]),
        ("decode", "tiktoken", result["decode"]["gpt2"]["ratio"]),
    ]
    return [
        {"task": task, "peer": peer, **ratio} for task, peer, ratio in lines
    ]


def judged(result: dict) -> list[dict]:
    "Each target, the median, and whether it is met."
    rows = []
    for path, (sign, limit) in TARGETS.items():
        value = result
        for key in path.split("."):
            value = value[key]
        median = value["median"]
        met = median <= limit if sign == "≤" else median >= limit
        rows.append(
            {"what": path, "target": f"{sign} {limit}", **value, "met": met}
        )
    return rows


def main() -> None:
    "Measure, print and record."
    data_folder()
    import tiktoken

    text = stories("train", SIZE)
    if sys.argv[1:] == ["--train"]:
        print(json.dumps(bench_train(text)))
        return
    load = machine()["load"]
    result = {"load_before": load, "train": bench_train(text)}
    result["train_two_threads"] = bench_two_threads()
    gpt2 = tiktoken.get_encoding("gpt2")
    own = BPETokenizer.train(text, VOCAB, special_tokens=[END])
    pairs = {
        "gpt2": (BPETokenizer.from_tiktoken(gpt2), gpt2),
        "own": (own, own.to_tiktoken()),
    }
    encode, decode = {}, {}
    for name, (ours, theirs) in pairs.items():
        encode[name] = bench_encode(ours, theirs, text)
        decode[name] = bench_decode(ours, theirs, text)
    result |= {"encode": encode, "decode": decode}
    result["overview"] = overview(result)
    result["targets"] = judged(result)
    heads = ("what", "target", "median", "q1", "q3", "met")
    rows = [tuple(row[h] for h in heads) for row in result["targets"]]
    table([heads, *rows])
    record("bpe_speed", corpus("TinyStories, train", text), result)


if __name__ == "__main__":
    main()
