"""The contract of `gpt`, against GPT-2 in the hands of `transformers`.

All weights are random and all files local. What is compared in float64
must agree to rounding: that proves the same formula. In float32, where
the two add in different orders, the tolerance is `FLOAT32` of the
largest number: float32 rounds at 6e-8, and a number here is the end of a
chain of some ten sums of up to a few hundred terms, whose errors partly
cancel. A formula that differs, such as the other GELU, is a hundred
times further off (`test_other_gelu_is_seen`).
"""

import copy
import json
import math
import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from llm_from_scratch import block, checkpoint, gpt
from llm_from_scratch.attention import attend, attend_fused, set_attention
from llm_from_scratch.files import END
from llm_from_scratch.gpt import (
    GPT,
    GPT2_LAYERS,
    GPTConfig,
    activation_bytes,
    check_tensors,
    count_flops,
    count_parameters,
    gpt2_names,
    gpt2_tensors,
    load_gpt2,
    open_tensors,
    read_tensor,
    save_gpt2,
)
from llm_from_scratch.tokenization import BPETokenizer
from tools import diary

FLOAT32, FLOAT64 = 2e-5, 1e-12  # of the largest number compared
quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],
)
SMALL = GPTConfig(
    vocab_size=61, context_len=24, n_layer=2, n_head=3, n_embd=36
)
CONFIGS = {
    "small": SMALL,
    "one head": GPTConfig(
        vocab_size=50, context_len=16, n_layer=1, n_head=1, n_embd=8
    ),
    "deep": GPTConfig(
        vocab_size=97, context_len=20, n_layer=5, n_head=4, n_embd=32
    ),
    "wide": GPTConfig(
        vocab_size=300, context_len=64, n_layer=2, n_head=8, n_embd=128
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def made(config: GPTConfig = SMALL, seed: int = 0) -> GPT:
    """A model in which no parameter is 0 or 1 by convention.

    At its real start biases are 0 and scales 1, and a model that forgot
    them would pass. So all of them are drawn.
    """
    model = GPT(config, generator=seeded(seed)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.empty_like(weight).normal_(
                0, 0.15, generator=seeded(len(name))
            )
            weight.add_(noise)
    return model


def fresh(config: GPTConfig = SMALL, seed: int = 0) -> GPT:
    "The same, free to be changed."
    return copy.deepcopy(made(config, seed))


def some_ids(config: GPTConfig, B: int, T: int, seed: int = 1):
    return torch.randint(config.vocab_size, (B, T), generator=seeded(seed))


def assert_near(ours, theirs, share: float = FLOAT32) -> None:
    "Differ by no more than a share of the largest number."
    limit = share * theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=limit)


# --------------------------------------------- parity with transformers

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True, scope="module")
def quiet():
    "No progress bars of transformers, and nothing it thinks of configs."
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster with tensors as small as these
    yield
    torch.set_num_threads(threads)


def theirs_of(model: GPT, folder: Path, attention: str = "eager"):
    "The same weights in the hands of transformers, which reads our files."
    save_gpt2(model, folder, overwrite=True)
    return transformers.GPT2LMHeadModel.from_pretrained(
        folder,
        attn_implementation=attention,
        dtype=model.token_embedding.weight.dtype,
    ).eval()


def their_gradients(hf, config: GPTConfig) -> dict[str, torch.Tensor]:
    "Gradients of transformers' model under our names, cut as we cut."
    found = {name: p.grad for name, p in hf.named_parameters()}
    C, result = config.n_embd, {}
    for name, grad in found.items():
        name = name.removeprefix("transformer.")
        if ".attn.c_attn." in name:
            stem, kind = name.split(".attn.c_attn.")
            stem = stem.replace("h.", "blocks.")
            for i, part in enumerate("qkv"):
                own = grad[..., i * C : (i + 1) * C]
                own = own.T if kind == "weight" else own
                result[f"{stem}.attention.{part}_proj.{kind}"] = own
            continue
        grad = grad.T if ".c_" in name and grad.ndim == 2 else grad
        for old, new in {
            "h.": "blocks.",
            "attn.c_proj": "attention.out_proj",
            "mlp.c_fc": "mlp.up",
            "mlp.c_proj": "mlp.down",
            "ln_f": "norm",
            "ln_": "norm_",
            "wte": "token_embedding",
            "wpe": "position_embedding",
            "lm_head": "head",
        }.items():
            name = (
                name.replace(old, new, 1)
                if old != "h."
                else (
                    name.replace("h.", new, 1)
                    if name.startswith("h.")
                    else name
                )
            )
        result[name] = grad
    return result


def real_places(lengths: list[int], T: int, side: str) -> torch.Tensor:
    "True = a token: (B, T), padded on one side."
    places = torch.arange(T)[None] < torch.tensor(lengths)[:, None]
    return places.flip(1) if side == "left" else places


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_gradients(name, tied, tmp_path):
    config = CONFIGS[name]
    config = GPTConfig(**{**vars(config), "tied": tied})
    model = fresh(config)
    for dtype, share in ((torch.float64, FLOAT64), (torch.float32, FLOAT32)):
        model = model.to(dtype)
        hf = theirs_of(model, tmp_path / "model")
        for B, T in ((1, 1), (3, 7), (2, config.context_len)):
            model.zero_grad(), hf.zero_grad()
            ids, targets = some_ids(config, B, T), some_ids(config, B, T, 2)
            logits, theirs = model(ids), hf(ids).logits
            assert logits.shape == (B, T, config.vocab_size)
            assert_near(logits, theirs, share)
            cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
            cross_entropy(theirs.flatten(0, 1), targets.flatten()).backward()
            compare_gradients(model, hf, share)


def compare_gradients(model: GPT, hf, share: float) -> None:
    "Of every parameter, by name."
    wanted = their_gradients(hf, model.config)
    found = dict(model.named_parameters())
    assert wanted.keys() == found.keys()
    largest = max(g.abs().max().item() for g in wanted.values())
    for name, grad in wanted.items():
        # a key's bias has no gradient in truth: softmax ignores it
        torch.testing.assert_close(
            found[name].grad, grad, rtol=0, atol=share * largest, msg=name
        )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_padding_against_transformers(side, tied, attention, tmp_path):
    config = GPTConfig(**{**vars(SMALL), "tied": tied})
    model = fresh(config)
    hf = theirs_of(model, tmp_path / "model", attention)
    lengths, T = [9, 4, 1, 6], 9
    ids, targets = some_ids(config, 4, T), some_ids(config, 4, T, 2)
    mask = real_places(lengths, T, side)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(ids, mask=mask)
    theirs = hf(ids, attention_mask=mask.long(), position_ids=places).logits
    assert_near(logits[mask], theirs[mask])
    cross_entropy(logits[mask], targets[mask]).backward()
    cross_entropy(theirs[mask], targets[mask]).backward()
    compare_gradients(model, hf, FLOAT32)


def test_cache_against_transformers(tmp_path):
    model = made()
    hf = theirs_of(model, tmp_path / "model")
    ids, ours, theirs = some_ids(SMALL, 2, 12), model.new_cache(2), None
    for part in ids.split([5, 1, 4, 2], 1):
        logits = model(part, ours)
        answer = hf(part, past_key_values=theirs, use_cache=True)
        theirs = answer.past_key_values
        assert_near(logits, answer.logits)


def test_other_gelu_is_seen(monkeypatch, tmp_path):
    model = fresh().double()
    hf = theirs_of(model, tmp_path / "model")
    ids = some_ids(SMALL, 2, 9)
    wanted = hf(ids).logits
    monkeypatch.setattr(block, "gelu", F.gelu)  # by erf
    off = (model(ids) - wanted).abs().max() / wanted.abs().max()
    assert 1e-5 < off < 1e-1


# ---------------------------------------------------------------- files


def same_weights(one: GPT, other: GPT) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_round_trip(tied, tmp_path):
    config = GPTConfig(**{**vars(SMALL), "tied": tied, "dropout": 0.25})
    model = fresh(config).train()
    assert save_gpt2(model, tmp_path / "a" / "b") == tmp_path / "a" / "b"
    loaded = load_gpt2(tmp_path / "a" / "b")
    assert loaded.config == config
    assert not loaded.training
    assert same_weights(loaded, model)
    assert all(p.requires_grad for p in loaded.parameters())
    files = sorted(x.name for x in (tmp_path / "a" / "b").iterdir())
    assert files == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_tensors_are_what_transformers_has(tied, tmp_path):
    "Names, shapes and numbers as its own model lists them."
    model = made(GPTConfig(**{**vars(SMALL), "tied": tied}))
    theirs = theirs_of(model, tmp_path).state_dict()
    ours = gpt2_tensors(model)
    assert set(ours) == set(theirs) - ({"lm_head.weight"} if tied else set())
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_what_transformers_saved(tied, shard, tmp_path):
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=61,
            n_positions=24,
            n_embd=36,
            n_layer=2,
            n_head=3,
            tie_word_embeddings=tied,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard != "1GB")
    model = load_gpt2(tmp_path)
    assert model.config.tied == tied
    assert model.config.dropout == 0.1  # as theirs
    ids = some_ids(SMALL, 2, 24)
    assert_near(model(ids), theirs(ids).logits)


