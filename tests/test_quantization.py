"""The contract of `quantization`, against bitsandbytes, torchao and gguf.

Those are compared where they are installed; the recorded comparison is
`runs/quantization_parity.json`.
"""

import copy
import json
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from llm_from_scratch.checkpoint import load_checkpoint, save_checkpoint
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.modern import ModernConfig, ModernGPT
from llm_from_scratch.quantization import (
    BLOCK,
    HOW,
    SCHEMES,
    TABLES,
    Multiply,
    QuantConfig,
    Quantized,
    QuantizedEmbedding,
    QuantizedLinear,
    check_group_size,
    choose_steps,
    decode,
    dequantize_scales,
    dequantize_tensor,
    dynamic_values,
    encode,
    layout,
    nearest,
    normal_float,
    pack,
    product_int8,
    quantize,
    quantize_nf4,
    quantize_scales,
    quantize_tensor,
    swap,
    to_groups,
    unpack,
)
from llm_from_scratch.quantized_files import (
    KIND,
    check_types,
    describe_quantized,
    empty_model,
    load_quantized,
    quantized_tensors,
    save_quantized,
    storage,
)

SIZES = {"vocab_size": 61, "context_len": 32, "n_layer": 2, "n_head": 2}
CONFIGS = {
    "modern": ModernConfig(**SIZES, n_embd=64),
    "untied": ModernConfig(**SIZES, n_embd=64, tied=False),
    "gpt": GPTConfig(**SIZES, n_embd=64),
}
SCHEME_CASES = [
    {"scheme": "int8"},
    {"scheme": "int8", "group_size": 32},
    {"scheme": "int8_dynamic"},
    {"scheme": "int8_dynamic", "threshold": 2.0},
    {"scheme": "int4"},
    {"scheme": "int4", "table": "int4", "group_size": 16},
    {"scheme": "nf4"},
    {"scheme": "nf4", "double_quant": False, "table": "float"},
]
quick = settings(deadline=None, derandomize=True, max_examples=30)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_weight(O: int = 64, I: int = 256, seed: int = 0) -> torch.Tensor:
    return torch.randn(O, I, generator=seeded(seed)) * 0.05


def made(name: str = "modern") -> nn.Module:
    config = CONFIGS[name]
    options = {} if name == "gpt" else {"zero_init": False}
    kind = GPT if name == "gpt" else ModernGPT
    model = kind(config, generator=seeded(), **options).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=seeded(1)) * 0.1)
    return model


def some_ids(B: int = 2, T: int = 12) -> torch.Tensor:
    return torch.randint(61, (B, T), generator=seeded(3))


# ---- numbers


