"""`lora`: against peft, merged and unmerged, saved and swapped."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy

from llm_from_scratch.decoding import Decoder
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.lora import (
    IN_ATTENTION,
    IN_MLP,
    LoRAConfig,
    LoRALinear,
    adapter_tensors,
    adapters,
    add_adapters,
    base_digest,
    linear_maps,
    load_adapter,
    make_adapters,
    map_names,
    merge_adapters,
    read_adapter_config,
    remove_adapters,
    save_adapter,
)
from llm_from_scratch.modern import ModernConfig, ModernGPT, save_modern
from llm_from_scratch.pretraining import TrainConfig, train

SIZES = ModernConfig(
    vocab_size=61,
    context_len=24,
    n_layer=2,
    n_head=4,
    n_kv_head=2,
    head_size=8,
    n_embd=24,
    mlp_width=40,
)
PEFTS = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning"
)
ALL = IN_ATTENTION + IN_MLP


def fresh(seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = ModernGPT(SIZES, generator=generator, zero_init=False, std=0.1)
    return model.eval()


def some_ids(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(61, (3, 17), generator=generator)


def fill(model, seed=2):
    generator = torch.Generator().manual_seed(seed)
    for _, part in adapters(model):
        part.lora_B.data.normal_(0, 0.1, generator=generator)
    return model


def adapted(seed=2, **options):
    options = {"rank": 3, "alpha": 5.0, "targets": ALL} | options
    generator = torch.Generator().manual_seed(seed)
    config = LoRAConfig(**options)
    return fill(add_adapters(fresh(), config, generator=generator), seed)


def state(model):
    return {name: x.clone() for name, x in model.state_dict().items()}


def test_it_begins_as_the_base():
    ids = some_ids()
    model = add_adapters(fresh(), LoRAConfig())
    assert torch.equal(model(ids), fresh()(ids))
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 7 * 2
    assert all(".lora_" in name for name in learning)


def test_by_hand():
    base = nn.Linear(5, 4)
    layer = LoRALinear(base, LoRAConfig(rank=2, alpha=6.0))
    nn.init.normal_(layer.lora_B)
    x = torch.randn(3, 7, 5)
    added = 3.0 * layer.lora_B @ layer.lora_A
    wanted = x @ (base.weight + added).T + base.bias
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(layer.weight, base.weight + added)
    torch.testing.assert_close(layer.update(), added)
    assert layer.bias is base.bias


@given(
    n_in=st.integers(1, 9),
    n_out=st.integers(1, 9),
    rank=st.integers(1, 9),
    alpha=st.floats(0, 30, width=32, allow_subnormal=False),
    bias=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_merged_maps_are_the_same_maps(n_in, n_out, rank, alpha, bias):
    up = nn.Linear(n_in, n_out, bias=bias, dtype=torch.float64)
    holder = nn.ModuleDict({"up": up})
    config = LoRAConfig(rank=rank, alpha=alpha, targets=("up",))
    if rank > min(n_in, n_out):
        with pytest.raises(ValueError, match=f"rank={rank} is above"):
            add_adapters(holder, config)
        return
    fill(add_adapters(holder, config))
    x = torch.randn(2, n_in, dtype=torch.float64)
    before, rows = holder["up"](x), holder["up"].update()
    assert torch.linalg.matrix_rank(rows) <= rank
    merge_adapters(holder)
    assert type(holder["up"]) is nn.Linear
    torch.testing.assert_close(holder["up"](x), before, atol=1e-10, rtol=1e-10)


def test_merged_is_unmerged():
    ids, model = some_ids(), adapted()
    unmerged = model(ids)
    assert (unmerged - fresh()(ids)).abs().max() > 0.1
    merge_adapters(model)
    assert not [*adapters(model)]
    assert model.state_dict().keys() == fresh().state_dict().keys()
    torch.testing.assert_close(model(ids), unmerged, atol=1e-5, rtol=1e-5)


def test_the_decoder_sees_adapters():
    ids, model = some_ids()[:1], adapted()
    decoder = Decoder(model)
    ours, theirs = model.new_cache(1), model.new_cache(1)
    model(ids, ours), decoder(ids, theirs)
    new = torch.tensor([[5]])
    torch.testing.assert_close(
        decoder(new, theirs), model(new, ours), atol=1e-4, rtol=1e-4
    )


def test_removed_is_the_base():
    ids = some_ids()
    assert torch.equal(remove_adapters(adapted())(ids), fresh()(ids))


def test_training_leaves_the_base_alone():
    model, before = add_adapters(fresh(), LoRAConfig(rank=2)), state(fresh())
    ids = some_ids()
    rows = train(
        model,
        [(ids[:, :-1], ids[:, 1:])],
        TrainConfig(steps=8, lr=0.03),
        progress=False,
    )
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.1
    after = state(remove_adapters(model))
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_modes_and_dropout():
    model = add_adapters(fresh(), LoRAConfig(dropout=0.5))
    fill(model)
    assert not any(part.training for _, part in adapters(model))
    ids = some_ids()
    assert torch.equal(model(ids), model(ids))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(ids), model(ids))


def test_the_generator_decides():
    def first(seed):
        generator = torch.Generator().manual_seed(seed)
        made = make_adapters(fresh(), LoRAConfig(rank=2), generator)
        return next(iter(made.values())).lora_A

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    assert first(1).abs().max() <= 24**-0.5


def test_bfloat16():
    model = add_adapters(fresh().bfloat16(), LoRAConfig(rank=2))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(some_ids()).dtype == torch.bfloat16


class Codes(nn.Module):
    "A map of few bits: whole numbers, and one scale a row."

    def __init__(self, base):
        super().__init__()
        self.in_features = base.in_features
        self.out_features = base.out_features
        scale = base.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        codes = (base.weight.detach() / scale).round().to(torch.int8)
        self.register_buffer("weight", codes)

    def forward(self, x):
        return x @ (self.weight * self.scale).T


def coded():
    model = fresh()
    for name, part in linear_maps(model).items():
        model.set_submodule(name, Codes(part))
    return model


def test_beside_maps_of_few_bits(tmp_path):
    model = coded()
    ids, plain = some_ids(), model(some_ids())
    add_adapters(model, LoRAConfig(rank=2))
    assert torch.equal(model(ids), plain)
    assert {p.dtype for _, a in adapters(model) for p in a.parameters()} == {
        torch.float32
    }
    rows = train(
        model,
        [(ids[:, :-1], ids[:, 1:])],
        TrainConfig(steps=8, lr=0.03),
        progress=False,
    )
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.1
    with pytest.raises(TypeError, match="q_proj is a Codes"):
        merge_adapters(model)
    assert len([*adapters(model)]) == 14
    out = model.eval()(ids)
    save_adapter(tmp_path / "a", model)
    again = load_adapter(coded(), tmp_path / "a")
    assert torch.equal(again(ids), out)
    with pytest.raises(ValueError, match="another base"):
        load_adapter(fresh(), tmp_path / "a")
    load_adapter(fresh(), tmp_path / "a", check_base=False)


def test_float32_beside_bfloat16():
    model = add_adapters(coded().bfloat16(), LoRAConfig(rank=2))
    assert {p.dtype for _, a in adapters(model) for p in a.parameters()} == {
        torch.float32
    }
    out = fill(model)(some_ids())
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert all(part.lora_A.grad is not None for _, part in adapters(model))


def test_beside_quantized_maps():
    quantization = pytest.importorskip("llm_from_scratch.quantization")
    config = quantization.QuantConfig(scheme="int8")
    model = quantization.quantize(fresh(), config)
    if not linear_maps(model):
        pytest.skip("QuantizedLinear does not say in_features")
    plain = model(some_ids())
    add_adapters(model, LoRAConfig(rank=2))
    assert torch.equal(model(some_ids()), plain)


def test_saved_and_swapped(tmp_path):
    ids = some_ids()
    outs = []
    for seed, name in ((2, "a"), (3, "b")):
        model = adapted(seed, rank=seed)
        outs.append(model(ids))
        save_adapter(tmp_path / name, model)
    model = fresh()
    for name, out in ("a", outs[0]), ("b", outs[1]), ("a", outs[0]):
        load_adapter(model, tmp_path / name)
        assert torch.equal(model(ids), out)
    assert torch.equal(remove_adapters(model)(ids), fresh()(ids))


def test_an_old_folder(tmp_path):
    folder = save_adapter(tmp_path / "a", adapted())
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_adapter(folder, adapted(3))
    save_adapter(folder, adapted(3), overwrite=True)
    ids = some_ids()
    assert torch.equal(load_adapter(fresh(), folder)(ids), adapted(3)(ids))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    with pytest.raises(FileExistsError, match="not deleted"):
        save_adapter(tmp_path / "mine", adapted(), overwrite=True)


def test_gpt_too(tmp_path):
    def small():
        generator = torch.Generator().manual_seed(0)
        sizes = {"vocab_size": 61, "context_len": 24, "n_layer": 1}
        config = GPTConfig(n_head=2, n_embd=16, **sizes)
        return GPT(config, generator=generator).eval()

    config = LoRAConfig(rank=2, targets=("q_proj", "up"))
    model = fill(add_adapters(small(), config))
    out = model(some_ids())
    save_adapter(tmp_path / "a", model)
    assert torch.equal(load_adapter(small(), tmp_path / "a")(some_ids()), out)
    merge_adapters(model)
    torch.testing.assert_close(model(some_ids()), out, atol=1e-5, rtol=1e-5)


def test_another_base(tmp_path):
    save_adapter(tmp_path / "a", adapted())
    model = fresh(7)
    before = state(model)
    with pytest.raises(ValueError, match="another base"):
        load_adapter(model, tmp_path / "a")
    after = state(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad for p in model.parameters())
    load_adapter(model, tmp_path / "a", check_base=False)
    load_adapter(fresh().bfloat16(), tmp_path / "a")  # is the same base


def test_the_digest_is_the_bases():
    model, digest = adapted(), base_digest(fresh())
    assert base_digest(model) == digest == base_digest(fresh().bfloat16())
    assert base_digest(merge_adapters(model)) != digest
    assert base_digest(fresh(1)) != digest


def test_names():
    names = map_names(adapted())
    assert names == map_names(fresh())
    assert names["blocks.1.mlp.down"] == "model.layers.1.mlp.down_proj"
    assert len(names) == len(linear_maps(fresh())) == 14


@PEFTS
def test_peft_reads_ours(tmp_path):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = adapted()
    save_modern(fresh(), tmp_path / "base")
    save_adapter(tmp_path / "adapter", model)
    base = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", attn_implementation="eager", dtype="float32"
    )
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    ids = some_ids()
    ours, hf = model(ids), theirs(ids).logits
    torch.testing.assert_close(ours, hf, atol=1e-5, rtol=1e-4)
    merged = theirs.merge_and_unload()(ids).logits
    own = merge_adapters(model)(ids)
    torch.testing.assert_close(own, merged, atol=1e-5, rtol=1e-4)


@PEFTS
def test_we_read_pefts(tmp_path):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    save_modern(fresh(), tmp_path / "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", attn_implementation="eager", dtype="float32"
    )
    names = ["q_proj", "o_proj", "down_proj"]
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=names)
    theirs = peft.get_peft_model(base, config)
    for name, p in theirs.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, 0, 0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    ours, ids = load_adapter(fresh(), tmp_path / "adapter"), some_ids()
    x, y = ids[:, :-1], ids[:, 1:].flatten()
    logits, hf = ours(x), theirs(x).logits
    torch.testing.assert_close(logits, hf, atol=1e-5, rtol=1e-4)
    for scores in (logits, hf):
        cross_entropy(scores.flatten(0, 1), y).backward()
    wanted = {
        name.replace(".default", ""): p.grad
        for name, p in theirs.named_parameters()
        if "lora_" in name
    }
    made, names = dict(adapters(ours)), map_names(ours)
    assert adapter_tensors(made, names).keys() == wanted.keys()
    for name, part in made.items():
        for letter in ("lora_A", "lora_B"):
            theirs = wanted[f"base_model.model.{names[name]}.{letter}.weight"]
            grad = getattr(part, letter).grad
            torch.testing.assert_close(grad, theirs, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 0}, "rank=0 must be a whole number of at least 1"),
        ({"rank": 2.0}, "rank=2.0"),
        ({"rank": True}, "rank=True"),
        ({"alpha": -1.0}, "alpha=-1.0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"targets": ()}, "targets=()"),
        ({"targets": "q_proj"}, "targets='q_proj'"),
        ({"targets": (1,)}, "targets=(1,)"),
    ],
)
def test_bad_configurations(change, words):
    with pytest.raises(ValueError) as caught:
        LoRAConfig(**change)
    assert words in str(caught.value)


def test_configurations():
    config = LoRAConfig(rank=4, alpha=2, targets=["up"])
    assert config.scale == 0.5
    assert config.targets == ("up",)
    assert config == LoRAConfig(rank=4, alpha=2.0, targets=("up",))


def test_bad_targets_change_nothing():
    model, before = fresh(), state(fresh())
    for config, words in (
        (LoRAConfig(rank=17), "rank=17 is above 16"),
        (LoRAConfig(targets=("query",)), "targets=['query']"),
        (LoRAConfig(targets=("up", "norm")), "targets=['norm']"),
    ):
        with pytest.raises(ValueError) as caught:
            add_adapters(model, config)
        assert words in str(caught.value), caught.value
        assert all(p.requires_grad for p in model.parameters())
    assert state(model).keys() == before.keys()
    add_adapters(model, LoRAConfig())
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapters(model, LoRAConfig())


def test_broken_files(tmp_path):
    with pytest.raises(ValueError, match="no adapters"):
        save_adapter(tmp_path / "a", fresh())
    assert not (tmp_path / "a").exists()
    with pytest.raises(FileNotFoundError, match="adapter_config"):
        load_adapter(fresh(), tmp_path / "a")
    folder = save_adapter(tmp_path / "a", adapted())
    path = folder / "adapter_config.json"
    told = json.loads(path.read_text())
    for change, words in (
        ({"use_dora": True}, "use_dora=True is not False"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
        ({"target_modules": "all-linear"}, "all-linear"),
        ({"target_modules": ["query"]}, "target_modules=['query']"),
        ({"r": 2}, "not [2, 24]"),
        ({"r": 0}, "rank=0"),
        ({"r": None}, "rank=None"),
        ({"r": 17}, "rank=17 is above 16"),
        ({"lora_alpha": "much"}, "adapter_config.json: "),
        ({"target_modules": ["q_proj"]}, "not expected"),
    ):
        path.write_text(json.dumps(told | change))
        model = fresh()
        with pytest.raises(ValueError) as caught:
            load_adapter(model, folder)
        assert words in str(caught.value), caught.value
        assert not [*adapters(model)]
    path.write_text("[1]")
    with pytest.raises(ValueError, match="must hold an object"):
        read_adapter_config(folder, fresh())
    path.write_text(json.dumps(told))
    assert read_adapter_config(folder, fresh()).rank == 3
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ValueError, match="is broken"):
        load_adapter(fresh(), folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="adapter_model"):
        load_adapter(fresh(), folder)


def test_what_differs_is_listed(tmp_path):
    folder = save_adapter(tmp_path / "a", adapted())
    path = folder / "adapter_model.safetensors"
    with safe_open(path, "pt") as file:
        stored = {name: file.get_tensor(name) for name in list(file.keys())}
        told = file.metadata()
    first, second, third = sorted(stored)[:3]
    stored[first] = stored[first][:, :-1].contiguous()
    stored["more"] = stored.pop(second)
    del stored[third]
    save_file(stored, path, metadata=told)
    with pytest.raises(ValueError) as caught:
        load_adapter(fresh(), folder)
    for words in (
        "differ in 4",
        "down_proj.lora_A.weight is [3, 39], not [3, 40]",
        "down_proj.lora_B.weight is missing, not [24, 3]",
    ):
        assert words in str(caught.value), caught.value