def rewrite(folder: Path, change) -> None:
    "Let `change` edit the tensors of a folder in place."
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: x.clone() for name, x in tensors.items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def like_openai(tensors: dict) -> None:
    "The names of the files that OpenAI's weights were published in."
    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)
    size = SMALL.context_len
    for i in range(SMALL.n_layer):
        below = torch.ones(1, 1, size, size).tril()
        tensors[f"h.{i}.attn.bias"] = below
        tensors[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()


@pytest.fixture
def saved(tmp_path) -> Path:
    "A folder with a small model."
    return save_gpt2(made(), tmp_path / "model")


def test_published_names(saved):
    rewrite(saved, like_openai)
    assert same_weights(load_gpt2(saved), made())
    data = json.loads((saved / "config.json").read_text())
    for key in ("llm_from_scratch", "tie_word_embeddings", "n_inner"):
        del data[key]  # not in the config.json of the published GPT-2
    (saved / "config.json").write_text(json.dumps(data))
    assert load_gpt2(saved).config == SMALL


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, saved):
    def halve(tensors):
        tensors.update({k: x.to(dtype) for k, x in tensors.items()})

    rewrite(saved, halve)
    model = load_gpt2(saved)
    assert {p.dtype for p in model.parameters()} == {dtype}
    wide = load_gpt2(saved, dtype=torch.float32)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    ids = some_ids(SMALL, 2, 9)
    assert_near(wide(ids), made()(ids), 0.1)
    hf = transformers.GPT2LMHeadModel.from_pretrained(saved, dtype="float32")
    assert_near(wide(ids), hf.eval()(ids).logits)


