"""Products with packed weights: torch's kernels, tried before trusted.

Knows what `QuantizedLinear` stores, and which of torch's operators read
something like it. Those are private and may be gone or slow elsewhere:
each must equal the layer's own product to rounding, and be faster here,
before it is used. Knows nothing of models beyond their layers.
"""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import torch
from torch import Tensor, nn

from .quantization import QuantizedLinear

Product = Callable[[Tensor], Tensor]  # (..., I) → (..., O)
CLOSE = 0.03  # of the largest result: what bfloat16 inputs may cost
GAIN = 0.95  # a kernel has to save 5 % of the time
BY_HAND = "by_hand"
SECONDS = 0.01  # to time one kernel in


def int8_packed(layer: QuantizedLinear) -> Product:
    "`_weight_int8pack_mm`: codes as they are, inputs in bfloat16."
    codes, scale = layer.codes, layer.scale.flatten()
    O, I = codes.shape

    def product(x: Tensor) -> Tensor:
        flat = x.reshape(-1, I).bfloat16()
        y = torch._weight_int8pack_mm(flat, codes, scale)
        return y.to(x.dtype).view(*x.shape[:-1], O)

    return product


def int4_packed(layer: QuantizedLinear) -> Product:
    "`_weight_int4pack_mm_for_cpu`: packed anew, inputs in bfloat16."
    O, I, G = layer.out_features, layer.in_features, layer.config.group_size
    low, high = layer.codes & 15, layer.codes >> 4
    codes = torch.stack((low, high), -1).flatten(-2).int()  # (O, I)
    packed = torch._convert_weight_to_int4pack_for_cpu(codes, 1)
    zeros = torch.zeros_like(layer.scale)
    both = torch.stack((layer.scale, zeros), -1)  # (O, I / G, 2)
    both = both.transpose(0, 1).contiguous()  # (I / G, O, 2)

    def product(x: Tensor) -> Tensor:
        flat = x.reshape(-1, I).bfloat16()
        y = torch._weight_int4pack_mm_for_cpu(flat, packed, G, both)
        return y.to(x.dtype).view(*x.shape[:-1], O)

    return product


def int8_whole(layer: QuantizedLinear) -> Product:
    "`_int_mm`: whole numbers times whole numbers, by row of inputs."
    O, I = layer.codes.shape
    codes, scale = layer.codes.T, layer.scale.float().T  # (I, O), (1, O)

    def product(x: Tensor) -> Tensor:
        flat = x.reshape(-1, I).float()
        own = flat.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
        whole = (flat / own).round_().to(torch.int8)
        y = torch._int_mm(whole, codes).float() * own * scale
        return y.to(x.dtype).view(*x.shape[:-1], O)

    return product


KERNELS = {  # scheme: name → what makes a product
    "int8": {"int8_packed": int8_packed},
    "int8_dynamic": {"int8_whole": int8_whole},
    "int4": {"int4_packed": int4_packed},
    "nf4": {},
}


