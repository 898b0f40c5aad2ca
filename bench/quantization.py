"""What do fewer bits cost, in bits per byte, and what do they save?

Quality: the storyteller on held-out TinyStories, each scheme against the
float model on the same stories, so that the interval of the *difference*
is that of pairs. Memory: the peak of a process that loads the file.
Speed: batch 1, greedy, models of 256 and 512 channels with random
weights, in turns with transformers' `generate` on the same weights, and
each kernel against the float product, by shape and rows.

    python -m bench.quantization [quality] [memory] [speed] [layers]
        [--quick] [--threads N]

Without names, all parts. What is measured is kept arm by arm in
`runs/quantization.json`; `--quick` measures little and keeps nothing.
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
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import ROOT, data_folder, machine, record, spread, table
from llm_from_scratch import kernels
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.data import TokenLoader, read_stories, write_tokens
from llm_from_scratch.quantization import (
    QuantConfig,
    QuantizedLinear,
    quantize,
    save_quantized,
    storage,
)
from llm_from_scratch.scoring import document_losses

ARMS = {  # name: the scheme; None: as it is
    "float32": None,
    "int8": {"scheme": "int8"},
    "int8 g64": {"scheme": "int8", "group_size": 64},
    "int8 dynamic": {"scheme": "int8_dynamic"},
    "int8 dynamic, 6": {"scheme": "int8_dynamic", "threshold": 6.0},
    "int4 g32": {"scheme": "int4"},
    "int4 g64": {"scheme": "int4", "group_size": 64},
    "nf4": {"scheme": "nf4"},
    "nf4, plain scales": {"scheme": "nf4", "double_quant": False},
    "int4 g32, int4 table": {"scheme": "int4", "table": "int4"},
    "int4 g32, float table": {"scheme": "int4", "table": "float"},
    "nf4, int4 table": {"scheme": "nf4", "table": "int4"},
}
DOCUMENTS, TARGET = 1000, 0.001


def made(name: str, model: nn.Module) -> nn.Module:
    "The model of an arm."
    how = ARMS[name]
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
            own = made(name, model)
            options = {"mode": "documents", "shuffle": False, "epochs": 1}
            loader = TokenLoader(file, 8, length, n_documents=count, **options)
            nats, _ = document_losses(own, loader)
            bits = nats / math.log(2)
            base = bits if base is None else base
            numbers, size = storage(own)
            kept[name] = {
                "config": ARMS[name],
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
