"""The contract of `kernels`: right or not used, and quick to take back."""

import pytest
import torch
from torch import nn

from llm_from_scratch import decoding, kernels
from llm_from_scratch.decoding import Decoder
from llm_from_scratch.generation import Sampling, generate
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.kernels import (
    BY_HAND,
    KERNELS,
    by_hand,
    fastest,
    join,
    loops,
    products,
    quantized_layers,
    race,
    seconds_of,
    slow_down,
    speed_up,
    vector_product,
)
from llm_from_scratch.modern import ModernConfig, ModernGPT
from llm_from_scratch.quantization import (
    QuantConfig,
    QuantizedLinear,
    quantize,
)

SIZES = {"vocab_size": 128, "context_len": 32, "n_layer": 2, "n_head": 2}
CASES = [
    {"scheme": "int8"},
    {"scheme": "int8_dynamic"},
    {"scheme": "int4"},
    {"scheme": "int4", "group_size": 64, "table": "int4"},
    {"scheme": "nf4"},
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(kind: str = "modern") -> nn.Module:
    if kind == "gpt":
        model = GPT(GPTConfig(**SIZES, n_embd=64), generator=seeded())
    else:
        config = ModernConfig(**SIZES, n_embd=64)
        model = ModernGPT(config, generator=seeded(), zero_init=False)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=seeded(1)) * 0.1)
    return model.eval()


def layer_of(case: dict, O: int = 96, I: int = 128) -> QuantizedLinear:
    weight = torch.randn(O, I, generator=seeded(2)) * 0.1
    return QuantizedLinear(I, O, QuantConfig(**case)).fill(weight)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("shape", [(128,), (1, 128), (2, 3, 128)], ids=str)
def test_kernels_equal_the_layer_by_hand(case, shape):
    layer = layer_of(case)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(shape, generator=seeded(4)).to(dtype)
        wanted = by_hand(layer)(x)
        for name, product in products(layer).items():
            found = product(x)
            assert found.dtype == dtype, name
            assert found.shape == wanted.shape, name
            off = (found - wanted).abs().max() / wanted.abs().max()
            assert off < 0.03, (name, off)


def test_torch_has_the_kernels_that_the_book_names():
    "On this torch; elsewhere the fallback serves, as the next test shows."
    for scheme in ("int8", "int4"):
        case = {"scheme": scheme}
        if not products(layer_of(case)):
            pytest.skip("this torch lacks the packed kernels")
        assert products(layer_of(case)).keys() == KERNELS[scheme].keys()


def broken(layer):
    raise RuntimeError("no such operator")


def lying(layer):
    return lambda x: by_hand(layer)(x) * 1.1


def missing(layer):
    return torch.no_such_operator


@pytest.mark.parametrize("make", [broken, lying, missing])
def test_what_is_missing_or_wrong_is_not_used(make, monkeypatch):
    monkeypatch.setitem(kernels.KERNELS, "int4", {"new": make})
    layer = layer_of({"scheme": "int4"})
    assert products(layer) == {}
    assert fastest(layer) == (BY_HAND, None)
    assert race(layer).keys() == {BY_HAND}


def test_a_slower_kernel_is_not_used(monkeypatch):
    def slow(layer):
        own = by_hand(layer)
        return lambda x: sum(own(x) for _ in range(20)) / 20

    monkeypatch.setitem(kernels.KERNELS, "int4", {"slow": slow})
    layer = layer_of({"scheme": "int4"})
    assert products(layer).keys() == {"slow"}
    assert fastest(layer) == (BY_HAND, None)
    assert seconds_of(lambda x: x, torch.ones(1), limit=0.0) >= 0


