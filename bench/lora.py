"""What a low-rank adapter learns, beside full finetuning, and its price.

The task: letters, a kind of text that the storyteller has never read. A
small grammar of the story world tells them, so the least that any model
could spend on them is known, and a program can say whether a letter that
the model wrote is one. Each arm learns from the same 256 letters of its
seed, in as many steps; its learning rate is the best of some on letters of
another seed, judged by other letters than those of the table.

    python bench/lora.py               # all that is not recorded yet
    python bench/lora.py r1 r8 speed   # only these
    python bench/lora.py tuned FOLDER  # the spectrum of another finetuning

Arms are kept one by one in runs/lora.json.
"""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import ROOT, interval, machine
from llm_from_scratch.attention import attend_fused, set_attention
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.files import END, GRAMMAR, read_text
from llm_from_scratch.generation import Sampling, generate
from llm_from_scratch.lora import (
    IN_ATTENTION,
    IN_MLP,
    LoRAConfig,
    adapters,
    add_adapters,
    linear_maps,
    load_adapter,
    map_names,
    merge_adapters,
    save_adapter,
)
from llm_from_scratch.modern import save_modern
from llm_from_scratch.pretraining import TrainConfig, Training
from llm_from_scratch.quantization import QuantConfig, quantize
from llm_from_scratch.scoring import IGNORED, evaluate
from llm_from_scratch.stories import NGram, StoryWorld

FILE = ROOT / "runs" / "lora.json"
LETTERS = ROOT / "nbs" / "14_lora.ipynb"  # the page has the rules
SEEDS = (0, 1, 2)
TRAIN, TUNE, TEST, STORIES, WRITTEN = 256, 80, 200, 20, 100
STEPS, BATCH = 40, 8
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SHOTS = 5  # letters before the one to predict, for the untuned model
ROUNDS = 24  # of steps that are timed, in turns


def rules(name: str) -> str:
    "The rules of a kind of text, as the lesson has them."
    cells = json.loads(LETTERS.read_text("utf-8"))["cells"]
    for cell in cells:
        found = re.search(rf'{name} = """(.*?)"""', "".join(cell["source"]),
                          re.DOTALL)  # fmt: skip
        if found:
            return found[1].replace("\\\n", "")
    raise KeyError(name)


@cache
def world(name: str) -> StoryWorld:
    "The story world, telling another kind of text."
    start = re.compile(r"^story: .*?\n\n", re.DOTALL | re.MULTILINE)
    return StoryWorld(start.sub(rules(name) + "\n\n", read_text(GRAMMAR), 1))


@cache
def letters(part: str, seed: int = 0) -> list[str]:
    "Letters of one part; no seed of the world is in two of them."
    first, n = {
        "train": (40_000_000 + 10_000 * seed, TRAIN),
        "tune": (41_000_000, TUNE),
        "test": (42_000_000, TEST),
    }[part]
    return [*world("LETTERS").stream(first, n)]


@cache
def storyteller():
    "The model that comes with the library, and its tokenizer."
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    set_attention(model, attend_fused)
    return model.state_dict(), tokenizer, model.config


def fresh() -> nn.Module:
    "A copy that may be changed."
    model = load_checkpoint(dtype=torch.float32)[0]
    set_attention(model, attend_fused)
    return model


def batches(texts: list[str], size: int = BATCH) -> list:
    "Ids and targets of texts, one a row; padding is not counted."
    _, tokenizer, _ = storyteller()
    end = tokenizer.special_tokens[END]
    rows = [[end, *tokenizer.encode(text), end] for text in texts]
    found = []
    for i in range(0, len(rows), size):
        some = rows[i : i + size]
        longest = max(map(len, some))
        ids = torch.full((len(some), longest), IGNORED)
        for out, row in zip(ids, some, strict=True):
            out[: len(row)] = torch.tensor(row)
        found.append((ids[:, :-1].clamp(min=0), ids[:, 1:]))
    return found


def shuffled(texts: list[str], seed: int) -> list:
    "As many batches as there are steps, each epoch in another order."
    chance, found = torch.Generator().manual_seed(seed), []
    while len(found) < STEPS + 1:
        order = torch.randperm(len(texts), generator=chance).tolist()
        found += batches([texts[i] for i in order])
    return found


def bits(model: nn.Module, texts: list[str]) -> float:
    "Bits per byte."
    sizes = [len(text.encode()) for text in texts]
    return evaluate(model, batches(texts, 50), sizes).bits_per_byte