@quick
@given(
    bits=st.integers(2, 8),
    group=st.sampled_from([None, 4, 16, 64]),
    how=st.sampled_from(HOW),
    seed=st.integers(0, 1000),
    size=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_nothing_moves_by_more_than_half_a_step(bits, group, how, seed, size):
    weight = size * torch.randn(3, 64, generator=seeded(seed))
    found = quantize_tensor(weight, bits=bits, group_size=group, how=how)
    assert isinstance(found, Quantized)
    low = -(2 ** (bits - 1))
    assert low <= found.codes.min() <= found.codes.max() <= -low - 1
    back = dequantize_tensor(*found)
    step = found.scale.abs().repeat_interleave(group or 64, 1)
    # the corner has no code for the other end: there up to one step
    limit = 1.001 if how == "corner" else 0.501
    if how == "zero_point":
        limit = 1.001  # the zero point is rounded as well
    assert ((back - weight).abs() <= limit * step).all()
    again = quantize_tensor(back, bits=bits, group_size=group, how="absmax")
    if how == "absmax":
        assert torch.equal(again.codes, found.codes)


def test_zeros_stay_zeros_in_every_scheme():
    weight = torch.zeros(4, 64)
    for how in HOW:
        found = quantize_tensor(weight, how=how, group_size=16)
        assert torch.equal(dequantize_tensor(*found), weight)
    for case in SCHEME_CASES:
        config = QuantConfig(**case)
        if config.scheme != "nf4" or not config.double_quant:
            assert torch.equal(decode(encode(weight, config), config), weight)


def test_the_zero_point_means_exactly_zero():
    weight = torch.tensor([[0.0, 3.0, 5.0, 9.0]])
    step = choose_steps(to_groups(weight), 4, "zero_point")
    assert step.item() == pytest.approx(9 / 15)
    found = quantize_tensor(weight, bits=4, how="zero_point")
    assert dequantize_tensor(*found)[0, 0] == 0


@quick
@given(st.lists(st.integers(0, 15), min_size=2, max_size=64))
def test_packing_is_undone(codes):
    codes = torch.tensor([codes[: len(codes) // 2 * 2]], dtype=torch.uint8)
    assert pack(codes).shape[-1] * 2 == codes.shape[-1]
    assert torch.equal(unpack(pack(codes)), codes)


def test_nearest_is_nearest():
    values = normal_float()
    x = torch.linspace(-1.2, 1.2, 4001)
    wanted = (x[:, None] - values).abs().argmin(1)
    off = nearest(x, values) != wanted
    ties = (x[off][:, None] - values).abs().sort(1).values
    assert (ties[:, 1] - ties[:, 0] < 1e-6).all()


def test_normal_float_uses_its_buckets_about_equally():
    values = normal_float()
    assert len(values) == 16
    assert values[0] == -1 and values[7] == 0 and values[15] == 1
    codes, absmax = quantize_nf4(some_weight(512, 64))
    assert codes.max() <= 15 and absmax.shape == (512, 1)
    share = codes.flatten().bincount(minlength=16) / codes.numel()
    assert share[1:15].max() < 3 * share[1:15].min()


def test_dynamic_values_and_scales():
    values = dynamic_values()
    assert len(values.unique()) == 256 and 0 in values
    absmax = some_weight(40, 20).abs() + 0.1  # 800: no multiple of 256
    codes, scale, offset = quantize_scales(absmax)
    assert codes.dtype == torch.uint8 and len(scale) == -(-800 // BLOCK)
    back = dequantize_scales(codes, scale, offset)
    assert (back - absmax.flatten()).abs().max() < 0.02 * scale.max()


def test_scales_are_rounded_before_codes():
    weight = some_weight()
    found = quantize_tensor(weight, scale_dtype=torch.bfloat16)
    assert found.scale.dtype == torch.bfloat16
    step = found.scale.float()
    inside = (weight / step).abs() <= 127
    error = (dequantize_tensor(*found[:2]) - weight).abs()
    assert (error <= 0.501 * step)[inside].all()


# ---- products


def test_int8_product_is_near_and_outliers_make_it_nearer():
    weight, x = some_weight(), torch.randn(5, 256, generator=seeded(2))
    x[:, 7] = 40.0  # one channel dwarfs the others
    codes, scale, _ = quantize_tensor(weight)
    wanted = x @ dequantize_tensor(codes, scale).T
    off = [
        (product_int8(x, codes, scale, limit) - wanted).abs().mean()
        for limit in (None, 6.0)
    ]
    assert off[1] < 0.2 * off[0]
    every = product_int8(x, codes, scale, 1e-9)  # all are outliers
    assert torch.allclose(every, wanted, atol=1e-4)


def test_whole_numbers_are_added_exactly_however_long_the_row():
    codes = torch.randint(120, 128, (3, 4096), generator=seeded(6))
    x = torch.randint(120, 128, (2, 4096), generator=seeded(7))
    x[:, 0] = 127  # so that a step is 1
    found = product_int8(x.float(), codes.to(torch.int8), torch.ones(3, 1))
    assert torch.equal(found, (x @ codes.T).float())
    short = x.float() @ codes.float().T
    assert not torch.equal(short, found)  # float32 alone would not do


@pytest.mark.parametrize("case", SCHEME_CASES, ids=str)
def test_layers_are_linear_in_the_decoded_weight(case):
    config, weight = QuantConfig(**case), some_weight(24, 64)
    layer = QuantizedLinear(64, 24, config, bias=torch.arange(24.0))
    layer.fill(weight)
    x = torch.randn(2, 3, 64, generator=seeded(5), requires_grad=True)
    y = layer(x)
    wanted = x @ layer.weight.T + layer.bias
    limit = 0.05 if "dynamic" in config.scheme else 1e-5
    assert y.shape == wanted.shape
    assert (y - wanted).abs().max() < limit
    y.square().sum().backward()
    grad = 2 * y.detach() @ layer.weight
    assert torch.allclose(x.grad, grad, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in layer.parameters())
    parts = layout(config, 24, 64)
    assert {n: (tuple(b.shape), b.dtype) for n, b in layer.named_buffers()} \
        == parts  # fmt: skip


def test_backward_keeps_no_float_weights():
    layer = QuantizedLinear(64, 24, QuantConfig()).fill(some_weight(24, 64))
    kept = []
    x = torch.randn(3, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        y = Multiply.apply(x, layer)
    assert not kept
    assert y.grad_fn is not None


def test_casts_do_not_round_codes_or_scales():
    for case in SCHEME_CASES:
        config = QuantConfig(**case)
        layer = QuantizedLinear(64, 24, config).fill(some_weight(24, 64))
        old = {n: b.clone() for n, b in layer.named_buffers()}
        layer.half().to(torch.bfloat16).double()
        for name, part in layer.named_buffers():
            assert part.dtype == old[name].dtype
            assert torch.equal(part, old[name])


def test_embedding_looks_up_decoded_rows():
    for scheme in ("int8", "int4"):
        table = QuantizedEmbedding(61, 64, QuantConfig(scheme=scheme))
        table.table.fill(some_weight(61, 64))
        ids = some_ids()
        assert torch.equal(table(ids), table.weight[ids])
        assert table.bfloat16()(ids).dtype == torch.bfloat16
        with pytest.raises(ValueError, match="id 61 is outside"):
            table(torch.tensor([[61]]))


# ---- models


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("case", SCHEME_CASES, ids=str)
def test_models_keep_their_contract(name, case, tmp_path):
    model, config = made(name), QuantConfig(**case)
    before = {n: p.clone() for n, p in model.named_parameters()}
    small = quantize(model, config)
    for n, p in model.named_parameters():
        assert torch.equal(p, before[n])
    ids = some_ids()
    with torch.no_grad():
        wanted, found = model(ids), small(ids)
        assert small.features(ids).shape == (2, 12, 64)
        cache = small.new_cache(2)
        cached = torch.cat([small(ids[:, i : i + 1], cache)
                            for i in range(12)], 1)  # fmt: skip
    off = (found - wanted).abs().mean() / wanted.abs().mean()
    assert 0 < off < 0.5
    if config.threshold is None:  # a whole text has other outlier columns
        assert torch.allclose(cached, found, atol=2e-4)
    save_quantized(tmp_path / "m", small)
    again = load_quantized(tmp_path / "m")
    assert again.quantization == config
    with torch.no_grad():
        assert torch.equal(again(ids), found)
    other, tokenizer, _ = load_checkpoint(tmp_path / "m")
    assert tokenizer is None
    with torch.no_grad():
        assert torch.equal(other(ids), found)


def test_decoded_weights_in_a_float_model_score_alike():
    model = made()
    small = quantize(model, QuantConfig(scheme="nf4"))
    twin = copy.deepcopy(model)
    for name, part in small.named_modules():
        if isinstance(part, QuantizedLinear) and name.startswith("blocks"):
            twin.get_submodule(name).weight.data = part.weight
    twin.token_embedding.weight.data = small.token_embedding.weight
    ids = some_ids()
    assert torch.allclose(twin(ids), small(ids), atol=1e-5)


def test_gradients_reach_what_is_not_quantized():
    small = quantize(made(), QuantConfig())
    small(some_ids()).square().mean().backward()
    grads = [p.grad for p in small.parameters() if p.requires_grad]
    assert grads and all(g is not None and g.abs().sum() > 0 for g in grads)


def test_storage_counts_each_number_once():
    model = made()
    numbers, size = storage(model)
    assert numbers == sum(p.numel() for p in model.parameters())
    assert size == 4 * numbers
    for table in TABLES:
        small = quantize(model, QuantConfig(table=table))
        assert storage(small)[0] == numbers
        held = sum(t.nbytes for t in quantized_tensors(small).values())
        assert storage(small)[1] == held
    assert size / held > 6.9


def test_config_round_trip():
    for case in SCHEME_CASES:
        config = QuantConfig(**case)
        assert QuantConfig.from_dict(config.to_dict()) == config
        assert json.loads(json.dumps(config.to_dict())) == config.to_dict()
    assert QuantConfig(scheme="nf4").group_size == SCHEMES["nf4"]
    assert QuantConfig(table="int4").for_table().scheme == "int4"


def test_checkpoints_save_quantized_models_as_such(tmp_path):
    small = quantize(made())
    save_checkpoint(tmp_path / "m", small, meta={"step": 3})
    data = json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))
    assert (
        data["model_type"] == KIND == describe_quantized(small)["model_type"]
    )
    assert load_checkpoint(tmp_path / "m")[2]["step"] == 3


# ---- mistakes


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"scheme": "int3"}, "scheme=int3 must be one of: int8, int8_dyn"),
        ({"table": "nf4"}, "table=nf4 must be one of: float, int8, int4"),
        ({"group_size": 7}, "group_size=7 must be None or an even number"),
        ({"scheme": "int8_dynamic", "group_size": 64},
         "group_size=64 must be None for int8_dynamic"),
        ({"threshold": 6.0}, "threshold=6.0 must be None, or above 0"),
    ],
)  # fmt: skip
def test_bad_configs(how, message):
    with pytest.raises(ValueError, match=message):
        QuantConfig(**how)


