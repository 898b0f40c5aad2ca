"""The contract of `modern`, against Llama and Qwen3 in `transformers`.

All weights are random and all files local, but for one small trained
Llama, if the folder of real data has it. Tolerances are those of
`test_gpt`. In float64 transformers still norms in float32, so there its
norm is replaced by the formula; then the two must agree to rounding.
"""

import copy
import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from bench import _llama2c
from llm_from_scratch import modern
from llm_from_scratch.attention import attend_fused, set_attention
from llm_from_scratch.devices import DevicePlan, MasterWeights
from llm_from_scratch.modern import (
    GroupedAttention,
    ModernBlock,
    ModernConfig,
    ModernGPT,
    Muon,
    RMSNorm,
    SquaredReLU,
    SwiGLU,
    Together,
    check_stored,
    load_modern,
    modern_tensors,
    muon_and_adamw,
    orthogonalize,
    read_rope,
    read_settings,
    rotary_frequencies,
    rotary_table,
    rotate,
    save_modern,
    stretch,
)

FLOAT32, FLOAT64 = 2e-5, 1e-12  # of the largest number compared
quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
SIZES = {"vocab_size": 61, "context_len": 32, "n_layer": 2}
SMALL = ModernConfig(**SIZES, n_head=4, n_kv_head=2, n_embd=32)
CONFIGS = {
    "qwen3": SMALL,
    "qwen3, wide heads": ModernConfig(
        **SIZES, n_head=3, n_kv_head=1, n_embd=24, head_size=12, tied=False
    ),
    "qwen3, biases, linear": ModernConfig(
        **SIZES,
        n_head=4,
        n_embd=32,
        attention_bias=True,
        rope_base=1e6,
        rope_scaling=LINEAR,
    ),
    "llama": ModernConfig(
        **SIZES, n_head=4, n_kv_head=4, n_embd=32, qk_norm=False, tied=False
    ),
    "llama, grouped, llama3": ModernConfig(
        **SIZES,
        n_head=6,
        n_kv_head=2,
        n_embd=48,
        qk_norm=False,
        attention_bias=True,
        norm_eps=1e-5,
        mlp_width=40,
        rope_base=500.0,
        rope_scaling=LLAMA3,
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def made(config: ModernConfig = SMALL) -> ModernGPT:
    "Every parameter drawn: none is 0 or 1 by convention."
    model = ModernGPT(config, generator=seeded()).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.empty_like(weight)
            weight += noise.normal_(0, 0.15, generator=seeded(len(name)))
    return model


def fresh(config: ModernConfig = SMALL) -> ModernGPT:
    "The same, free to be changed."
    return copy.deepcopy(made(config))


def some_ids(config: ModernConfig, B: int, T: int, seed: int = 1):
    return torch.randint(config.vocab_size, (B, T), generator=seeded(seed))


def assert_near(ours, theirs, share: float = FLOAT32) -> None:
    "Differ by no more than a share of the largest number."
    limit = share * theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=limit)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Faster with tensors as small as these."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --------------------------------------------- parity with transformers


@pytest.fixture(scope="module")
def transformers():
    "Without progress bars and warnings."
    found = pytest.importorskip("transformers")
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found


@pytest.fixture
def exact_norms(transformers, monkeypatch):
    "transformers' norms in the dtype that they are given."
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    def forward(self, x):
        size = x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon
        return self.weight * x * torch.rsqrt(size)

    for kind in (LlamaRMSNorm, Qwen3RMSNorm):
        monkeypatch.setattr(kind, "forward", forward)


def theirs_of(transformers, model, folder: Path, attention="sdpa"):
    "The same weights in the hands of transformers, which reads our files."
    save_modern(model, folder, overwrite=True)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        attn_implementation=attention,
        dtype=model.token_embedding.weight.dtype,
    ).eval()


def real_places(lengths: list[int], T: int, side: str) -> torch.Tensor:
    "True = a token: (B, T), padded on one side."
    places = torch.arange(T)[None] < torch.tensor(lengths)[:, None]
    return places.flip(1) if side == "left" else places


