"""Does the order of norm and sum decide whether a deep stack can be trained?

The same weights stand in two stacks: Post-LN (norm after the sum, the
first Transformer) and Pre-LN (norm on the copy, GPT-2). Both learn the
next byte of stories, at several learning rates, with and without
warm-up, from several seeds. All of that with the unscaled start of the
first Transformer; a last arm starts what is added to the stream smaller
by √(2 layers), as GPT-2 does. `norm_order.py scaled` runs that arm alone
and puts it, with a date and a load of its own, into the record.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import MB, ROOT, corpus, record, stories, table
from llm_from_scratch.attention import attend_fused, set_attention
from llm_from_scratch.block import Block, LayerNorm
from llm_from_scratch.embeddings import Embedding, sinusoids

LAYERS, CHANNELS, HEADS, SYMBOLS = 12, 64, 4, 256
BATCH, LENGTH, STEPS, WARMUP = 8, 64, 400, 100
RATES = [1e-4, 3e-4, 1e-3, 3e-3]
SEEDS = [0, 1, 2]
SIZE = 2 * MB
SCALED_RATES = [1e-3, 3e-3]  # where the unscaled Post-LN does not learn


class PostNormBlock(Block):
    "The first Transformer's order: sum, then norm, on the stream itself."

    def forward(self, x: Tensor) -> Tensor:
        "Both norms cut the way back to the embedding."
        x = self.norm_1(x + self.attention(x))
        return self.norm_2(x + self.mlp(x))


ORDERS = {"Pre-LN": Block, "Post-LN": PostNormBlock}


class Stack(nn.Module):
    "Embedding, sines, blocks of one kind, a norm, a head."

    def __init__(self, kind: type[Block], scaled: bool = False):
        super().__init__()
        self.embedding = Embedding(SYMBOLS, CHANNELS, std=1.0)
        self.positions = sinusoids(LENGTH, CHANNELS)
        blocks = (kind(CHANNELS, HEADS) for _ in range(LAYERS))
        self.blocks = nn.Sequential(*blocks)
        self.norm = LayerNorm(CHANNELS)
        self.head = nn.Linear(CHANNELS, SYMBOLS, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks if scaled else ():
            for part in (block.attention.out_proj, block.mlp.down):
                part.weight.data /= math.sqrt(2 * LAYERS)
        set_attention(self, attend_fused)

    def forward(self, ids: Tensor) -> Tensor:
        "Score each next byte."
        x = self.embedding(ids) + self.positions
        return self.head(self.norm(self.blocks(x)))


def batch(data: Tensor, generator: torch.Generator, size: int = BATCH):
    "Windows at random places, and the bytes that follow."
    starts = torch.randint(
        len(data) - LENGTH, (size,), generator=generator
    ).tolist()
    rows = torch.stack([data[i : i + LENGTH + 1] for i in starts]).long()
    return rows[:, :-1], rows[:, 1:]


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    "Mean surprise in nats."
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def run(
    kind: type[Block],
    rate: float,
    warmup: int,
    seed: int,
    train: Tensor,
    valid: Tensor,
    scaled: bool = False,
) -> dict:
    "Train one stack; the losses, and the loss on text not seen."
    torch.manual_seed(seed)  # the same weights for both orders
    model = Stack(kind, scaled)
    optimizer = torch.optim.Adam(model.parameters(), rate, (0.9, 0.98))
    order = torch.Generator().manual_seed(1000 + seed)  # the same batches
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / max(warmup, 1))
        loss = loss_of(model, *batch(train, order))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        held_out = torch.Generator().manual_seed(7)
        final = loss_of(model, *batch(valid, held_out, 64)).item()
    return {"losses": losses, "valid": final}


def smooth(losses: list[float], width: int = 10) -> list[float]:
    "Means of `width` steps."
    groups = range(0, len(losses), width)
    return [round(statistics.fmean(losses[i : i + width]), 3) for i in groups]


def unigram(train: Tensor, valid: Tensor) -> float:
    "What the frequencies of the bytes alone would give, in nats."
    share = (torch.bincount(train.long(), minlength=SYMBOLS) + 1).double()
    return -(share / share.sum()).log()[valid.long()].mean().item()


def as_bytes(text: str) -> Tensor:
    "One integer a byte."
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def arm(
    name: str,
    rate: float,
    warmup: int,
    texts: tuple[Tensor, Tensor],
    scaled: bool = False,
) -> dict:
    "One order at one rate, from all seeds."
    results = [
        run(ORDERS[name], rate, warmup, seed, *texts, scaled) for seed in SEEDS
    ]
    finals = [result["valid"] for result in results]
    row = {
        "order": name,
        "warmup": warmup,
        "rate": rate,
        "valid": [round(value, 3) for value in finals],
        "mean": round(statistics.fmean(finals), 3),
        "std": round(statistics.stdev(finals), 3),
        "losses": [smooth(result["losses"]) for result in results],
    }
    how = "scaled" if scaled else "unscaled"
    print(name, how, warmup, rate, row["mean"], row["valid"], flush=True)
    return row


def minutes_since(started: float) -> float:
    "For the record."
    return round((time.perf_counter() - started) / 60, 1)


def scaled_arm(texts: tuple[Tensor, Tensor]) -> dict:
    "Both orders from the scaled start, without warm-up."
    started = time.perf_counter()
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0], 2),
        "initialisation": "Xavier; out_proj and down divided by √(2 layers)",
    }
    runs = [
        arm(name, rate, 0, texts, True)
        for rate in SCALED_RATES
        for name in ORDERS
    ]
    return about | {"minutes": minutes_since(started), "runs": runs}


def main() -> None:
    "Train them all, or the scaled arm alone, and write the record."
    torch.set_num_threads(1)  # as every benchmark here
    text = stories("train", SIZE)
    texts = as_bytes(text), as_bytes(stories("valid", MB // 2))
    if "scaled" in sys.argv[1:]:
        path = ROOT / "runs" / "norm_order.json"
        known = json.loads(path.read_text("utf-8"))
        known["scaled"] = scaled_arm(texts)
        shown = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
        path.write_text(shown, encoding="utf-8", newline="\n")
        return
    started = time.perf_counter()
    runs = [
        arm(name, rate, warmup, texts)
        for name in ORDERS
        for warmup in (0, WARMUP)
        for rate in RATES
    ]
    minutes = minutes_since(started)
    model = Stack(Block)
    result = {
        "task": "next byte, loss in nats",
        "layers": LAYERS,
        "channels": CHANNELS,
        "heads": HEADS,
        "batch": BATCH,
        "length": LENGTH,
        "steps": STEPS,
        "warmup": WARMUP,
        "optimizer": "Adam, betas 0.9 and 0.98, no clipping, no decay",
        "initialisation": "Xavier, no residual scaling",
        "parameters": sum(p.numel() for p in model.parameters()),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.split("+")[0],
        "seeds": SEEDS,
        "bytes_seen": BATCH * LENGTH * STEPS,
        "smoothed_over": 10,
        "uniform": round(math.log(SYMBOLS), 3),
        "unigram": round(unigram(*texts), 3),
        "minutes": minutes,
        "runs": runs,
        "scaled": scaled_arm(texts),
    }
    rows = [("order", "warm-up", "rate", "valid", "seeds")]
    for row in runs + result["scaled"]["runs"]:
        shown = f"{row['mean']:.3f} ± {row['std']:.3f}"
        order, warmup, rate = row["order"], row["warmup"], row["rate"]
        rows.append((order, warmup, rate, shown, row["valid"]))
    table(rows)
    record("norm_order", corpus("TinyStories, train", text), result)


if __name__ == "__main__":
    main()
