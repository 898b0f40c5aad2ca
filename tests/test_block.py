"""The contract of `block`, against torch.nn and against its own mutants.

In float64 the layers must agree with torch's to rounding: the same
formula. In float32, where the two may add in different orders, the
tolerance is `FLOAT32` of the largest number compared: float32 rounds at
6e-8, and a number here is the end of a few sums of some hundred terms.

A property is a function of a block that returns by how much it is
violated, so that the same function is applied to the real block and to
mutants, which must be caught.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llm_from_scratch.attention import (
    KVCache,
    attend,
    attend_fused,
    padding_mask,
    set_attention,
)
from llm_from_scratch.block import MLP, Block, LayerNorm, gelu, init_weights

FLOAT32, FLOAT64 = 2e-6, 1e-12  # of the largest number compared
quick = settings(deadline=None, derandomize=True, max_examples=40)
sizes = st.integers(1, 6)
C, H = 24, 3


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Such small tensors gain nothing from a second thread."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generator(seed: int = 0) -> torch.Generator:
    "A generator of its own."
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    "Normal numbers in double precision."
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    "Every parameter random, so that none can be forgotten; float64."
    source = generator(seed)
    for parameter in model.double().parameters():
        nn.init.normal_(parameter, 0.1, 0.3, generator=source)
    return model


def far(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    "The largest difference, relative to the largest number."
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def gradients(model, x, *args) -> dict[str, torch.Tensor]:
    "Output, and its slopes in a random direction by input and parameters."
    x = x.clone().requires_grad_()
    names, values = zip(*model.named_parameters(), strict=True)
    y = model(x, *args)
    direction = randn(*y.shape, seed=9).to(y.dtype)
    slopes = torch.autograd.grad(y, [x, *values], direction)
    return dict(zip(["y", "x", *names], [y.detach(), *slopes], strict=True))


PRECISIONS = [(torch.float64, FLOAT64), (torch.float32, FLOAT32)]
precisions = pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)

# ---------------------------------------------------- layers, as torch's


@precisions
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm_is_torchs(dtype, tolerance, bias, eps):
    ours = shaken(LayerNorm(C, eps=eps, bias=bias)).to(dtype)
    theirs = nn.LayerNorm(C, eps=eps, bias=bias).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    x = (3 * randn(2, 5, C) + 1).to(dtype)
    found, wanted = gradients(ours, x), gradients(theirs, x)
    assert found.keys() == wanted.keys()
    assert all(far(found[k], wanted[k]) <= tolerance for k in wanted)


@quick
@given(sizes, sizes, st.integers(2, 40), st.integers(0, 99))
def test_layer_norm_by_hand(B, T, width, seed):
    norm = shaken(LayerNorm(width), seed)
    x = randn(B, T, width, seed=seed)
    mean = x.mean(-1, keepdim=True)
    size = ((x - mean).square().sum(-1, keepdim=True) / width + 1e-5).sqrt()
    normed = (x - mean) / size
    wanted = normed * norm.weight + norm.bias
    assert far(norm(x), wanted) < FLOAT64
    # the gradient that the chapter derives
    direction = randn(B, T, width, seed=seed + 1)
    x.requires_grad_()
    (found,) = torch.autograd.grad(norm(x), x, direction)
    g = direction * norm.weight
    along = (g * normed).mean(-1, keepdim=True)
    wanted = (g - g.mean(-1, keepdim=True) - normed * along) / size
    assert (found - wanted).abs().max() < 1e-10


def test_layer_norm_starts_as_the_plain_norm():
    x = randn(2, 5, 64).float()
    y = LayerNorm(64)(100 * x + 7)
    assert y.mean(-1).abs().max() < 1e-5
    assert (y.var(-1, correction=0) - 1).abs().max() < 1e-4


@quick
@given(st.floats(0.1, 1e4), st.floats(-100, 100))
def test_layer_norm_does_not_see_shift_and_scale(scale, shift):
    x = 10 * randn(2, 3, C)
    norm = shaken(LayerNorm(C, eps=0.0))
    assert far(norm(scale * x + shift), norm(x)) < 1e-9


def test_layer_norm_of_equal_channels_is_its_bias():
    norm = shaken(LayerNorm(C))
    y = norm(torch.full((1, 2, C), 5.0, dtype=torch.float64))
    assert torch.equal(y, norm.bias.expand(1, 2, C))


@precisions
def test_gelu_is_torchs_tanh_form(dtype, tolerance):
    x = torch.linspace(-9, 9, 2001, dtype=dtype, requires_grad=True)
    y, other = gelu(x), F.gelu(x, approximate="tanh")
    root = math.sqrt(2 / math.pi)
    hand = x / 2 * (1 + torch.tanh(root * (x + 0.044715 * x**3)))
    assert far(y, other) <= tolerance and far(y, hand) <= tolerance
    slopes = [torch.autograd.grad(z.sum(), x)[0] for z in (y, hand)]
    assert far(*slopes) <= 10 * tolerance  # large terms cancel
    assert 2e-5 < far(y, F.gelu(x)) < 1e-4  # and not the exact form


@precisions
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [None, 7])
def test_mlp_is_torchs(dtype, tolerance, bias, width):
    ours = shaken(MLP(C, width=width, bias=bias)).to(dtype)
    inside = width or 4 * C
    theirs = nn.Sequential(
        nn.Linear(C, inside, bias=bias),
        nn.GELU(approximate="tanh"),
        nn.Linear(inside, C, bias=bias),
    ).to(dtype)
    names = {"up": "0", "down": "2"}
    state = ours.state_dict().items()
    theirs.load_state_dict(
        {k.replace(k.split(".")[0], names[k.split(".")[0]]): v
         for k, v in state}
    )  # fmt: skip
    x = randn(2, 5, C).to(dtype)
    found, wanted = gradients(ours, x), gradients(theirs, x)
    pairs = zip(found.values(), wanted.values(), strict=True)
    assert all(far(a, b) <= tolerance for a, b in pairs)


@pytest.mark.parametrize("make", [LayerNorm, MLP, lambda n: Block(n, 2)])
def test_gradients_by_differences(make):
    model = shaken(make(6))
    x = randn(1, 3, 6).requires_grad_()
    assert torch.autograd.gradcheck(model, (x,))
    names, values = zip(*model.named_parameters(), strict=True)

    def of_parameters(*changed):
        state = dict(zip(names, changed, strict=True))
        return torch.func.functional_call(model, state, (x.detach(),))

    assert torch.autograd.gradcheck(of_parameters, values, fast_mode=True)


# ------------------------------------------------------ the whole block


class PostNorm(Block):
    "The first Transformer's order."

    def forward(self, x, mask=None, cache=None):
        "Norm of the sum."
        x = self.norm_1(x + self.attention(x, mask, cache))
        return self.norm_2(x + self.mlp(x))


NAMES = {  # ours: torch's
    "attention.out_proj": "self_attn.out_proj",
    "mlp.up": "linear1",
    "mlp.down": "linear2",
    "norm_1": "norm1",
    "norm_2": "norm2",
}


def torch_names(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    "Tensors of a block under the names of torch's layer."
    found = {}
    for kind in {name.rsplit(".", 1)[-1] for name in named} & {
        "weight",
        "bias",
    }:
        for ours, theirs in NAMES.items():
            found[f"{theirs}.{kind}"] = named[f"{ours}.{kind}"]
        parts = [named[f"attention.{x}_proj.{kind}"] for x in "qkv"]
        found[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
    return found


@precisions
@pytest.mark.parametrize("kind", [Block, PostNorm])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("core", [attend, attend_fused])
def test_block_is_torchs(dtype, tolerance, kind, bias, core):
    ours = shaken(kind(C, H, bias=bias)).to(dtype)
    set_attention(ours, core)
    theirs = nn.TransformerEncoderLayer(
        C, H, 4 * C, 0.0, gelu, batch_first=True,
        norm_first=kind is Block, bias=bias,
    ).to(dtype)  # fmt: skip
    theirs.load_state_dict(torch_names(dict(ours.named_parameters())))
    x = randn(2, 7, C).to(dtype)
    forbidden = torch.ones(7, 7, dtype=torch.bool).triu(1)  # True = may not
    found, wanted = gradients(ours, x), gradients(theirs, x, forbidden)
    renamed = torch_names(found) | {"y": found["y"], "x": found["x"]}
    assert renamed.keys() == wanted.keys()
    # a chain of layers, so some roundings more than one
    assert all(far(renamed[k], wanted[k]) <= 10 * tolerance for k in wanted)


def test_block_is_its_formula():
    block, x = shaken(Block(C, H)), randn(2, 5, C)
    middle = x + block.attention(block.norm_1(x))
    wanted = middle + block.mlp(block.norm_2(middle))
    assert torch.equal(block(x), wanted)


def test_parameters():
    def count(**options):
        return sum(p.numel() for p in Block(C, H, **options).parameters())

    assert count() == 12 * C**2 + 13 * C
    assert count(bias=False) == 12 * C**2 + 2 * C
    named = dict(Block(C, H, bias=False).named_parameters())
    assert not [name for name in named if name.endswith("bias")]
    assert MLP(C).up.weight.shape == (4 * C, C)
    assert MLP(C, width=5).up.weight.shape == (5, C)


# ----------------------------------------------------------- properties


def leak(block, T: int = 6) -> float:
    """The largest slope of an output by a later input.

    In a random direction: the channels of a normed vector sum to zero,
    so the slope of their sum would be zero whatever the block does.
    """
    x = randn(2, T, C).requires_grad_()
    direction, worst = randn(C, seed=1), 0.0
    for t in range(T - 1):
        (slope,) = torch.autograd.grad((block(x)[:, t] @ direction).sum(), x)
        assert slope[:, : t + 1].abs().max() > 0, "sees nothing at all"
        worst = max(worst, slope[:, t + 1 :].abs().max().item())
    return worst


def batch_dependence(block) -> float:
    "How much a text's result changes with its neighbours in the batch."
    x = randn(4, 6, C)
    return far(block(x)[1:2], block(x[1:2]))


def unlike_alone(block, left: bool) -> float:
    "How much padding changes the results of real positions."
    x, junk = randn(1, 5, C), 50 * randn(1, 3, C, seed=2)
    real = torch.tensor([[True] * 5 + [False] * 3])
    padded = torch.cat((x, junk), 1)
    if left:
        padded, real = padded.roll(3, 1), real.roll(3, 1)
    y = block(padded, padding_mask(real))
    return far(y[real][None], block(x))


def order_dependence(block) -> float:
    "With a mask that lets all pass, positions are interchangeable."
    x, order = randn(2, 6, C), torch.tensor([3, 0, 5, 1, 4, 2])
    everyone = torch.ones(6, 6, dtype=torch.bool)
    return far(block(x[:, order], everyone), block(x, everyone)[:, order])


def uncached_difference(block, pieces: tuple[int, ...] = (3, 1, 2)) -> float:
    "How far a text in pieces, through a cache, is from the whole."
    x = randn(2, sum(pieces), C)
    cache = KVCache(2, H, sum(pieces), C // H, dtype=x.dtype)
    parts = [block(part, None, cache) for part in x.split(pieces, 1)]
    return far(torch.cat(parts, 1), block(x))


def change_by_nothing(block) -> float:
    "If the parts write zero, the stream must come out as it went in."
    block, x = copy.deepcopy(block), randn(2, 6, C)
    for part in (block.attention.out_proj, block.mlp.down):
        nn.init.zeros_(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    return (block(x) - x).abs().max().item()


def unrepeated(block) -> float:
    "In eval mode the same input gives the same output."
    x = randn(2, 6, C)
    block = copy.deepcopy(block).eval()
    return (block(x) - block(x)).abs().max().item()


PROPERTIES = {
    "leak": (leak, 0.0),
    "batch": (batch_dependence, FLOAT64),
    "left": (lambda block: unlike_alone(block, True), FLOAT64),
    "right": (lambda block: unlike_alone(block, False), FLOAT64),
    "order": (order_dependence, FLOAT64),
    "cache": (uncached_difference, FLOAT64),
    "nothing": (change_by_nothing, 0.0),
    "eval": (unrepeated, 0.0),
}
VARIANTS = {
    "plain": {},
    "no bias": {"bias": False},
    "dropout": {"dropout": 0.5},
}


def variant(name: str, core=attend) -> Block:
    "A block to test; dropout off, as in use."
    block = shaken(Block(C, H, **VARIANTS[name])).eval()
    set_attention(block, core)
    return block


@pytest.mark.parametrize("core", [attend, attend_fused])
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("what", PROPERTIES)
def test_property(what, name, core):
    violation, limit = PROPERTIES[what]
    assert violation(variant(name, core)) <= limit


@quick
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_cached_in_any_pieces(pieces):
    found = uncached_difference(variant("plain"), tuple(pieces))
    assert found < FLOAT64


@quick
@given(sizes, sizes, st.integers(0, 99))
def test_norm_and_mlp_see_one_position(B, T, seed):
    x, source = randn(B, T, C, seed=seed), generator(seed)
    order = torch.randperm(T, generator=source)
    for layer in (shaken(LayerNorm(C)), shaken(MLP(C))):
        assert far(layer(x[:, order]), layer(x)[:, order]) < FLOAT64
        assert far(layer(x)[:1, :1], layer(x[:1, :1])) < FLOAT64


def test_causal_block_is_not_order_blind():
    block, x = variant("plain"), randn(2, 6, C)
    assert far(block(x.flip(1)), block(x).flip(1)) > 0.01


# -------------------------------------------------- mutants, to be caught


class NormedStream(Block):
    "The norm's result replaces the stream."

    def forward(self, x, mask=None, cache=None):
        "One name for two things."
        x = self.norm_1(x)
        x = x + self.attention(x, mask, cache)
        x = self.norm_2(x)
        return x + self.mlp(x)


class AxisNorm(LayerNorm):
    "Statistics over the axes given."

    def __init__(self, axes: tuple[int, ...]):
        super().__init__(C)
        self.axes = axes

    def forward(self, x):
        "The right formula over the wrong numbers."
        centred = x - x.mean(self.axes, keepdim=True)
        variance = centred.square().mean(self.axes, keepdim=True)
        normed = centred / (variance + self.eps).sqrt()
        return normed * self.weight + self.bias


class NoSum(Block):
    "The parts replace the stream."

    def forward(self, x, mask=None, cache=None):
        "Without the sums."
        x = self.attention(self.norm_1(x), mask, cache)
        return self.mlp(self.norm_2(x))


class ForgetsMask(Block):
    "Everybody sees everybody, unless told otherwise."

    def forward(self, x, mask=None, cache=None):
        "No mask becomes a mask without a False."
        if mask is None and cache is None:
            mask = x.new_ones(x.shape[1], x.shape[1]).bool()
        return super().forward(x, mask, cache)


class ForgetsCache(Block):
    "The cache is taken and not handed on."

    def forward(self, x, mask=None, cache=None):
        "The cache is lost."
        return super().forward(x, mask)


class DropsPadding(Block):
    "The mask is taken and not handed on."

    def forward(self, x, mask=None, cache=None):
        "The mask is lost."
        return super().forward(x, None, cache)


class AlwaysDrops(Block):
    "Dropout that does not know the mode."

    def forward(self, x, mask=None, cache=None):
        "As in training, always."
        y = super().forward(x, mask, cache)
        return x + F.dropout(y - x, 0.5, training=True)


def with_norms(*axes: int) -> Block:
    "A block whose norms look along the axes given."
    block = Block(C, H)
    block.norm_1, block.norm_2 = AxisNorm(axes), AxisNorm(axes)
    return block


MUTANTS = {
    "normed stream": (lambda: NormedStream(C, H), {"nothing"}),
    "post-norm": (lambda: PostNorm(C, H), {"nothing"}),
    "no sum": (lambda: NoSum(C, H), {"nothing"}),
    "norm over T": (lambda: with_norms(1), {"leak", "cache", "left"}),
    "norm over T, C": (lambda: with_norms(1, 2), {"leak", "cache", "left"}),
    "norm over B": (lambda: with_norms(0), {"batch"}),
    "no mask": (lambda: ForgetsMask(C, H), {"leak"}),
    "cache lost": (lambda: ForgetsCache(C, H), {"cache"}),
    "mask lost": (lambda: DropsPadding(C, H), {"left", "order"}),
    "always drops": (lambda: AlwaysDrops(C, H), {"eval"}),
}
CAUGHT = [(name, what) for name, (_, by) in MUTANTS.items() for what in by]


@pytest.mark.parametrize(("name", "what"), sorted(CAUGHT))
def test_mutant_is_caught(name, what):
    violation, limit = PROPERTIES[what]
    mutant = shaken(MUTANTS[name][0]()).eval()
    assert violation(mutant) > max(limit, 1e-6)


def test_right_axis_of_the_mutants_is_right():
    "The mutants differ from the real block in the axis only."
    block = shaken(with_norms(2)).eval()
    assert far(block(randn(2, 6, C)), variant("plain")(randn(2, 6, C))) < 1e-12
    for violation, limit in PROPERTIES.values():
        assert violation(block) <= limit


def test_sum_of_a_normed_vector_hides_a_leak():
    "Why `leak` takes a random direction."
    norm = AxisNorm((1, 2)).double()
    nets = nn.Sequential(norm, LayerNorm(C).double())
    x = randn(2, 6, C).requires_grad_()
    (slope,) = torch.autograd.grad(nets(x)[:, 0].sum(), x)
    assert slope.abs().max() < 1e-12
    assert leak(nets) > 1e-6


def test_sample_variance_is_caught():
    "Divided by N - 1, a norm is seen to differ from torch's."
    x, theirs = randn(2, 5, C), nn.LayerNorm(C).double()
    centred = x - x.mean(-1, keepdim=True)
    wrong = centred / (x.var(-1, keepdim=True) + 1e-5).sqrt()
    assert far(wrong, theirs(x)) > 1000 * FLOAT32


# --------------------------------------------------------------- start


def stack(n_layer: int, width: int = 256) -> nn.ModuleList:
    "Blocks with no start yet."
    return nn.ModuleList(Block(width, 4) for _ in range(n_layer))


@pytest.mark.parametrize("n_layer", [1, 2, 12])
@pytest.mark.parametrize("std", [0.02, 0.1])
def test_start_has_the_right_spread(n_layer, std):
    blocks = stack(2)
    init_weights(blocks, n_layer, std=std, generator=generator())
    for name, parameter in blocks.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            adds = name.endswith(("out_proj.weight", "down.weight"))
            wanted = std / math.sqrt(2 * n_layer) if adds else std
            n = parameter.numel()
            # five standard errors of a spread and of a mean
            assert abs(parameter.std() / wanted - 1) < 5 / math.sqrt(2 * n)
            assert abs(parameter.mean()) < 5 * wanted / math.sqrt(n)


def test_start_depends_on_its_generator_alone():
    first, again, other = stack(2, 32), stack(2, 32), stack(2, 32)
    before = torch.get_rng_state()
    init_weights(first, 2, generator=generator(1))
    init_weights(again, 2, generator=generator(1))
    init_weights(other, 2, generator=generator(2))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    name = "0.mlp.up.weight"
    assert not torch.equal(
        first.state_dict()[name], other.state_dict()[name]
    )  # fmt: skip


def test_start_without_generator_uses_torchs_own():
    first, again = stack(1, 32), stack(1, 32)
    for blocks in (first, again):
        torch.manual_seed(5)
        init_weights(blocks, 1)
    pairs = zip(first.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_start_without_biases():
    block = Block(32, 4, bias=False)
    init_weights(block, 3, generator=generator())
    assert block.mlp.up.bias is None and block.norm_1.bias is None


def grown(n_layer: int, said: int) -> float:
    "Variance behind a new stack that was told of `said` layers."
    blocks = stack(n_layer, 64)
    init_weights(blocks, said, std=0.125, generator=generator())
    x = torch.randn(4, 32, 64, generator=generator(1))
    with torch.no_grad():
        for block in blocks:
            x = block(x)
    return x.var().item()


def test_scaled_stream_does_not_grow_with_depth():
    found = [grown(n, n) for n in (6, 12, 24)]
    assert max(found) < 1.15 * min(found) and 1.5 < found[0] < 2.5


def test_unscaled_stream_grows_with_depth():
    assert grown(24, 1) > 1.6 * grown(12, 1) > 2.5 * grown(6, 1)


# -------------------------------------------------------------- dropout


def test_dropout_keeps_the_mean_and_is_off_in_eval():
    mlp = shaken(MLP(C, dropout=0.4)).requires_grad_(False)
    x = randn(1, 1, C).expand(4000, 1, C)
    torch.manual_seed(0)
    noisy, plain = mlp.train()(x), mlp.eval()(x)
    assert torch.equal(plain, mlp.eval()(x))
    dropped = noisy == 0
    assert 0.38 < dropped.double().mean() < 0.42
    assert far(noisy[~dropped], plain[~dropped] / 0.6) < FLOAT64
    assert far(noisy.mean(0), plain.mean(0)) < 0.06


def test_dropout_repeats_from_a_seed_only():
    block, x = shaken(Block(C, H, dropout=0.3)), randn(2, 6, C)

    def seeded_pass():
        torch.manual_seed(3)
        return block(x)

    assert block.training
    assert torch.equal(seeded_pass(), seeded_pass())
    assert not torch.equal(block(x), block(x))


def test_dropout_takes_from_the_global_generator_in_training_only():
    block, x = shaken(Block(C, H, dropout=0.3)), randn(2, 6, C)
    before = torch.get_rng_state()
    block.eval()(x)
    assert torch.equal(torch.get_rng_state(), before)
    block.train()(x)
    assert not torch.equal(torch.get_rng_state(), before)


def test_without_dropout_both_modes_agree():
    block, x = shaken(Block(C, H)), randn(2, 6, C)
    assert torch.equal(block.train()(x), block.eval()(x))


# --------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Block(10, 4), ["n_embd=10", "n_head=4", "multiple"]),
        (lambda: Block(12, 0), ["n_head=0"]),
        (lambda: MLP(8, dropout=1.5), ["1.5", "between 0 and 1"]),
        (lambda: Block(8, 2, dropout=-0.1), ["-0.1", "between 0 and 1"]),
        (lambda: init_weights(Block(8, 2), 0), ["n_layer=0", "at least 1"]),
    ],
)
def test_value_errors(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert [word for word in words if word not in str(caught.value)] == []


def test_mask_of_numbers_is_refused():
    with pytest.raises(TypeError, match="mask must be boolean"):
        variant("plain")(randn(1, 4, C), torch.ones(4, 4))


def test_misshapen_mask_is_refused():
    mask = torch.ones(3, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(3, 5\)"):
        variant("plain")(randn(1, 4, C), mask)


def test_wrong_width_is_refused():
    with pytest.raises(RuntimeError, match=str(C)):
        LayerNorm(C)(torch.zeros(1, 2, C + 1))