@cache
def plain_stories() -> list[str]:
    "Ordinary stories of the world, for what is forgotten."
    return [*StoryWorld().stream(20_000_000, STORIES)]


@cache
def floor() -> float:
    "What the letters of the table cost whoever knows the rules."
    told = letters("test")
    nats = sum(world("LETTERS").log_prob(text) for text in told)
    return -nats / math.log(2) / sum(len(text.encode()) for text in told)


def share_right(model: nn.Module, seed: int) -> float:
    "How many of the letters that it writes are letters of the world."
    _, tokenizer, _ = storyteller()
    end = tokenizer.special_tokens[END]
    written = generate(
        model.eval(),
        [[end]] * WRITTEN,
        max_tokens=110,
        sampling=Sampling(temperature=0.8),
        stop_ids=[end],
        generator=torch.Generator().manual_seed(seed),
    )
    texts = [tokenizer.decode(ids) for ids in written]
    return statistics.mean(
        math.isfinite(world("LETTERS").log_prob(text)) for text in texts
    )


# ------------------------------------------------------------ ways to learn


def everything(model: nn.Module, seed: int) -> None:
    "All weights."


def last_blocks(model: nn.Module, seed: int, n: int) -> None:
    "The last blocks and the last norm."
    model.requires_grad_(False)
    for part in (*model.blocks[-n:], model.norm):
        part.requires_grad_(True)


def adapt(model: nn.Module, seed: int, **options) -> None:
    "Adapters."
    chance = torch.Generator().manual_seed(seed)
    add_adapters(model, LoRAConfig(**options), generator=chance)


def ways() -> dict[str, Callable]:
    "Name of an arm → what prepares a model for it."
    found = {"full": everything}
    for rank in (8, 1, 4, 16):
        found[f"r{rank}"] = partial(adapt, rank=rank, alpha=2.0 * rank)
    places = {
        "attention": IN_ATTENTION,
        "mlp": IN_MLP,
        "qv": ("q_proj", "v_proj"),
    }
    for name, targets in places.items():
        found[name] = partial(adapt, rank=8, targets=targets)
    found["last2"] = partial(last_blocks, n=2)
    for alpha in (4, 64):
        found[f"alpha{alpha}"] = partial(adapt, rank=8, alpha=float(alpha))
    return found


def rates(name: str) -> tuple[float, ...]:
    "Which rates are tried: where a short pilot saw the best one."
    places = {"full": (0, 4), "last2": (2, 4), "r8": (2, 6), "r1": (2, 6)}
    places |= {"r4": (3, 6), "r16": (3, 5), "alpha4": (3, 6)}
    places |= {"alpha64": (2, 5)}
    return RATES[slice(*places.get(name, (4, 6)))]


def learn(way: Callable, seed: int, lr: float, texts: list[str]):
    "A model that has learned, its optimizer's bytes, seconds, weights."
    model = fresh()
    model = way(model, seed) or model
    config = TrainConfig(
        steps=STEPS, lr=lr, weight_decay=0.0, warmup=STEPS // 10, decay=0.9
    )
    run = Training(model.train(), shuffled(texts, seed), config)
    start = time.perf_counter()
    while run.progress < 1:
        run.take_step()
    seconds = time.perf_counter() - start
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return model, held(run), seconds, count


def held(run: Training) -> int:
    "Bytes of an optimizer's averages."
    states = run.optimizer.optimizer.state.values()
    return sum(
        x.numel() * x.element_size()
        for state in states
        for x in state.values()
        if isinstance(x, Tensor) and x.ndim
    )


def trained_arm(name: str) -> dict:
    "Choose a rate, then learn with three seeds."
    tried, forgot, way = {}, {}, ways()[name]
    for lr in rates(name):
        try:
            model = learn(way, 9, lr, letters("train", 9))[0]
        except ArithmeticError:  # too fast
            continue
        tried[f"{lr:g}"] = round(bits(model, letters("tune")), 4)
        forgot[f"{lr:g}"] = round(bits(model, plain_stories()), 4)
    lr = float(min(tried, key=tried.get))
    sweep = {"rates": tried, "forgot": forgot, "lr": lr}
    if name.startswith("alpha"):  # only to see where the best rate goes
        return sweep
    rows = []
    for seed in SEEDS:
        model, size, seconds, count = learn(
            way, seed, lr, letters("train", seed)
        )
        rows.append(judge(model, seed) | {"seconds": round(seconds, 1)})
    return sweep | {
        "trained": count,
        "optimizer_mb": round(size / 1e6, 3),
        "seeds": rows,
    }