def compare_gradients(model: ModernGPT, hf, share: float) -> None:
    "Of every parameter, by name."
    own = dict(model.named_parameters())
    pairs = zip(modern_tensors(model), model.state_dict(), strict=True)
    found = {theirs: own[ours].grad for theirs, ours in pairs}
    wanted = {name: p.grad for name, p in hf.named_parameters()}
    assert wanted.keys() == found.keys()
    largest = max(grad.abs().max().item() for grad in wanted.values())
    for name, grad in wanted.items():
        torch.testing.assert_close(
            found[name], grad, rtol=0, atol=share * largest, msg=name
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_gradients(name, transformers, exact_norms, tmp_path):
    config = CONFIGS[name]
    model = fresh(config)
    for dtype, share in ((torch.float64, FLOAT64), (torch.float32, FLOAT32)):
        model = model.to(dtype)
        hf = theirs_of(transformers, model, tmp_path / "model")
        assert hf.config.model_type == config.model_type == name[:5].strip(",")
        for B, T in ((1, 1), (3, 7), (2, config.context_len)):
            model.zero_grad(), hf.zero_grad()
            ids, targets = some_ids(config, B, T), some_ids(config, B, T, 2)
            logits, theirs = model(ids), hf(ids).logits
            assert logits.shape == (B, T, config.vocab_size)
            assert_near(logits, theirs, share)
            cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
            cross_entropy(theirs.flatten(0, 1), targets.flatten()).backward()
            compare_gradients(model, hf, share)


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_with_their_own_norm(name, transformers, tmp_path):
    model = made(CONFIGS[name])
    ids = some_ids(model.config, 2, 20)
    for attention in ("eager", "sdpa"):
        hf = theirs_of(transformers, model, tmp_path / "model", attention)
        assert_near(model(ids), hf(ids).logits)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["qwen3", "llama, grouped, llama3"])
def test_padding(name, side, transformers, exact_norms, tmp_path):
    config = CONFIGS[name]
    model = fresh(config).double()
    hf = theirs_of(transformers, model, tmp_path / "model")
    lengths, T = [5, 11, 1], 11
    ids, mask = some_ids(config, 3, T), real_places(lengths, T, side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    theirs = hf(ids, attention_mask=mask.long(), position_ids=positions)
    ours = model(ids, mask=mask)
    assert_near(ours[mask], theirs.logits[mask], FLOAT64)
    for row, length in enumerate(lengths):  # nor does padding change it
        alone = model(ids[row, mask[row]][None])[0]
        assert alone.shape[0] == length
        assert_near(ours[row, mask[row]], alone, FLOAT64)


@pytest.mark.parametrize("name", ["qwen3", "llama, grouped, llama3"])
def test_texts_in_one_row_do_not_see_each_other(name):
    config, lengths = CONFIGS[name], [5, 1, 7]
    model = fresh(config).double()
    ids = some_ids(config, 1, sum(lengths))
    which = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    together = model(ids, mask=(which[:, None] == which)[None])
    alone = [model(part) for part in ids.split(lengths, 1)]
    assert_near(together, torch.cat(alone, 1), FLOAT64)
    assert model.features(ids).shape == (1, 13, config.n_embd)


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_decoding(name, transformers, exact_norms, tmp_path):
    "Ours in pieces, ours whole and theirs with their cache are one."
    config = CONFIGS[name]
    model = fresh(config).double()
    hf = theirs_of(transformers, model, tmp_path / "model")
    ids = some_ids(config, 2, 14)
    whole, cache, past = model(ids), model.new_cache(2, 14), None
    assert cache[0].k.shape == (2, config.n_kv_head, 14, config.head_size)
    pieces, theirs = [], []
    for part in ids.split([5, 1, 1, 3, 4], 1):
        pieces.append(model(part, cache))
        out = hf(part, past_key_values=past, use_cache=True)
        theirs.append(out.logits)
        past = out.past_key_values
    assert_near(torch.cat(pieces, 1), whole, FLOAT64)
    assert_near(torch.cat(pieces, 1), torch.cat(theirs, 1), FLOAT64)


def test_padded_cache():
    "A batch of unequal prompts, continued token by token."
    model = fresh().double()
    lengths, T = [3, 6], 6
    mask = real_places(lengths, T, "left")
    ids, more = some_ids(SMALL, 2, T), some_ids(SMALL, 2, 3, 5)
    cache = model.new_cache(2)
    model(ids, cache, mask=mask)
    for i in range(3):
        mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.bool)], 1)
        last = model(more[:, i : i + 1], cache, mask=mask)[:, -1]
        for row, length in enumerate(lengths):
            text = torch.cat([ids[row, T - length :], more[row, : i + 1]])
            assert_near(last[row], model(text[None])[0, -1], FLOAT64)


