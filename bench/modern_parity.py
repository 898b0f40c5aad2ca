"""How far are our Llama and Qwen3 and those of transformers apart?

Logits and gradients of both on the same random weights: grouped and not,
tied and untied, padded and not, with stretched positions, in float32 and
float64. The yardstick is how far transformers is from itself when it
computes attention in its other way. In float64 transformers still norms
in float32; there its norm is replaced by the formula in float64, else
the comparison would end at float32's rounding.

Then steps of Muon beside `torch.optim.Muon`, and the bits per byte of a
small Llama that others trained, where the folder of real data has it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import data_folder, record, table
from bench._llama2c import Pieces, bits_per_byte, read_model
from llm_from_scratch.modern import (
    ModernConfig,
    ModernGPT,
    Muon,
    modern_tensors,
    save_modern,
)

OURS = {"vocab_size": 4096, "context_len": 256, "n_layer": 6}
WIDE = {"vocab_size": 16_384, "context_len": 512, "n_layer": 8}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
QWEN = OURS | {"n_head": 4, "n_kv_head": 2, "n_embd": 256}
LLAMA = QWEN | {"n_head": 8, "qk_norm": False}
MODELS = {
    "Qwen3": QWEN,
    "Qwen3, untied, wide heads": QWEN | {"tied": False, "head_size": 128},
    "Qwen3, 8 layers": WIDE | {"n_head": 8, "n_kv_head": 2, "n_embd": 512},
    "Llama": LLAMA | {"n_kv_head": 8},
    "Llama, grouped, untied": LLAMA | {"tied": False},
    "Llama, stretched": LLAMA | {"rope_base": 5e5, "rope_scaling": LLAMA3},
    "Llama, linear": LLAMA
    | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
}
CASES = [  # model, B, T, padding, dtype
    ("Qwen3", 4, 64, None, "float32"),
    ("Qwen3", 4, 64, None, "float64"),
    ("Qwen3", 4, 64, "left", "float32"),
    ("Qwen3", 2, 256, "right", "float64"),
    ("Qwen3, untied, wide heads", 2, 128, None, "float32"),
    ("Qwen3, untied, wide heads", 2, 128, "left", "float64"),
    ("Qwen3, 8 layers", 1, 256, None, "float32"),
    ("Llama", 4, 64, None, "float32"),
    ("Llama", 4, 64, "left", "float64"),
    ("Llama, grouped, untied", 4, 64, None, "float64"),
    ("Llama, grouped, untied", 4, 64, "right", "float32"),
    ("Llama, stretched", 2, 256, None, "float32"),
    ("Llama, stretched", 2, 256, "left", "float64"),
    ("Llama, linear", 2, 256, None, "float32"),
]


def random_model(config: ModernConfig, dtype: torch.dtype) -> ModernGPT:
    "Every weight drawn, norms too: a forgotten one would show."
    generator = torch.Generator().manual_seed(0)
    model = ModernGPT(config, generator=generator)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.empty_like(weight)
            weight.add_(noise.normal_(0, 0.05, generator=generator))
    return model.to(dtype).eval()


def apart(ours: Tensor, theirs: Tensor) -> float:
    "The largest difference, as a share of the largest number."
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    "Under transformers' names, whoever's model it is."
    own = dict(model.named_parameters())
    if not isinstance(model, ModernGPT):
        return {name: p.grad for name, p in own.items()}
    pairs = zip(modern_tensors(model), model.state_dict(), strict=True)
    return {theirs: own[ours].grad for theirs, ours in pairs}


def gradients_apart(one: nn.Module, other: nn.Module) -> float:
    "The largest difference of any, as a share of the largest gradient."
    found, wanted = gradients(one), gradients(other)
    assert found.keys() == wanted.keys()
    off = max((found[k] - x).abs().max() for k, x in wanted.items())
    return (off / max(x.abs().max() for x in wanted.values())).item()


@contextlib.contextmanager
def exact_norms():
    "transformers' norms in the dtype that they are given."
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    def forward(self, x):
        size = x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon
        return self.weight * x * torch.rsqrt(size)

    kinds = (LlamaRMSNorm, Qwen3RMSNorm)
    before = [kind.forward for kind in kinds]
    for kind in kinds:
        kind.forward = forward
    try:
        yield
    finally:
        for kind, old in zip(kinds, before, strict=True):
            kind.forward = old


def compare(name, B, T, side, kind) -> dict:
    "One line of the table."
    import transformers

    config, dtype = ModernConfig(**MODELS[name]), getattr(torch, kind)
    model = random_model(config, dtype)
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(config.vocab_size, (2, B, T), generator=draw)
    ids, targets = ids
    rest = torch.randint(1, T + 1, (B - 1,), generator=draw)
    lengths = torch.tensor([T, *rest])
    mask = torch.arange(T) < lengths[:, None]
    mask = mask.flip(1) if side == "left" else mask
    mask = mask if side else torch.ones(B, T, dtype=torch.bool)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    both, logits = {}, {}
    exact = exact_norms() if kind == "float64" else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as top, exact:
        folder = save_modern(model, Path(top) / "model")
        for way in ("eager", "sdpa"):
            hf = transformers.AutoModelForCausalLM.from_pretrained(
                folder, attn_implementation=way, dtype=dtype
            ).eval()
            options = {"attention_mask": mask.long(), "position_ids": places}
            options = options if side else {}
            logits[way] = hf(ids, **options).logits[mask]
            cross_entropy(logits[way], targets[mask]).backward()
            both[way] = hf
    ours = model(ids, mask=mask if side else None)[mask]
    cross_entropy(ours, targets[mask]).backward()
    cached = in_pieces(model, ids, mask if side else None)[mask]
    same = ours.argmax(-1) == logits["sdpa"].argmax(-1)
    # in float64 their eager way takes the softmax in float32
    other = "eager" if kind == "float32" else "sdpa"
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "B": B,
        "T": T,
        "padding": side or "none",
        "dtype": kind,
        "largest_logit": ours.abs().max().item(),
        "logits": apart(ours, logits["sdpa"]),
        "gradients": gradients_apart(model, both["sdpa"]),
        "cached": apart(cached, logits["sdpa"]),
        "theirs": apart(logits[other], logits["sdpa"]),
        "their_gradients": gradients_apart(both[other], both["sdpa"]),
        "same_choice": same.double().mean().item(),
    }


@torch.inference_mode()
def in_pieces(model: ModernGPT, ids: Tensor, mask: Tensor | None) -> Tensor:
    "Logits through a cache: a half, single tokens, the rest."
    B, T = ids.shape
    cuts = [T // 2, 1, 1, T - T // 2 - 2]
    cache, parts, end = model.new_cache(B, T), [], 0
    for part in ids.split(cuts, 1):
        end += part.shape[1]
        seen = None if mask is None else mask[:, :end]
        parts.append(model(part, cache, mask=seen))
    return torch.cat(parts, 1)


def compare_muon(steps: int = 50) -> dict[str, float]:
    "Ours in bfloat16 beside torch's, from the same gradients."
    worst = {}
    for adjust in ("original", "match_rms_adamw"):
        draw = torch.Generator().manual_seed(0)
        shapes = [(256, 256), (256, 704), (704, 256), (256, 256), (64, 256)]
        start = [torch.randn(shape, generator=draw) for shape in shapes]
        ours = [nn.Parameter(x.clone()) for x in start]
        theirs = [nn.Parameter(x.clone()) for x in start]
        options = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
        own = Muon(ours, **options, adjust=adjust, dtype=torch.bfloat16)
        other = torch.optim.Muon(theirs, **options, adjust_lr_fn=adjust)
        for _ in range(steps):
            for a, b in zip(ours, theirs, strict=True):
                a.grad = torch.randn(a.shape, generator=draw)
                b.grad = a.grad.clone()
            own.step()
            other.step()
        pairs = list(zip(ours, theirs, strict=True))
        worst[adjust] = max(apart(a.detach(), b.detach()) for a, b in pairs)
    return {"steps": steps, "matrices": len(shapes), **worst}


def trained_llama() -> dict:
    "The 260,032 parameters that came with llama2.c."
    folder = data_folder()
    model = read_model(folder / "weights" / "stories260K.bin")
    pieces = Pieces(folder / "weights" / "tok512.bin", 512)
    path = folder / "tinystories" / "valid.txt"
    stories = path.read_text("utf-8").split("<|endoftext|>")[:200]
    found = bits_per_byte(model, pieces, [x.strip() for x in stories])
    return {"parameters": 260_032, **found}


def main() -> None:
    "Compare, print and record."
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
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
    muon, llama = compare_muon(), trained_llama()
    print(json.dumps({"muon": muon, "llama": llama}))
    packages = ("torch", "transformers", "safetensors")
    versions = {name: importlib.metadata.version(name) for name in packages}
    measures = ("logits", "gradients", "cached", "theirs", "their_gradients")
    worst = {
        f"{what}_{kind}": max(x[what] for x in cases if x["dtype"] == kind)
        for what in measures
        for kind in ("float32", "float64")
    }
    about = {"name": "random weights and ids"}
    result = {"versions": versions, "threads": 2, "worst": worst}
    result |= {"cases": cases, "muon": muon, "trained_llama": llama}
    record("modern_parity", about, result)


if __name__ == "__main__":
    main()
