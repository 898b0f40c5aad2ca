"""How well a model predicts documents: bits per byte, and how sure that is.

Knows models and batches. Knows nothing of where documents come from.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100  # a target that is padding, as in torch


@dataclass(frozen=True)
class Score:
    "How well documents are predicted."

    bits_per_byte: float  # of their text
    margin: float  # half of a 95 % interval; over documents
    loss: float  # nats a target
    documents: int
    targets: int

    def __float__(self) -> float:
        return self.bits_per_byte

    def __str__(self) -> str:
        return (
            f"{self.bits_per_byte:.3f} ± {self.margin:.3f} bits per byte on "
            f"{self.documents} documents"
        )


@torch.no_grad()
def document_losses(
    model: nn.Module,  # ids (B, T) → logits (B, T, V)
    batches: Iterable[tuple[Tensor, Tensor]],  # a document a row; -100
) -> tuple[Tensor, Tensor]:  # nats and targets of each, both (N,)
    "Predict documents, with the model in evaluation mode meanwhile."
    was_training, found = model.training, []
    device = next(model.parameters()).device
    model.eval()
    with torch.compiler.set_stance("force_eager"):
        for x, y in batches:
            counts = (y != IGNORED).sum(1)
            x, y = (part[:, : counts.max()].to(device) for part in (x, y))
            logits = model(x).float().transpose(1, 2)  # (B, V, T)
            losses = F.cross_entropy(logits, y, reduction="none")
            found.append((losses.double().sum(1).cpu(), counts))
    model.train(was_training)
    nats, counts = (torch.cat(part) for part in zip(*found, strict=True))
    return nats, counts


def evaluate(
    model: nn.Module,  # ids (B, T) → logits (B, T, V)
    batches: Iterable[tuple[Tensor, Tensor]],  # a document a row; -100
    sizes: Iterable[int],  # UTF-8 bytes of each document's text, (N,)
) -> Score:
    """Bits per byte of documents, and how sure the figure is.

    The interval counts documents as drawn at random: that of a ratio
    of two sums (Cochran 1977, section 6.4). Raises `ValueError` if
    there are other documents than sizes.
    """
    nats, counts = document_losses(model, batches)
    sizes = torch.as_tensor(list(sizes), dtype=torch.double)
    if len(nats) != len(sizes):
        raise ValueError(f"{len(nats)} documents, but {len(sizes)} sizes")
    bits, n = nats / math.log(2), len(nats)
    rate = bits.sum() / sizes.sum()
    spread = (bits - rate * sizes).square().sum() * n / max(n - 1, 1)
    margin = 1.96 * spread.sqrt() / sizes.sum()
    loss, total = nats.sum() / counts.sum(), int(counts.sum())
    return Score(rate.item(), margin.item(), loss.item(), n, total)