def test_greedy_generation_equals_theirs(transformers, tmp_path):
    model = made()
    hf = theirs_of(transformers, model, tmp_path / "model")
    ids = some_ids(SMALL, 1, 4)
    theirs = hf.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    cache, text, new = model.new_cache(1), ids, ids
    for _ in range(20):
        new = model(new, cache)[:, -1:].argmax(-1)
        text = torch.cat([text, new], 1)
    assert text.tolist() == theirs.tolist()


def test_bfloat16_is_theirs_to_its_rounding(transformers, tmp_path):
    model = fresh().to(torch.bfloat16)
    hf = theirs_of(transformers, model, tmp_path / "model")
    ids = some_ids(SMALL, 2, 20)
    ours, theirs = model(ids).float(), hf(ids).logits.float()
    exact = made()(ids)
    error = (theirs - exact).abs().max()
    assert (ours - exact).abs().max() < 2 * error
    assert model(ids).dtype == torch.bfloat16


# ------------------------------------------------------------ the parts


@quick
@given(st.integers(1, 40), st.floats(1e-8, 1e-2), st.integers(0, 99))
def test_rms_norm(n_embd, eps, seed):
    norm = RMSNorm(n_embd, eps=eps).double()
    with torch.no_grad():
        norm.weight.normal_(generator=seeded(seed))
    x = torch.randn(2, 3, n_embd, generator=seeded(seed)).double()
    by_hand = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    torch.testing.assert_close(norm(x), by_hand * norm.weight)


def test_rms_norm_sums_in_float32():
    "In bfloat16 a sum of 4,096 squares of 1 would stop at 256."
    norm = RMSNorm(4096).to(torch.bfloat16)
    out = norm(torch.ones(1, 1, 4096, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, torch.ones_like(out))


@quick
@given(
    st.sampled_from(["half", "interleaved"]),
    st.integers(1, 8),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 30),
)
def test_scores_depend_on_distance_alone(layout, half, m, n, shift):
    table = rotary_table(64, 2 * half, base=100.0, layout=layout).double()
    q, k = torch.randn(2, 1, 1, 1, 2 * half, generator=seeded(half)).double()

    def score(i, j):
        turned = rotate(q, table[:, i : i + 1], layout=layout)
        other = rotate(k, table[:, j : j + 1], layout=layout)
        return (turned * other).sum()

    moved = score(m + shift, n + shift)
    torch.testing.assert_close(score(m, n), moved, rtol=0, atol=2e-5)
    turned = rotate(q, table[:, m : m + 1], layout=layout)
    torch.testing.assert_close(turned.norm(), q.norm(), rtol=1e-6, atol=0)
    still = rotate(q, table[:, :1], layout=layout)
    assert torch.equal(still, q)  # position 0 turns nothing


def test_rotation_is_that_of_complex_numbers():
    "Interleaved pairs are complex numbers, turned by exp(i m θ)."
    x = torch.randn(2, 3, 10, 8, generator=seeded())
    table = rotary_table(10, 8, layout="interleaved")
    speed = 10_000.0 ** (-torch.arange(0, 8, 2) / 8)
    angle = torch.arange(10)[:, None] * speed
    numbers = torch.view_as_complex(x.view(2, 3, 10, 4, 2))
    turned = numbers * torch.polar(torch.ones_like(angle), angle)
    ours = rotate(x, table, layout="interleaved")
    torch.testing.assert_close(ours, torch.view_as_real(turned).flatten(-2))


@quick
@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 99))
def test_layouts_differ_by_an_order_of_channels(n_head, half, seed):
    "Reordered weights in one layout are the model of the other."
    D, C = 2 * half, 12
    weights = torch.randn(2, n_head * D, C, generator=seeded(seed)).double()
    x = torch.randn(1, 7, C, generator=seeded(seed + 1)).double()
    scores = {}
    for layout in ("interleaved", "half"):
        table = rotary_table(7, D, layout=layout).double()
        both = []
        for weight in weights:
            if layout == "half":
                weight = _llama2c.to_half(weight, n_head)
            heads = (x @ weight.T).unflatten(-1, (n_head, D)).transpose(1, 2)
            both.append(rotate(heads, table, layout=layout))
        scores[layout] = both[0] @ both[1].mT
    torch.testing.assert_close(scores["half"], scores["interleaved"])


def test_table_of_other_dtypes_is_rounded_once():
    "A model that went through bfloat16 turns as exactly as before."
    model, ids = fresh(), some_ids(SMALL, 1, 30)
    exact = model.rotary(torch.arange(30)[None])
    model.to(torch.bfloat16)(ids)
    assert model.rotary(torch.arange(30)[None]).dtype == torch.bfloat16
    again = model.float().rotary(torch.arange(30)[None])
    assert torch.equal(again, exact)
    assert not [name for name in model.state_dict() if "table" in name]