def test_name_table():
    pairs = list(gpt2_names(SMALL))
    names = [ours for ours, _ in pairs]
    assert len(names) == len(set(names))
    assert set(names) == set(made().state_dict())
    assert len({theirs for _, theirs in pairs}) == 4 + SMALL.n_layer * 12
    assert len(GPT2_LAYERS) == 8


def test_pieces_of_a_file(saved):
    with ExitStack() as stack:
        stored = open_tensors(saved, stack)
        check_tensors(SMALL, stored)
        for ours, theirs in gpt2_names(SMALL):
            wanted = made().state_dict()[ours]
            assert torch.equal(read_tensor(stored, ours, theirs), wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_never_two_copies_in_memory():
    "A file of 100 MB, a third of it one tensor, needs 100 MB to load."
    from bench.gpt2_parity import measure_loading

    found = measure_loading(n_layer=5)
    size = found["model_bytes"]
    assert size == found["predicted_bytes"] > 90e6
    assert found["largest_tensor_bytes"] > size / 4
    assert 0.8 * size < found["peak_bytes"] < 1.1 * size


def refused(folder, *words, error=ValueError, **options) -> str:
    "The message with which `load_gpt2` refuses a folder."
    with pytest.raises(error) as caught:
        load_gpt2(folder, **options)
    text = str(caught.value)
    for word in words:
        assert str(word) in text, text
    return text


def test_missing_tensor(saved):
    rewrite(saved, lambda x: x.pop("transformer.h.1.mlp.c_fc.bias"))
    refused(saved, "differ in 1:", "missing: h.1.mlp.c_fc.bias")


def test_extra_tensor(saved):
    rewrite(saved, lambda x: x.update(adapter=torch.zeros(3)))
    refused(saved, "differ in 1:", "unknown: adapter")


def test_misshapen_tensor(saved):
    def turn(tensors):
        name = "transformer.h.0.mlp.c_fc.weight"
        tensors[name] = tensors[name].T.contiguous()

    rewrite(saved, turn)
    refused(saved, "h.0.mlp.c_fc.weight is [144, 36], not [36, 144]")


def test_many_faults_are_counted(saved):
    rewrite(saved, lambda x: [x.pop(k) for k in list(x) if ".h." in k])
    assert refused(saved, "differ in 24:", "; …").count("missing") == 5


@pytest.mark.parametrize("keep", [0, 4, 60, -100])
def test_truncated_file(saved, keep):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(saved, path, "broken")


def test_only_pickled_weights(saved):
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    refused(saved, saved, "pickle", error=FileNotFoundError)


def test_no_config(saved):
    (saved / "config.json").unlink()
    refused(saved, saved, "config.json", error=FileNotFoundError)


@pytest.mark.parametrize("source", ["nowhere", "./no/where", "a/b/c", ""])
def test_no_such_source(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(source or tmp_path / "x", "folder", error=FileNotFoundError)


CHANGES = [
    ({"model_type": "llama"}, ["model_type='llama'", "'gpt2'"]),
    ({"activation_function": "gelu"}, ["'gelu'", "'gelu_new'"]),
    ({"layer_norm_epsilon": 1e-6}, ["layer_norm_epsilon=1e-06", "1e-05"]),
    ({"n_inner": 100}, ["n_inner=100", "None"]),
    ({"scale_attn_weights": False}, ["scale_attn_weights=False"]),
    ({"n_head": 5}, ["n_embd=36", "n_head=5"]),
    ({"n_layer": "2"}, ["n_layer='2'", "at least 1"]),
    ({"llm_from_scratch": {"format_version": 2}}, ["format_version=2", "1"]),
    ({"llm_from_scratch": {"format_version": "x"}}, ["format_version='x'"]),
    ({"n_layer": None, "n_head": None}, ["lacks", "'n_head', 'n_layer'"]),
    ({"n_layer": 3}, ["differ in 12:", "missing: h.2.attn.c_attn.bias"]),
    ({"n_positions": 25}, ["wpe.weight is [24, 36], not [25, 36]"]),
    ({"tie_word_embeddings": False}, ["missing: lm_head.weight"]),
]


@pytest.mark.parametrize("change, words", CHANGES)
def test_config_that_does_not_fit(saved, change, words):
    path = saved / "config.json"
    data = json.loads(path.read_text()) | change
    data = {k: x for k, x in data.items() if x is not None}
    path.write_text(json.dumps(data))
    refused(saved, *words)


def test_config_that_says_the_same(saved):
    path = saved / "config.json"
    data = json.loads(path.read_text()) | {"n_inner": 144, "n_ctx": 24}
    path.write_text(json.dumps(data))
    assert load_gpt2(saved).config == SMALL


def test_broken_json(saved):
    path = saved / "config.json"
    path.write_text('{"n_layer": 2')
    refused(saved, path, "broken", "line 1")


def test_save_does_not_overwrite(saved):
    before = (saved / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_gpt2(made(seed=1), saved)
    assert (saved / "model.safetensors").read_bytes() == before
    save_gpt2(made(seed=1), saved, overwrite=True)
    assert same_weights(load_gpt2(saved), made(seed=1))


def test_failed_save_leaves_the_old(saved, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gpt, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_gpt2(made(seed=1), saved, overwrite=True)
    assert same_weights(load_gpt2(saved), made())
    assert list(saved.parent.iterdir()) == [saved]


def test_from_the_hub(saved, tmp_path, monkeypatch):
    "Weights and configuration are fetched once, with consent."
    calls = []

    def fake(repo_id, name, target, *, repo_type, consent):
        calls.append((repo_id, name, repo_type, consent))
        if not consent:
            raise PermissionError("pass consent=True")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((saved / name).read_bytes())

    monkeypatch.setattr(checkpoint, "download", fake)
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path / "cache"))
    refused("owner/name", "consent=True", error=PermissionError)
    calls.clear()
    for _ in range(2):
        assert same_weights(load_gpt2("owner/name", consent=True), made())
    assert calls == [
        ("owner/name", "model.safetensors", "model", True),
        ("owner/name", "config.json", "model", True),
    ]


# ----------------------------------------------------------- properties


def stream_of(model: GPT, x: torch.Tensor) -> torch.Tensor:
    "The model from its embeddings on, so that they can have gradients."
    for layer in model.blocks:
        x = layer(x)
    return F.linear(model.norm(x), model.token_embedding.weight)


@pytest.mark.parametrize("function", [attend, attend_fused])
def test_causal_by_gradient(function):
    model = fresh()
    set_attention(model, function)
    places = torch.arange(10)[None]
    x = model.token_embedding(some_ids(SMALL, 2, 10))
    x = (x + model.position_embedding(places)).detach().requires_grad_()
    logits = stream_of(model, x)
    assert torch.equal(logits, model(some_ids(SMALL, 2, 10)))
    for t in range(10):
        (grad,) = torch.autograd.grad(
            logits[:, t].pow(2).sum(), x, retain_graph=True
        )
        assert (grad[:, t + 1 :] == 0).all()  # exactly
        assert (grad[:, : t + 1].abs().sum(-1) > 0).all()


def test_later_tokens_change_nothing():
    ids = some_ids(SMALL, 1, 12)
    other = torch.cat([ids[:, :7], some_ids(SMALL, 1, 5, 9)], 1)
    one, two = made()(ids), made()(other)
    assert torch.equal(one[:, :7], two[:, :7])
    assert not torch.equal(one[:, 7:], two[:, 7:])


def test_batch_invariance():
    ids = some_ids(SMALL, 5, 11)
    together = made()(ids)
    for i in range(5):
        assert_near(made()(ids[i : i + 1]), together[i : i + 1])
    assert_near(made()(ids.flip(0)), together.flip(0))


@quick
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 9))
def test_texts_in_one_row_do_not_see_each_other(lengths, seed):
    model = made()
    rows = [some_ids(SMALL, 1, n, seed + n) for n in lengths]
    which = torch.tensor([i for i, n in enumerate(lengths) for _ in range(n)])
    same = (which[:, None] == which)[None]  # (1, T, S)
    ids, alone = torch.cat(rows, 1), torch.cat([model(x)[0] for x in rows])
    assert_near(model(ids, mask=same)[0], alone)
    cache, done = model.new_cache(1), len(which) // 2
    if done > 0:
        first = model(ids[:, :done], cache, mask=same[:, :done, :done])
        rest = model(ids[:, done:], cache, mask=same[:, done:])
        assert_near(torch.cat([first, rest], 1)[0], alone)


