"""The contract of `embeddings`, against `torch.nn.Embedding`, a product
with one-hot vectors, and the formula of the sinusoids in Python floats.
"""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llm_from_scratch.embeddings import Embedding, check_ids, sinusoids

quick = settings(deadline=None, derandomize=True, max_examples=60)
INTEGERS = (torch.int64, torch.int32)


def seeded(seed: int = 0) -> torch.Generator:
    "A generator of its own, so that no test sees another's numbers."
    return torch.Generator().manual_seed(seed)


@st.composite
def cases(draw) -> tuple[Embedding, torch.Tensor, torch.Tensor]:
    "A table, ids for it, and a gradient from above."
    size, n_embd = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    shape = draw(st.integers(0, 4)), draw(st.integers(0, 7))
    random = seeded(draw(st.integers(0, 2**31)))
    table = Embedding(size, n_embd, std=1.0, generator=random)
    dtype = draw(st.sampled_from(INTEGERS))
    ids = torch.randint(size, shape, generator=random).to(dtype)
    return table, ids, torch.randn(*shape, n_embd, generator=random)


# ------------------------------------------------ forward and backward


@quick
@given(cases())
def test_equals_torch(case):
    ours, ids, above = case
    theirs = nn.Embedding(*ours.weight.shape)
    theirs.load_state_dict(ours.state_dict())
    mine, other = ours(ids), theirs(ids)
    assert torch.equal(mine, other)
    mine.backward(above)
    other.backward(above)
    assert torch.equal(ours.weight.grad, theirs.weight.grad)


@quick
@given(cases())
def test_is_a_product_with_one_hot_vectors(case):
    table, ids, above = case
    onehot = F.one_hot(ids.long(), len(table.weight)).float()
    out = table(ids)
    assert torch.equal(out, onehot @ table.weight)
    out.backward(above)
    expected = torch.einsum("btv,btc->vc", onehot, above)
    torch.testing.assert_close(table.weight.grad, expected)


@quick
@given(cases())
def test_gradient_is_a_sum_by_id(case):
    table, ids, above = case
    table(ids).backward(above)
    expected = torch.zeros_like(table.weight)
    for b in range(ids.shape[0]):
        for t in range(ids.shape[1]):
            expected[ids[b, t]] += above[b, t]
    torch.testing.assert_close(table.weight.grad, expected)
    unseen = [i for i in range(len(table.weight)) if i not in ids]
    assert not table.weight.grad[unseen].any()  # exactly zero


@quick
@given(cases(), st.randoms(use_true_random=False))
def test_shuffled_ids_give_shuffled_rows(case, random):
    table, ids, _ = case
    order = list(range(ids.shape[1]))
    random.shuffle(order)
    assert torch.equal(table(ids[:, order]), table(ids)[:, order])


@quick
@given(cases(), st.randoms(use_true_random=False))
def test_an_id_is_only_a_name(case, random):
    table, ids, _ = case
    names = list(range(len(table.weight)))
    random.shuffle(names)
    renamed = copy.deepcopy(table)
    with torch.no_grad():
        renamed.weight[names] = table.weight
    assert torch.equal(renamed(torch.tensor(names)[ids.long()]), table(ids))


def test_gradient_agrees_with_finite_differences():
    weight = torch.randn(4, 3, dtype=torch.float64, generator=seeded())
    ids = torch.tensor([[0, 3, 0]])

    def square(table: torch.Tensor) -> torch.Tensor:
        layer = Embedding(4, 3).double()
        return (
            torch.func.functional_call(layer, {"weight": table}, (ids,)) ** 2
        )

    assert torch.autograd.gradcheck(square, weight.requires_grad_())


def test_no_ids_give_no_rows():
    table = Embedding(5, 3)
    assert table(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, 3)
    assert table(torch.zeros(0, 4, dtype=torch.int32)).shape == (0, 4, 3)


# ------------------------------------------------------------ beginning


def test_spread_and_generator():
    table = Embedding(2000, 64, generator=seeded(1)).weight
    assert abs(table.std().item() - 0.02) < 3e-4
    assert abs(table.mean().item()) < 3e-4
    again = Embedding(2000, 64, generator=seeded(1)).weight
    assert torch.equal(table, again)
    other = Embedding(2000, 64, generator=seeded(2)).weight
    assert not torch.equal(table, other)
    wide = Embedding(2000, 64, std=0.5, generator=seeded(1)).weight
    torch.testing.assert_close(wide, table * 25)


def test_its_own_generator_leaves_torch_alone():
    state = torch.get_rng_state()
    Embedding(7, 3, generator=seeded())
    assert torch.equal(torch.get_rng_state(), state)
    Embedding(7, 3)
    assert not torch.equal(torch.get_rng_state(), state)


def test_is_one_parameter_named_weight():
    table = Embedding(7, 3)
    assert [name for name, _ in table.named_parameters()] == ["weight"]
    assert list(table.state_dict()) == ["weight"]
    assert repr(table) == "Embedding(7, 3)"
    twin = pickle.loads(pickle.dumps(table))
    assert torch.equal(twin.weight, table.weight)


@pytest.mark.parametrize("size, n_embd", [(0, 3), (5, 0), (-1, 3)])
def test_refuses_an_empty_table(size, n_embd):
    with pytest.raises(ValueError, match=f"size={size} and n_embd={n_embd}"):
        Embedding(size, n_embd)


def test_is_made_and_run_on_meta_without_memory():
    with torch.device("meta"):
        table = Embedding(10**9, 10**6)
        ids = torch.zeros(2, 3, dtype=torch.int64)
    out = table(ids)
    assert out.device.type == "meta"
    assert out.shape == (2, 3, 10**6)


