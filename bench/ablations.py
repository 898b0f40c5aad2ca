"""What does each modern part change, if all else stays the same?

A small GPT-2 learns TinyStories from a fixed number of tokens. Each arm
exchanges one of its parts; the last arms have them all, and leave one
out again. Every arm is run from several seeds, which draw the weights
and the order of the text. The score is bits per byte on stories not
seen.

    python -m bench.ablations             all that is missing in the record:
                                          rates of learning, then the arms
    python -m bench.ablations rotary muon only these arms
    python -m bench.ablations --quick     a few steps of each; no record

Each run is written to `runs/ablations.json` when it ends, so a shelf that
was interrupted goes on where it was. One run takes one thread.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import ROOT, corpus, machine, record, stories, table
from llm_from_scratch.attention import KVCache, attend_fused, set_attention
from llm_from_scratch.block import init_weights
from llm_from_scratch.data import TokenLoader, write_tokens
from llm_from_scratch.files import END
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.modern import (
    GroupedAttention,
    ModernConfig,
    ModernGPT,
    RMSNorm,
    SquaredReLU,
    SwiGLU,
    muon_and_adamw,
    rotary_table,
)
from llm_from_scratch.pretraining import TrainConfig, train
from llm_from_scratch.scoring import evaluate
from llm_from_scratch.token_files import TokenFile
from llm_from_scratch.tokenization import BPETokenizer

SIZES = {"context_len": 256, "n_layer": 4, "n_head": 4, "n_embd": 128}
VOCAB, BATCH, STEPS, HELD_OUT = 2048, 8, 250, 300
WARMUP, SHORT = 60, 20  # steps; the short one is for two arms
SEEDS = [0, 1, 2]
LR, LR_MUON = 3e-3, 0.02
RATES = {"adamw": [1e-3, 3e-3, 6e-3], "muon": [0.01, 0.02, 0.04]}


class SomeAttention(GroupedAttention):
    "Grouped attention in a GPT-2 block, with or without rotation."

    def __init__(self, config: ModernConfig, rotary: bool):
        super().__init__(config)
        table = rotary_table(config.context_len, config.head_size)
        if not rotary:  # cosine 1, sine 0: nothing turns
            table = torch.stack((torch.ones(1), torch.zeros(1)))
            table = table[:, None].expand(2, config.context_len, 1)
        self.register_buffer("table", table, persistent=False)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        "As `CausalSelfAttention`, from position 0 on."
        rows = self.table[:, : x.shape[1]]
        return super().forward(x, rows, mask, cache)


def gpt2(change: Callable[[GPT], None] | None = None, **options) -> Callable:
    "A GPT-2 in which something is exchanged before the weights are drawn."

    def make(vocab_size: int, generator: torch.Generator) -> GPT:
        config = GPTConfig(vocab_size=vocab_size, **SIZES, **options)
        model = GPT(config, generator=generator)
        if change:
            change(model)
            init_weights(model, config.n_layer, generator=generator)
        return model

    return make


def modern(**options) -> Callable:
    "All parts, but for what the options say."

    def make(vocab_size: int, generator: torch.Generator) -> ModernGPT:
        kept = {"n_kv_head": 2} | options
        start = {"zero_init": kept.pop("zero_init", True)}
        config = ModernConfig(vocab_size=vocab_size, **SIZES, **kept)
        return ModernGPT(config, generator=generator, **start)

    return make


def rms_norms(model: GPT) -> None:
    "Every LayerNorm becomes an RMSNorm."
    C = model.config.n_embd
    model.norm = RMSNorm(C)
    for block in model.blocks:
        block.norm_1, block.norm_2 = RMSNorm(C), RMSNorm(C)


def attention(model: GPT, rotary: bool = False, **options) -> None:
    "Another attention; with rotary positions the table is empty."
    config = ModernConfig(
        **{"vocab_size": 1, "qk_norm": False} | SIZES | options,
        attention_bias=True,
    )
    for block in model.blocks:
        block.attention = SomeAttention(config, rotary)
    if rotary:
        nn.init.zeros_(model.position_embedding.weight)
        model.position_embedding.weight.requires_grad = False


def swiglu(model: GPT) -> None:
    "Gated MLPs of the same size."
    C = model.config.n_embd
    for block in model.blocks:
        block.mlp = SwiGLU(C, round(8 * C / 3))


def relu2(model: GPT) -> None:
    "Squared ReLU instead of GELU."
    C = model.config.n_embd
    for block in model.blocks:
        block.mlp = SquaredReLU(C)


def zero_start(vocab_size: int, generator: torch.Generator) -> GPT:
    "What is added to the stream begins at zero."
    model = gpt2()(vocab_size, generator)
    for block in model.blocks:
        nn.init.zeros_(block.attention.out_proj.weight)
        nn.init.zeros_(block.mlp.down.weight)
    return model


ARMS = {  # name: what it is called, how it is made, whether Muon trains it
    "gpt2": ("GPT-2", gpt2(), False),
    "rmsnorm": ("+ RMSNorm", gpt2(rms_norms), False),
    "rotary": ("+ rotary", gpt2(partial(attention, rotary=True)), False),
    "swiglu": ("+ SwiGLU", gpt2(swiglu), False),
    "relu2": ("+ ReLU²", gpt2(relu2), False),
    "grouped": (
        "+ 2 key heads of 4",
        gpt2(partial(attention, n_kv_head=2)),
        False,
    ),
    "qk_norm": ("+ QK-norm", gpt2(partial(attention, qk_norm=True)), False),
    "zero": ("+ zero start", zero_start, False),
    "untied": ("+ untied head", gpt2(tied=False), False),
    "muon": ("+ Muon", gpt2(), True),
    "gpt2_short": ("GPT-2, short warm-up", gpt2(), False),
    "swiglu_short": ("+ SwiGLU, short warm-up", gpt2(swiglu), False),
    "modern": ("all", modern(), True),
    "modern_adamw": ("all but Muon", modern(), False),
    "modern_no_qk_norm": ("all but QK-norm", modern(qk_norm=False), True),
    "modern_no_zero": (
        "all but zero start",
        modern(zero_init=False),
        True,
    ),
    "modern_untied": ("all, untied", modern(tied=False), True),
    "modern_relu2": ("all, ReLU²", modern(activation="relu2"), True),
}


class Texts:
    "TinyStories as token files, for as long as the program runs."

    def __init__(self, folder: Path):
        train_text = stories("train")
        self.about = corpus("TinyStories, train", train_text)
        parts = [x for x in train_text.split(END) if x.strip()]
        self.tokenizer = BPETokenizer.train(
            parts[:6000], VOCAB, special_tokens=[END]
        )
        self.files = {}
        for split in ("train", "valid"):
            source, path = folder / f"{split}.txt", folder / f"{split}.json"
            source.write_text(stories(split), encoding="utf-8", newline="\n")
            write_tokens(path, source, self.tokenizer)
            self.files[split] = TokenFile(path, self.tokenizer)

    def score(self, model: nn.Module) -> float:
        "Bits per byte of stories, one a window, cut at the context."
        file, n = self.files["valid"], HELD_OUT
        context = model.config.context_len
        batches = TokenLoader(
            file,
            8,
            context,
            mode="documents",
            shuffle=False,
            epochs=1,
            n_documents=n,
        )
        sizes = file.document_bytes(n, context)
        return evaluate(model, batches, sizes).bits_per_byte


def run(
    make_model: Callable,
    muon: bool,
    seed: int,
    texts: Texts,
    steps: int,
    lr: float = LR,
    lr_muon: float = LR_MUON,
    warmup: int = WARMUP,
) -> dict:
    "Train one model; its score, its losses, its cost."
    generator = torch.Generator().manual_seed(seed)
    model = make_model(len(texts.tokenizer), generator)
    set_attention(model, attend_fused)
    config = TrainConfig(steps=steps, lr=lr, warmup=warmup, evaluations=1)
    rates = {"lr_muon": lr_muon, "lr_adamw": lr}
    make = partial(muon_and_adamw, **rates) if muon else None
    context = SIZES["context_len"]
    batches = TokenLoader(
        texts.files["train"], BATCH, context, mode="packed", seed=seed
    )
    start = time.perf_counter()
    rows = train(model, batches, config, make=make, progress=False)
    seconds = time.perf_counter() - start
    losses = [row["loss"] for row in rows]
    groups = [losses[i : i + 10] for i in range(0, len(losses), 10)]
    learned = [p for p in model.parameters() if p.requires_grad]
    return {
        "seed": seed,
        "valid": round(texts.score(model), 4),
        "parameters": sum(p.numel() for p in learned),
        "seconds": round(seconds, 1),
        "losses": [round(statistics.fmean(x), 3) for x in groups],
    }


def settings(steps: int) -> dict:
    "What all runs share; another record is begun when it changes."
    return SIZES | {
        "vocab_size": VOCAB,
        "batch": BATCH,
        "steps": steps,
        "tokens": BATCH * SIZES["context_len"] * steps,
        "held_out_stories": HELD_OUT,
        "lr_adamw": LR,
        "lr_muon": LR_MUON,
        "warmup": WARMUP,
        "short_warmup": SHORT,
        "schedule": "warm-up, stable, linear decay over 40 %",
        "dtype": "float32",
        "torch": importlib.metadata.version("torch").split("+")[0],
    }


def known(steps: int) -> dict:
    "The record so far, if it is one of the same settings."
    path = ROOT / "runs" / "ablations.json"
    if path.is_file():
        found = json.loads(path.read_text("utf-8"))
        if found.get("settings") == settings(steps):
            return {key: found[key] for key in ("arms", "rates")}
    return {"arms": {}, "rates": {}}


def summary(arm: dict) -> dict:
    "Mean and spread over seeds."
    values = [result["valid"] for result in arm["runs"]]
    arm["mean"] = round(statistics.fmean(values), 4)
    if len(values) > 1:
        arm["std"] = round(statistics.stdev(values), 4)
    return arm


def against(arms: dict) -> None:
    "Each arm minus GPT-2, seed by seed: the same text in the same order."
    base = {
        x["seed"]: x["valid"] for x in arms.get("gpt2", {}).get("runs", ())
    }
    for arm in arms.values():
        pairs = [
            x["valid"] - base[x["seed"]]
            for x in arm["runs"]
            if x["seed"] in base
        ]
        if len(pairs) > 1:
            arm["gain"] = round(-statistics.fmean(pairs), 4)
            arm["gain_std"] = round(statistics.stdev(pairs), 4)


def main() -> None:
    "Run what is missing, one arm of one seed at a time."
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("arms", nargs="*", help=", ".join(ARMS))
    parser.add_argument("--quick", action="store_true", help="five steps")
    options = parser.parse_args()
    steps = 5 if options.quick else STEPS
    wanted = options.arms or [*ARMS, "rates"]
    torch.set_num_threads(1)  # two of these can run side by side
    found = {"arms": {}, "rates": {}} if options.quick else known(steps)
    with tempfile.TemporaryDirectory() as top:
        texts = Texts(Path(top))

        def keep() -> None:
            against(found["arms"])
            if not options.quick:
                result = {"settings": settings(steps), **found}
                record("ablations", texts.about, result)

        for kind, rates in RATES.items() if "rates" in wanted else ():
            for rate in rates:
                key = f"{kind} {rate:g}"
                if key in found["rates"]:
                    continue
                option = {"lr" if kind == "adamw" else "lr_muon": rate}
                muon = kind == "muon"
                result = run(gpt2(), muon, SEEDS[0], texts, steps, **option)
                found["rates"][key] = result["valid"]
                print(key, result["valid"], flush=True)
                keep()
        for seed in SEEDS[:1] if options.quick else SEEDS:
            for name in [x for x in ARMS if x in wanted]:
                label, make_model, muon = ARMS[name]
                arm = found["arms"].setdefault(name, {"runs": []})
                arm["label"] = label
                if any(x["seed"] == seed for x in arm["runs"]):
                    continue
                warmup = SHORT if name.endswith("short") else WARMUP
                option = {"warmup": warmup}
                result = run(make_model, muon, seed, texts, steps, **option)
                arm["runs"].append(result)
                print(name, result["valid"], result["seconds"], flush=True)
                summary(arm)
                keep()
    rows = [("arm", "bits per byte", "± seeds", "gain", "parameters")]
    for arm in found["arms"].values():
        row = [arm["label"], arm.get("mean"), arm.get("std")]
        rows.append((*row, arm.get("gain"), arm["runs"][0]["parameters"]))
    table(rows)
    print(machine()["cpu"])


if __name__ == "__main__":
    main()