def test_the_head_reads_the_features():
    model, ids = made(), some_ids(SMALL, 2, 7)
    features = model.features(ids)
    assert features.shape == (2, 7, SMALL.n_embd)
    table = model.token_embedding.weight
    assert torch.equal(F.linear(features, table), model(ids))


@quick
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(0, 5),
    st.integers(0, 99),
)
def test_padding_changes_nothing(lengths, more, seed):
    "On either side, whatever the padding is."
    T, model = max(lengths) + more, made()
    rows = [some_ids(SMALL, 1, n, seed + n) for n in lengths]
    alone = torch.cat([model(row)[0] for row in rows])
    for side in ("left", "right"):
        mask = real_places(lengths, T, side)
        ids = some_ids(SMALL, len(lengths), T, seed)
        ids[mask] = torch.cat([row[0] for row in rows])
        assert_near(model(ids, mask=mask)[mask], alone)


@quick
@given(
    st.lists(st.integers(1, 10), min_size=1, max_size=3),
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.sampled_from(["none", "left", "right"]),
    st.integers(0, 99),
)
def test_cached_is_uncached(lengths, chunks, side, seed):
    "In chunks of any size, with padding and without."
    model, T = made(), sum(chunks)
    chunks = [n for i, n in enumerate(chunks) if sum(chunks[: i + 1]) <= 24]
    T = sum(chunks)
    ids = some_ids(SMALL, len(lengths), T, seed)
    mask = None
    if side != "none":
        mask = real_places([min(n, T) for n in lengths], T, side)
    whole, cache, done = model(ids, mask=mask), None, 0
    cache = model.new_cache(len(lengths), T)
    for part in ids.split(chunks, 1):
        done += part.shape[1]
        seen = None if mask is None else mask[:, :done]
        logits = model(part, cache, mask=seen)
        wanted = whole[:, done - part.shape[1] : done]
        real = ... if mask is None else mask[:, done - part.shape[1] : done]
        if mask is None or real.any():
            assert_near(logits[real], wanted[real])
    assert {layer.length for layer in cache} == {T}