@pytest.mark.parametrize("kind", ["modern", "gpt"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_models_speed_up_and_slow_down(kind, case):
    small = quantize(made(kind), QuantConfig(**case))
    ids = torch.randint(128, (2, 9), generator=seeded(5))
    with torch.no_grad():
        wanted = small(ids)
        count = speed_up(small)
        assert sum(count.values()) == len(quantized_layers([small]))
        off = (small(ids) - wanted).abs().max() / wanted.abs().max()
        assert off < 0.05
        slow_down(small)
        assert torch.equal(small(ids), wanted)
        speed_up(small)
        assert torch.equal(small.float()(ids), wanted)  # casts take it away


def test_gradients_flow_through_a_fast_layer():
    layer = layer_of({"scheme": "int4"})
    layer.fast = by_hand(layer)
    x = torch.randn(3, 128, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad[0], layer.weight.sum(0), atol=1e-4)


def test_joined_layers_are_their_rows():
    for case in CASES[:4]:
        parts = [layer_of(case), layer_of(case, O=32)]
        x = torch.randn(128, generator=seeded(3))
        wanted = torch.cat([by_hand(part)(x) for part in parts])
        found = by_hand(join(parts))(x)
        assert torch.allclose(found, wanted, atol=1e-5)
        near = vector_product(parts)(x)
        assert (near - wanted).abs().max() < 0.03 * wanted.abs().max()
    nf4 = [layer_of(CASES[4]), layer_of(CASES[4], O=32)]
    with pytest.raises(ValueError, match="shared across rows"):
        join(nf4)
    wanted = torch.cat([by_hand(part)(x) for part in nf4])
    assert torch.allclose(vector_product(nf4)(x), wanted)


@pytest.mark.parametrize("kind", ["modern", "gpt"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_decoder_writes_what_the_model_scores(kind, case):
    small = quantize(made(kind), QuantConfig(**case))
    how = {"max_tokens": 8, "sampling": Sampling(greedy=True)}
    decoder = Decoder(small)
    assert len(generate(decoder, [[1, 2, 3]], **how)[0]) == 8
    ids = torch.randint(128, (1, 6), generator=seeded(6))
    cache = small.new_cache(1)
    with torch.inference_mode():
        wanted = small(ids)[0, -1]
        decoder(ids[:, :-1], cache)
        found = decoder(ids[:, -1:], cache)[0, -1]
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()


LOOPS = [
    {"scheme": "int8"},
    {"scheme": "int8", "group_size": 32},
    {"scheme": "int4"},
    {"scheme": "int4", "group_size": 64},
]


@pytest.mark.parametrize("case", LOOPS, ids=str)
def test_loops_equal_the_layer_by_hand(case):
    layer = layer_of(case)
    x = torch.randn(128, generator=seeded(3))
    assert torch.allclose(loops(layer)(x), by_hand(layer)(x), atol=1e-5)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["gpt", "modern"])
@pytest.mark.parametrize("case", [LOOPS[0], LOOPS[2]], ids=str)
def test_what_is_compiled_says_what_the_model_says(
    case, kind, packed, monkeypatch
):
    "The step of a compiled decoder, without compiling it."
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(decoding, "can_compile", lambda device: True)
    if not packed:  # a machine without the kernels
        monkeypatch.setattr(kernels, "fastest", lambda *a: (BY_HAND, None))
    model = quantize(made(kind), QuantConfig(**case))
    fast = Decoder(model, compiled=True)
    own, kept = fast.new_cache(1), model.new_cache(1)
    ids = torch.randint(128, (1, 12), generator=seeded(4))
    for part in ids.split([4] + [1] * 8, 1):
        with torch.inference_mode():
            wanted, found = model(part, kept), fast(part, own)
        off = (wanted - found).abs().max() / wanted.abs().max()
        assert off < (0.03 if packed else 1e-5)


def test_what_loops_cannot_say_is_refused(monkeypatch):
    monkeypatch.setattr(decoding, "can_compile", lambda device: True)
    model = quantize(made(), QuantConfig(scheme="nf4"))
    with pytest.raises(ValueError, match="compiled=True: a model in nf4"):
        Decoder(model, compiled=True)


def test_a_float_model_is_refused():
    with pytest.raises(ValueError, match="quantize it"):
        speed_up(made())