def test_bad_dicts():
    data = QuantConfig().to_dict()
    with pytest.raises(ValueError, match=r"unknown keys \['colour'\]"):
        QuantConfig.from_dict(data | {"colour": 1})
    with pytest.raises(ValueError, match="format_version=9"):
        QuantConfig.from_dict(data | {"format_version": 9})


def test_bad_tensors():
    with pytest.raises(ValueError, match="bits=9 must be one of: 2, 3"):
        quantize_tensor(some_weight(), bits=9)
    with pytest.raises(ValueError, match="how=max must be one of: absmax"):
        quantize_tensor(some_weight(), how="max")
    with pytest.raises(ValueError, match="group_size=48 does not divide"):
        to_groups(some_weight(), 48)
    with pytest.raises(ValueError, match=r"the 256 inputs of a\.weight"):
        check_group_size(256, 48, "a.weight")
    broken = some_weight()
    broken[3, 5] = math.nan
    with pytest.raises(ValueError, match="holds nan"):
        quantize_nf4(broken)


def test_bad_models(tmp_path):
    model = made()
    small = quantize(model)
    with pytest.raises(ValueError, match="quantized already, to int4"):
        quantize(small)
    with pytest.raises(TypeError, match="got Linear"):
        quantize(nn.Linear(4, 4))
    with pytest.raises(ValueError, match="does not divide the 64 inputs of"):
        quantize(model, QuantConfig(group_size=48))
    with pytest.raises(ValueError, match="call quantize first"):
        save_quantized(tmp_path / "no", model)
    assert not (tmp_path / "no").exists()
    save_quantized(tmp_path / "m", small)
    with pytest.raises(FileExistsError, match="exists already"):
        save_quantized(tmp_path / "m", small)
    with torch.no_grad():
        model.blocks[0].mlp.up.weight[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"blocks.0.mlp.up.weight holds inf"):
        quantize(model)