def test_follows_the_dtype_of_its_table():
    table = Embedding(5, 4).to(torch.bfloat16)
    assert table(torch.tensor([[1, 2]])).dtype == torch.bfloat16


# --------------------------------------------------------------- errors


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("wrong", [-1, -100, 5, 50_256])
def test_names_the_first_id_outside(wrong, dtype):
    ids = torch.tensor([[0, 4, wrong, 99]], dtype=dtype)
    message = rf"id {wrong} is outside 0…4.*another tokenizer"
    with pytest.raises(ValueError, match=message):
        Embedding(5, 2)(ids)
    with pytest.raises(ValueError, match=message):
        check_ids(ids, 5)


@quick
@given(st.lists(st.integers(-3, 8), max_size=6), st.integers(1, 6))
def test_checks_exactly_the_range(row, size):
    ids = torch.tensor(row, dtype=torch.int64)
    if all(0 <= i < size for i in row):
        assert check_ids(ids, size) is None
    else:
        first = next(i for i in row if not 0 <= i < size)
        with pytest.raises(ValueError, match=f"^id {first} is outside"):
            check_ids(ids, size)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bool, torch.uint8, torch.int16]
)
def test_refuses_ids_of_another_type(dtype):
    with pytest.raises(TypeError, match=f"got {dtype}"):
        Embedding(5, 2)(torch.zeros(1, 3, dtype=dtype))


def test_refuses_a_list_and_says_what_to_do():
    with pytest.raises(TypeError, match=r"got list: use torch\.tensor\(ids\)"):
        Embedding(5, 2)([[1, 2]])


def test_does_not_look_at_ids_elsewhere():
    ids = torch.full((2, 3), 99, dtype=torch.int64, device="meta")
    assert check_ids(ids, 5) is None


# ---------------------------------------------------- compiled, exported


def test_compiles_in_one_piece():
    table = Embedding(9, 4)
    compiled = torch.compile(table, backend="eager", fullgraph=True)
    ids = torch.tensor([[3, 8, 0]])
    assert torch.equal(compiled(ids), table(ids))


def test_is_exported():
    table = Embedding(9, 4)
    ids = torch.tensor([[3, 8, 0]])
    exported = torch.export.export(table, (ids,))
    assert torch.equal(exported.module()(ids), table(ids))


# ------------------------------------------------------------ sinusoids


def by_formula(t: int, channel: int, n_embd: int, base: float) -> float:
    "Vaswani et al. 2017, section 3.5, in Python's own floats."
    angle = t / base ** (channel // 2 * 2 / n_embd)
    return math.cos(angle) if channel % 2 else math.sin(angle)


@quick
@given(
    st.integers(0, 200_000),
    st.integers(1, 40),
    st.sampled_from([10_000.0, 500.0, 1_000_000.0]),
)
def test_sinusoids_are_the_formula(t, pairs, base):
    n_embd = 2 * pairs
    row = sinusoids(t + 1, n_embd, base=base)[t]
    expected = [by_formula(t, c, n_embd, base) for c in range(n_embd)]
    torch.testing.assert_close(row, torch.tensor(expected), atol=1e-6, rtol=0)


@quick
@given(st.integers(1, 90), st.integers(1, 24))
def test_dot_products_depend_on_the_distance_only(n, pairs):
    waves = sinusoids(n, 2 * pairs)
    assert waves.shape == (n, 2 * pairs)
    alike = waves @ waves.T
    for distance in range(n):
        values = alike.diagonal(distance)
        assert (values - values[0]).abs().max() < 1e-4
    torch.testing.assert_close(alike.diag(), torch.full((n,), float(pairs)))


def test_a_step_is_the_same_rotation_everywhere():
    # short waves only: each must turn far enough to be told apart
    waves = sinusoids(300, 16, base=20).double()
    here, there = waves[:-7], waves[7:]
    step = torch.linalg.lstsq(here, there).solution
    torch.testing.assert_close(here @ step, there, atol=1e-5, rtol=0)
    unit = torch.eye(16, dtype=torch.float64)
    torch.testing.assert_close(step @ step.T, unit, atol=1e-4, rtol=0)


def test_no_two_positions_are_alike():
    distances = torch.cdist(sinusoids(2000, 64), sinusoids(2000, 64))
    distances.fill_diagonal_(1)
    assert distances.min() > 0.1


@pytest.mark.parametrize("n_embd", [33, 1, 0, -2])
def test_sinusoids_refuse_odd_channels(n_embd):
    with pytest.raises(ValueError, match=f"n_embd={n_embd} must be even"):
        sinusoids(8, n_embd)


def test_sinusoids_of_no_positions():
    assert sinusoids(0, 4).shape == (0, 4)


def test_sinusoids_follow_the_default_dtype():
    assert sinusoids(3, 4).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert sinusoids(3, 4).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


# ------------------------------------------------- what a page may claim


def test_a_bag_has_no_order_and_positions_give_it_one():
    random = seeded()
    table = Embedding(20, 8, std=1.0, generator=random)
    places = Embedding(6, 8, std=1.0, generator=random)
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    twin = ids[:, [2, 1, 0, 3, 4, 5]]
    at = torch.arange(6)[None]
    bags = [table(x).mean(1) for x in (ids, twin)]
    torch.testing.assert_close(*bags)
    summed = [(table(x) + places(at)).mean(1) for x in (ids, twin)]
    torch.testing.assert_close(*summed)  # a plain mean loses them again
    bent = [(table(x) + places(at)).relu().mean(1) for x in (ids, twin)]
    assert (bent[0] - bent[1]).abs().max() > 0.01
