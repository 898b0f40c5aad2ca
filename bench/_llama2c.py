"""A reader of llama2.c's files: a trained Llama, and its tokenizer.

The format, as far as it matters here. Weights: seven int32 (channels,
MLP width, layers, heads, key/value heads, vocabulary, context), then
float32 tensors, each for all layers at once. A positive vocabulary says
that the head is the embedding. Tokenizer: an int32, then per token a
float32 score, an int32 length and its bytes.

Queries and keys are in the interleaved layout. Reordering the rows of
their maps, even channels before odd ones within each head, gives the
half layout: the model is the same.
"""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llm_from_scratch.modern import ModernConfig, ModernGPT

BEGIN = 1  # the id before every text
FIRST_BYTE = 3  # ids 3 … 258 are single bytes


def to_half(
    weight: Tensor,  # of q_proj or k_proj, (H D, C)
    n_head: int,  # H
) -> Tensor:  # the same with rows reordered
    "From interleaved pairs to halves."
    rows = weight.view(n_head, -1, 2, weight.shape[1])  # (H, D/2, 2, C)
    return rows.transpose(1, 2).reshape(weight.shape)  # (H D, C)


def read_model(path: Path) -> ModernGPT:
    "The model, in evaluation mode."
    raw = path.read_bytes()
    C, M, L, H, K, V, context = struct.unpack("<7i", raw[:28])
    config = ModernConfig(
        vocab_size=abs(V),
        context_len=context,
        n_layer=L,
        n_head=H,
        n_kv_head=K,
        n_embd=C,
        mlp_width=M,
        qk_norm=False,
        tied=V > 0,
        norm_eps=1e-5,
    )
    D, place = C // H, 28

    def take(*shape: int) -> Tensor:
        nonlocal place
        size = int(np.prod(shape))
        part = np.frombuffer(raw, "<f4", size, place).reshape(shape)
        place += part.nbytes
        return torch.from_numpy(part.copy())

    model = ModernGPT(config)
    state = {"token_embedding.weight": take(abs(V), C)}
    for name, *shape in (
        ("norm_1", C),
        ("attention.q_proj", H * D, C),
        ("attention.k_proj", K * D, C),
        ("attention.v_proj", K * D, C),
        ("attention.out_proj", C, H * D),
        ("norm_2", C),
        ("mlp.gate", M, C),
        ("mlp.down", C, M),
        ("mlp.up", M, C),
    ):
        for i, part in enumerate(take(L, *shape)):
            heads = {"q": H, "k": K}.get(name.split(".")[-1][0])
            if "proj" in name and heads and "out" not in name:
                part = to_half(part, heads)
            state[f"blocks.{i}.{name}.weight"] = part
    state["norm.weight"] = take(C)
    take(2, context, D // 2)  # a table of cosines and sines
    if V < 0:
        state["head.weight"] = take(-V, C)
    if place != len(raw):
        raise ValueError(f"{path}: {len(raw) - place} bytes are left over")
    model.load_state_dict(state)
    return model.eval()


class Pieces:
    "The tokenizer: merge the neighbours whose union scores best."

    def __init__(self, path: Path, size: int):
        raw, place = path.read_bytes(), 4
        self.ids: dict[bytes, int] = {}
        self.scores = []
        for i in range(size):
            score, length = struct.unpack_from("<fi", raw, place)
            place += 8 + length
            self.ids.setdefault(raw[place - length : place], i)
            self.scores.append(score)
        self.pieces = {i: piece for piece, i in self.ids.items()}
        self.known: dict[bytes, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Ids, the begin id and a space first.

        No piece has a space inside, so words can be merged one by one.
        """
        ids = [BEGIN]
        for word in (" " + text).split(" ")[1:]:
            if word not in self.known:
                self.known[word] = self.merge(" " + word)
            ids += self.known[word]
        return ids

    def merge(self, word: str) -> list[int]:
        "The ids of one word."
        ids: list[int] = []
        for letter in word:
            raw = letter.encode()
            known = self.ids.get(raw)
            ids += [b + FIRST_BYTE for b in raw] if known is None else [known]
        while True:
            unions = [
                self.ids.get(self.pieces[a] + self.pieces[b])
                for a, b in itertools.pairwise(ids)
            ]
            found = [i for i, x in enumerate(unions) if x is not None]
            if not found:
                return ids
            best = max(found, key=lambda i: self.scores[unions[i]])
            ids[best : best + 2] = [unions[best]]


@torch.inference_mode()
def bits_per_byte(
    model: ModernGPT, pieces: Pieces, stories: list[str]
) -> dict[str, float]:
    "Of the stories that fit into the context, one at a time."
    nats, n_tokens, n_bytes, n_stories = 0.0, 0, 0, 0
    for story in stories:
        ids = torch.tensor([pieces.encode(story)])
        if ids.shape[1] > model.config.context_len:
            continue
        scores = model(ids[:, :-1])[0].log_softmax(-1)
        nats -= scores.gather(1, ids[0, 1:, None]).sum().item()
        n_tokens += ids.shape[1] - 1
        n_bytes += len(story.encode())
        n_stories += 1
    return {
        "stories": n_stories,
        "bits_per_byte": nats / math.log(2) / n_bytes,
        "nats_per_token": nats / n_tokens,
    }