def test_broken_and_foreign_files(tmp_path):
    folder = save_quantized(tmp_path / "m", quantize(made()))
    path, config = folder / "model.safetensors", folder / "config.json"
    tensors, text = load_file(path), config.read_text("utf-8")

    def refused(message: str, change=None, told: dict | None = None) -> None:
        new = dict(tensors)
        if change:
            change(new)
        save_file(new, path)
        data = json.loads(text) | (told or {})
        config.write_text(json.dumps(data), "utf-8")
        with pytest.raises(ValueError, match=message):
            load_quantized(folder)

    name = "blocks.1.mlp.down.codes"
    refused(f"{name} is missing", lambda t: t.pop(name))
    norm = "norm.weight"
    refused(f"{norm} is", lambda t: t.update({norm: t[norm].double()}))
    refused("extra is .* not wanted", lambda t: t.update(extra=torch.zeros(1)))
    refused(
        f"{name} is .*float32", lambda t: t.update({name: t[name].float()})
    )
    refused(name, lambda t: t.update({name: t[name][:1].clone()}))
    refused("model_type=qwen3 must be", told={"model_type": "qwen3"})
    refused("has no 'quantization'", told={"quantization": None})
    wrong = QuantConfig(scheme="int8").to_dict()
    refused("tensors and configuration differ", told={"quantization": wrong})
    path.write_bytes(path.read_bytes()[:300])
    config.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="broken"):
        load_quantized(folder)


