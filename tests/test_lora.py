"""`lora`: against peft, merged and unmerged, saved and swapped."""

import json

import pytest
import torch
from torch.nn.functional import cross_entropy

from llm_from_scratch.lora import (
    LoRAConfig,
    adapter_tensors,
    adapters,
    add_adapters,
    load_adapter,
    merge_adapters,
    remove_adapters,
    save_adapter,
)
from llm_from_scratch.modern import ModernConfig, ModernGPT, save_modern

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
PEFTS = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
ALL = ("q_proj", "k_proj", "v_proj", "out_proj", "gate", "up", "down")


def fresh(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return ModernGPT(SIZES, generator=generator, zero_init=False, std=0.1)


def some_ids(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(61, (3, 17), generator=generator)


def adapted(seed=2, **options):
    options = {"rank": 3, "alpha": 5.0, "targets": ALL} | options
    model = add_adapters(fresh(), LoRAConfig(**options))
    generator = torch.Generator().manual_seed(seed)
    for _, part in adapters(model):
        part.lora_B.data.normal_(0, 0.1, generator=generator)
    return model


def test_it_begins_as_the_base():
    ids = some_ids()
    model = add_adapters(fresh(), LoRAConfig(targets=ALL))
    assert torch.equal(model(ids), fresh()(ids))
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 7 * 2
    assert all(".lora_" in name for name in learning)


def test_merged_is_unmerged():
    ids, model = some_ids(), adapted()
    unmerged = model(ids)
    assert (unmerged - fresh()(ids)).abs().max() > 0.1
    merge_adapters(model)
    assert not [*adapters(model)]
    assert model.state_dict().keys() == fresh().state_dict().keys()
    torch.testing.assert_close(model(ids), unmerged, atol=1e-5, rtol=1e-5)


def test_removed_is_the_base():
    ids = some_ids()
    assert torch.equal(remove_adapters(adapted())(ids), fresh()(ids))


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


def test_another_base(tmp_path):
    save_adapter(tmp_path / "a", adapted())
    model = fresh(7)
    before = model(some_ids())
    with pytest.raises(ValueError, match="another base"):
        load_adapter(model, tmp_path / "a")
    assert torch.equal(model(some_ids()), before)
    load_adapter(model, tmp_path / "a", check_base=False)
    load_adapter(fresh().bfloat16(), tmp_path / "a")  # is the same base


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
            torch.nn.init.normal_(p, 0, 0.1)
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
    found = adapter_tensors(ours)
    assert found.keys() == wanted.keys()
    own = {id(p): p.grad for p in ours.parameters()}
    named = dict(ours.named_parameters())
    grads = [named[n].grad for n in ours.state_dict() if ".lora_" in n]
    for name, grad in zip(found, grads, strict=True):
        torch.testing.assert_close(grad, wanted[name], atol=1e-6, rtol=1e-3)
    assert own


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": 2.0}, "rank=2.0"),
        ({"alpha": -1.0}, "alpha"),
        ({"dropout": 1.5}, "dropout"),
        ({"targets": ()}, "targets=()"),
        ({"targets": "q_proj"}, "targets='q_proj'"),
    ],
)
def test_bad_configurations(change, words):
    with pytest.raises(ValueError) as caught:
        LoRAConfig(**change)
    assert words in str(caught.value)


def test_bad_targets_change_nothing():
    model = fresh()
    for config, words in (
        (LoRAConfig(rank=17), "rank=17 is above 16"),
        (LoRAConfig(targets=("query",)), "targets=['query']"),
    ):
        with pytest.raises(ValueError) as caught:
            add_adapters(model, config)
        assert words in str(caught.value), caught.value
        assert all(p.requires_grad for p in model.parameters())
    add_adapters(model, LoRAConfig())
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapters(model, LoRAConfig())


def test_broken_files(tmp_path):
    with pytest.raises(ValueError, match="no adapters"):
        save_adapter(tmp_path / "a", fresh())
    with pytest.raises(FileNotFoundError, match="adapter_config"):
        load_adapter(fresh(), tmp_path / "a")
    folder = save_adapter(tmp_path / "a", adapted())
    path = folder / "adapter_config.json"
    told = json.loads(path.read_text())
    for change, words in (
        ({"use_dora": True}, "use_dora=True"),
        ({"target_modules": "all-linear"}, "all-linear"),
        ({"target_modules": ["query"]}, "query"),
        ({"r": 2}, "not [2, 24]"),
        ({"target_modules": ["q_proj"]}, "not expected"),
    ):
        path.write_text(json.dumps(told | change))
        model = fresh()
        with pytest.raises(ValueError) as caught:
            load_adapter(model, folder)
        assert words in str(caught.value), caught.value
        assert not [*adapters(model)]