def test_table_from_inference_serves_training():
    model, ids = fresh(), some_ids(SMALL, 1, 8)
    with torch.inference_mode():
        model(ids)
    model(ids).sum().backward()
    assert model.blocks[0].attention.q_proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("scaling", [None, LINEAR, LLAMA3], ids=str)
def test_frequencies_are_theirs(scaling, transformers):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rope = {"rope_theta": 500.0} | (scaling or {"rope_type": "default"})
    config = transformers.LlamaConfig(
        hidden_size=48, num_attention_heads=2, rope_parameters=rope
    )
    find = LlamaRotaryEmbedding.compute_default_rope_parameters
    if scaling:
        find = ROPE_INIT_FUNCTIONS[scaling["rope_type"]]
    wanted, factor = find(config)
    assert factor == 1.0
    ours = rotary_frequencies(24, base=500.0, scaling=scaling)
    assert torch.equal(ours, wanted)


def test_stretch():
    speed = rotary_frequencies(32, base=1000.0)
    slow = stretch(speed, LINEAR)
    torch.testing.assert_close(slow, speed / 4)
    mixed = stretch(speed, LLAMA3)
    turns = 16 * speed / (2 * math.pi)
    assert torch.equal(mixed[turns > 4], speed[turns > 4])
    assert torch.equal(mixed[turns < 1], speed[turns < 1] / 8)
    assert (mixed[1:] <= mixed[:-1]).all()