def judge(model: nn.Module, seed: int) -> dict:
    "A row of the table."
    return {
        "bits": round(bits(model, letters("test")), 4),
        "stories": round(bits(model, plain_stories()), 4),
        "right": round(share_right(model, seed), 4),
    }


def on_few_bits(model: nn.Module, seed: int, scheme: str) -> nn.Module:
    "Adapters beside matrices of few bits (QLoRA)."
    small = quantize(model, QuantConfig(scheme=scheme))
    adapt(small, seed, rank=8, alpha=16.0)
    return small


@torch.no_grad()
def moved(tuned: nn.Module, scheme: str) -> nn.Module:
    "Adapters that learned beside floats, beside few bits."
    small = on_few_bits(fresh(), 0, scheme)
    pairs = zip(adapters(small), adapters(tuned), strict=True)
    for (_, new), (_, old) in pairs:
        new.lora_A.copy_(old.lora_A)
        new.lora_B.copy_(old.lora_B)
    return small


def bill(model: nn.Module, optimizer: int) -> dict[str, float]:
    "Megabytes of what a training run holds, but activations."
    held = {id(x): x for x in (*model.parameters(), *model.buffers())}
    trained = [x for x in model.parameters() if x.requires_grad]
    return {
        "weights": sum(x.nbytes for x in held.values()) / 1e6,
        "gradients": sum(x.nbytes for x in trained) / 1e6,
        "optimizer": optimizer / 1e6,
    }


def qlora() -> dict:
    "Adapters that learn beside 4 bits, and others that come later."
    schemes, rows, bills = ("nf4", "int4"), [], {}
    known = json.loads(FILE.read_text("utf-8"))["arms"]
    chosen, test = {"r8": known["r8"]["lr"]}, letters("test")
    for scheme in schemes:
        way, tried = partial(on_few_bits, scheme=scheme), {}
        for lr in rates("r8")[1:]:
            model = learn(way, 9, lr, letters("train", 9))[0]
            tried[lr] = bits(model, letters("tune"))
        chosen[scheme] = min(tried, key=tried.get)
    for seed in SEEDS:
        texts, row = letters("train", seed), {}
        full, size, *_ = learn(everything, seed, known["full"]["lr"], texts)
        bills["full"] = bill(full, size)
        model, size, *_ = learn(ways()["r8"], seed, chosen["r8"], texts)
        bills["float32"] = bill(model, size)
        row["float32"] = bits(model, test)
        for scheme in schemes:
            row[f"{scheme}_moved"] = bits(moved(model, scheme), test)
        merge_adapters(model)
        for scheme in schemes:
            small = quantize(model, QuantConfig(scheme=scheme))
            row[f"{scheme}_merged"] = bits(small, test)
            way = partial(on_few_bits, scheme=scheme)
            model_q, size, *_ = learn(way, seed, chosen[scheme], texts)
            bills[scheme] = bill(model_q, size)
            row[f"{scheme}_trained"] = bits(model_q, test)
        rows.append({k: round(v, 4) for k, v in row.items()})
        print(rows[-1], flush=True)
    table = {k: interval([row[k] for row in rows]) for k in rows[0]}
    return {"lr": chosen, "seeds": rows, "table": table, "megabytes": bills}


def untuned() -> dict:
    "The storyteller as it is."
    model = fresh()
    return {"seeds": [judge(model, seed) for seed in SEEDS]}


@torch.no_grad()
def shots() -> dict:
    "The storyteller as it is, with some letters before each."
    model, (_, tokenizer, _) = fresh().eval(), storyteller()
    end, rows = tokenizer.special_tokens[END], []
    for seed in SEEDS:
        before = [end]
        for text in letters("train", seed)[:SHOTS]:
            before += [*tokenizer.encode(text), end]
        nats, told = 0.0, letters("test")
        for x, y in batches(told, 25):
            first = torch.tensor(before[:-1]).expand(len(x), -1)
            logits = model(torch.cat((first, x), 1))[:, first.shape[1] :]
            nats += nn.functional.cross_entropy(
                logits.flatten(0, 1), y.flatten(), reduction="sum"
            ).item()
        size = sum(len(text.encode()) for text in told)
        rows.append({"bits": round(nats / math.log(2) / size, 4)})
    return {"shots": SHOTS, "seeds": rows}


