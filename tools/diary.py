"""The diary: the same prompt and seed, and what our model says now.

    python tools/diary.py [NAME ...]

writes `runs/diary.json`, from which each chapter reads its entry and the
earlier ones. A chapter joins by a function in `ENTRIES` that returns its
model, its tokenizer and a sentence about them. What is measured beside
the words is the book's main number: bits per byte of held-out stories.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.data import TokenLoader, write_tokens
from llm_from_scratch.devices import device_plan
from llm_from_scratch.files import END, corpus_name, load_stories, write_atomic
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.pretraining import TrainConfig, train
from llm_from_scratch.tokenization import BPETokenizer

FILE = Path(__file__).resolve().parent.parent / "runs" / "diary.json"
RULES = {
    "prompt": "Lily lost her red ball, so she asked Ben.",
    "seed": 0,
    "temperature": 0.8,
    "tokens": 40,
    "stories": 1000,  # held out, for the bits per byte
}
STEPS = 600  # of 16 windows of 256 tokens, for the pretraining chapter
Told = tuple[nn.Module, BPETokenizer, str]


def untrained() -> Told:
    "The model of the GPT chapter, as it starts."
    tokenizer = BPETokenizer.train(load_stories(), 4096, special_tokens=[END])
    config = GPTConfig(
        vocab_size=len(tokenizer),
        context_len=256,
        n_layer=6,
        n_head=4,
        n_embd=256,
    )
    model = GPT(config, generator=torch.Generator().manual_seed(0))
    return model, tokenizer, "random weights: nothing is learned yet"


def pretrained() -> Told:
    "The same model after some minutes of the pretraining chapter's recipe."
    model, tokenizer, _ = untrained()
    plan = device_plan()
    config = TrainConfig(steps=STEPS, lr=3e-3, evaluations=1)
    documents = load_stories().split(END)
    with tempfile.TemporaryDirectory() as folder, plan.activate():
        path = Path(folder) / "stories"
        file = write_tokens(path, map(str.strip, documents), tokenizer)
        loader = TokenLoader(file, 16, 256)
        train(model, loader, config, plan=plan, progress=False)
        del loader, file
    read = STEPS * 16 * 256
    about = f"the same GPT-2 after {read:,} tokens, with AdamW"
    return model.float(), tokenizer, about


def storyteller() -> Told:
    "The model that the package brings."
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    return model, tokenizer, "the shipped storyteller, modern parts and all"


ENTRIES: dict[str, Callable[[], Told]] = {  # in the order of the chapters
    "gpt": untrained,
    "pretraining": pretrained,
    "modern": storyteller,
}


@torch.no_grad()
def say(
    model: nn.Module,  # ids → scores, with a `config`
    tokenizer: BPETokenizer,
    rules: dict = RULES,
) -> str:  # what follows the prompt
    "Sample by temperature, one token after the other; stop at `END`."
    draw = torch.Generator().manual_seed(rules["seed"])
    end = tokenizer.special_tokens[END]
    ids = [end, *tokenizer.encode(rules["prompt"])]
    start = len(ids)
    while len(ids) < start + rules["tokens"]:
        window = torch.tensor([ids[-model.config.context_len :]])
        scores = model(window)[0, -1] / rules["temperature"]
        chances = scores.double().softmax(-1)
        ids.append(torch.multinomial(chances, 1, generator=draw).item())
        if ids[-1] == end:
            break
    return tokenizer.decode([i for i in ids[start:] if i != end])


def batches(
    rows: list[list[int]], size: int = 16
) -> Iterable[tuple[Tensor, Tensor]]:  # ids and targets, -100 where none is
    "Rows of like length together, padded on the right."
    rows = sorted(rows, key=len)
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        ids = torch.zeros(len(some), len(some[-1]), dtype=torch.int64)
        seen = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(some):
            ids[i, : len(row)] = torch.tensor(row)
            seen[i, : len(row)] = True
        yield ids[:, :-1], ids[:, 1:].masked_fill(~seen[:, 1:], -100)


@torch.no_grad()
def judge(
    model: nn.Module,
    tokenizer: BPETokenizer,
    stories: list[str],  # held out, without `END`
) -> dict[str, float]:  # bits per byte; how many stories were cut
    """One story a window, from `END` to `END`; what is longer is cut.

    All predicted tokens count, `END` too, over the bytes of the stories
    without it.
    """
    end, room = tokenizer.special_tokens[END], model.config.context_len + 1
    whole = [[end, *ids, end] for ids in tokenizer.encode_batch(stories)]
    rows = [row[:room] for row in whole]
    size = sum(
        len(tokenizer.decode_bytes([i for i in row[1:] if i != end]))
        for row in rows
    )
    nats = 0.0
    for ids, targets in batches(rows):
        logits = model(ids).flatten(0, 1)
        nats += cross_entropy(
            logits, targets.flatten(), reduction="sum"
        ).item()
    return {
        "bits_per_byte": round(nats / math.log(2) / size, 3),
        "cut": sum(len(row) > room for row in whole),
    }


def write_entry(path: Path, name: str, entry: dict) -> None:
    "Replace a chapter's entry, keep the others, in the book's order."
    old = {}
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        old = {x["chapter"]: x for x in record["entries"]}
    old[name] = {"chapter": name, **entry}
    known = list(ENTRIES)
    entries = sorted(old.values(), key=lambda x: known.index(x["chapter"]))
    record = {**RULES, "corpus": corpus_name(), "entries": entries}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    write_atomic(path, text + "\n")


def main(arguments: list[str] | None = None, path: Path = FILE) -> int:
    "Write the entries of some chapters, or of all."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    names = parser.parse_args(arguments).names or list(ENTRIES)
    if unknown := set(names) - set(ENTRIES):
        parser.error(f"{sorted(unknown)} not in {list(ENTRIES)}")
    held_out = load_stories("valid").split(END)[: RULES["stories"]]
    held_out = [story.strip() for story in held_out if story.strip()]
    for name in names:
        model, tokenizer, about = ENTRIES[name]()
        model.eval()
        entry = {
            "about": about,
            "parameters": sum(p.numel() for p in model.parameters()),
            "says": say(model, tokenizer),
            **judge(model, tokenizer, held_out),
        }
        write_entry(path, name, entry)
        print(name, json.dumps(entry, ensure_ascii=False, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
