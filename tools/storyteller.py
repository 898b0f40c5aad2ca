"""Train the model that the package ships, and write down what it cost.

    python tools/storyteller.py --minutes 60

It learns from TinyStories, read several times, mixed with stories of the
built-in world, told once each. The run is kept in a folder and goes on
with --resume; the result replaces llm_from_scratch/models/storyteller,
and runs/storyteller.json gets the curve, the scores on each text and the
cost.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench._common import record
from llm_from_scratch.checkpoint import (
    STORYTELLER,
    load_checkpoint,
    save_checkpoint,
)
from llm_from_scratch.corpus import Corpus
from llm_from_scratch.data import read_stories, write_tokens
from llm_from_scratch.files import END, SEEDS, find_tinystories, make_story
from llm_from_scratch.judging import MEMORISING, measure
from llm_from_scratch.presets import PRESETS, pretrain
from llm_from_scratch.run_folder import RunFolder
from llm_from_scratch.stories import StoryWorld
from llm_from_scratch.terminal import plural

LARGEST = 10_000_000  # bytes of the folder that is shipped
CARD = """# Storyteller

A small language model that tells stories for children, trained from
scratch by the code of this package: a dense Qwen3 of {parameters:,}
parameters with a byte-level BPE of {vocab_size:,} tokens, in bfloat16.

- **Text**: TinyStories ({megabytes_tiny:.1f} MB of it, read {epochs:.1f}
  times; Eldan and Li 2023, CDLA-Sharing-1.0) and {stories:,} stories of
  the built-in story world (Apache-2.0), mixed. The weights are statistics
  of these texts; none of the text is included.
- **Training**: {steps:,} steps, {targets:,} tokens,
  {minutes:.0f} minutes of steps on {cores} of a processor with
  bfloat16; the checkpoint with the best validation score.
- **Scores** in bits per byte, lower is better, with 95 % intervals:
  TinyStories held out {tiny}, seen {tiny_seen}; story world held out
  {world}, where nothing can score below {floor:.3f}.{memory}
- **Use**: `llmfs generate "Once upon a time"`. It knows nothing but short
  stories, in English, and invents them; it is not for anything else.
- **Licence** of the weights: Apache-2.0, as the code.
"""
REMEMBERS = """
  The gap between TinyStories held out and seen is wider than 0.1: it
  memorises part of what it read."""


def mixture(
    repeats: int,  # times that TinyStories are read
    stories: int,  # of the built-in world
) -> Iterator[str]:  # documents in a fixed random order
    "Both texts, shuffled; every repeat in an order of its own."
    draw = random.Random(0)
    real = list(read_stories(find_tinystories("train")))
    places = [i % len(real) for i in range(repeats * len(real))]
    places += [len(real) + i for i in range(stories)]
    draw.shuffle(places)
    first = SEEDS["train"][0]
    for i in places:
        if i < len(real):
            yield real[i]
        else:
            yield make_story(first + i - len(real))


def held_out(n: int) -> dict[str, list[str]]:
    "Stories of each kind that are not trained on."
    tiny = read_stories(find_tinystories("valid"))
    first = SEEDS["valid"][0]
    return {
        "tiny": list(islice(tiny, n)),
        "world": [make_story(first + i) for i in range(n)],
    }


def write_text(path: Path, documents: Iterator[str]) -> None:
    "A corpus file; an old one is kept."
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_suffix(".part")
    with open(own, "w", encoding="utf-8", newline="\n") as file:
        for text in documents:
            file.write(f"{text}\n{END}\n")
    own.replace(path)


def world_floor(stories: list[str]) -> float:
    "Bits per byte that the story world itself has, on these stories."
    world = StoryWorld()
    nats = -sum(world.log_prob(story) for story in stories)
    size = sum(len(story.encode()) for story in stories)
    return nats / torch.log(torch.tensor(2.0)).item() / size


def judge(folder: Path, work: Path) -> dict[str, dict]:
    "Score a checkpoint on each text."
    model, tokenizer, _ = load_checkpoint(folder)
    texts = held_out(1000)
    texts["tiny_seen"] = list(
        islice(read_stories(find_tinystories("train")), 1000)
    )
    found = {}
    for name, documents in texts.items():
        path = work / f"judged_{name}"
        file = write_tokens(path, documents, tokenizer, overwrite=True)
        found[name] = asdict(measure(model, file))
    return found


def main() -> None:
    "Train or go on, judge, and write the folder that is shipped."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--work", type=Path, default=Path("storyteller_run"))
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--stories", type=int, default=100_000)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    mixed, held = args.work / "mixed.txt", args.work / "held_out.txt"
    write_text(mixed, mixture(args.repeats, args.stories))
    both = zip(*held_out(500).values(), strict=True)
    write_text(held, (text for pair in both for text in pair))
    preset = replace(
        PRESETS["hour"],
        minutes=args.minutes,
        weight_decay=args.weight_decay,
        window=512,
        batch_size=8,
    )
    folder, corpus = args.work / "run", Corpus([mixed], held)
    result = pretrain(folder, preset, corpus=corpus, resume=args.resume)
    ship(args, folder, result)


def ship(args: argparse.Namespace, folder: Path, result: dict) -> None:
    "Judge the best checkpoint, and write model, card and record."
    model, tokenizer, meta = load_checkpoint(folder, dtype=torch.bfloat16)
    draft = args.work / "draft"
    save_checkpoint(draft, model, tokenizer, overwrite=True)
    scores = judge(draft, args.work)
    floor = world_floor(held_out(1000)["world"])
    real = find_tinystories("train").stat().st_size / 1e6
    done = result["targets"] / (result["targets"] / result["epochs"])
    facts = {
        "parameters": result["parameters"],
        "vocab_size": len(tokenizer.vocab),
        "megabytes_tiny": real,
        "epochs": done * args.repeats,
        "stories": round(min(done, 1) * args.stories),
        "steps": result["steps"],
        "targets": result["targets"],
        "minutes": result["seconds_of_steps"] / 60,
        "floor": floor,
        "cores": plural(result["threads"], "core"),
    }
    words = {
        name: f"{x['bits_per_byte']:.3f} ± {x['margin']:.3f}"
        for name, x in scores.items()
    }
    found = {name: x["bits_per_byte"] for name, x in scores.items()}
    memory = ""
    if found["tiny"] - found["tiny_seen"] > MEMORISING:
        memory = REMEMBERS
    card = CARD.format(**facts, **words, memory=memory)
    told = {"step": meta["step"], "scores": scores}
    save_checkpoint(
        STORYTELLER, model, tokenizer, meta=told, card=card, overwrite=True
    )
    size = sum(path.stat().st_size for path in STORYTELLER.iterdir())
    if size > LARGEST:
        raise SystemExit(f"the folder takes {size:,} bytes, above {LARGEST:,}")
    rows = RunFolder(folder).rows()
    kept = [row for row in rows if row["step"] % 20 == 0 or "valid" in row]
    about = {"name": "TinyStories and the story world, mixed"}
    more = {"result": result, "scores": scores, "bytes": size}
    record("storyteller", about, {**facts, **more, "history": kept})
    print(json.dumps({**words, "floor": floor, "bytes": size}, indent=2))


if __name__ == "__main__":
    main()
