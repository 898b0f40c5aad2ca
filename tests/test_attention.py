"""The contract of `attention`, against torch's own attention and by
properties that no wrong version has; the wrong versions are here, too.
"""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llm_from_scratch import attention
from llm_from_scratch.attention import (
    CausalSelfAttention,
    KVCache,
    attend,
    attend_fused,
    causal_mask,
    check_heads,
    check_mask,
    merge_heads,
    padding_mask,
    set_attention,
    split_heads,
)

BOTH = {"attend": attend, "attend_fused": attend_fused}
both = pytest.mark.parametrize("function", BOTH.values(), ids=BOTH)
quick = settings(deadline=None, derandomize=True, max_examples=30)
# float32 keeps 24 bits: sums of up to a few hundred terms of size one
# differ by some 1e-6 between two orders of adding
near = partial(torch.testing.assert_close, rtol=1e-5, atol=3e-6)
equal = partial(torch.testing.assert_close, rtol=0, atol=0)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def bare(monkeypatch):
    "The module without the guards of its shapes, as a user has it."
    for owner in (attention, CausalSelfAttention, KVCache):
        for name, member in list(vars(owner).items()):
            if hasattr(member, "__wrapped__"):
                monkeypatch.setattr(owner, name, member.__wrapped__)
    return attention


def qkv(B=2, H=3, T=5, S=5, D=4, **options):
    "Random queries, keys and values that want gradients."
    options = {"requires_grad": True} | options
    return (
        torch.randn(B, H, T, D, **options),
        torch.randn(B, H, S, D, **options),
        torch.randn(B, H, S, D, **options),
    )


def layer_with(function, C=8, H=2) -> CausalSelfAttention:
    "A layer, always the same one, that computes by `function`."
    torch.manual_seed(1)
    layer = CausalSelfAttention(C, H)
    set_attention(layer, function)
    return layer


# ------------------------------------------------------------- parity

SIZES = [
    (1, 1, 1, 1, 1),
    (2, 3, 5, 5, 4),
    (1, 2, 3, 7, 8),
    (3, 1, 1, 9, 16),
    (2, 4, 33, 33, 16),
]


@both
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["all", "causal", "mask", "mask, causal"])
def test_attend_is_torchs(function, sizes, kind):
    "Forward and all three gradients."
    inputs = qkv(*sizes)
    B, H, T, S, D = sizes
    mask = torch.rand(B, 1, T, S) < 0.7
    mask |= torch.eye(T, S, dtype=torch.bool).roll(S - T, 1)  # no empty row
    allowed = torch.ones(1, 1, T, S, dtype=torch.bool)
    allowed = allowed & mask if "mask" in kind else allowed
    allowed = allowed & causal_mask(T, S) if "causal" in kind else allowed
    ours = function(
        *inputs, mask if "mask" in kind else None, causal="causal" in kind
    )
    theirs = F.scaled_dot_product_attention(*inputs, allowed)
    near(ours, theirs)
    slope = torch.randn_like(ours)
    for own, other in zip(
        torch.autograd.grad(ours, inputs, slope),
        torch.autograd.grad(theirs, inputs, slope),
        strict=True,
    ):
        near(own, other)


def slopes(out, slope, **inputs) -> dict[str, torch.Tensor]:
    "The gradient of each input by its name."
    found = torch.autograd.grad(out, [*inputs.values()], slope)
    return dict(zip(inputs, found, strict=True))


def twin(layer: CausalSelfAttention) -> nn.MultiheadAttention:
    "Torch's layer with the same weights."
    C, bias = layer.out_proj.weight.shape[0], layer.q_proj.bias is not None
    theirs = nn.MultiheadAttention(
        C, layer.n_head, batch_first=True, bias=bias
    )
    parts = layer.q_proj, layer.k_proj, layer.v_proj
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.load_state_dict(layer.out_proj.state_dict())
    return theirs