@pytest.mark.parametrize(
    ("make", "formula"),
    [
        (
            lambda: SwiGLU(6, 10),
            lambda m, x: (
                m.down.weight
                @ (
                    (m.gate.weight @ x).sigmoid()
                    * (m.gate.weight @ x)
                    * (m.up.weight @ x)
                )
            ),
        ),
        (
            lambda: SquaredReLU(6, width=10, bias=False),
            lambda m, x: m.down.weight @ (m.up.weight @ x).clamp(min=0) ** 2,
        ),
    ],
    ids=["SwiGLU", "SquaredReLU"],
)
def test_mlps(make, formula):
    torch.manual_seed(0)
    mlp, x = make().double(), torch.randn(1, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(mlp(x)[0, 0], formula(mlp, x[0, 0]))


@pytest.mark.parametrize("T", [1, 5])
def test_groups_ask_their_own_keys(T):
    "Each head alone, with the keys of its group, whatever the shortcut."
    config = ModernConfig(**SIZES, n_head=6, n_kv_head=2, n_embd=24)
    layer = GroupedAttention(config).double()
    q = torch.randn(2, 6, T, 4, generator=seeded()).double()
    k, v = torch.randn(2, 2, 2, 5, 4, generator=seeded(1)).double()
    mixed = layer.mix(q, k, v)
    allowed = torch.ones(T, 5, dtype=torch.bool).tril(5 - T)
    for head in range(6):
        scores = q[:, head] @ k[:, head // 3].mT / 2
        weights = scores.masked_fill(~allowed, -math.inf).softmax(-1)
        torch.testing.assert_close(
            mixed[:, head], weights @ v[:, head // 3], msg=str(head)
        )


def test_qk_norm_bounds_the_scores():
    "However large the weights of q and k become, by √D times the scales."
    model, sizes = fresh(), []
    layer = model.blocks[0].attention
    with torch.no_grad():
        for weight in (layer.q_norm.weight, layer.k_norm.weight):
            weight.fill_(1.0)

    def spy(q, k, v, mask=None, **options):
        sizes.append((q @ k.mT / math.sqrt(q.shape[-1])).abs().max().item())
        return torch.zeros_like(q)

    layer.attend = spy
    for factor in (1, 100):
        with torch.no_grad():
            layer.q_proj.weight *= factor
        model(some_ids(SMALL, 2, 20))
    assert max(sizes) <= math.sqrt(SMALL.head_size) * (1 + 1e-5)


def test_causality_by_gradient():
    model = fresh()
    x = torch.randn(1, 9, 32, generator=seeded(), requires_grad=True)
    table = model.rotary(torch.arange(9)[None])
    block = ModernBlock(SMALL)
    nn.init.normal_(block.attention.out_proj.weight, generator=seeded())
    block(x, table)[0, 4].sum().backward()
    moved = x.grad[0].abs().sum(-1) > 0
    assert moved.tolist() == [True] * 5 + [False] * 4


def test_attention_can_be_exchanged():
    model, ids = fresh(), some_ids(SMALL, 2, 12)
    plain = model(ids)
    set_attention(model, attend_fused)
    assert {b.attention.attend for b in model.blocks} == {attend_fused}
    assert_near(model(ids), plain)
    cache = model.new_cache(2)
    pieces = [model(part, cache) for part in ids.split([11, 1], 1)]
    assert_near(torch.cat(pieces, 1), plain)


# -------------------------------------------------------------- the start


def test_start():
    "Blocks that add nothing; an untied head that knows nothing."
    config = ModernConfig(**SIZES, n_head=4, n_embd=32, tied=False)
    ids = some_ids(config, 2, 9)
    model = ModernGPT(config, generator=seeded())
    assert (model(ids) == 0).all()
    again = ModernGPT(config, generator=seeded())
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    other = ModernGPT(config, generator=seeded(), zero_init=False, std=0.1)
    spread = other.blocks[0].mlp.down.weight.std()
    assert 0.09 < spread < 0.11
    assert 0.09 < other.head.weight.std() < 0.11
    assert other(ids).abs().max() > 0
    tied = ModernGPT(SMALL, generator=seeded())
    assert tied.head is None
    x = tied.norm(tied.token_embedding(ids)) @ tied.token_embedding.weight.T
    torch.testing.assert_close(tied(ids), x)


def test_relu2_has_as_many_weights():
    sizes = {}
    for kind in ("swiglu", "relu2"):
        config = ModernConfig(**SIZES, n_head=4, n_embd=192, activation=kind)
        model = ModernGPT(config)
        sizes[kind] = sum(p.numel() for p in model.parameters())
    assert sizes["swiglu"] == sizes["relu2"]


def test_dropout_is_for_training_only():
    config = ModernConfig(**SIZES, n_head=4, n_embd=32, dropout=0.5)
    model = fresh(config)
    ids = some_ids(config, 1, 9)
    assert torch.equal(model(ids), model(ids))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(model(ids), model(ids))


# ------------------------------------------------------------------ Muon


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs(adjust, nesterov):
    shapes = [(16, 16), (16, 40), (40, 16), (16, 16), (1, 7)]
    start = [torch.randn(s, generator=seeded(i)) for i, s in enumerate(shapes)]
    ours = [nn.Parameter(x.clone()) for x in start]
    theirs = [nn.Parameter(x.clone()) for x in start]
    options = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.1}
    options |= {"nesterov": nesterov}
    own = Muon(ours, **options, adjust=adjust, dtype=torch.bfloat16)
    other = torch.optim.Muon(theirs, **options, adjust_lr_fn=adjust)
    for step in range(8):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if step == 3 and i == 0:  # a weight that was not used
                a.grad = b.grad = None
                continue
            grad = torch.randn(a.shape, generator=seeded(100 * step + i))
            a.grad, b.grad = grad, grad.clone()
        own.step(), other.step()
        for a, b, x in zip(ours, theirs, start, strict=True):
            far = (b - x).abs().max().item()
            torch.testing.assert_close(a, b, rtol=0, atol=5e-3 * far)
            if (step, far) == (7, 0):
                raise AssertionError("nothing moved")


def test_muon_in_float32_is_near():
    "bfloat16 is a choice of speed, not another method."
    grad = torch.randn(24, 40, generator=seeded())
    exact = orthogonalize(grad)
    rough = orthogonalize(grad, dtype=torch.bfloat16)
    assert exact.dtype == rough.dtype == torch.float32
    assert (exact - rough).norm() < 0.05 * exact.norm()


@quick
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.floats(1e-6, 1e6),
    st.integers(0, 99),
)
def test_orthogonalize(rows, columns, size, seed):
    "Same directions; sizes near 1, whatever the scale."
    x = torch.randn(rows, columns, generator=seeded(seed)).double()
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    out = orthogonalize(x * size)
    found = u.mT @ out @ v.mT
    sizes = found.diagonal()
    assert (found - sizes.diag()).abs().max() < 1e-6
    kept = sizes[s > 0.02 * s.norm()]
    assert ((kept > 0.6) & (kept < 1.25)).all()
    together = orthogonalize(torch.stack([x, -x]))
    torch.testing.assert_close(together[0], -together[1])
    torch.testing.assert_close(together[0], out, rtol=1e-6, atol=1e-6)


def test_nothing_to_make_orthogonal():
    assert (orthogonalize(torch.zeros(3, 5)) == 0).all()


def test_groups():
    config = ModernConfig(**SIZES, n_head=4, n_embd=32, tied=False)
    model = fresh(config)
    options = {"lr_muon": 0.05, "lr_adamw": 2e-3, "weight_decay": 0.1}
    optimizer = muon_and_adamw(model.named_parameters(), **options)
    assert isinstance(optimizer, Together)
    muon, adamw = groups = optimizer.param_groups
    assert [group["initial_lr"] for group in groups] == [0.05, 2e-3]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    names = {id(p): name for name, p in model.named_parameters()}
    inside, others = ({names[id(p)] for p in g["params"]} for g in groups)
    assert len(inside) == 2 * 7
    assert all("proj" in x or ".mlp." in x for x in inside)
    assert {"token_embedding.weight", "head.weight"} < others
    assert len(muon["params"]) + len(adamw["params"]) == len(names)


def train_steps(model, optimizer, steps, seed=0) -> list[float]:
    losses = []
    for i in range(steps):
        ids = some_ids(SMALL, 4, 12, seed + i)
        ids[:, 1::2] = (ids[:, ::2] + 1) % 61  # something to learn
        logits = model(ids[:, :-1]).float()
        loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_together_continues_where_it_was():
    whole = ModernGPT(SMALL, generator=seeded())
    optimizer = muon_and_adamw(whole.named_parameters())
    first = train_steps(whole, optimizer, 6)
    state = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    wanted = train_steps(whole, optimizer, 4, seed=50)
    model = ModernGPT(SMALL)
    model.load_state_dict(state[0])
    again = muon_and_adamw(model.named_parameters())
    again.load_state_dict(state[1])
    assert train_steps(model, again, 4, seed=50) == wanted
    assert wanted[-1] < first[0]


def test_it_serves_master_weights():
    model = ModernGPT(SMALL, generator=seeded())
    plan = DevicePlan(device="cpu", dtype=torch.bfloat16, attention="added")
    optimizer = plan.prepare_training(model, muon_and_adamw)
    assert isinstance(optimizer, MasterWeights)
    assert len(optimizer.param_groups) == 2
    losses = train_steps(model, optimizer, 25)
    assert losses[-1] < losses[0] - 0.25
    assert model.token_embedding.weight.dtype == torch.bfloat16
    state = optimizer.state_dict()
    optimizer.load_state_dict(copy.deepcopy(state))


# ----------------------------------------------------------------- files


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded(name, tmp_path):
    model = made(CONFIGS[name])
    folder = save_modern(model, tmp_path / "model")
    again = load_modern(folder)
    assert again.config == model.config and not again.training
    assert hash(again.config) == hash(model.config)
    ids = some_ids(model.config, 2, 9)
    assert torch.equal(again(ids), model(ids))
    narrow = load_modern(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in narrow.parameters()} == {torch.bfloat16}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_modern(model, folder)
    save_modern(model, folder, overwrite=True)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_their_folder_is_read(kind, tied, transformers, tmp_path):
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        rope_parameters=LLAMA3 | {"rope_theta": 500.0},
    )
    torch.manual_seed(0)
    hf = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    hf.save_pretrained(tmp_path / "model", max_shard_size="8KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    model = load_modern(tmp_path / "model")
    assert model.config.tied is tied
    assert model.config.rope_scaling == LLAMA3
    ids = some_ids(model.config, 2, 30)
    assert_near(model(ids), hf(ids).logits)


def test_relu2_is_ours_alone(tmp_path):
    config = ModernConfig(**SIZES, n_head=4, n_embd=32, activation="relu2")
    assert config.model_type == "llm_from_scratch"
    model = made(config)
    folder = save_modern(model, tmp_path / "model")
    again = load_modern(folder)
    assert isinstance(again.blocks[0].mlp, SquaredReLU)
    ids = some_ids(config, 2, 9)
    assert torch.equal(again(ids), model(ids))


def test_old_names_of_rope():
    "Before transformers 5, and before 2024."
    data = SMALL.to_dict()
    assert read_settings(data)["rope_theta"] == 10_000.0
    old = data | {"rope_scaling": {"type": "linear", "factor": 4.0}}
    assert ModernConfig.from_dict(old).rope_scaling == LINEAR
    del data["rope_theta"], data["rope_scaling"]
    new = data | {"rope_parameters": LINEAR | {"rope_theta": 7e4}}
    config = ModernConfig.from_dict(new)
    assert (config.rope_base, config.rope_scaling) == (7e4, LINEAR)
    plain = {"rope_parameters": {"rope_type": "default", "rope_theta": 3e3}}
    config = ModernConfig.from_dict(data | plain)
    assert (config.rope_base, config.rope_scaling) == (3e3, None)


def test_both_names_of_rope():
    both = {"rope_scaling": LINEAR, "rope_parameters": dict(LINEAR)}
    assert read_rope(both) == {"rope_scaling": LINEAR}
    assert read_rope({}) == {"rope_scaling": None}
    theta = {"rope_theta": 3e3}
    assert read_rope({"rope_parameters": theta})["rope_theta"] == 3e3


def test_our_own_kind_may_tell_little():
    told = SMALL.to_dict() | {"model_type": "llm_from_scratch"}
    config = ModernConfig.from_dict(told | {"llm_from_scratch": {}})
    assert config.activation == "swiglu"


def test_config_keeps_its_own_scaling():
    scaling = dict(LINEAR)
    config = ModernConfig(**SIZES, n_head=2, n_embd=8, rope_scaling=scaling)
    scaling["factor"] = 99.0
    assert config.rope_scaling == LINEAR


def spoil(tensors: dict, how: str) -> dict:
    name = "model.layers.1.mlp.gate_proj.weight"
    if how == "missing":
        return {k: v for k, v in tensors.items() if k != name}
    if how == "misshapen":
        return tensors | {name: tensors[name][:, :-1].contiguous()}
    return tensors | {"model.layers.0.extra.weight": torch.zeros(2)}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("missing", ["gate_proj.weight is missing", "[128, 32]"]),
        ("misshapen", ["gate_proj.weight is [128, 31], not [128, 32]"]),
        ("unknown", ["model.layers.0.extra.weight is [2]"]),
    ],
)
def test_files_that_do_not_fit(how, words, tmp_path):
    folder = save_modern(made(), tmp_path / "model")
    path = folder / "model.safetensors"
    save_file(spoil(load_file(path), how), path)
    with pytest.raises(ValueError, match="differ in 1") as caught:
        load_modern(folder)
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_may_be_in_old_files(tmp_path):
    folder = save_modern(made(), tmp_path / "model")
    path = folder / "model.safetensors"
    more = {
        "lm_head.weight": torch.zeros(61, 32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
    }
    save_file(load_file(path) | more, path)
    ids = some_ids(SMALL, 1, 5)
    assert torch.equal(load_modern(folder)(ids), made()(ids))


def test_broken_files(tmp_path):
    folder = save_modern(made(), tmp_path / "model")
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match=r"model.safetensors is broken"):
        load_modern(folder)
    path.unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="a pickle can run any"):
        load_modern(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config.json is broken"):
        load_modern(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no config.json"):
        load_modern(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt2"}, ["model_type=gpt2", "qwen3, llama"]),
        ({"hidden_act": "gelu"}, ["hidden_act='gelu'", "'silu'"]),
        ({"mlp_bias": True}, ["mlp_bias=True", "False"]),
        ({"use_sliding_window": True}, ["use_sliding_window=True"]),
        (
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            ["partial_rotary_factor=0.5", "1.0"],
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            ["rope_type=yarn", "linear, llama3"],
        ),
        ({"rope_scaling": {"factor": 4.0}}, ["{'factor': 4.0}", "no type"]),
        (
            {"rope_scaling": LINEAR, "rope_parameters": {"rope_theta": 9.0}},
            ["rope_parameters={'rope_theta': 9.0}", "rope_scaling={'rope_"],
        ),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 4.0}},
            ["llama3 needs", "low_freq_factor", "{'factor': 4.0}"],
        ),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": -1}},
            ["linear needs ['factor'] above 0", "-1"],
        ),
        (
            {"llm_from_scratch": {"format_version": 9}},
            ["format_version=9 is newer than 1", "upgrade"],
        ),
        ({"hidden_size": ...}, ["lacks ['hidden_size']"]),
        ({"intermediate_size": ...}, ["lacks ['intermediate_size']"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_refused(change, words):
    data = {k: v for k, v in (SMALL.to_dict() | change).items() if v != ...}
    with pytest.raises(ValueError) as caught:
        ModernConfig.from_dict(data)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_layer": 0}, ["n_layer=0", "at least 1"]),
        ({"n_head": 5}, ["n_embd=32", "n_head=5"]),
        ({"n_kv_head": 3}, ["n_head=4", "n_kv_head=3"]),
        ({"n_kv_head": 0}, ["n_kv_head=0", "at least 1"]),
        ({"head_size": 7}, ["head_size=7", "even"]),
        ({"mlp_width": 2.5}, ["mlp_width=2.5", "at least 1"]),
        ({"activation": "gelu"}, ["activation=gelu", "swiglu, relu2"]),
        ({"rope_base": 0.5}, ["rope_base=0.5"]),
        ({"dropout": 1.0}, ["dropout=1.0", "below 1"]),
        ({"tied": 1}, ["tied=1", "True or False"]),
        ({"rope_scaling": {"factor": 2}}, ["rope_type=None", "linear"]),
    ],
    ids=str,
)
def test_sizes_refused(change, words):
    sizes = SIZES | {"n_head": 4, "n_embd": 32} | change
    with pytest.raises(ValueError) as caught:
        ModernConfig(**sizes)
    assert all(word in str(caught.value) for word in words), caught.value