def test_loading_makes_no_float_matrix(tmp_path):
    model = made()
    folder = save_quantized(tmp_path / "m", quantize(model))
    data = json.loads((folder / "config.json").read_text("utf-8"))
    empty = empty_model(data, folder / "config.json")
    assert all(t.is_meta for t in empty.state_dict().values())
    with torch.device("meta"):
        same = swap(ModernGPT(model.config), QuantConfig(), fill=False)
    shapes = {n: t.shape for n, t in quantized_tensors(empty).items()}
    assert shapes == {n: t.shape for n, t in quantized_tensors(same).items()}
    with pytest.raises(ValueError, match="differ in"):
        check_types(quantized_tensors(empty), {})
    largest = 64 * 64 * 4  # bytes of the smallest matrix as floats
    made_here = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not out.is_meta:
                made_here.append((out.dtype, out.nbytes))
            return out

    with Watch():
        load_quantized(folder)
    floats = [n for kind, n in made_here if kind.is_floating_point]
    assert made_here and max(floats) < largest


# ---- the industrial ones


def imported(name: str):
    "A library that is perhaps not there; its warnings are its own."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def test_nf4_is_that_of_bitsandbytes():
    theirs = imported("bitsandbytes.functional")
    weight = some_weight(64, 256)
    codes, absmax = quantize_nf4(weight)
    told, state = theirs.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    assert (normal_float() - state.code).abs().max() < 2e-7
    high, low = told.flatten() >> 4, told.flatten() & 15
    assert torch.equal(torch.stack((high, low), 1).view(64, 256), codes)
    assert torch.equal(state.absmax.view(64, -1), absmax)
    told, state = theirs.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=True
    )
    mine = quantize_scales(absmax)
    assert torch.allclose(dynamic_values(), state.state2.code, atol=1e-7)
    assert torch.equal(mine[0], state.absmax.flatten())
    assert torch.equal(mine[1], state.state2.absmax)
    assert torch.equal(mine[2], state.offset.view(1))


def test_llm_int8_is_that_of_bitsandbytes():
    theirs = imported("bitsandbytes.functional")
    x = torch.randn(8, 256, generator=seeded(1)).half()
    x[:, 7], x[:, 100] = 9, -7
    codes, absmax, columns = theirs.int8_vectorwise_quant(x, threshold=6.0)
    assert columns.sort().values.tolist() == [7, 100]
    rows = x.float().masked_fill((x.abs() >= 6).any(0), 0)
    mine = quantize_tensor(rows)
    assert (mine.codes.int() - codes.int()).abs().max() <= 1  # half inside
    assert (mine.codes != codes).float().mean() < 0.01


def test_int8_is_that_of_torchao():
    theirs = imported("torchao.quantization")
    layer = nn.Linear(256, 64, bias=False)
    layer.weight.data = some_weight()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.quantize_(layer, theirs.Int8WeightOnlyConfig())
    mine = quantize_tensor(some_weight(), steps=127.5)
    assert torch.equal(mine.codes, layer.weight.qdata)
    assert torch.equal(mine.scale, layer.weight.scale)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_blocks_are_those_of_gguf(name):
    gguf = imported("gguf")
    weight = some_weight()
    kind = getattr(gguf.GGMLQuantizationType, name)
    told = torch.from_numpy(gguf.quants.quantize(weight.numpy(), kind))
    size = 34 if name == "Q8_0" else 18
    told = told.reshape(-1, size)
    scales = told[:, :2].contiguous().view(torch.float16)[:, 0]
    how = {"bits": 8} if name == "Q8_0" else {"bits": 4, "how": "corner"}
    codes, scale, _ = quantize_tensor(weight, group_size=32, **how)
    assert torch.equal(scale.half().flatten(), scales)
    if name == "Q8_0":
        assert torch.equal(
            told[:, 2:].view(torch.int8).reshape(64, 256), codes
        )
    else:  # the first half of a block stands in the lower halves
        both = torch.cat((told[:, 2:] & 15, told[:, 2:] >> 4), 1)
        assert torch.equal(both.reshape(64, 256).to(torch.int8) - 8, codes)