@both
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 4, 1), (2, 6, 12, 3), (3, 40, 16, 4)]
)
def test_the_layer_is_torchs(function, bias, sizes):
    "Outputs, and the gradients of input and every weight."
    B, T, C, H = sizes
    layer = CausalSelfAttention(C, H, bias=bias)
    set_attention(layer, function)
    theirs, x = twin(layer), torch.randn(B, T, C, requires_grad=True)
    slope, later = torch.randn(B, T, C), ~causal_mask(T)
    ours = layer(x)
    wanted, _ = theirs(x, x, x, attn_mask=later, need_weights=False)
    near(ours, wanted)
    grads = torch.autograd.grad(ours, [x, *layer.parameters()], slope)
    grads = dict(
        zip(["x", *dict(layer.named_parameters())], grads, strict=True)
    )
    others = torch.autograd.grad(wanted, [x, *theirs.parameters()], slope)
    others = dict(
        zip(["x", *dict(theirs.named_parameters())], others, strict=True)
    )
    near(grads["x"], others["x"])
    for kind in ("weight", "bias") if bias else ("weight",):
        rows = [grads[f"{p}_proj.{kind}"] for p in "qkv"]
        near(torch.cat(rows), others[f"in_proj_{kind}"], atol=1e-5)
        near(grads[f"out_proj.{kind}"], others[f"out_proj.{kind}"], atol=1e-5)


@both
def test_padding_is_torchs(function):
    layer = layer_with(function)
    x, real = (
        torch.randn(3, 7, 8),
        torch.arange(7) < torch.tensor([[7], [4], [1]]),
    )
    wanted, _ = twin(layer)(
        x, x, x, key_padding_mask=~real, attn_mask=~causal_mask(7)
    )
    near(layer(x, padding_mask(real))[real], wanted[real])