def test_arguments_refused():
    weight = nn.Parameter(torch.ones(3))
    calls = [
        (lambda: rotary_table(4, 8, layout="mixed"), ["layout=mixed", "half"]),
        (
            lambda: rotate(torch.ones(1, 1, 1, 4), None, layout="x"),
            ["layout=x", "interleaved"],
        ),
        (lambda: rotary_frequencies(5), ["head_size=5"]),
        (lambda: Muon([weight]), ["shape (3,)", "AdamW"]),
        (lambda: Muon([weight], lr=-1), ["lr=-1"]),
        (lambda: Muon([weight], momentum=1), ["momentum=1"]),
        (lambda: Muon([weight], weight_decay=-1), ["weight_decay=-1"]),
        (lambda: Muon([weight], adjust="x"), ["adjust=x", "original"]),
        (lambda: made()(some_ids(SMALL, 1, 33)), ["33", "context_len=32"]),
        (lambda: made()(torch.full((1, 2), 61)), ["id 61", "0…60"]),
        (
            lambda: made()(some_ids(SMALL, 1, 2), made().new_cache(1)[:1]),
            ["1 layers, the model has 2"],
        ),
        (lambda: check_stored({"a": weight}, {}), ["a is missing, not [3]"]),
    ]
    for call, words in calls:
        with pytest.raises(ValueError) as caught:
            call()
        assert all(word in str(caught.value) for word in words), caught.value