def test_order_is_in_the_positions():
    "Without them, and unmasked, permuted tokens give permuted logits."
    model = fresh()
    ids, order = some_ids(SMALL, 2, 9), torch.randperm(9, generator=seeded())

    def unmasked(ids):
        x = model.token_embedding(ids)
        x = x + model.position_embedding(torch.arange(9)[None])
        everyone = torch.ones(9, 9, dtype=torch.bool)
        for layer in model.blocks:
            x = layer(x, everyone)
        return F.linear(model.norm(x), model.token_embedding.weight)

    assert (unmasked(ids[:, order]) - unmasked(ids)[:, order]).abs().max() > 1
    torch.nn.init.zeros_(model.position_embedding.weight)
    assert_near(unmasked(ids[:, order]), unmasked(ids)[:, order])
    # under the causal mask one block shows its last position a set; in a
    # second block, the others have seen different beginnings
    order = torch.cat([order[order != 8], torch.tensor([8])])
    last, wanted = model(ids[:, order])[:, -1], model(ids)[:, -1]
    assert (last - wanted).abs().max() > 1e-3
    del model.blocks[1:]
    assert_near(model(ids[:, order])[:, -1], model(ids)[:, -1])


@pytest.mark.parametrize("side", [None, "left", "right"])
def test_fused_attention(side):
    plain, fused = made(), fresh()
    set_attention(fused, attend_fused)
    ids = some_ids(SMALL, 3, 10)
    mask = side and real_places([10, 3, 7], 10, side)
    real = torch.ones(3, 10, dtype=torch.bool) if mask is None else mask
    assert_near(fused(ids, mask=mask)[real], plain(ids, mask=mask)[real])


