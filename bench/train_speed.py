"""How fast is a step of training beside plain PyTorch and transformers?

A GPT-2 with 6 layers of 256 channels learns sequences of 256 tokens out
of 4,096, on two threads. Everybody has the same heads, the same memory
setting and the same random ids, and is measured in turns with the others
at batches of 8, 16 and 32; ratios are of tokens a second. A second table
compares ours with Hugging Face's GPT-2 over sizes, a third repeats the
first on processors that are told to do without bfloat16.

    python -m bench.train_speed [--quick] [--profile] [--threads N]

`--quick` measures little; with it, or with other threads than two, nothing
is recorded.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import ROOT, machine, record, spread, table
from llm_from_scratch.devices import (
    DevicePlan,
    device_plan,
    keep_freed_memory,
    matmul_precision,
)
from llm_from_scratch.files import write_atomic
from llm_from_scratch.gpt import GPT, GPTConfig, count_flops

THREADS = 2
SIZES = GPTConfig(
    vocab_size=4096, context_len=256, n_layer=6, n_head=4, n_embd=256
)
BATCHES = [8, 16, 32]
TABLE = [(d, t) for d in (128, 256, 512) for t in (64, 256, 1024)]
TABLE_TOKENS = 2048  # in a batch of the second table
PEERS = ("plain_float32", "plain_autocast", "hf_float32", "hf_autocast")
TARGETS = {
    "training.compiled_to_plain": ("≥", 3.7),
    "training.compiled_to_best_peer": ("≥", 1.6),
    "float32.without_bf16.to_plain": ("≥", 1.4),
    "sizes.slowest": ("≥", 1.0),
}
LIMITED = {  # what a processor is told to do without, for torch, oneDNN, MKL
    "without_bf16": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    "without_avx512": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}
Step = Callable[[], object]


# -- the plain GPT-2, as it is usually written


class PlainBlock(nn.Module):
    "Queries, keys and values by one map; torch's fused attention; erf."

    def __init__(self, config: GPTConfig):
        super().__init__()
        C = config.n_embd
        self.heads = config.n_head
        self.norm_1, self.norm_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        "Pre-LN."
        B, T, C = x.shape
        three = self.qkv(self.norm_1(x)).chunk(3, dim=-1)
        q, k, v = (
            part.reshape(B, T, self.heads, -1).transpose(1, 2)
            for part in three
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class PlainGPT(nn.Module):
    "GPT-2 in as few lines as it takes."

    def __init__(self, config: GPTConfig):
        super().__init__()
        C = config.n_embd
        self.tokens = nn.Embedding(config.vocab_size, C)
        self.positions = nn.Embedding(config.context_len, C)
        self.blocks = nn.ModuleList(
            PlainBlock(config) for _ in range(config.n_layer)
        )
        self.norm = nn.LayerNorm(C)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        "Ids to scores, by a tied head."
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def hf_gpt2(config: GPTConfig) -> nn.Module:
    "Hugging Face's GPT-2 of the same sizes, without dropout."
    from transformers import GPT2Config, GPT2LMHeadModel, logging

    logging.set_verbosity_error()
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context_len,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            attn_implementation="sdpa",
        )
    )


# -- steps of training


def groups(named: list[tuple[str, Tensor]]) -> list[dict]:
    "Matrices decay, vectors do not."
    weights = [p for _, p in named]
    return [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]


def adamw(named: list, fused: bool = True) -> torch.optim.Optimizer:
    "The usual settings."
    return torch.optim.AdamW(groups(named), 3e-4, (0.9, 0.95), fused=fused)


def batch_of(config: GPTConfig, size: int) -> tuple[Tensor, Tensor]:
    "Ids to read and ids to predict."
    random = torch.Generator().manual_seed(0)
    shape = (size, config.context_len + 1)
    ids = torch.randint(config.vocab_size, shape, generator=random)
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def mean_loss(logits: Tensor, y: Tensor) -> Tensor:
    "In nats."
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def peer_step(
    model: nn.Module,
    config: GPTConfig,
    size: int,
    *,
    autocast: bool = False,
    hf: bool = False,
    compiled: bool = False,
) -> Step:
    "A step of the usual recipe; AdamW as nanoGPT and as HF's Trainer has it."
    x, y = batch_of(config, size)
    optimizer = adamw(list(model.named_parameters()), fused=hf)
    call = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            # theirs shifts the labels itself
            loss = call(x, labels=x).loss if hf else mean_loss(call(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def our_step(
    plan: DevicePlan, config: GPTConfig, size: int, *, compiled: bool = False
) -> Step:
    "A step of ours as a plan says."
    x, y = batch_of(config, size)
    model = GPT(config)
    optimizer = plan.prepare_training(model, adamw)
    if compiled:
        plan.compile_blocks(model)
    narrow = plan.dtype != torch.float32

    def step() -> None:
        with matmul_precision(plan.matmul_precision):
            optimizer.zero_grad()
            mean_loss(model(x), y).backward()
            if narrow:
                optimizer.step(max_norm=1.0)
            else:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

    return step


def contenders(
    config: GPTConfig, size: int, plans: dict[str, DevicePlan], compiled: bool
) -> dict[str, Step]:
    "Everybody's step at one batch."
    exact = plans["exact"]
    steps = {
        "plain_float32": peer_step(PlainGPT(config), config, size),
        "plain_autocast": peer_step(
            PlainGPT(config), config, size, autocast=True
        ),
        "hf_float32": peer_step(hf_gpt2(config), config, size, hf=True),
        "hf_autocast": peer_step(
            hf_gpt2(config), config, size, hf=True, autocast=True
        ),
        "ours_exact": our_step(exact, config, size),
        "ours_float32": our_step(plans["float32"], config, size),
        "ours_plan": our_step(plans["best"], config, size),
    }
    if compiled:
        steps["plain_compiled"] = peer_step(
            PlainGPT(config), config, size, autocast=True, compiled=True
        )
        steps["ours_compiled"] = our_step(
            plans["best"], config, size, compiled=True
        )
    return steps


def timed(step: Step) -> float:
    "Seconds of a call."
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def in_rounds(
    steps: dict[object, Step], rounds: int
) -> dict[object, list[float]]:
    "Seconds of calls in turns; every other round in reverse."
    seconds = {name: [] for name in steps}
    for i in range(rounds):
        for name in list(steps)[:: 1 if i % 2 else -1]:
            seconds[name].append(timed(steps[name]))
    return seconds


# -- the first table


def bench_training(
    plans: dict[str, DevicePlan],
    batches: list[int],
    rounds: int,
    compiled: bool = True,
) -> dict:
    "Everybody at every batch, in turns; ratios at each one's best batch."
    steps = {
        (name, size): step
        for size in batches
        for name, step in contenders(SIZES, size, plans, compiled).items()
    }
    first = {key: timed(step) for key, step in steps.items()}
    for step in steps.values():
        step()
    seconds = in_rounds(steps, rounds)
    speed = {  # tokens a second, round by round
        key: [key[1] * SIZES.context_len / x for x in values]
        for key, values in seconds.items()
    }
    medians = {key: statistics.median(x) for key, x in speed.items()}
    names = list(dict.fromkeys(name for name, _ in steps))
    best = {
        name: max(batches, key=lambda size, name=name: medians[name, size])
        for name in names
    }

    def to(ours: str, other: str) -> dict:
        mine, theirs = (speed[x, best[x]] for x in (ours, other))
        return spread([a / b for a, b in zip(mine, theirs, strict=True)])

    fastest = max(PEERS, key=lambda name: medians[name, best[name]])
    flops = 3 * count_flops(SIZES, SIZES.context_len)
    rows = {
        name: {
            "batch": best[name],
            "tokens_per_second": spread(speed[name, best[name]]),
            "by_batch": {b: round(medians[name, b]) for b in batches},
            "gflops": round(flops * medians[name, best[name]] / 1e9),
            "to_plain": to(name, "plain_float32"),
            "to_best_peer": to(name, fastest),
            "first_step_seconds": round(first[name, batches[0]], 1),
        }
        for name in names
    }
    result = {"best_peer": fastest, "rounds": rounds, "rows": rows}
    for name in ("exact", "float32", "plan", "compiled"):
        if f"ours_{name}" in rows:
            row = rows[f"ours_{name}"]
            result[f"{name}_to_plain"] = row["to_plain"]
            result[f"{name}_to_best_peer"] = row["to_best_peer"]
    if "ours_compiled" in rows:
        result["compiled_to_plain_compiled"] = to(
            "ours_compiled", "plain_compiled"
        )
        result["compiled_to_plan"] = to("ours_compiled", "ours_plan")
    return result


def show_training(result: dict) -> None:
    "Print the first table."
    rows = [("", "batch", "tokens/s", "quartiles", "× plain", "× best peer")]
    for name, row in result["rows"].items():
        told = row["tokens_per_second"]
        rows.append(
            (
                name,
                row["batch"],
                round(told["median"]),
                f"{told['q1']:.0f}–{told['q3']:.0f}",
                f"{row['to_plain']['median']:.2f}",
                f"{row['to_best_peer']['median']:.2f}",
            )
        )
    table(rows)
    print(f"best peer: {result['best_peer']}\n", flush=True)


# -- the second table


def forward_step(model: nn.Module, x: Tensor) -> Step:
    "Scores, without gradients."

    @torch.inference_mode()
    def step() -> None:
        model(x)

    model.eval()
    return step


def bench_size(
    n_embd: int, n_tokens: int, size: int, plans: dict, seconds: float
) -> list[dict]:
    "Ours against Hugging Face's at one size, in turns."
    config = GPTConfig(
        vocab_size=SIZES.vocab_size,
        context_len=n_tokens,
        n_layer=SIZES.n_layer,
        n_head=n_embd // 64,
        n_embd=n_embd,
    )
    x, _ = batch_of(config, size)
    rows = []
    for name, plan in plans.items():
        narrow = plan.dtype != torch.float32
        theirs = hf_gpt2(config).to(plan.dtype)
        trained = hf_gpt2(config)
        options = {"hf": True, "autocast": narrow}
        for what, pair in (
            ("forward", (
                forward_step(plan.prepare(GPT(config)), x),
                forward_step(theirs, x),
            )),
            ("training", (
                our_step(plan, config, size),
                peer_step(trained, config, size, **options),
            )),
        ):  # fmt: skip
            steps = dict(zip(("ours", "hf"), pair, strict=True))
            in_rounds(steps, 2)  # to warm up
            each = sum(timed(step) for step in pair)
            rounds = max(5, min(31, int(seconds / each)))
            told = in_rounds(steps, rounds)
            pairs = zip(told["hf"], told["ours"], strict=True)
            rows.append(
                {
                    "channels": n_embd,
                    "length": n_tokens,
                    "batch": size,
                    "dtype": name,
                    "what": what,
                    "attention": plan.attention,
                    "ours_seconds": spread(told["ours"]),
                    "hf_seconds": spread(told["hf"]),
                    "speed": spread([a / b for a, b in pairs]),
                    "rounds": rounds,
                }
            )
    gc.collect()
    return rows


def bench_sizes(
    plans: dict[str, DevicePlan],
    sizes: list[tuple[int, int, int]],
    seconds: float,
) -> dict:
    "Over sizes; the smallest of the median ratios."
    rows = []
    for n_embd, n_tokens, size in sizes:
        rows += bench_size(n_embd, n_tokens, size, plans, seconds)
    slowest = min(rows, key=lambda row: row["speed"]["median"])
    return {"rows": rows, "slowest": slowest["speed"], "slowest_row": slowest}


def bench_table(plans: dict[str, DevicePlan], quick: bool) -> dict:
    "The second table, measured and printed."
    sizes = [(d, t, TABLE_TOKENS // t) for d, t in TABLE] + [(128, 64, 1)]
    sizes = [sizes[0], sizes[-1]] if quick else sizes
    by_dtype = {"float32": plans["exact"]}
    if plans["best"].dtype != torch.float32:
        by_dtype["bfloat16"] = plans["best"]
    result = bench_sizes(by_dtype, sizes, 0.5 if quick else 1.0)
    show_sizes(result)
    return result


def update_sizes(plans: dict[str, DevicePlan], threads: int) -> None:
    "Measure the second table anew, and say so in the record."
    load = os.getloadavg()[0]
    sizes = bench_table(plans, quick=False)
    if threads != THREADS:
        return
    path = ROOT / "runs" / "train_speed.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    now = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "load_before": load}
    told["sizes"] = {**sizes, **now}
    told["missed"] = [
        x for x, (_, least) in TARGETS.items() if find(told, x) < least
    ]
    write_atomic(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    print(f"slowest: {sizes['slowest']['median']:.2f}; → {path.name}")


def show_sizes(result: dict) -> None:
    "Print the second table."
    rows = [("C", "T", "B", "dtype", "what", "ours ms", "HF ms", "speed")]
    rows += [
        (
            *(row[x] for x in ("channels", "length", "batch", "dtype")),
            row["what"],
            f"{row['ours_seconds']['median'] * 1e3:.1f}",
            f"{row['hf_seconds']['median'] * 1e3:.1f}",
            f"{row['speed']['median']:.2f} ({row['speed']['q1']:.2f}–"
            f"{row['speed']['q3']:.2f})",
        )
        for row in result["rows"]
    ]
    table(rows)
    print(flush=True)


# -- the third table, ceilings, and where the time goes


def bench_limited(name: str, rounds: int) -> dict:
    "The float32 contenders in a process that is told to do without."
    done = subprocess.run(
        [
            *(sys.executable, __file__, "--limited", str(rounds)),
            *("--threads", str(torch.get_num_threads())),
        ],
        env={**os.environ, **LIMITED[name]},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {"told": LIMITED[name], **json.loads(done.stdout)}


def limited(rounds: int) -> None:
    "What that process does: print its results."
    plans = {"exact": exact_plan(), "float32": device_plan("cpu")}
    wanted = ("plain_float32", "hf_float32", "ours_exact", "ours_float32")
    plans["best"] = plans["exact"]  # not run
    steps = contenders(SIZES, BATCHES[0], plans, compiled=False)
    steps = {name: steps[name] for name in wanted}
    in_rounds(steps, 1)
    told = in_rounds(steps, rounds)

    def to(ours: str, other: str) -> dict:
        pairs = zip(told[other], told[ours], strict=True)
        return spread([a / b for a, b in pairs])

    print(
        json.dumps(
            {
                "capability": torch.backends.cpu.get_cpu_capability(),
                "plan": about(plans["float32"]),
                "seconds": {name: spread(told[name]) for name in wanted},
                "exact_to_plain": to("ours_exact", "plain_float32"),
                "to_plain": to("ours_float32", "plain_float32"),
                "to_hf": to("ours_float32", "hf_float32"),
            }
        )
    )


def ceilings() -> dict:
    "Matrix products and copies, as fast as they get here."
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        for sizes in ((2048, 2048, 2048), (2048, 256, 1024)):
            rows, inner, columns = sizes
            x = torch.randn(rows, inner).to(dtype)
            w = torch.randn(columns, inner).to(dtype)
            g = torch.randn(rows, columns).to(dtype)
            calls = {
                "forward": lambda x=x, w=w: F.linear(x, w),
                "input_gradient": lambda g=g, w=w: g @ w,
                "weight_gradient": lambda g=g, x=x: g.T @ x,
            }
            told = in_rounds(calls, 9)
            shape = "×".join(map(str, sizes))
            kind = str(dtype).removeprefix("torch.")
            found[f"{kind} {shape}"] = {
                name: round(2e-9 * rows * inner * columns / min(seconds))
                for name, seconds in told.items()
            }
    block = torch.ones(32 << 20)
    other = torch.empty_like(block)
    told = in_rounds({"copy": lambda: other.copy_(block)}, 9)
    copied = 8 * block.numel() / min(told["copy"])
    return {"gflops": found, "copy_gb_per_second": round(copied / 1e9)}


def profile(step: Step, top: int = 12) -> dict[str, float]:
    "Shares of the time by operation, as torch's profiler tells."
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as told:
        for _ in range(3):
            step()
    rows = {x.key: x.self_cpu_time_total for x in told.key_averages()}
    whole = sum(rows.values())
    largest = sorted(rows, key=rows.get, reverse=True)[:top]
    return {name[:40]: round(rows[name] / whole, 3) for name in largest}


def exact_plan() -> DevicePlan:
    "Float32 as it stands, nothing measured."
    return DevicePlan(device="cpu", attention="fused")


def about(plan: DevicePlan) -> dict:
    "A plan for the record."
    told = {**vars(plan), "dtype": str(plan.dtype).removeprefix("torch.")}
    told["seconds"] = {x: round(s, 4) for x, s in plan.seconds.items()}
    return told


def find(result: dict, path: str) -> float:
    "The median at a path of keys; not a number if it was not measured."
    for key in path.split("."):
        result = result.get(key, {})
    return result.get("median", float("nan"))


def main() -> None:
    "Measure everything and write the record."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--only-sizes", action="store_true")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--limited", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory(8)  # room for everybody's large pages
    if options.limited:
        limited(options.limited)
        return
    started, load = time.perf_counter(), os.getloadavg()[0]
    # one compilation for each batch, as in a run with one
    torch._dynamo.config.automatic_dynamic_shapes = False
    plans = {
        "exact": exact_plan(),
        "float32": device_plan("cpu", torch.float32),
        "best": device_plan("cpu"),
    }
    for name, plan in plans.items():
        print(name, plan.name)
    quick = options.quick
    if options.only_sizes:
        update_sizes(plans, options.threads)
        return
    batches, rounds = (BATCHES[:1], 3) if quick else (BATCHES, 7)
    result = {"ceilings": ceilings()}
    compiled = plans["best"].compile
    result["training"] = bench_training(plans, batches, rounds, compiled)
    show_training(result["training"])
    gc.collect()
    result["sizes"] = bench_table(plans, quick)
    result["float32"] = {
        name: bench_limited(name, 3 if quick else 5) for name in LIMITED
    }
    for name, told in result["float32"].items():
        ratio, chosen = told["to_plain"]["median"], told["plan"]
        print(f"{name}: {ratio:.2f} × plain, {chosen['attention']}")
    if options.profile:
        for name in ("exact", "best"):
            step = our_step(plans[name], SIZES, BATCHES[0])
            step()
            result.setdefault("profile", {})[name] = profile(step)
            print(json.dumps(result["profile"][name], indent=1))
    missed = []
    for path, (_, least) in TARGETS.items():
        reached = find(result, path)
        missed += [] if reached >= least else [path]
        print(f"{path}: {reached:.2f}, wanted ≥ {least}")
    minutes = round((time.perf_counter() - started) / 60, 1)
    print(f"{minutes} minutes, load {load:.1f} before")
    if quick or options.threads != THREADS:
        return
    versions = ("torch", "transformers", "numpy")
    where = {
        **machine(),
        "threads": options.threads,
        "versions": {name: version(name) for name in versions},
        "load_before": round(load, 2),
    }
    record("train_speed", {"name": "random ids"}, {
        "machine": where,
        "sizes_of_the_model": vars(SIZES),
        "minutes": minutes,
        "plans": {name: about(plan) for name, plan in plans.items()},
        "targets": {p: f"{sign} {x}" for p, (sign, x) in TARGETS.items()},
        "missed": missed,
        **result,
    })  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        # so that the first step compiles, as a reader's does
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        main()