# ------------------------------------------------- a model that is trained


@pytest.mark.data("weights/stories260K.bin", "tinystories/valid.txt")
def test_a_trained_llama_reads_stories(data_dir):
    "What the data's source says of it: 0.890 ± 0.002, 1.293."
    folder = data_dir / "weights"
    model = _llama2c.read_model(folder / "stories260K.bin")
    assert sum(p.numel() for p in model.parameters()) == 260_032
    pieces = _llama2c.Pieces(folder / "tok512.bin", 512)
    path = data_dir / "tinystories" / "valid.txt"
    stories = path.read_text("utf-8").split("<|endoftext|>")[:200]
    found = _llama2c.bits_per_byte(model, pieces, [s.strip() for s in stories])
    assert found["bits_per_byte"] == pytest.approx(0.890, abs=0.002)
    assert found["nats_per_token"] == pytest.approx(1.293, abs=0.003)


@pytest.mark.data("weights/stories260K.bin")
def test_the_wrong_layout_is_seen(data_dir, tmp_path):
    "Without the reordering the same file is another, worse model."
    path = data_dir / "weights" / "stories260K.bin"
    right = _llama2c.read_model(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_llama2c, "to_half", lambda weight, n_head: weight)
        wrong = _llama2c.read_model(path)
    pieces = _llama2c.Pieces(data_dir / "weights" / "tok512.bin", 512)
    story = "Lily lost her red ball, so she asked Ben. Ben was sad too."
    scores = [
        _llama2c.bits_per_byte(model, pieces, [story])["bits_per_byte"]
        for model in (right, wrong)
    ]
    assert scores[1] > scores[0] + 0.3


def test_config_json_is_plain(tmp_path):
    folder = save_modern(made(), tmp_path / "model")
    data = json.loads((folder / "config.json").read_text("utf-8"))
    assert data["model_type"] == "qwen3"
    assert data["llm_from_scratch"]["format_version"] == 1
    assert modern.ModernConfig.from_dict(data) == SMALL