def products(
    layer: QuantizedLinear,  # on any device
) -> dict[str, Product]:  # a kernel's name: a product that is right here
    "Those of torch's kernels that run, and equal the layer by hand."
    found = {}
    scheme, own = layer.config.scheme, layer.config.group_size
    if layer.config.threshold is not None or (scheme == "int8" and own):
        return found  # no kernel knows these
    x = torch.linspace(-1, 1, 3 * layer.in_features, device=layer.codes.device)
    x = x.roll(layer.in_features // 3).view(3, -1).sin()
    wanted = by_hand(layer)(x)
    limit = CLOSE * wanted.abs().max().item()
    for name, make in KERNELS[scheme].items():
        # an operator that is missing or refuses its inputs is no kernel
        with suppress(RuntimeError, AttributeError, NotImplementedError):
            product = make(layer)
            if (product(x) - wanted).abs().max().item() <= limit:
                found[name] = product
    return found


def by_hand(layer: QuantizedLinear) -> Product:
    "The layer's own product, whatever is set."

    def product(x: Tensor) -> Tensor:
        fast, layer.fast = layer.fast, None
        try:
            return layer.product(x)
        finally:
            layer.fast = fast

    return product


def seconds_of(product: Product, x: Tensor, limit: float = SECONDS) -> float:
    "The best of some calls, after one that does not count."
    product(x)
    best, end = math.inf, time.perf_counter() + limit
    while True:
        start = time.perf_counter()
        product(x)
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best


def race(
    layer: QuantizedLinear,  # with its codes
    *,
    rows: int = 1,  # of inputs: 1 when a text is written
    dtype: torch.dtype = torch.float32,  # of the inputs
    found: dict[str, Product] | None = None,  # of `products`; None: all
) -> dict[str, float]:  # name: seconds of a product
    "Time the layer by hand and each kernel that is right."
    found = products(layer) if found is None else found
    x = torch.ones(
        rows, layer.in_features, dtype=dtype, device=layer.codes.device
    )
    runners = {BY_HAND: by_hand(layer)} | found
    with torch.inference_mode():
        return {name: seconds_of(call, x) for name, call in runners.items()}


def fastest(
    layer: QuantizedLinear,  # with its codes
    *,
    rows: int = 1,  # of inputs
    dtype: torch.dtype = torch.float32,  # of the inputs
) -> tuple[str, Product | None]:  # None: by hand
    "What to multiply with here; a kernel has to be clearly faster."
    found = products(layer)
    if not found:
        return BY_HAND, None
    told = race(layer, rows=rows, dtype=dtype, found=found)
    best = min(found, key=told.get)
    if told[best] < GAIN * told[BY_HAND]:
        return best, found[best]
    return BY_HAND, None


def speed_up(
    model: nn.Module,  # of `quantize`; changed in place
    *,
    rows: int = 1,  # of inputs that it shall be fast for
) -> dict[str, int]:  # a kernel's name: layers that use it
    """Give each quantized layer the fastest product for it here.

    Layers of one scheme and shape are measured once. Kernels round inputs
    to bfloat16, so that scores change in the third digit; and they hold
    codes of four bits once more, in an order of their own. Moving or
    casting the model takes them away again. Raises `ValueError` for a
    model without quantized layers.
    """
    layers = quantized_layers([model])
    if not layers:
        raise ValueError("the model has no quantized layers: quantize it")
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    chosen, count = {}, {}
    for layer in layers:
        key = layer.config, layer.in_features, layer.out_features
        if key not in chosen:
            chosen[key] = fastest(layer, rows=rows, dtype=dtype)[0]
        name = chosen[key]
        make = KERNELS[layer.config.scheme].get(name)
        layer.fast = make(layer) if make else None
        count[name] = count.get(name, 0) + 1
    return count


def slow_down(
    model: nn.Module,  # of `quantize`; changed in place
) -> None:
    "Multiply by hand again, everywhere."
    for layer in quantized_layers([model]):
        layer.fast = None


def quantized_layers(parts: Iterable[nn.Module]) -> list[QuantizedLinear]:
    "Each once, those within others too."
    every = (x for part in parts for x in part.modules())
    return list(dict.fromkeys(x for x in every if is_quantized(x)))


def is_quantized(part: nn.Module) -> bool:
    "Whether it is a `QuantizedLinear`, of the package or of a page."
    return hasattr(part, "codes") and hasattr(part, "fast")


def join(
    layers: list[QuantizedLinear],  # of the same input and scheme
) -> QuantizedLinear:  # whose outputs stand one after the other
    "Rows are quantized one by one, so that matrices can be stacked."
    if len(layers) == 1:
        return layers[0]
    first, total = layers[0], sum(x.out_features for x in layers)
    if first.config.scheme == "nf4":
        raise ValueError("nf4 scales are shared across rows: join no layers")
    joined = QuantizedLinear(first.in_features, total, first.config)
    for name in ("codes", "scale"):
        parts = torch.cat([x.get_buffer(name) for x in layers])
        joined.get_buffer(name).copy_(parts)
    return joined


def vector_product(
    layers: list[QuantizedLinear],  # of the same input
    otherwise: Callable | None = None,  # without a kernel; None: by hand
) -> Product:  # (I,) → their results, one after the other
    "For one token at a time: matrices joined, the fastest way chosen."
    otherwise = otherwise or by_hand
    biases = [x.bias for x in layers if x.bias is not None]
    bias = torch.cat(biases) if biases else None
    stacked = [layers] if can_join(layers) else [[x] for x in layers]
    calls = []
    for part in map(join, stacked):
        kernel = fastest(part)[1]
        calls.append(kernel or otherwise(part))
    if len(calls) == 1 and bias is None:
        return calls[0]

    def product(x: Tensor) -> Tensor:
        y = torch.cat([call(x) for call in calls])
        return y if bias is None else y + bias

    return product


def loops(
    layer: QuantizedLinear,  # with whole numbers and scales
) -> Product:  # (I,) → (O,)
    """Its product as plain sums, for a compiled step (`decoding.sums`).

    The compiler reads codes and widens them in the loop that adds. Raises
    `ValueError` for a scheme that is more than that.
    """
    if layer.config.scheme not in ("int8", "int4"):
        raise ValueError(
            f"compiled=True: a model in {layer.config.scheme} cannot be "
            f"compiled, only in int8 or int4; leave compiled=False"
        )
    scale, codes = layer.scale.float(), layer.codes
    O, G = scale.shape  # one group, or several
    if layer.config.scheme == "int8":
        codes = codes.view(O, G, -1)

        def add_up(x: Tensor) -> Tensor:  # (G, I / G) → (O,)
            return (codes.float() * x * scale[:, :, None]).sum((1, 2))

    else:  # pairs of neighbours → pairs of the halves of a group
        codes = torch.stack((codes & 15, codes >> 4), -1).view(O, G, 2, -1)
        codes = codes[:, :, 0] | codes[:, :, 1] << 4  # (O, G, g / 2)

        def add_up(x: Tensor) -> Tensor:
            first, second = x.view(G, 2, -1).unbind(1)  # both (G, g / 2)
            low, high = (codes & 15).float() - 8, (codes >> 4).float() - 8
            both = low * first + high * second
            return (both * scale[:, :, None]).sum((1, 2))

    return lambda x: add_up(x.float().view(G, -1)).to(x.dtype)


def can_join(layers: list[QuantizedLinear]) -> bool:
    "Whether their rows are stored one by one."
    biased = {x.bias is None for x in layers}
    return layers[0].config.scheme != "nf4" and len(biased) == 1
