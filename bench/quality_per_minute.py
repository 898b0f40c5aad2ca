"""How good is a model after some minutes of training on two cores?

Arms, each in a process of its own, one after another on a machine that
does nothing else:

- `plain`: GPT-2 in eager float32, AdamW and a cosine, the recipe of
  nanoGPT (its rates for small models), five minutes;
- `five`, `ten`: the coffee preset for five and for ten minutes;
- `avx2`: the preset for ten minutes on what is told to be a processor
  with AVX2 alone, in eager float32;
- `world`: the preset for ten minutes on the built-in story world, its
  distance to the floor, the share of its stories without a fault, and
  what it pays for the hero's name, beside what the storyteller pays.

The clock runs from the first step to the last; compiling and evaluating
stand beside it. Results are kept arm by arm.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

import torch
from torch.nn.functional import cross_entropy as torch_loss

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench._common import record
from llm_from_scratch.attention import attend_fused, set_attention
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.corpus import Corpus, open_prepared, prepare
from llm_from_scratch.data import TokenLoader
from llm_from_scratch.devices import DevicePlan
from llm_from_scratch.files import END, SEEDS, make_story
from llm_from_scratch.generation import Sampling, generate
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.judging import measure
from llm_from_scratch.presets import PRESETS, pretrain
from llm_from_scratch.pretraining import TrainConfig, train
from llm_from_scratch.run_folder import RunFolder
from llm_from_scratch.stories import StoryWorld
from llm_from_scratch.tokenization import BPETokenizer

RUNS = ROOT / "runs" / "quality_per_minute.json"
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
SAMPLED = 200  # stories of the world's model that are graded, at each of
TEMPERATURES = (1.0, 0.7, 0.4)


def curve(rows: list[dict]) -> list[dict]:
    "Every validation score, and one step in twenty."
    return [r for r in rows if "valid" in r or r["step"] % 20 == 0]


def preset_arm(
    minutes: float,
    corpus: Corpus | None = None,
    plan: DevicePlan | None = None,
) -> tuple[Path, dict]:
    "Train by the coffee preset; the folder stays for what comes after."
    folder = Path(tempfile.mkdtemp()) / "run"
    preset = replace(PRESETS["coffee"], minutes=minutes, evaluations=20)
    start = time.perf_counter()
    result = pretrain(folder, preset, corpus=corpus, plan=plan)
    wall = time.perf_counter() - start
    rows = RunFolder(folder).rows()
    found = {"wall_seconds": round(wall, 1), "result": result}
    return folder, {**found, "history": curve(rows)}


def plain() -> dict:
    "GPT-2 as nanoGPT trains small ones, on the same tokens."
    minutes, top = 5.0, Path(tempfile.mkdtemp())
    corpus = Corpus()
    prepare(corpus, top)
    tokenizer, text, held = open_prepared(top)
    sizes = {"n_layer": 6, "n_head": 4, "n_embd": 256, "context_len": 512}
    config = GPTConfig(vocab_size=len(tokenizer.vocab), dropout=0.0, **sizes)
    model, loader = fresh(config), TokenLoader(text, 16, 256)

    def run(steps: int, validate: object) -> list[dict]:
        how = TrainConfig(
            steps=steps,
            lr=1e-3,
            schedule="cosine",
            warmup=min(100, steps // 10),
            final=0.1,
            betas=(0.9, 0.99),
            weight_decay=0.1,
            evaluations=20,
        )
        make = partial(fused, config=how)
        options = {"validate": validate, "make": make, "progress": False}
        return train(model, loader, how, **options)

    pace = run(10, None)[-1]["seconds"] / 10
    model, loader = fresh(config), TokenLoader(text, 16, 256)
    judge = partial(measure, file=held, n_documents=200)
    rows = run(round(60 * minutes / pace), judge)
    score = measure(model, held)
    return {"valid": score.bits_per_byte, "history": curve(rows)}


def fresh(config: GPTConfig) -> GPT:
    "A new model, with torch's fused attention."
    model = GPT(config, generator=torch.Generator().manual_seed(0))
    set_attention(model, attend_fused)
    return model


def fused(named: object, config: TrainConfig) -> torch.optim.Optimizer:
    "torch's own AdamW with decay on matrices, as nanoGPT groups them."
    matrices, others = [], []
    for _, p in named:
        (matrices if p.ndim >= 2 else others).append(p)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=config.betas, fused=True
    )


def world() -> dict:
    "The story world: distance to its floor, and stories without a fault."
    for name in ("LLMFS_DATA",):
        os.environ.pop(name, None)
    os.environ["LLMFS_CACHE"] = tempfile.mkdtemp()
    folder, found = preset_arm(10.0)
    return found | graded(folder)


def graded(folder: Path) -> dict:
    "The floor of the world, and the share of told stories without a fault."
    found = {"faultless": {}}
    teller, first = StoryWorld(), SEEDS["valid"][0]
    stories = [make_story(first + i) for i in range(1000)]
    nats = -sum(map(teller.log_prob, stories))
    size = sum(len(story.encode()) for story in stories)
    found["floor"] = nats / math.log(2) / size
    model, tokenizer, _ = load_checkpoint(folder, dtype=torch.float32)
    found["hero"] = naming(model, tokenizer, teller, stories[:SAMPLED])
    shipped = load_checkpoint(dtype=torch.float32)[:2]
    found["hero_shipped"] = naming(*shipped, teller, stories[:SAMPLED])
    end = tokenizer.special_tokens[END]
    random = torch.Generator().manual_seed(0)
    options = {"max_tokens": 500, "stop_ids": [end], "generator": random}
    for temperature in TEMPERATURES:
        options["sampling"] = Sampling(temperature=temperature)
        told = []
        for _ in range(SAMPLED // 20):
            told += generate(model, [[end]] * 20, **options)
        texts = [tokenizer.decode(ids) for ids in told]
        good = sum(is_faultless(teller, text) for text in texts)
        found["faultless"][f"{temperature:g}"] = {
            "share": good / SAMPLED,
            "of": SAMPLED,
            "different": len({*texts}),
            **wilson(good),
        }
    return found


@torch.no_grad()
def naming(
    model: torch.nn.Module,
    tokenizer: BPETokenizer,
    teller: StoryWorld,
    stories: list[str],
) -> dict:
    "Mean nats for the hero's name: when it is new, and when it was said."
    nats = {"first": [], "again": []}
    for story in stories:
        hero = teller.parse(story).roles["Hero"]
        ids = torch.tensor([tokenizer.encode(END + story, "all")])
        scores, wanted = model(ids[:, :-1])[0], ids[0, 1:]
        losses = torch_loss(scores, wanted, reduction="none")
        when = "first"
        for i, loss in zip(wanted.tolist(), losses.tolist(), strict=True):
            if tokenizer.decode([i]).strip(' "') == hero:
                nats[when].append(loss)
                when = "again"
    return {
        "nats": {name: mean(values) for name, values in nats.items()},
        "times": {name: len(values) for name, values in nats.items()},
    }


def is_faultless(teller: StoryWorld, text: str) -> bool:
    "Only what the world can tell has no fault; `faults` would name them."
    return teller.log_prob(text) > -math.inf


def wilson(good: int, n: int = SAMPLED, z: float = 1.96) -> dict:
    "The 95 % interval of a share (Wilson 1927)."
    share, scale = good / n, 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / scale
    return {"low": middle - half, "high": middle + half}


def avx2() -> dict:
    "On a processor without bfloat16; the environment is set by `main`."
    plan = DevicePlan(device="cpu", attention="fused")
    found = preset_arm(10.0, plan=plan)[1]
    return {**found, "capability": torch.backends.cpu.get_cpu_capability()}


ARMS = {
    "plain": plain,
    "five": lambda: preset_arm(5.0)[1],
    "ten": lambda: preset_arm(10.0)[1],
    "avx2": avx2,
    "world": world,
}


def main() -> None:
    "Run what is missing, each arm alone."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arms", nargs="*", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--here", action="store_true", help="for one process")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(ARMS[args.arms[0]]()))
        return
    known = json.loads(RUNS.read_text("utf-8")) if RUNS.is_file() else {}
    arms = known.get("arms", {})
    for name in args.arms or [x for x in ARMS if x not in arms]:
        words = [sys.executable, "-m", "bench.quality_per_minute", name]
        env = {**os.environ, **(AVX2 if name == "avx2" else {})}
        done = subprocess.run(
            [*words, "--here"],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            check=True,
            encoding="utf-8",
        )
        load = round(os.getloadavg()[0], 2)
        arms[name] = {**json.loads(done.stdout.splitlines()[-1]), "load": load}
        about = {"name": "TinyStories; the story world in its arm"}
        record("quality_per_minute", about, {"arms": arms})


if __name__ == "__main__":
    main()