@both
def test_gradcheck_in_double_precision(function):
    inputs = qkv(1, 2, 4, 4, 3, dtype=torch.double)
    mask = padding_mask(torch.tensor([[True, True, True, False]]))
    for options in ({}, {"causal": True}, {"mask": mask}):
        check = partial(function, **options)
        assert torch.autograd.gradcheck(check, inputs)
    layer = layer_with(function, 4, 2).double()
    x = torch.randn(1, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


# -------------------------------------------------- properties, mutants


def no_future(function):
    "Exactly no output depends on a later input."
    layer, x = layer_with(function), torch.randn(1, 6, 8, requires_grad=True)
    out = layer(x)
    for t in range(6):
        (slope,) = torch.autograd.grad(out[0, t].sum(), x, retain_graph=True)
        equal(slope[0, t + 1 :], torch.zeros(5 - t, 8))


def whole_past(function):
    "Each output depends on its own and every earlier input."
    layer, x = layer_with(function), torch.randn(1, 6, 8)
    slopes = torch.autograd.functional.jacobian(layer, x)
    strength = slopes[0, :, :, 0].abs().sum((1, 3))  # (T, S)
    assert (strength[causal_mask(6)] > 1e-9).all()


def alone_in_the_batch(function):
    "A row's result does not depend on the rows beside it."
    layer, x = layer_with(function), torch.randn(4, 6, 8)
    whole = layer(x)
    for b in range(4):
        near(layer(x[b : b + 1]), whole[b : b + 1])


def padding_on_either_side(function):
    "Real tokens come out as if there were no padding."
    layer, x = layer_with(function), torch.randn(1, 4, 8)
    alone, noise = layer(x), 9 * torch.randn(1, 3, 8)
    right, left = torch.cat([x, noise], 1), torch.cat([noise, x], 1)
    for part, padded in ((slice(0, 4), right), (slice(3, 7), left)):
        real = torch.zeros(1, 7, dtype=torch.bool)
        real[:, part] = True
        out = layer(padded, padding_mask(real))
        assert out.isfinite().all()
        near(out[:, part], alone)


def a_set_without_a_mask(function):
    "Permuted inputs give permuted outputs."
    layer, x = layer_with(function), torch.randn(1, 6, 8)
    every, order = torch.ones(6, 6, dtype=torch.bool), torch.randperm(6)
    near(layer(x[:, order], every), layer(x, every)[:, order])


def cached(function, pieces=(3, 1, 2)):
    "Piece by piece through a cache it is what it is at once."
    layer, T = layer_with(function), sum(pieces)
    x, cache = torch.randn(2, T, 8), KVCache(2, 2, T + 1, 4)
    with torch.no_grad():
        parts = [layer(part, cache=cache) for part in x.split(pieces, 1)]
        near(torch.cat(parts, 1), layer(x))
    assert cache.length == T


def parity(function):
    "Torch computes the same."
    inputs = qkv()
    wanted = F.scaled_dot_product_attention(*inputs, is_causal=True)
    near(function(*inputs, causal=True), wanted)


PROPERTIES = [
    no_future,
    whole_past,
    alone_in_the_batch,
    padding_on_either_side,
    a_set_without_a_mask,
    cached,
    parity,
]


@both
@pytest.mark.parametrize("holds", PROPERTIES)
def test_properties(function, holds):
    holds(function)


def off_by_one(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "The next position is allowed."
    T, S = q.shape[2], k.shape[2]
    if causal:
        mask = torch.ones(T, S).tril(S - T + 1).bool()
    return attend(q, k, v, mask)


def wrong_axis(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "Softmax over the queries."
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        mask = causal_mask(*scores.shape[-2:])
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    return scores.softmax(-2) @ v


def no_root(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "Scores that are not divided."
    return attend(q * math.sqrt(q.shape[-1]), k, v, mask, causal=causal)


def view_split(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "Heads cut by `view` alone."
    q, k, v = (merge_heads(x).view(x.shape) for x in (q, k, v))
    return attend(q, k, v, mask, causal=causal)


def view_both(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "Cut and merged by `view`, as consistently."
    mixed = view_split(q, k, v, mask, causal=causal)
    B, H, T, D = mixed.shape
    return split_heads(mixed.reshape(B, T, H * D), H)


def top_left(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "Torch's triangle where it does not belong."
    whole = causal and mask is None
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=whole)


def masked_after(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "Weights set to zero after the softmax, not made up for."
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        mask = causal_mask(*scores.shape[-2:])
    weights = scores.softmax(-1)
    return (weights if mask is None else weights * mask) @ v


def turned_mask(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "True taken for forbidden."
    return attend(q, k, v, None if mask is None else ~mask, causal=causal)


def mixed_rows(q, k, v, mask=None, *, causal=False, dropout=0.0):
    "The batch is centred: a row depends on its neighbours."
    q, k, v = (x - x.mean(0) for x in (q, k, v))
    return attend(q, k, v, mask, causal=causal)


CAUGHT = {
    off_by_one: {"no_future", "cached", "parity", "padding_on_either_side"},
    wrong_axis: {
        *("no_future", "padding_on_either_side", "cached", "parity"),
    },
    no_root: {"parity"},
    view_split: {
        *("no_future", "whole_past", "padding_on_either_side"),
        *("a_set_without_a_mask", "cached", "parity"),
    },
    view_both: {
        *("whole_past", "padding_on_either_side"),
        *("a_set_without_a_mask", "cached", "parity"),
    },
    top_left: {"cached"},
    masked_after: {"no_future", "padding_on_either_side", "cached", "parity"},
    turned_mask: {"padding_on_either_side", "a_set_without_a_mask"},
    mixed_rows: {"alone_in_the_batch", "whole_past", "parity"},
}


@pytest.mark.parametrize("mutant", CAUGHT, ids=lambda f: f.__name__)
def test_the_properties_catch_the_bugs(mutant):
    "Which tests fail is known, so each of them can fail."
    failed = set()
    for holds in PROPERTIES:
        torch.manual_seed(0)
        try:
            holds(mutant)
        except AssertionError:
            failed.add(holds.__name__)
    assert failed == CAUGHT[mutant]


def test_every_property_catches_something():
    assert set().union(*CAUGHT.values()) == {p.__name__ for p in PROPERTIES}


@both
def test_cached_in_pieces_of_any_size(function):
    @quick
    @given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
    def check(pieces):
        cached(function, tuple(pieces))

    check()


@both
def test_padding_anywhere(function):
    "Holes too: a real token sees the real ones before it."
    layer = layer_with(function)

    @quick
    @given(st.lists(st.booleans(), min_size=1, max_size=8).filter(any))
    def check(places):
        real = torch.tensor([places])
        x = torch.randn(1, len(places), 8)
        out = layer(x, padding_mask(real))
        assert out.isfinite().all()
        near(out[real][None], layer(x[real][None]))

    check()


@both
def test_padded_rows_have_finite_gradients(function):
    layer, x = layer_with(function), torch.randn(2, 5, 8, requires_grad=True)
    real = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]).bool()
    out = layer(x, padding_mask(real))
    out[real].sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    equal(x.grad[~real], torch.zeros(8, 8))


# -------------------------------------------------------------- masks

SHAPES = [
    *((1,), (5,), (4, 5), (1, 5), (4, 1), (3, 1, 1), (3, 4, 5)),
    *((1, 1, 4, 5), (2, 1, 1, 5), (1, 3, 1, 5), (2, 3, 4, 5)),
]


@both
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks_broadcast(function, shape):
    q, k, v = qkv(2, 3, 4, 5, 5)
    mask = torch.rand(shape) < 0.6
    mask[..., 0] = True  # no empty row
    whole = mask.expand(2, 3, 4, 5)
    near(function(q, k, v, mask), function(q, k, v, whole))
    weights = attend(q, k, torch.eye(5).expand(2, 3, 5, 5), mask)
    assert (weights[~whole] == 0).all()
    assert (weights[whole] > 0).all()
    near(weights.sum(-1), torch.ones(2, 3, 4))


@pytest.mark.parametrize(("T", "S"), [(1, 1), (4, 4), (1, 6), (3, 7)])
def test_causal_mask(T, S):
    mask = causal_mask(T, S)
    assert (mask.shape, mask.dtype) == ((T, S), torch.bool)
    for t in range(T):
        for s in range(S):
            assert mask[t, s] == (s <= S - T + t)
    equal(mask, causal_mask(S)[S - T :])
    assert causal_mask(T, S, device="meta").device.type == "meta"


@pytest.mark.parametrize("n_query", [None, 1, 3, 5])
def test_padding_mask(n_query):
    real = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0] * 5]).bool()
    mask, T = padding_mask(real, n_query), n_query or 5
    assert mask.shape == (3, 1, T, 5)
    for b in range(3):
        for t in range(T):
            at = 5 - T + t
            for s in range(5):
                wanted = s == at or (s < at and real[b, s])
                assert mask[b, 0, t, s] == wanted
    seen = torch.rand(3, T, 5) < 0.5  # of each place, who may be seen
    mask, places = padding_mask(seen, n_query), torch.arange(5)
    asks = places[5 - T :, None]
    wanted = (seen & (places < asks)) | (places == asks)
    equal(mask, wanted[:, None])
    equal(padding_mask(seen), mask)


def test_the_default_is_causal_and_a_mask_replaces_it():
    layer, x = layer_with(attend), torch.randn(1, 5, 8)
    equal(layer(x), layer(x, causal_mask(5)))
    every = torch.ones(5, 5, dtype=torch.bool)
    assert not torch.allclose(layer(x), layer(x, every))


def test_attend_holds_for_large_scores():
    "Softmax subtracts the largest score: no overflow."
    q, k, v = qkv()
    for function in BOTH.values():
        out = function(1e6 * q, 1e6 * k, v, causal=True)
        assert out.isfinite().all()


# -------------------------------------------------------------- heads


@pytest.mark.parametrize("n_head", [1, 2, 3, 6])
def test_heads_see_the_right_channels(n_head):
    "Numbers that carry their address: text, position, channel."
    B, T, C = 2, 4, 6
    grids = torch.meshgrid(
        torch.arange(B), torch.arange(T), torch.arange(C), indexing="ij"
    )
    x = 100 * grids[0] + 10 * grids[1] + grids[2]
    cut, D = split_heads(x, n_head), C // n_head
    assert cut.shape == (B, n_head, T, D)
    for h in range(n_head):
        equal(cut[:, h], x[:, :, h * D : (h + 1) * D])
    equal(merge_heads(cut), x)


def test_heads_work_apart():
    "A head's result depends on its own channels only."
    q, k, v = qkv(1, 2, 3, 3, 4)
    out = attend(q, k, v)
    for tensor in (q, k, v):
        (slope,) = torch.autograd.grad(
            out[:, 0].sum(), tensor, retain_graph=True
        )
        equal(slope[:, 1], torch.zeros(1, 3, 4))


# ------------------------------------------------------------ dropout


@both
def test_dropout_only_in_training(function):
    layer = CausalSelfAttention(8, 2, dropout=0.5)
    set_attention(layer, function)
    x = torch.randn(2, 6, 8)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    layer.eval()
    equal(layer(x), layer(x))
    plain = CausalSelfAttention(8, 2)
    plain.load_state_dict(layer.state_dict())
    near(layer(x), plain(x))


@both
def test_dropout_is_reproducible(function):
    layer = CausalSelfAttention(8, 2, dropout=0.3)
    set_attention(layer, function)
    x, runs = torch.randn(2, 6, 8), []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        runs.append(layer(x))
    equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@both
def test_dropout_of_weights(function):
    "A share of them is zero, the others are larger to match."
    q, k = torch.zeros(2, 1, 1, 50, 50)
    weights = function(q, k, torch.eye(50)[None, None], dropout=0.25)
    gone = (weights == 0).float().mean().item()
    assert abs(gone - 0.25) < 0.04  # 2,500 weights: four standard errors
    near(weights[weights > 0], torch.full_like(weights[weights > 0], 1 / 37.5))
    q, k, v = qkv()
    equal(function(q, k, v, dropout=0.0), function(q, k, v))


# ------------------------------------------------------------ the cache


def test_the_cache_fills_up():
    cache = KVCache(2, 3, 5, 4)
    k, v = torch.randn(2, 2, 3, 2, 4)
    for step in (1, 2):
        keys, values = cache.append(k * step, v * step)
        assert cache.length == 2 * step
        equal(keys[:, :, -2:], k * step)
        equal(values[:, :, -2:], v * step)
    equal(keys[:, :, :2], k)
    message = r"\(2, 3, 2, 4\).*\(2, 3, 5, 4\) with 4 filled"
    with pytest.raises(ValueError, match=message):
        cache.append(k, v)
    assert cache.length == 4  # as it was


@pytest.mark.parametrize(
    "shape", [(1, 3, 1, 4), (2, 1, 1, 4), (2, 3, 1, 2), (2, 3, 6, 4)], ids=str
)
def test_keys_that_do_not_fit(shape):
    cache = KVCache(2, 3, 5, 4)
    with pytest.raises(ValueError, match="do not fit into a cache") as info:
        cache.append(torch.zeros(shape), torch.zeros(shape))
    assert str(shape) in str(info.value)


def test_the_cache_has_no_gradient_and_a_type_of_its_own():
    cache = KVCache(1, 2, 4, 4, dtype=torch.bfloat16, device="cpu")
    _, k, v = qkv(1, 2, 3, 3)
    keys, values = cache.append(k, v)
    assert not keys.requires_grad
    assert keys.dtype == values.dtype == torch.bfloat16


def test_padding_with_a_cache():
    "Two texts of different length, padded on the left, grow together."
    layer, x = layer_with(attend), torch.randn(2, 6, 8)
    real = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1]]).bool()
    whole, cache = layer(x, padding_mask(real)), KVCache(2, 2, 6, 4)
    with torch.no_grad():
        for a, b in ((0, 4), (4, 5), (5, 6)):
            mask = padding_mask(real[:, :b], b - a)
            out = layer(x[:, a:b], mask, cache)
            near(out, whole[:, a:b])


