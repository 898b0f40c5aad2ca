"""What do fewer bits cost, in bits per byte, and what do they save?

Quality: the storyteller on held-out TinyStories, each scheme against the
float model on the same stories, so that the interval of the *difference*
is that of pairs. Memory: the peak of a process that loads the file.
Speed: batch 1, greedy, models of 256 and 512 channels with random
weights, in turns with transformers' `generate` on the same weights, and
each kernel against the float product, by shape and rows, with the two
limits of the roofline: the rate of reading, and that of computing.
Answers: storytellers that `bench/instructions.py` tuned, from three seeds,
asked again in few bits, and graded by the same program.

    python -m bench.quantization [quality] [memory] [speed] [layers]
        [--quick] [--threads N]
    python -m bench.quantization answers --tuned FOLDER FOLDER FOLDER

Without names, all parts but the last. What is measured is kept arm by arm
in `runs/quantization.json`; `--quick` measures little and keeps nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import (
    ROOT,
    data_folder,
    interval,
    machine,
    record,
    spread,
    table,
)
from llm_from_scratch import kernels
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.data import TokenLoader, read_stories, write_tokens
from llm_from_scratch.quantization import (
    QuantConfig,
    QuantizedLinear,
    quantize,
)
from llm_from_scratch.quantized_files import save_quantized, storage
from llm_from_scratch.scoring import document_losses

ARMS = {  # name: the scheme; None: as it is
    "float32": None,
    "bfloat16": torch.bfloat16,
    "int8": {"scheme": "int8"},
    "int8_g64": {"scheme": "int8", "group_size": 64},
    "int8_dynamic": {"scheme": "int8_dynamic"},
    "int8_outliers": {"scheme": "int8_dynamic", "threshold": 6.0},
    "int4_g32": {"scheme": "int4"},
    "int4_g64": {"scheme": "int4", "group_size": 64},
    "nf4": {"scheme": "nf4"},
    "nf4_plain_scales": {"scheme": "nf4", "double_quant": False},
    "int4_all": {"scheme": "int4", "table": "int4"},
    "int4_float_table": {"scheme": "int4", "table": "float"},
    "nf4_int4_table": {"scheme": "nf4", "table": "int4"},
}
DOCUMENTS, TARGET, ROUNDS = 1000, 0.001, 7


def made(name: str, model: nn.Module) -> nn.Module:
    "The model of an arm."
    how = ARMS[name]
    if isinstance(how, torch.dtype):
        return copy.deepcopy(model).to(how)
    return model if how is None else quantize(model, QuantConfig(**how))


def compared(bits: Tensor, base: Tensor, sizes: Tensor) -> dict:
    "A rate, its change, and 95 % intervals over documents."

    def ratio(x: Tensor) -> tuple[float, float]:
        rate = x.sum() / sizes.sum()
        n = len(x)
        var = (x - rate * sizes).square().sum() * n / (n - 1)
        return rate.item(), (1.96 * var.sqrt() / sizes.sum()).item()

    (rate, margin), (more, about) = ratio(bits), ratio(bits - base)
    first = (base.sum() / sizes.sum()).item()
    return {
        "bits_per_byte": rate,
        "margin": margin,
        "more": more,
        "more_margin": about,
        "more_share": more / first,
        "more_share_margin": about / first,
    }


def quality(kept: dict, keep, quick: bool) -> None:
    "Bits per byte of every arm, on the same stories."
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    count = 40 if quick else DOCUMENTS
    path = data_folder() / "tinystories" / "valid.txt"
    texts = list(islice(read_stories(path), count))
    length, base = model.config.context_len, None
    with tempfile.TemporaryDirectory() as folder:
        file = write_tokens(Path(folder) / "text", texts, tokenizer)
        sizes = torch.as_tensor(list(file.document_bytes(count, length)))
        sizes = sizes.double()
        for name in ARMS:
            done = kept.get(name, {}).get("documents") == count
            if done and base is not None:
                continue  # kept by an earlier call
            how, own = ARMS[name], made(name, model)
            options = {"mode": "documents", "shuffle": False, "epochs": 1}
            loader = TokenLoader(file, 8, length, n_documents=count, **options)
            nats, _ = document_losses(own, loader)
            bits = nats / math.log(2)
            base = bits if base is None else base
            numbers, size = storage(own)
            kept[name] = {
                "config": how if isinstance(how, dict | None) else str(how),
                "documents": count,
                "bytes": size,
                "bits_per_weight": 8 * size / numbers,
                **compared(bits, base, sizes),
            }
            show = kept[name]
            print(f"{name:24} {show['bits_per_weight']:.2f} bits  "
                  f"{show['bits_per_byte']:.4f}  {show['more_share']:+.3%} ± "
                  f"{show['more_share_margin']:.3%}", flush=True)  # fmt: skip
            keep()
        del file


LOAD = """
import re, sys
from pathlib import Path
from llm_from_scratch.checkpoint import load_checkpoint
import torch, llm_from_scratch.quantized_files

