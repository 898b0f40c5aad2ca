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
    margin: float  # half of a 95 % interval, over documents; nan: of one
    loss: float  # nats a target
    documents: int
    targets: int

    def __float__(self) -> float:
        return self.bits_per_byte

    def __str__(self) -> str:
        return (
            f"{self.bits_per_byte:.3f} ± {write_margin(self.margin)} bits per "
            f"byte on {self.documents} documents"
        )


def write_margin(
    margin: float,  # nan: not known
) -> str:
    "Three digits, or a question mark."
    return "?" if math.isnan(margin) else f"{margin:.3f}"


@torch.no_grad()
def document_losses(
    model: nn.Module,  # ids (B, T) → logits (B, T, V)
    batches: Iterable[tuple[Tensor, Tensor]],  # a document a row; -100
) -> tuple[Tensor, Tensor]:  # nats and targets of each, both (N,)
    """Predict documents, with the model in evaluation mode meanwhile.

    Raises `ValueError` if there is no batch.
    """
    was_training, found = model.training, []
    device = next(model.parameters()).device
    model.eval()
    with torch.compiler.set_stance("force_eager"):
        for x, y in batches:
            counted = y != IGNORED
            behind = int(counted.any(0).flip(0).int().argmax())  # padding
            width = y.shape[1] - behind
            x, y = (part[:, :width].to(device) for part in (x, y))
            logits = model(x).float().transpose(1, 2)  # (B, V, T)
            losses = F.cross_entropy(logits, y, reduction="none")
            nats = losses.cpu().double().sum(1)  # Apple's GPUs have no double
            found.append((nats, counted.sum(1)))
    model.train(was_training)
    if not found:
        raise ValueError("batches is empty: give one document or more")
    nats, counts = (torch.cat(part) for part in zip(*found, strict=True))
    return nats, counts


def evaluate(
    model: nn.Module,  # ids (B, T) → logits (B, T, V)
    batches: Iterable[tuple[Tensor, Tensor]],  # a document a row; -100
    sizes: Iterable[int],  # UTF-8 bytes of each document's text, (N,)
) -> Score:
    """Bits per byte of documents, and how sure the figure is.

    The interval counts documents as drawn at random: that of a ratio
    of two sums (Cochran 1977, section 6.4). Below some 30 documents it
    is too narrow; of one there is none. Raises `ValueError` if there are
    no documents, or others than sizes.
    """
    nats, counts = document_losses(model, batches)
    sizes = torch.as_tensor(list(sizes), dtype=torch.double)
    if len(nats) != len(sizes):
        raise ValueError(f"{len(nats)} documents, but {len(sizes)} sizes")
    bits, n = nats / math.log(2), len(nats)
    rate = bits.sum() / sizes.sum()
    spread = (bits - rate * sizes).square().sum() * n / max(n - 1, 1)
    margin = (1.96 * spread.sqrt() / sizes.sum()).item() if n > 1 else math.nan
    loss, total = nats.sum() / counts.sum(), int(counts.sum())
    return Score(rate.item(), margin, loss.item(), n, total)