def counting() -> dict:
    "The best of some n-gram models, fitted on the same letters."
    _, tokenizer, config = storyteller()
    end = tokenizer.special_tokens[END]

    def coded(texts: list[str]) -> list[list[int]]:
        return [[end, *tokenizer.encode(text), end] for text in texts]

    def cost(model: NGram, texts: list[str]) -> float:
        nats = -sum(sum(model.log_probs(ids)) for ids in coded(texts))
        return nats / math.log(2) / sum(len(x.encode()) for x in texts)

    def fit(n: int, seed: int) -> NGram:
        model = NGram(n, config.vocab_size)
        return model.fit(coded(letters("train", seed)))

    tried = {n: cost(fit(n, 9), letters("tune")) for n in (2, 3, 4, 5)}
    n = min(tried, key=tried.get)
    rows = [
        {"bits": round(cost(fit(n, seed), letters("test")), 4)}
        for seed in SEEDS
    ]
    return {"n": n, "seeds": rows}


# ----------------------------------------------------- spectrum and speed


def spectra(before: nn.Module, after: nn.Module) -> dict[str, list]:
    "Share of each update's squared length within its first directions."
    found, kinds = {}, linear_maps(before)
    for name, part in linear_maps(after).items():
        change = (part.weight - kinds[name].weight).detach().double()
        energy = torch.linalg.svdvals(change).square()
        shares = energy.cumsum(0) / energy.sum()
        found[name] = [round(x, 4) for x in shares[:64].tolist()]
    return found


@torch.no_grad()
def truncated(before: nn.Module, after: nn.Module, rank: int) -> nn.Module:
    "The base, and only the first directions of each update."
    model, kinds = fresh(), linear_maps(after)
    model.load_state_dict(after.state_dict())
    for name, part in linear_maps(model).items():
        old = linear_maps(before)[name].weight
        u, s, v = torch.linalg.svd(kinds[name].weight - old, False)
        part.weight.copy_(old + u[:, :rank] * s[:rank] @ v[:rank])
    return model


def spectrum() -> dict:
    "Of full finetuning on the letters, and what its first directions do."
    known = json.loads(FILE.read_text("utf-8"))["arms"]["full"]
    base, rows = fresh(), []
    for seed in SEEDS:
        after = learn(everything, seed, known["lr"], letters("train", seed))[0]
        shares = spectra(base, after)
        kept = {
            rank: round(bits(truncated(base, after, rank), letters("test")), 4)
            for rank in (0, 1, 2, 4, 8, 16, 32, 64)
        }
        rows.append({"kept": kept, "mean": mean_shares(shares)})
    return {"seeds": rows}


def mean_shares(shares: dict[str, list]) -> list[float]:
    "Over all matrices."
    return [
        round(statistics.fmean(x), 4)
        for x in zip(*shares.values(), strict=True)
    ]


def of_tuned(folder: str) -> dict:
    "The spectrum of a model that was finetuned elsewhere."
    after = load_checkpoint(folder, dtype=torch.float32)[0]
    shares = spectra(fresh(), after)
    return {"mean": mean_shares(shares)}


def speed() -> dict:
    "Seconds of a step, in turns, and bytes of the optimizers."
    found = {}
    for shape in ((16, 64), (4, 256)):
        runs = {}
        for name in ("full", "r8", "qv", "last2"):
            model = fresh()
            ways()[name](model, 0)
            chance = torch.Generator().manual_seed(0)
            ids = torch.randint(4096, (shape[0], shape[1] + 1),
                                generator=chance)  # fmt: skip
            config = TrainConfig(steps=10**6, lr=1e-6)
            batch = (ids[:, :-1], ids[:, 1:])
            runs[name] = Training(model.train(), [batch], config)
            runs[name].take_step()
        taken = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name, run in runs.items():
                start = time.perf_counter()
                run.take_step()
                taken[name].append(time.perf_counter() - start)
        rows = {}
        for name, run in runs.items():
            pairs = zip(taken[name], taken["full"], strict=True)
            ratios = statistics.quantiles([a / b for a, b in pairs], n=4)
            times = statistics.quantiles(taken[name], n=4)
            rows[name] = {
                "ms": [round(1000 * x, 1) for x in times],
                "ratio": [round(x, 3) for x in ratios],
                "optimizer_mb": round(held(run) / 1e6, 3),
            }
        found["x".join(map(str, shape))] = rows
    return {"shapes": found, "rounds": ROUNDS}


