"""Writes with a model token by token, with as little work as torch allows.

Knows how GPT and ModernGPT are built inside. Knows nothing of sampling
or text: `generation` does, and takes a `Decoder` wherever it takes a
model.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KVCache
from .block import MLP, gelu
from .devices import can_compile, compile_options
from .gpt import GPT
from .kernels import is_quantized, loops, vector_product
from .modern import ModernGPT, RMSNorm, SquaredReLU, SwiGLU

Product = Callable[[Tensor], Tensor]  # a vector, times a matrix


class Decoder:
    """The scores of a model, with less to do for one more token.

    One text that grows by one token needs no masks, no checks and no
    axes for batch and time: vectors go through fused matrices. All other
    calls go to the model itself, so that prompts and batches work as
    before. Some weights are copied: after training, make a new one.

    Each step still makes a hundred calls. With `compiled`, torch writes
    one function for all of them, which takes seconds at the first token
    and pays for long texts. Raises `TypeError` for another kind of model,
    and `ValueError` where torch cannot compile.
    """

    def __init__(
        self,
        model: GPT | ModernGPT,  # in evaluation mode from now on
        *,
        bags: bool | None = None,  # as in `product`; None: where it pays
        compiled: bool = False,  # `bags` are not used then
    ):
        if not isinstance(model, GPT | ModernGPT):
            raise TypeError(
                f"model must be a GPT or a ModernGPT, got "
                f"{type(model).__name__}: give it to generate as it is"
            )
        weight, table = model.norm.weight, model.token_embedding
        if compiled and not can_compile(weight.device.type):
            told = "compiled=True: torch finds no compiler here"
            raise ValueError(f"{told}; `llmfs doctor` says what is missing")
        self.model, self.config = model.eval(), model.config
        self.token_embedding = model.token_embedding
        self.modern = isinstance(model, ModernGPT)
        self.parts = list(model.modules())
        bags = pays(weight) if bags is None else bags
        self.compiled = compiled
        join = sums if compiled else partial(product, bags=bags)
        with torch.inference_mode():
            self.layers = [Layer(x, join, compiled) for x in model.blocks]
            self.norm = normer(model.norm, compiled)
            self.head = join([model.head or table])
            self.look_up = table
            if not hasattr(table, "table"):  # no QuantizedEmbedding
                self.look_up = lambda id: F.embedding(id, table.weight)
            n = model.config.context_len
            every = torch.arange(n, device=weight.device)
            if self.modern:
                self.cos, self.sin = model.rotary(every[None])[:, 0, 0]
        if compiled:
            self.places = [
                (every[i : i + 1], every[: i + 1]) for i in range(n)
            ]
            for _, seen in self.places[1:]:
                torch._dynamo.maybe_mark_dynamic(seen, 0)
            options = compile_options(weight.device.type, checked=False)
            self.run = torch.compile(self.run, options=options, fullgraph=True)

    def __call__(
        self,
        ids: Tensor,  # token ids, (B, T)
        cache: list[KVCache] | None = None,  # of `new_cache`; None: none
        *,
        mask: Tensor | None = None,  # True = a token, not padding, (B, S)
    ) -> Tensor:  # scores of each next token, (B, T, V)
        "What the model says, to rounding; single ids are not checked."
        single = ids.shape == (1, 1) and mask is None
        if not (single and cache and cache[0].length):
            return self.model(ids, cache, mask=mask)
        room = min(self.config.context_len, cache[0].k.shape[2])
        if cache[0].length >= room:
            return self.model(ids, cache)  # which says what is wrong
        with torch.inference_mode():
            return self.step(ids[0], cache)[None, None]  # (1, 1, V)

    def modules(self) -> Iterator[nn.Module]:
        "The model's, so that `generate` can switch off their dropout."
        return iter(self.parts)

    def new_cache(
        self,
        batch_size: int,  # B
        max_len: int | None = None,  # tokens; None: the context length
    ) -> list[KVCache]:  # one per block
        """Empty caches, like the model's.

        A compiled step keeps to one size for all texts, and to one more
        than it can fill: sizes that vary would be compiled again.
        """
        if self.compiled and batch_size == 1:
            max_len = self.config.context_len + 1
        return self.model.new_cache(batch_size, max_len)

    def step(
        self,
        id: Tensor,  # of the new token, (1,)
        cache: list[KVCache],  # of one text, not empty; grows
    ) -> Tensor:  # scores of the next token, (V,)
        "One token through all layers, as a vector."
        place = cache[0].length
        if not self.compiled:
            return self.run(id, place, cache)
        here, seen = self.places[place]
        scores = self.run(id, here, [(x.k, x.v) for x in cache], seen)
        for own in cache:
            own.length += 1
        return scores

    def run(
        self,
        id: Tensor,  # of the new token, (1,)
        place: int | Tensor,  # its position; compiled: (1,)
        cache: list,  # of `KVCache`; compiled: pairs of tensors
        seen: Tensor | None = None,  # compiled: places so far, (S,)
    ) -> Tensor:  # scores of the next token, (V,)
        "What `step` does, and what is compiled."
        x = self.look_up(id[None])[0, 0]  # (C,)
        if self.compiled:
            x = stored(x)
        if self.modern:
            turn = self.cos[place].view(-1), self.sin[place].view(-1)
        else:
            turn = None
            x = x + self.model.position_embedding.weight[place].view(-1)
        if seen is not None:
            cache = [Slots(k, v, place, len(seen)) for k, v in cache]
        for layer, own in zip(self.layers, cache, strict=True):
            x = layer(x, own, turn)
        return self.head(self.norm(x))


class Slots(NamedTuple):
    "A layer's cache for a compiled step: nothing in it is counted."

    k: Tensor  # (1, K, room, D)
    v: Tensor
    place: Tensor  # where the new ones go, (1,)
    end: int  # how many there are then

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        "All keys and values so far, both (1, K, S, D)."
        self.k.index_copy_(2, self.place, k)
        self.v.index_copy_(2, self.place, v)
        return self.k[:, :, : self.end], self.v[:, :, : self.end]


class Layer:
    "One block of a `Decoder`: fused matrices, applied to a vector."

    def __init__(
        self,
        block: nn.Module,  # of a GPT or a ModernGPT
        join: Callable[[list[nn.Module]], Product],  # `product` or `sums`
        compiled: bool,  # write everything as loops
    ):
        own, mlp = block.attention, block.mlp
        up = [mlp.gate, mlp.up] if isinstance(mlp, SwiGLU) else [mlp.up]
        self.norm_1 = normer(block.norm_1, compiled)
        self.norm_2 = normer(block.norm_2, compiled)
        self.qkv = join([own.q_proj, own.k_proj, own.v_proj])
        self.attend = mix if compiled else F.scaled_dot_product_attention
        self.out = join([own.out_proj])
        self.up, self.down = join(up), join([mlp.down])
        self.activate = ACTIVATIONS[type(mlp)]
        self.scale = None  # of normed queries and keys, (H + K, D)
        if isinstance(getattr(own, "q_norm", None), RMSNorm):
            c, (q, k) = own.config, (own.q_norm.weight, own.k_norm.weight)
            counts = (c.n_head, -1), (c.n_kv_head, -1)
            both = [x.expand(*n) for x, n in zip((q, k), counts, strict=True)]
            self.scale, self.eps = torch.cat(both), own.q_norm.eps

    def __call__(
        self,
        x: Tensor,  # the residual stream at the new position, (C,)
        cache: KVCache | Slots,  # of one text; grows
        turn: tuple[Tensor, Tensor] | None,  # cosines, sines, both (D,)
    ) -> Tensor:  # the stream with two sums added, (C,)
        "Fetch from other positions, then think."
        _, K, _, D = cache.k.shape
        heads = self.qkv(self.norm_1(x)).view(-1, D)  # (H + 2 K, D)
        q, k, v = heads[: -2 * K], heads[-2 * K : -K], heads[-K:]
        if turn is not None:
            both = heads[:-K]  # (H + K, D)
            if self.scale is not None:
                both = F.rms_norm(both, (D,), None, self.eps) * self.scale
            both = both * turn[0] + both.roll(D // 2, -1) * turn[1]
            q, k = both[:-K], both[-K:]
        k, v = cache.append(k[None, :, None], v[None, :, None])
        q = q.view(1, K, -1, D)  # heads that share keys, as if positions
        mixed = self.attend(q, k, v)  # (1, K, H / K, D)
        x = x + self.out(mixed.reshape(-1))
        return x + self.down(self.activate(self.up(self.norm_2(x))))


def normer(
    norm: nn.Module,  # LayerNorm or RMSNorm
    compiled: bool,  # without asking for a number
) -> Product:  # norms a vector
    "The same norm of one vector, without the detour through a module."
    weight, eps, C = norm.weight, norm.eps, len(norm.weight)
    if not isinstance(norm, RMSNorm):
        return lambda x: F.layer_norm(x, (C,), weight, norm.bias, eps)
    wide = torch.promote_types(weight.dtype, torch.float32)

    if compiled:
        return lambda x: F.rms_norm(x, (C,), weight, eps)

    def rms_norm(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dtype=wide).item()
        return x * (length**2 / C + eps) ** -0.5 * weight

    return rms_norm


def glu(
    x: Tensor,  # gate and up side by side, (2 M,)
) -> Tensor:  # (M,)
    "What SwiGLU does between its maps."
    gate, up = x.chunk(2)
    return F.silu(gate) * up


ACTIVATIONS = {
    MLP: gelu,
    SwiGLU: glu,
    SquaredReLU: lambda x: F.relu(x).square(),
}


def product(
    layers: list[nn.Module],  # linear maps of the same input
    bags: bool,  # add rows, weighted, in place of torch's own product
) -> Product:  # their results, one after the other
    """Join matrices into one, and say how to multiply it with a vector.

    W x is the sum of the columns of W, each times a number of x. Torch
    has a kernel for such sums, the embedding bag, and where numbers have
    16 bits it is faster than the one for products. There is one bag for
    each thread. Layers of few bits have products of their own.
    """
    if is_quantized(layers[0]):
        return vector_product(layers)
    biases = [x.bias for x in layers if getattr(x, "bias", None) is not None]
    bias = torch.cat(biases) if biases else None
    weight = layers[0].weight
    if len(layers) > 1:
        weight = torch.cat([x.weight for x in layers])
    if not bags:
        if bias is None:
            return lambda x: torch.mv(weight, x)
        return lambda x: torch.addmv(bias, weight, x)
    table = weight.T.contiguous()
    rows, parts = torch.arange(len(table)), torch.get_num_threads()
    first = torch.arange(parts) * len(table) // parts

    def add_up(x: Tensor) -> Tensor:
        bag = torch.embedding_bag(table, rows, first, False, 0, False, x)[0]
        total = bag.sum(0)
        return total if bias is None else total + bias

    return add_up


def sums(
    layers: list[nn.Module],  # linear maps of the same input
) -> Product:  # their results, one after the other
    """A product as plain sums, for a compiled step.

    Alone they would be slow. But torch's compiler makes loops of them,
    and joins these with what stands before and after; of a call for a
    product it knows nothing.
    """
    if is_quantized(layers[0]):
        call = vector_product(layers, loops)
        return lambda x: call(stored(x))
    biases = [x.bias for x in layers if getattr(x, "bias", None) is not None]
    bias = torch.cat(biases) if biases else None
    weight = torch.cat([x.weight for x in layers])
    wide = torch.promote_types(weight.dtype, torch.float32)

    def add_up(x: Tensor) -> Tensor:
        total = (weight.to(wide) * stored(x).to(wide)).sum(-1).to(x.dtype)
        return total if bias is None else total + bias

    return add_up


def stored(
    x: Tensor,  # a vector, in a compiled step
) -> Tensor:  # the same
    """Have it computed once.

    What a loop reads, the compiler likes to compute within that loop, and
    so a norm once for each row of the matrix that follows. What it has to
    see as memory it stores before.
    """
    return x.as_strided(x.shape, (1,))


def mix(
    q: Tensor,  # of one position, (1, K, H / K, D)
    k: Tensor,  # of all, (1, K, S, D)
    v: Tensor,
) -> Tensor:  # (1, K, H / K, D)
    "Attention as plain sums, for a compiled step: see `sums`."
    wide = torch.promote_types(q.dtype, torch.float32)
    k, v = k[:, :, None].to(wide), v[:, :, None].to(wide)
    scores = (q[..., None, :].to(wide) * k).sum(-1) * q.shape[-1] ** -0.5
    weights = scores.softmax(-1)  # (1, K, H / K, S)
    return (weights[..., None] * v).sum(-2).to(q.dtype)


def pays(
    weight: Tensor,  # of the model
) -> bool:  # add rows
    "Bags are faster for bfloat16 on x86 (`bench/decode_speed.py`)."
    engines = torch.backends.quantized.supported_engines
    on_cpu = weight.device.type == "cpu"
    return on_cpu and weight.dtype == torch.bfloat16 and "fbgemm" in engines
