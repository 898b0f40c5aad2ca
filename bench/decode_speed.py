"""How fast is a text written, token by token, beside transformers?

Batch 1, greedy, on two threads: six layers of 256 or 512 channels, 4,096
tokens, a context of 512. Ours writes as the model itself, through
`Decoder`, and through a compiled one. GPT is held against transformers'
GPT-2 with the same weights, ModernGPT against its Qwen3, in float32 and
in bfloat16, all in turns; in float32 the tokens must be the same. Two
limits stand beside them: what reading the weights takes, at the bandwidth
measured here, and what the calls take when the matrices are small (64
channels).

    python -m bench.decode_speed [--quick] [--threads N] [--compiling]

`--quick` measures little; with it, or with other threads than two,
nothing is recorded. `--compiling` measures again how long the compiler
takes, and nothing else; its cache is empty at the start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import ROOT, machine, record, spread, table
from llm_from_scratch.attention import attend, attend_fused
from llm_from_scratch.checkpoint import save_checkpoint
from llm_from_scratch.decoding import Decoder
from llm_from_scratch.generation import Sampling, generate
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.modern import ModernConfig, ModernGPT

THREADS, PROMPT, TOKENS = 2, 16, 96
WIDTHS = (64, 256, 512)
DTYPES = (torch.float32, torch.bfloat16)
SIZES = {"vocab_size": 4096, "context_len": 512, "n_layer": 6}
Call = Callable[[], list[int]]


def models(width: int) -> dict[str, nn.Module]:
    "Ours, with random weights."
    sizes = SIZES | {"n_head": max(width // 64, 1), "n_embd": width}
    seed = torch.Generator().manual_seed(0)
    kv = max(width // 128, 1)  # two heads share keys
    modern = ModernConfig(**sizes, n_kv_head=kv)
    return {
        "gpt": GPT(GPTConfig(**sizes), generator=seed),
        "modern": ModernGPT(modern, generator=seed, zero_init=False),
    }


def peer_of(model: nn.Module, folder: Path) -> nn.Module:
    "Theirs, with the same weights."
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    save_checkpoint(folder, model, overwrite=True)
    return AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="sdpa", dtype=torch.float32
    ).eval()


def theirs(model: nn.Module, ids: torch.Tensor, n: int) -> Call:
    "Their `generate`."

    def call() -> list[int]:
        told = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            min_new_tokens=n,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return told[0, ids.shape[1] :].tolist()

    return call


def ours(model: nn.Module | Decoder, ids: torch.Tensor, n: int, **how) -> Call:
    "Our `generate`."
    greedy = Sampling(greedy=True)

    def call() -> list[int]:
        return generate(model, ids, max_tokens=n, sampling=greedy, **how)[0]

    return call


def contenders(
    name: str, model: nn.Module, folder: Path, n: int
) -> tuple[dict[str, Call], dict[str, float]]:
    "Who writes with one model's weights; seconds to compile."
    ids = torch.randint(4096, (1, PROMPT))
    peer, calls, seconds = peer_of(model, folder), {}, {}
    torch.compiler.reset()  # what was compiled for other sizes
    for dtype in DTYPES:
        kind = str(dtype).removeprefix("torch.")
        both = []
        for x in (peer, model):
            twin = type(x)(x.config)
            twin.load_state_dict(x.state_dict())
            both.append(twin.to(dtype).eval())
        hf, own = both
        for part in own.modules():
            if getattr(part, "attend", None) is attend:
                part.attend = attend_fused
        calls[f"{name} hf {kind}"] = theirs(hf, ids, n)
        calls[f"{name} model {kind}"] = ours(own, ids, n)
        calls[f"{name} decoder {kind}"] = ours(Decoder(own), ids, n)
        compiled = Decoder(own, compiled=True)
        start = time.perf_counter()
        ours(compiled, ids, 2)()
        seconds[f"{name} {kind}"] = time.perf_counter() - start
        calls[f"{name} compiled {kind}"] = ours(compiled, ids, n)
        if dtype == torch.bfloat16:
            plain = Decoder(own, bags=False)
            calls[f"{name} no bags {kind}"] = ours(plain, ids, n)
    calls[f"{name} uncached"] = ours(model.eval(), ids, n, cache=False)
    who = ("hf", "model", "decoder", "compiled")
    told = {tuple(calls[f"{name} {x} float32"]()) for x in who}
    if len(told) > 1:
        raise SystemExit(f"{name}: other tokens than transformers'")
    return calls, seconds


def in_rounds(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    "Seconds of calls in turns; every other round in reverse."
    seconds = {name: [] for name in calls}
    for i in range(-1, rounds):
        for name in list(calls)[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            calls[name]()
            if i >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def bandwidth(size: int) -> float:
    "Bytes a second that products with so many bytes of weights read."
    count, rows = max(size // (4 * 512 * 512), 1), 512
    weights = [torch.randn(rows, 512) for _ in range(count)]
    x, best = torch.randn(512), 0.0
    for _ in range(9):
        start = time.perf_counter()
        for weight in weights:
            torch.mv(weight, x)
        passed = time.perf_counter() - start
        best = max(best, count * rows * 512 * 4 / passed)
    return best


def bytes_read(model: nn.Module, dtype: torch.dtype) -> int:
    "Of weights, for one token: all but the tables of which a row is read."
    total = sum(p.numel() for p in model.parameters())
    for name in ("position_embedding", "head"):
        part = getattr(model, name, None)
        if part is not None:  # an own head: the token table is not read
            total -= part.weight.numel()
    return total * dtype.itemsize


def measure(rounds: int, n: int, widths: tuple[int, ...]) -> dict:
    "All widths and models."
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for width in widths:
            for name, model in models(width).items():
                path = Path(folder) / name
                calls, compiling = contenders(name, model, path, n)
                own = found.setdefault(str(width), {})
                own[name] = results(name, model, in_rounds(calls, rounds), n)
                own[name]["seconds_to_compile"] = rounded(name, compiling)
                show(width, name, own[name])
    return found


def rounded(name: str, compiling: dict[str, float]) -> dict[str, float]:
    "Seconds to compile, as the record has them."
    return {
        kind.removeprefix(f"{name} "): round(x, 1)
        for kind, x in compiling.items()
    }


def compile_again(path: Path) -> None:
    "Put new seconds to compile into the record, and nothing else."
    told = json.loads(path.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for width in WIDTHS:
            for name, model in models(width).items():
                _, seconds = contenders(name, model, Path(folder) / name, 2)
                own = told["widths"][str(width)][name]
                own["seconds_to_compile"] = rounded(name, seconds)
                print(width, own["seconds_to_compile"], flush=True)
    keys = ("date", "corpus")
    corpus, told = told["corpus"], {
        k: v for k, v in told.items() if k not in keys
    }  # fmt: skip
    record(path.stem, corpus, told)


def results(
    name: str, model: nn.Module, seconds: dict[str, list[float]], n: int
) -> dict:
    "Speeds, ratios and limits of one model."
    told = {x.removeprefix(f"{name} "): v for x, v in seconds.items()}
    rates = {who: spread([n / s for s in v]) for who, v in told.items()}

    def to(who: str, other: str) -> dict:
        pairs = zip(told[other], told[who], strict=True)
        return spread([a / b for a, b in pairs])

    kinds = [str(x).removeprefix("torch.") for x in DTYPES]
    best_hf = min(
        (f"hf {k}" for k in kinds), key=lambda x: statistics.median(told[x])
    )
    best, best_compiled = (
        min(
            (f"{who} {k}" for k in kinds),
            key=lambda x: statistics.median(told[x]),
        )
        for who in ("decoder", "compiled")
    )
    limits = {}
    for dtype, kind in zip(DTYPES, kinds, strict=True):
        size = bytes_read(model, dtype)
        limits[kind] = {
            "bytes": size,
            "tokens_per_second": round(bandwidth(size) / size),
        }
    return {
        "tokens_per_second": rates,
        "to_hf": {k: to(f"decoder {k}", f"hf {k}") for k in kinds},
        "model_to_hf": {k: to(f"model {k}", f"hf {k}") for k in kinds},
        "best_to_best_hf": to(best, best_hf),
        "compiled_to_best_hf": to(best_compiled, best_hf),
        "compiled_to_decoder": {
            k: to(f"compiled {k}", f"decoder {k}") for k in kinds
        },
        "best": best,
        "best_compiled": best_compiled,
        "best_hf": best_hf,
        "cached_to_uncached": to("model float32", "uncached"),
        "bandwidth_limit": limits,
    }


def show(width: int, name: str, found: dict) -> None:
    "Print one model's speeds."
    rows = [(f"{name} {width}", "tokens/s", "q1", "q3")]
    rows += [
        (who, *(f"{x[k]:.0f}" for k in ("median", "q1", "q3")))
        for who, x in found["tokens_per_second"].items()
    ]
    table(rows)
    ratios = {k: x["median"] for k, x in found["to_hf"].items()}
    ratios["best"] = found["best_to_best_hf"]["median"]
    ratios["compiled"] = found["compiled_to_best_hf"]["median"]
    limit = {
        k: x["tokens_per_second"] for k, x in found["bandwidth_limit"].items()
    }
    print("to HF:", ratios, "limit:", limit, flush=True)


def main() -> None:
    "Measure everything and write the record."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--compiling", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cache = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name  # begin with nothing
    torch.manual_seed(0)
    load, started = os.getloadavg()[0], time.perf_counter()
    rounds, n = (3, 32) if options.quick else (9, TOKENS)
    if options.compiling:
        with torch.inference_mode():
            compile_again(ROOT / "runs" / "decode_speed.json")
        return
    with torch.inference_mode():
        found = measure(rounds, n, WIDTHS)
    minutes = round((time.perf_counter() - started) / 60, 1)
    missed = [
        f"{width} {name}"
        for width in ("256", "512")
        for name, x in found[width].items()
        if x["compiled_to_best_hf"]["median"] < 2
    ]
    print(f"{minutes} minutes, load {load:.1f} before; missed: {missed}")
    if options.quick or options.threads != THREADS:
        return
    versions = ("torch", "transformers", "numpy")
    where = {
        **machine(),
        "threads": options.threads,
        "versions": {name: version(name) for name in versions},
        "load_before": round(load, 2),
    }
    record("decode_speed", {"name": "random ids"}, {
        "machine": where,
        "minutes": minutes,
        "tokens": n,
        "prompt": PROMPT,
        "sizes": SIZES,
        "target": "compiled_to_best_hf ≥ 2 at 256 and 512",
        "missed": missed,
        "widths": found,
    })  # fmt: skip


if __name__ == "__main__":
    main()