def peak():
    told = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", told).group(1)) * 1024

load_checkpoint(sys.argv[2])  # what is imported on the way
Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
before = peak()
model, _, _ = load_checkpoint(sys.argv[1])
print(peak() - before)
"""


def memory(kept: dict, keep, quick: bool) -> None:
    "By how much loading a file raises a process's peak (Linux)."
    from llm_from_scratch.checkpoint import save_checkpoint
    from llm_from_scratch.modern import ModernConfig, ModernGPT

    sizes = {"vocab_size": 8192, "context_len": 512, "n_layer": 8}
    config = ModernConfig(**sizes, n_head=8, n_embd=512)
    model = ModernGPT(config, zero_init=False)
    few = {"n_layer": 1, "n_head": 1, "n_embd": 64}
    tiny = ModernGPT(ModernConfig(**sizes | few))
    with tempfile.TemporaryDirectory() as folder:
        for name, how in (("float32", None), ("int8", {"scheme": "int8"}),
                          ("int4", {"scheme": "int4"}),
                          ("nf4", {"scheme": "nf4"})):  # fmt: skip
            path, first = Path(folder) / name, Path(folder) / f"{name}_tiny"
            if how is None:
                own = model
                save_checkpoint(path, own)
                save_checkpoint(first, tiny)
            else:
                own = quantize(model, QuantConfig(**how))
                save_quantized(path, own)
                save_quantized(first, quantize(tiny, QuantConfig(**how)))
            found = [
                int(subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", LOAD, path, first],
                    capture_output=True, check=True, text=True, cwd=ROOT,
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                ).stdout)
                for _ in range(1 if quick else 3)
            ]  # fmt: skip
            file = (path / "model.safetensors").stat().st_size
            kept[name] = {"peak": min(found), "file": file,
                          "bytes": storage(own)[1]}  # fmt: skip
            print(name, kept[name], flush=True)
            keep()


SPEED_ARMS = {
    "int8": {"scheme": "int8"},
    "int8_dynamic": {"scheme": "int8_dynamic"},
    "int4": {"scheme": "int4"},
    "int4_all": {"scheme": "int4", "table": "int4"},
    "nf4": {"scheme": "nf4"},
}


def speed(kept: dict, keep, quick: bool) -> None:
    "Tokens a second, in turns with transformers'."
    from bench.decode_speed import (
        PROMPT,
        TOKENS,
        in_rounds,
        models,
        ours,
        peer_of,
    )
    from bench.decode_speed import theirs as hf
    from llm_from_scratch.decoding import Decoder

    rounds, n = (2, 16) if quick else (ROUNDS, TOKENS)
    ids = torch.randint(4096, (1, PROMPT))
    for width in (256, 512):
        model = models(width)["modern"].eval()
        with tempfile.TemporaryDirectory() as folder:
            peer = peer_of(model, Path(folder) / "m")
        calls = {"hf_float32": hf(peer, ids, n)}
        twin = type(peer)(peer.config)
        twin.load_state_dict(peer.state_dict())
        calls["hf_bfloat16"] = hf(twin.to(torch.bfloat16).eval(), ids, n)
        calls["decoder_float32"] = ours(Decoder(model), ids, n)
        torch.compiler.reset()
        fast = Decoder(model, compiled=True)
        calls["compiled_float32"] = ours(fast, ids, n)
        half = copy.deepcopy(model).bfloat16()
        calls["decoder_bfloat16"] = ours(Decoder(half), ids, n)
        fast = Decoder(half, compiled=True)
        calls["compiled_bfloat16"] = ours(fast, ids, n)
        bits = {"float32": 32.0, "bfloat16": 16.0}
        for name, how in SPEED_ARMS.items():
            small = quantize(model, QuantConfig(**how))
            kernels.speed_up(small, rows=PROMPT)
            numbers, size = storage(small)
            bits[name] = 8 * size / numbers
            calls[name] = ours(Decoder(small), ids, n)
            if how["scheme"] in ("int8", "int4"):
                fast = Decoder(small, compiled=True)
                calls[f"compiled_{name}"] = ours(fast, ids, n)
        slow = quantize(model, QuantConfig())  # a Decoder would find kernels
        calls["int4_by_hand"] = ours(slow, ids, n)
        seconds = in_rounds(calls, rounds)
        rates = {k: spread([n / s for s in v]) for k, v in seconds.items()}
        heads = [k for k in rates if k.startswith("hf")]
        best = max(heads, key=lambda k: rates[k]["median"])

        def to(who: str, peer: str, seconds=seconds) -> dict:
            pairs = zip(seconds[peer], seconds[who], strict=True)
            return spread([a / b for a, b in pairs])

        kept[str(width)] = {
            "tokens_per_second": rates,
            "bits": bits,
            "rounds": rounds,
            "best_hf": best,
            "to_best_hf": {k: to(k, best) for k in rates},
            "to_compiled": {k: to(k, "compiled_float32") for k in rates},
            "load": round(os.getloadavg()[0], 1),
        }
        table([(k, *v.values(), kept[str(width)]["to_best_hf"][k]["median"])
               for k, v in rates.items()])  # fmt: skip
        keep()


SHAPES = ((512, 256), (1152, 256), (4096, 256), (2816, 512), (4096, 4096))
ROWS = (1, 4, 16, 64, 256)


def roofs(quick: bool) -> dict:
    "The rate of reading memory, and of multiplying floats, here and now."
    n, limit = (512, 0.1) if quick else (4096, 0.5)
    a, b, vector = torch.randn(n, n), torch.randn(n, n), torch.randn(n)
    ways = ((torch.sum, a), (lambda x: a @ x, vector))
    read = min(kernels.seconds_of(way, x, limit) for way, x in ways)
    work = kernels.seconds_of(lambda a: a @ b, a, limit)
    return {
        "bytes_per_second": a.nbytes / read,  # again and again, 64 MB
        "operations_per_second": 2 * n**3 / work,
    }


def layers(kept: dict, keep, quick: bool) -> None:
    "Each kernel and each layer by hand, against the float product."
    schemes = ("int8", "int8_dynamic", "int4", "nf4")
    kept["roofs"] = roofs(quick)
    print(kept["roofs"], flush=True)
    for O, I in SHAPES[: 2 if quick else None]:
        plain = nn.Linear(I, O, bias=False)
        for scheme in schemes:
            config = QuantConfig(scheme=scheme)
            layer = QuantizedLinear(I, O, config).fill(plain.weight)
            found = kernels.products(layer)
            found = {kernels.BY_HAND: kernels.by_hand(layer)} | found
            for rows in ROWS:
                x = torch.randn(rows, I)
                with torch.inference_mode():
                    ratios = {name: [] for name in found}
                    seconds = {name: [] for name in ("float", *found)}
                    for _ in range(3 if quick else ROUNDS):
                        base = kernels.seconds_of(plain, x)
                        seconds["float"].append(base)
                        for name, call in found.items():
                            own = kernels.seconds_of(call, x)
                            seconds[name].append(own)
                            ratios[name].append(base / own)
                key = f"{scheme}_{O}x{I}_{rows}"
                kept[key] = {k: spread(v) for k, v in ratios.items()}
                kept[key]["microseconds"] = {
                    k: 1e6 * statistics.median(v) for k, v in seconds.items()
                }
                told = {k: kept[key][k]["median"] for k in found}
                print(key, told, flush=True)
        keep()


ASKED = {  # how the tuned models are asked again
    "float32": None,
    "int8": {"scheme": "int8"},
    "int4": {"scheme": "int4"},
    "nf4": {"scheme": "nf4"},
    "int4_all": {"scheme": "int4", "table": "int4"},
}


def tuned_answers(folders: list[Path], kept: dict, keep, quick: bool) -> None:
    "What tuned storytellers answer in few bits, graded, by folder."
    from bench import instructions

    if quick:
        instructions.STORIES = instructions.QUESTIONS = 4
    for folder in folders:
        model, tokenizer, _ = load_checkpoint(folder, dtype=torch.float32)
        rows = kept.setdefault(Path(folder).name, {})
        for name, how in ASKED.items():
            if name in rows:
                continue
            own = model
            if how is not None:
                own = quantize(model, QuantConfig(**how))
                kernels.speed_up(own, rows=50)
            found = instructions.answer_all(own, tokenizer, tiny=False)
            kinds = ("given", "told", "single_words", "words")
            rows[name] = {kind: found[kind] for kind in kinds}
            told = {k: x["share"] for k, x in rows[name].items()}
            print(folder, name, told, flush=True)
            keep()
    kept["summary"] = over_seeds([v for k, v in kept.items()
                                  if k != "summary"])  # fmt: skip
    keep()


def over_seeds(runs: list[dict]) -> dict:
    "Means over tuned models, their intervals, and those of the change."
    found = {}
    for name in ASKED:
        row = {}
        for kind in runs[0]["float32"]:
            own = [run[name][kind]["share"] for run in runs]
            base = [run["float32"][kind]["share"] for run in runs]
            more = [a - b for a, b in zip(own, base, strict=True)]
            if len(runs) > 1:
                row[kind] = {**interval(own), "more": interval(more)}
        found[name] = row
    return found


PARTS = {
    "quality": quality,
    "memory": memory,
    "speed": speed,
    "layers": layers,
}


def main() -> None:
    "Measure the parts that are named, and keep what is found."
    parser = argparse.ArgumentParser(description=__doc__)
    names = ", ".join((*PARTS, "answers"))
    parser.add_argument("parts", nargs="*", help=f"of {names}")
    parser.add_argument("--tuned", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    globals().update(DOCUMENTS=options.documents, ROUNDS=options.rounds)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    path = ROOT / "runs" / "quantization.json"
    result = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for key in ("date", "machine", "corpus"):
        result.pop(key, None)

    def keep() -> None:
        if not options.quick:
            # another process may have kept other parts meanwhile
            if path.is_file():
                now = json.loads(path.read_text("utf-8"))
                mine = set(options.parts or PARTS)
                result.update({k: v for k, v in now.items()
                               if k in (*PARTS, "answers")
                               and k not in mine})  # fmt: skip
                about = now.get("about", {})
                result["about"] = about | {
                    k: v for k, v in result.get("about", {}).items()
                    if k in mine
                }  # fmt: skip
            corpus = {"name": "held-out TinyStories", "target": TARGET}
            record("quantization", corpus, result)

    for name in options.parts or PARTS:
        started = time.perf_counter()
        kept = result.setdefault(name, {})
        if name == "answers":
            tuned_answers(options.tuned or [], kept, keep, options.quick)
        else:
            PARTS[name](kept, keep, options.quick)
        where = {"threads": options.threads, "load": machine()["load"],
                 "minutes": (time.perf_counter() - started) / 60}  # fmt: skip
        result.setdefault("about", {})[name] = where
        keep()


if __name__ == "__main__":
    main()