# ------------------------------------------------- precision, compiling


@both
def test_bfloat16(function):
    "Eight bits of precision: within a few parts in a hundred."
    layer = layer_with(function, 16, 4)
    x = torch.randn(2, 9, 16)
    wanted = layer(x)
    out = layer.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), wanted, rtol=0.03, atol=0.02)


@both
@pytest.mark.parametrize("masked", [False, True])
def test_compiles_as_one_graph(function, masked, bare):
    function = getattr(bare, function.__name__)
    torch.compiler.reset()
    layer, x = layer_with(function), torch.randn(2, 6, 8)
    real = torch.arange(6) < torch.tensor([[6], [4]])
    mask = padding_mask(real) if masked else None
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    near(compiled(x, mask), layer(x, mask))


# -------------------------------------------------------- set_attention


def test_set_attention_reaches_every_layer():
    model = nn.Sequential(
        CausalSelfAttention(4, 1),
        nn.Sequential(nn.Linear(4, 4), CausalSelfAttention(4, 2)),
    )
    x, calls = torch.randn(1, 3, 4), []
    before = model(x)

    def count(*args, **options):
        calls.append(options)
        return attend(*args, **options)

    set_attention(model, count)
    equal(model(x), before)
    assert calls == [{"causal": True, "dropout": 0.0}] * 2
    set_attention(model, attend_fused)
    near(model(x), before)
    assert len(calls) == 2
    assert model[0].attend is attend_fused