@pytest.fixture
def unguarded(monkeypatch):
    "The class as users have it: without the tests' check of shapes."
    for owner in (GPT, gpt.Embedding):
        for name in ("forward", "features", "place"):
            function = vars(owner).get(name)
            bare = getattr(function, "__wrapped__", function)
            if bare is not None:
                monkeypatch.setattr(owner, name, bare)


def test_compiles_in_one_graph():
    code = (
        "import torch\n"
        "from llm_from_scratch import GPT, GPTConfig\n"
        f"model = GPT({SMALL!r}).eval()\n"
        "fast = torch.compile(model, fullgraph=True, backend='eager')\n"
        "ids = torch.randint(61, (2, 9))\n"
        "mask = torch.arange(9)[None] >= torch.tensor([[0], [4]])\n"
        "assert torch.allclose(fast(ids), model(ids), atol=1e-5)\n"
        "ours, theirs = fast(ids, mask=mask), model(ids, mask=mask)\n"
        "assert torch.allclose(ours[mask], theirs[mask], atol=1e-5)\n"
    )
    call = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(call, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_dropout_only_in_training():
    config = GPTConfig(**{**vars(SMALL), "dropout": 0.5})
    model, ids = fresh(config), some_ids(SMALL, 2, 9)
    assert torch.equal(model(ids), model(ids))
    assert_near(model(ids), made()(ids))  # the same weights
    model.train()
    assert not torch.equal(model(ids), model(ids))


# ------------------------------------------------------- start and sizes


def test_start_knows_nothing():
    "The loss is ln V, whatever the ids, and depth does not change it."
    for n_layer in (1, 12):
        config = GPTConfig(
            vocab_size=500,
            context_len=32,
            n_layer=n_layer,
            n_head=4,
            n_embd=64,
        )
        model = GPT(config, generator=seeded())
        ids, targets = some_ids(config, 8, 32), some_ids(config, 8, 32, 2)
        loss = cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        assert abs(loss.item() - math.log(500)) < 0.05


def test_start_is_drawn_from_the_generator():
    one, other = (GPT(SMALL, generator=seeded(5)) for _ in range(2))
    assert same_weights(one, other)
    assert not same_weights(one, GPT(SMALL, generator=seeded(6)))
    big = GPT(CONFIGS["wide"], generator=seeded())
    for name, weight in big.named_parameters():
        if "bias" in name:
            assert not weight.any(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            adds = name.endswith(("out_proj.weight", "down.weight"))
            wanted = 0.02 / (2 * 2) ** 0.5 if adds else 0.02
            assert abs(weight.std().item() / wanted - 1) < 0.05, name


def test_tied_gradient_is_a_sum():
    "Of the gradients that the two uses would have apart."
    tied = fresh()
    untied = GPT(GPTConfig(**{**vars(SMALL), "tied": False}))
    state = tied.state_dict()
    untied.load_state_dict(
        state | {"head.weight": state["token_embedding.weight"].clone()}
    )
    ids, targets = some_ids(SMALL, 2, 9), some_ids(SMALL, 2, 9, 2)
    for model in (tied, untied):
        logits = model(ids).flatten(0, 1)
        cross_entropy(logits, targets.flatten()).backward()
    both = untied.token_embedding.weight.grad + untied.head.weight.grad
    assert_near(tied.token_embedding.weight.grad, both)


configs = st.builds(
    lambda v, t, n, h, d, tied: GPTConfig(
        vocab_size=v,
        context_len=t,
        n_layer=n,
        n_head=h,
        n_embd=h * d,
        tied=tied,
    ),
    st.integers(2, 80),
    st.integers(1, 20),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 12),
    st.booleans(),
)


@quick
@given(configs)
def test_parameters_as_predicted(config):
    model = GPT(config)
    assert sum(p.numel() for p in model.parameters()) == count_parameters(
        config
    )
    assert config.head_size * config.n_head == config.n_embd
    assert GPTConfig.from_dict(config.to_dict()) == config


def test_published_sizes():
    "The four of GPT-2: what transformers' own model would have."
    sizes = {"n_embd": 1600, "n_layer": 48, "n_head": 25}
    for change in ({}, sizes):
        with torch.device("meta"):
            theirs = transformers.GPT2LMHeadModel(
                transformers.GPT2Config(**change)
            )
        assert count_parameters(GPTConfig(**change)) == theirs.num_parameters()
    assert count_parameters(GPTConfig()) == 124_439_808


@quick
@given(configs, st.integers(1, 3), st.data())
def test_flops_as_predicted(config, B, data):
    T = data.draw(st.integers(1, config.context_len))
    model, ids = GPT(config), some_ids(config, B, T)
    counter = FlopCounterMode(display=False)
    with counter:
        model(ids)
    wanted = B * T * count_flops(config, T)
    assert counter.get_total_flops() == wanted


def kept_bytes(model: GPT, ids: torch.Tensor) -> dict[str, int]:
    "What autograd keeps from ids to loss: floats, and the rest."
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen, sizes = {}, {"floats": 0, "rest": 0}

    def note(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = x  # alive, so no address comes twice
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    for x in seen.values():
        big = x.is_floating_point() and x.numel() > ids.numel()
        sizes["floats" if big else "rest"] += x.untyped_storage().nbytes()
    return sizes


@pytest.mark.parametrize("name", CONFIGS)
def test_activations_as_predicted(name):
    config = CONFIGS[name]
    for B, T in ((1, 5), (2, config.context_len)):
        kept = kept_bytes(fresh(config), some_ids(config, B, T))
        assert kept["floats"] == activation_bytes(config, B, T)
        assert activation_bytes(config, B, T, width=2) * 2 == kept["floats"]


def test_fused_attention_keeps_no_weights():
    "What `activation_bytes` says of it."
    config, T = CONFIGS["wide"], 64
    model = fresh(config)
    set_attention(model, attend_fused)
    weights = config.n_layer * 2 * T * T * config.n_head * 4
    kept = kept_bytes(model, some_ids(config, 2, T))["floats"]
    less = activation_bytes(config, 2, T) - weights
    a_number_a_head = weights // T  # by which it rebuilds them
    assert less <= kept <= less + 2 * a_number_a_head


# ------------------------------------------------------------- the diary


def test_diary_says_the_same_twice():
    tokenizer = BPETokenizer.train("red ball " * 50, 262, special_tokens=[END])
    config = GPTConfig(
        vocab_size=len(tokenizer),
        context_len=8,
        n_layer=1,
        n_head=1,
        n_embd=8,
    )
    model, rules = GPT(config, generator=seeded()).eval(), dict(diary.RULES)
    words = diary.say(model, tokenizer, rules)
    assert words == diary.say(model, tokenizer, rules) != ""
    rules["seed"] = 1
    assert words != diary.say(model, tokenizer, rules)


@pytest.mark.parametrize("context_len", [64, 7])
def test_diary_measures_bits_per_byte(context_len):
    "A model without a preference needs log2 V bits for each token."
    tokenizer = BPETokenizer.train("red ball " * 50, 262, special_tokens=[END])
    config = GPTConfig(
        vocab_size=len(tokenizer),
        context_len=context_len,
        n_layer=1,
        n_head=1,
        n_embd=8,
    )
    model = GPT(config)
    torch.nn.init.zeros_(model.token_embedding.weight)
    stories = ["red ball", "a red, red ball ball!", "Zoë"]
    tokens = size = cut = 0
    for story in stories:
        ids = [*tokenizer.encode(story), tokenizer.special_tokens[END]]
        seen = ids[:context_len]
        tokens, cut = tokens + len(seen), cut + (len(seen) < len(ids))
        story = tokenizer.decode_bytes([i for i in seen if i != ids[-1]])
        size += len(story)
    found = diary.judge(model, tokenizer, stories)
    wanted = tokens * math.log2(len(tokenizer)) / size
    assert found == {"bits_per_byte": round(wanted, 3), "cut": cut}


def test_diary_keeps_other_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(diary, "ENTRIES", {"one": None, "two": None})
    path = tmp_path / "diary.json"
    for name, words in (("two", "b"), ("one", "a"), ("two", "c")):
        diary.write_entry(path, name, {"says": words})
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["prompt"] == diary.RULES["prompt"]
    assert record["entries"] == [
        {"chapter": "one", "says": "a"},
        {"chapter": "two", "says": "c"},
    ]


# ------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "change, words",
    [
        ({"n_layer": 0}, ["n_layer=0", "at least 1"]),
        ({"vocab_size": -5}, ["vocab_size=-5"]),
        ({"n_embd": 768.0}, ["n_embd=768.0", "whole number"]),
        ({"context_len": True}, ["context_len=True"]),
        ({"n_embd": 100, "n_head": 6}, ["n_embd=100", "n_head=6"]),
        ({"dropout": 1.0}, ["dropout=1.0", "below 1"]),
        ({"dropout": -0.1}, ["dropout=-0.1"]),
        ({"tied": "no"}, ["tied='no'", "True or False"]),
    ],
)
def test_bad_config(change, words):
    with pytest.raises(ValueError) as caught:
        GPTConfig(**change)
    assert all(word in str(caught.value) for word in words)


def test_config_is_frozen_and_named():
    with pytest.raises(AttributeError):
        SMALL.n_layer = 3
    with pytest.raises(TypeError):
        GPTConfig(100)


ones = torch.ones(2, 5, dtype=torch.bool)
BAD_INPUT = [
    (some_ids(SMALL, 2, 25), None, ValueError, ["25 tokens", "1…24"]),
    (torch.full((2, 5), 61), None, ValueError, ["id 61", "0…60"]),
    (torch.full((2, 5), -1), None, ValueError, ["id -1", "0…60"]),
    (torch.ones(2, 5), None, TypeError, ["int64", "float32"]),
    (torch.ones(2, 0, dtype=torch.int64), None, ValueError, ["0 tokens"]),
    (torch.ones(5, dtype=torch.int64), None, ValueError, ["(5,)", "(B, T)"]),
    ([1, 2, 3], None, ValueError, ["list", "torch.tensor([ids])"]),
    (some_ids(SMALL, 2, 5), ones.float(), TypeError, ["float32", "bool"]),
    (some_ids(SMALL, 2, 5), ones.tolist(), TypeError, ["list"]),
    (some_ids(SMALL, 2, 5), ones[:1], ValueError, ["(1, 5)", "(2, 5)"]),
    (some_ids(SMALL, 2, 5), ones[:, :4], ValueError, ["(2, 4)", "(2, 5)"]),
    (some_ids(SMALL, 2, 5), ones[0], ValueError, ["(5,)", "(2, 5)"]),
    (some_ids(SMALL, 2, 5), ones[None], ValueError, ["(1, 2", "(2, 5, 5)"]),
]


@pytest.mark.usefixtures("unguarded")
@pytest.mark.parametrize("ids, mask, error, words", BAD_INPUT)
def test_bad_input(ids, mask, error, words):
    with pytest.raises(error) as caught:
        made()(ids, mask=mask)
    for word in words:
        assert word in str(caught.value), caught.value


@pytest.mark.usefixtures("unguarded")
def test_bad_input_changes_no_cache():
    model = made()
    cache = model.new_cache(2, 8)
    model(some_ids(SMALL, 2, 6), cache)
    keys = [layer.k.clone() for layer in cache]
    bad = [
        (some_ids(SMALL, 2, 19), {}, ["19 tokens after 6", "1…18"]),
        (some_ids(SMALL, 2, 3), {}, ["do not fit", "6 filled"]),
        (some_ids(SMALL, 3, 1), {}, ["do not fit"]),
        (torch.full((2, 1), 99), {}, ["id 99"]),
        (some_ids(SMALL, 2, 1), {"mask": ones}, ["(2, 5)", "(2, 7)"]),
    ]
    for ids, options, words in bad:
        with pytest.raises(ValueError) as caught:
            model(ids, cache, **options)
        assert all(word in str(caught.value) for word in words), caught.value
        assert {layer.length for layer in cache} == {6}
    with pytest.raises(ValueError, match="1 layers, the model has 2"):
        model(some_ids(SMALL, 2, 1), cache[:1])
    for old, layer in zip(keys, cache, strict=True):
        assert torch.equal(old[:, :, :6], layer.k[:, :, :6])
        assert layer.length == 6
