"""Are our codes and scales those of bitsandbytes, torchao and gguf?

All matrices of the storyteller, as floats, through both. Counts what
differs; the kernels of torch are held against the layers by hand.

    python -m bench.quantization_parity

Needs bitsandbytes, torchao and gguf; they are not among what the tests
require.
"""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import machine, record
from llm_from_scratch import kernels
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.quantization import (
    BLOCK,
    QuantConfig,
    QuantizedLinear,
    dynamic_values,
    quantize_nf4,
    quantize_scales,
    quantize_tensor,
    to_groups,
)


def differ(ours: Tensor, theirs: Tensor) -> int:
    "How many numbers are not equal."
    return int((ours.flatten() != theirs.flatten()).sum())


def beside_ties(
    x: Tensor, ours: Tensor, theirs: Tensor, borders: Tensor
) -> int:
    "How many that differ do not lie on a border, up to float32's rounding."
    x = x.flatten()[ours.flatten() != theirs.flatten()]
    off = (x[:, None] - borders).abs().amin(1) if len(x) else x
    return int((off > 4 * torch.finfo(torch.float32).eps * x.abs()).sum())


def nf4(weight: Tensor) -> dict[str, int]:
    "bitsandbytes' NF4, and its double quantization."
    import bitsandbytes.functional as bnb

    codes, absmax = quantize_nf4(weight)
    how = {"blocksize": 64, "quant_type": "nf4"}
    told, state = bnb.quantize_4bit(weight, **how)
    theirs = torch.stack((told.flatten() >> 4, told.flatten() & 15), 1)
    found = {
        "nf4_codes": differ(codes, theirs),
        "nf4_absmax": differ(absmax, state.absmax),
    }
    _, state = bnb.quantize_4bit(weight, compress_statistics=True, **how)
    scales, own, offset = quantize_scales(absmax)
    x = absmax.flatten() - offset
    x = x * (1 / own).repeat_interleave(BLOCK)[: len(x)]
    theirs = state.absmax.flatten()
    levels = dynamic_values()
    farther = ((x - levels[i.long()]).abs() for i in (theirs, scales))
    return found | {
        "nf4_double_ours_nearer": int(torch.gt(*farther).sum()),
        "nf4_double_codes": differ(scales, state.absmax),
        "nf4_double_scales": differ(own, state.state2.absmax),
        "nf4_double_offset": differ(offset, state.offset.view(1)),
    }


def int8(weight: Tensor) -> dict[str, int]:
    "torchao's INT8 weights."
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    layer = nn.Linear(*weight.T.shape, bias=False)
    layer.weight.data = weight.clone()
    quantize_(layer, Int8WeightOnlyConfig())
    codes, scale, _ = quantize_tensor(weight, steps=127.5)
    return {
        "torchao_codes": differ(codes, layer.weight.qdata),
        "torchao_scales": differ(scale, layer.weight.scale),
    }


def blocks(weight: Tensor) -> dict[str, int]:
    "The blocks of llama.cpp: 32 codes and a scale of 16 bits."
    import gguf

    found = {}
    formats = {"Q8_0": (34, {}), "Q4_0": (18, {"bits": 4, "how": "corner"})}
    for name, (size, how) in formats.items():
        kind = getattr(gguf.GGMLQuantizationType, name)
        told = torch.from_numpy(gguf.quants.quantize(weight.numpy(), kind))
        told = told.reshape(-1, size)
        scales = told[:, :2].contiguous().view(torch.float16)
        codes, scale, _ = quantize_tensor(weight, group_size=32, **how)
        theirs = told[:, 2:].contiguous().view(torch.int8)
        if name == "Q4_0":
            both = (told[:, 2:] & 15, told[:, 2:] >> 4)
            theirs = torch.cat(both, 1).to(torch.int8) - 8
        found[f"{name}_codes"] = differ(codes, theirs)
        steps = to_groups(weight, 32) / scale[..., None]
        halves = torch.arange(-128, 128) + 0.5
        found[f"{name}_beside_ties"] = beside_ties(
            steps, codes, theirs, halves
        )
        found[f"{name}_scales"] = differ(scale.half(), scales)
    return found


def packed(weight: Tensor) -> dict[str, float]:
    "torch's kernels: the largest difference, of the largest result."
    found = {}
    for scheme in ("int8", "int8_dynamic", "int4"):
        layer = QuantizedLinear(*weight.T.shape, QuantConfig(scheme=scheme))
        layer.fill(weight)
        x = torch.randn(16, weight.shape[1]).bfloat16().float()
        wanted = kernels.by_hand(layer)(x)
        for name, product in kernels.products(layer).items():
            off = (product(x) - wanted).abs().max() / wanted.abs().max()
            found[name] = off.item()
    return found


def main() -> None:
    "Compare every matrix, and write the record."
    torch.manual_seed(0)
    model, _, _ = load_checkpoint(dtype=torch.float32)
    weights = [
        part.weight.detach()
        for part in model.modules()
        if isinstance(part, nn.Linear)
    ]
    different: dict[str, int] = {}
    worst: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for weight in weights:
            for compare in (nf4, int8, blocks):
                for name, count in compare(weight).items():
                    different[name] = different.get(name, 0) + count
            for name, off in packed(weight).items():
                worst[name] = max(worst.get(name, 0.0), off)
    names = ("torch", "bitsandbytes", "torchao", "gguf")
    found = {
        "versions": {name: version(name) for name in names},
        "matrices": len(weights),
        "weights": sum(w.numel() for w in weights),
        "different": different,
        "kernels_off": worst,
    }
    print(found)
    record("quantization_parity", {"name": "the storyteller"}, {
        "machine": machine(), **found,
    })  # fmt: skip


if __name__ == "__main__":
    main()