def test_names_and_sizes_of_the_weights():
    layer = CausalSelfAttention(12, 3, bias=False)
    wanted = [f"{part}_proj.weight" for part in ("q", "k", "v", "out")]
    assert list(layer.state_dict()) == wanted
    assert {p.shape for p in layer.parameters()} == {(12, 12)}
    assert sum(p.numel() for p in CausalSelfAttention(12, 3).parameters()) == (
        4 * 12**2 + 4 * 12
    )


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("mask", "kind"),
    [
        (torch.ones(5, 5), "torch.float32"),
        (torch.ones(5, 5, dtype=torch.int64), "torch.int64"),
        ([[True]], "list"),
        (True, "bool"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_masks_of_a_wrong_type(mask, kind):
    message = rf"mask must be boolean, True = may attend; got {kind}: convert"
    for function in BOTH.values():
        with pytest.raises(TypeError, match=message):
            function(*qkv(), mask)
    with pytest.raises(TypeError, match=message):
        check_mask(mask)
    with pytest.raises(TypeError, match=message):
        CausalSelfAttention(8, 2)(torch.randn(1, 5, 8), mask)


@pytest.mark.parametrize(
    "shape",
    [(4, 5), (5, 4), (3, 1, 5, 5), (2, 2, 5, 5), (1, 2, 3, 5, 5), (0, 5)],
    ids=str,
)
def test_masks_of_a_wrong_shape(shape):
    mask = torch.ones(shape, dtype=torch.bool)
    for function in BOTH.values():
        with pytest.raises(ValueError, match="does not broadcast") as info:
            function(*qkv(2, 3, 5, 5), mask)
        assert str(shape) in str(info.value)
        assert "(B, H, T, S) = (2, 3, 5, 5)" in str(info.value)


def test_check_mask_takes_what_fits():
    check_mask(causal_mask(3))
    check_mask(causal_mask(3), (7, 2, 3, 3))
    check_mask(torch.ones(7, 1, 1, 3, dtype=torch.bool), (7, 2, 3, 3))


def test_a_padding_mask_of_a_wrong_kind(bare):
    with pytest.raises(TypeError, match=r"boolean.*got torch\.int64"):
        bare.padding_mask(torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\(B, T, S\), got \(3,\)"):
        bare.padding_mask(torch.ones(3, dtype=torch.bool))
    message = "n_key=3 must be at least n_query=4"
    with pytest.raises(ValueError, match=message):
        bare.padding_mask(torch.ones(2, 3, dtype=torch.bool), 4)


def test_fewer_keys_than_queries():
    message = "n_key=2 must be at least n_query=3: each position attends"
    with pytest.raises(ValueError, match=message):
        causal_mask(3, 2)
    for function in BOTH.values():
        with pytest.raises(ValueError, match=message):
            function(*qkv(T=3, S=2), causal=True)


@pytest.mark.parametrize(
    ("n_embd", "n_head"), [(100, 6), (6, 4), (4, 8), (8, 0), (8, -2), (0, 1)]
)
def test_heads_that_do_not_divide(n_embd, n_head):
    message = f"n_embd={n_embd} must be a multiple of n_head={n_head}"
    with pytest.raises(ValueError, match=message):
        check_heads(n_embd, n_head)
    with pytest.raises(ValueError, match=message):
        CausalSelfAttention(n_embd, n_head)
    with pytest.raises(ValueError, match=message):
        split_heads(torch.zeros(1, 2, n_embd), n_head)
