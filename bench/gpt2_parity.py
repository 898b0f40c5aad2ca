"""How far are our GPT-2 and transformers' apart, and what does loading cost?

Logits and gradients of both on the same random weights, for several
shapes, padded and not, tied and untied, in float32 and float64. The
yardstick is how far transformers is from itself when it computes
attention in its other way. Nothing is downloaded: all weights are
random, those of the model with GPT-2 small's sizes too.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import record, table
from llm_from_scratch.gpt import (
    GPT,
    GPTConfig,
    count_parameters,
    load_gpt2,
    save_gpt2,
)

SIZES = {
    "one head": {"vocab_size": 97, "n_layer": 1, "n_head": 1, "n_embd": 16},
    "ours": {
        "vocab_size": 4096,
        "context_len": 256,
        "n_layer": 6,
        "n_head": 4,
        "n_embd": 256,
    },
    "GPT-2 small": {},
}
CASES = [  # size, B, T, padding, tied, dtype
    ("one head", 1, 1, None, True, "float32"),
    ("one head", 3, 7, None, False, "float64"),
    ("ours", 4, 64, None, True, "float32"),
    ("ours", 4, 64, None, True, "float64"),
    ("ours", 4, 64, None, False, "float32"),
    ("ours", 4, 64, "left", True, "float32"),
    ("ours", 4, 64, "right", False, "float32"),
    ("ours", 2, 256, "left", True, "float64"),
    ("GPT-2 small", 1, 128, None, True, "float32"),
    ("GPT-2 small", 2, 128, "left", True, "float32"),
]
BIG = {"vocab_size": 16_384, "context_len": 256, "n_head": 8, "n_embd": 512}
WATCHED = """
import sys, threading
import torch
from llm_from_scratch.gpt import load_gpt2

def anonymous():
    with open("/proc/self/status") as file:
        line = next(x for x in file if x.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

load_gpt2(sys.argv[1])  # whatever torch imports on the way
start = peak = anonymous()
done = threading.Event()

def watch():
    global peak
    while not done.wait(0.0005):
        peak = max(peak, anonymous())

thread = threading.Thread(target=watch)
thread.start()
model = load_gpt2(sys.argv[2])
done.set()
thread.join()
peak = max(peak, anonymous())
print(sum(p.nbytes for p in model.parameters()), peak - start)
"""


def random_model(config: GPTConfig, dtype: torch.dtype) -> GPT:
    "Every weight drawn, biases and norms too: a forgotten one would show."
    generator = torch.Generator().manual_seed(0)
    model = GPT(config, generator=generator)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.empty_like(weight)
            weight.add_(noise.normal_(0, 0.05, generator=generator))
    return model.to(dtype).eval()


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    "The largest difference, as a share of the largest number."
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def gradients_apart(model: GPT, hf, folder: Path) -> float:
    "Gradients travel under the names of weights: saved, then loaded."
    grads = {name: p.grad.contiguous() for name, p in hf.named_parameters()}
    save_file(grads, folder / "model.safetensors")
    wanted = dict(load_gpt2(folder).named_parameters())
    largest = max(x.abs().max() for x in wanted.values())
    found = dict(model.named_parameters())
    off = [(found[k].grad - x).abs().max() for k, x in wanted.items()]
    return (max(off) / largest).item()


def own_gradients_apart(one, other) -> float:
    "The same between transformers and transformers."
    pairs = list(zip(one.parameters(), other.parameters(), strict=True))
    off = max((a.grad - b.grad).abs().max() for a, b in pairs)
    return (off / max(b.grad.abs().max() for _, b in pairs)).item()


def compare(size, B, T, side, tied, kind) -> dict:
    "One line of the table."
    import transformers

    config = GPTConfig(**SIZES[size], tied=tied)
    model = random_model(config, getattr(torch, kind))
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(config.vocab_size, (2, B, T), generator=draw)
    ids, targets = ids
    lengths = torch.tensor([T, *torch.randint(1, T + 1, (B - 1,))])
    mask = torch.arange(T) < lengths[:, None]
    mask = mask.flip(1) if side == "left" else mask
    mask = mask if side else torch.ones(B, T, dtype=torch.bool)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    logits, both = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = save_gpt2(model, Path(name) / "model")
        for way in ("eager", "sdpa"):
            hf = transformers.GPT2LMHeadModel.from_pretrained(
                folder, attn_implementation=way, dtype=getattr(torch, kind)
            ).eval()
            options = {"attention_mask": mask.long(), "position_ids": places}
            options = options if side else {}
            logits[way] = hf(ids, **options).logits[mask]
            cross_entropy(logits[way], targets[mask]).backward()
            both[way] = hf
        ours = model(ids, mask=mask if side else None)[mask]
        cross_entropy(ours, targets[mask]).backward()
        gradients = gradients_apart(model, both["sdpa"], folder)
    return {
        "model": size,
        "parameters": count_parameters(config),
        "B": B,
        "T": T,
        "padding": side or "none",
        "tied": tied,
        "dtype": kind,
        "largest_logit": ours.abs().max().item(),
        "logits": apart(ours, logits["eager"]),
        "gradients": gradients,
        "theirs": apart(logits["sdpa"], logits["eager"]),
        "their_gradients": own_gradients_apart(both["eager"], both["sdpa"]),
        "same_choice": (ours.argmax(-1) == logits["eager"].argmax(-1))
        .double()
        .mean()
        .item(),
    }


def measure_loading(n_layer: int = 12) -> dict[str, float]:
    "How much memory a model takes while it is loaded, in a fresh process."
    if sys.platform != "linux":
        return {}
    config = GPTConfig(**BIG, n_layer=n_layer)
    tiny = GPTConfig(
        vocab_size=9, context_len=4, n_layer=1, n_head=1, n_embd=4
    )
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / "tiny", Path(name) / "large"]
        for each, folder in zip((tiny, config), folders, strict=True):
            save_gpt2(GPT(each), folder)
        call = [sys.executable, "-c", WATCHED, *map(str, folders)]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
    size, peak = map(int, done.stdout.split())
    table_bytes = 4 * config.vocab_size * config.n_embd
    return {
        "model_bytes": size,
        "predicted_bytes": 4 * count_parameters(config),
        "largest_tensor_bytes": table_bytes,
        "peak_bytes": peak,
        "ratio": peak / size,
    }


def main() -> None:
    "Compare, print and record."
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    cases = [compare(*case) for case in CASES]
    rows = [("model", "B, T", "padding", "dtype", "logits", "gradients")]
    rows += [
        (
            x["model"],
            f"{x['B']}, {x['T']}",
            x["padding"],
            x["dtype"],
            f"{x['logits']:.1e}",
            f"{x['gradients']:.1e}",
        )
        for x in cases
    ]
    table(rows)
    loading = measure_loading()
    print(json.dumps(loading))
    packages = ("torch", "transformers", "safetensors")
    versions = {name: importlib.metadata.version(name) for name in packages}
    worst = {
        f"{what}_{kind}": max(x[what] for x in cases if x["dtype"] == kind)
        for what in ("logits", "gradients", "theirs", "their_gradients")
        for kind in ("float32", "float64")
    }
    about = {"name": "random weights and ids"}
    result = {"versions": versions, "threads": 2, "worst": worst}
    record(
        "gpt2_parity", about, {**result, "cases": cases, "loading": loading}
    )


if __name__ == "__main__":
    main()