def parity() -> dict:
    "Beside peft on the storyteller: largest differences, both ways."
    import peft
    import transformers

    def differ(ours: Tensor, theirs: Tensor) -> float:
        return float(f"{(ours - theirs).abs().max().item():.1e}")

    with tempfile.TemporaryDirectory() as top:
        folder, model = Path(top), fresh()
        save_modern(model, folder / "base")
        adapt(model, 0, rank=8)
        chance = torch.Generator().manual_seed(0)
        for _, part in adapters(model):
            part.lora_B.data.normal_(0, 0.02, generator=chance)
        save_adapter(folder / "ours", model)
        base = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "base", dtype=torch.float32
        )
        theirs = peft.PeftModel.from_pretrained(
            base, folder / "ours", is_trainable=True
        )
        x, y = batches(letters("test")[:8])[0]
        scores = []
        for one in (model(x), theirs(x).logits):
            loss = nn.functional.cross_entropy(one.flatten(0, 1), y.flatten())
            loss.backward()
            scores.append(one.detach())
        grads = [part.lora_A.grad for _, part in adapters(model)]
        named = dict(theirs.named_parameters())
        prefix = "base_model.model."
        others = [
            named[f"{prefix}{map_names(model)[name]}.lora_A.default.weight"]
            for name, _ in adapters(model)
        ]
        found = {
            "scores": differ(*scores),
            "largest_score": round(scores[0].abs().max().item(), 1),
            "gradients": max(
                differ(a, b.grad) / b.grad.abs().max().item()
                for a, b in zip(grads, others, strict=True)
            ),
        }
        theirs.save_pretrained(folder / "theirs")
        with torch.no_grad():
            again = load_adapter(fresh().eval(), folder / "theirs")(x)
            found["read_back"] = differ(again, scores[0])
            merged = merge_adapters(model)(x)
            found["merged"] = differ(merged, theirs.merge_and_unload()(x)[0])
        found["gradients"] = float(f"{found['gradients']:.1e}")
        found["peft"] = peft.__version__
        return found


# --------------------------------------------------------------- the record


def keep(name: str, row: dict) -> None:
    "Put an arm into the record, with the machine of this run."
    known = {"arms": {}}
    if FILE.is_file():
        known = json.loads(FILE.read_text("utf-8"))
    known |= {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "settings": {
            "train": TRAIN,
            "tune": TUNE,
            "test": TEST,
            "stories": STORIES,
            "written": WRITTEN,
            "steps": STEPS,
            "batch": BATCH,
            "seeds": SEEDS,
            "rates": RATES,
            "threads": torch.get_num_threads(),
            "optimizer": "AdamW, no weight decay, a tenth of warm-up",
        },
        "floor": round(floor(), 4),
    }
    known["arms"][name] = row
    text = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
    FILE.write_text(text, encoding="utf-8", newline="\n")


def arms() -> dict[str, Callable[[], dict]]:
    "Name → what measures it, in the order of a first run."
    found = {"untuned": untuned, "shots": shots, "counting": counting}
    for name in ways():
        found[name] = partial(trained_arm, name)
    found |= {"spectrum": spectrum, "speed": speed, "qlora": qlora}
    return found | {"parity": parity} if find_spec("peft") else found


def main() -> None:
    "Run the arms that are asked for and not there yet."
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    asked, known = sys.argv[1:], {}
    if FILE.is_file():
        known = json.loads(FILE.read_text("utf-8"))["arms"]
    if asked[:1] == ["tuned"]:
        keep("tuned", of_tuned(asked[1]))
        return
    for name, measure in arms().items():
        if (name not in asked) if asked else (name in known):
            continue
        start = time.perf_counter()
        row = measure()
        for key in ("bits", "stories", "right"):
            if key in row.get("seeds", [{}])[0]:  # one value a seed
                row[key] = interval([x[key] for x in row["seeds"]])
        row["minutes"] = round((time.perf_counter() - start) / 60, 2)
        keep(name, row)
        print(f"{name:10}", row.get("bits"), row.get("right"),
              row.get("lr"), row["minutes"], flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
