"The contract of `pretraining`: equal to torch's own parts, step by step."

import copy
import math
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from llm_from_scratch.attention import set_attention
from llm_from_scratch.devices import DevicePlan, MasterWeights
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.pretraining import (
    SCHEDULES,
    AdamW,
    NotFinite,
    Resumable,
    TrainConfig,
    Training,
    cross_entropy,
    default_optimizer,
    find_learning_rate,
    find_not_finite,
    next_token_loss,
    parameter_groups,
    rate_factor,
    train,
)
from llm_from_scratch.run_folder import RunFolder

quick = settings(deadline=None, derandomize=True, max_examples=25)
SMALL = GPTConfig(
    vocab_size=40, context_len=12, n_layer=2, n_head=2, n_embd=16
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Small models are faster so."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(**changes) -> GPT:
    config = GPTConfig(**{**vars(SMALL), **changes})
    return GPT(config, generator=seeded())


def batch(seed: int, B: int = 4, T: int = 12, padded: bool = False):
    "Ids and targets; padded ones have rows of unequal length."
    ids = torch.randint(40, (B, T + 1), generator=seeded(seed))
    x, y = ids[:, :-1], ids[:, 1:].clone()
    if padded:
        lengths = torch.randint(1, T + 1, (B, 1), generator=seeded(seed + 99))
        y[torch.arange(T)[None] >= lengths] = -100
    return x, y


def batches(n: int, **options) -> list:
    return [batch(i, **options) for i in range(n)]


# ------------------------------------------------------------ the loss


@quick
@given(
    st.integers(1, 5),
    st.integers(1, 7),
    st.integers(2, 30),
    st.floats(0.1, 300),
    st.integers(0, 999),
)
def test_cross_entropy_is_torchs(B, T, V, size, seed):
    logits = size * torch.randn(B, T, V, generator=seeded(seed))
    targets = torch.randint(V, (B, T), generator=seeded(seed))
    targets[0, 1:] = -100
    ours = cross_entropy(logits, targets)
    theirs = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(ours, theirs)
    kept = targets >= 0
    total = logits.double().logsumexp(-1)[kept]
    right = logits.double()[kept].gather(1, targets[kept][:, None])[:, 0]
    torch.testing.assert_close(ours.double(), (total - right).mean())


def test_cross_entropy_in_half_precision_is_computed_in_full():
    logits = torch.randn(3, 5, 50, generator=seeded()).bfloat16()
    targets = torch.randint(50, (3, 5), generator=seeded())
    ours = cross_entropy(logits, targets)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, cross_entropy(logits.float(), targets))


def test_next_token_loss_counts_what_is_learned():
    x, y = batch(0, padded=True)
    loss, count = next_token_loss(made(), (x, y))
    assert count == (y >= 0).sum()
    torch.testing.assert_close(loss, cross_entropy(made()(x), y))


# ------------------------------------------------------------ AdamW

shapes = st.lists(
    st.lists(st.integers(1, 6), min_size=0, max_size=3).map(tuple),
    min_size=1,
    max_size=4,
)


@quick
@given(
    shapes,
    st.floats(1e-5, 0.5),
    st.floats(0, 0.99),
    st.floats(0.5, 0.9999),
    st.floats(0, 0.5),
    st.sampled_from([1e-8, 1e-3]),
    st.integers(0, 999),
)
def test_adamw_is_torchs(sizes, lr, b1, b2, decay, eps, seed):
    "Step by step, with gradients that are sometimes missing or zero."
    draw = seeded(seed)
    start = [torch.randn(size, generator=draw) for size in sizes]
    ours, theirs = ([nn.Parameter(x.clone()) for x in start] for _ in range(2))
    options = {"lr": lr, "betas": (b1, b2), "eps": eps, "weight_decay": decay}
    pair = AdamW(ours, **options), torch.optim.AdamW(theirs, **options)
    for step in range(6):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            grad = torch.randn(p.shape, generator=draw) * (step != 2)
            grad = None if i == 1 and step in (0, 3) else grad
            p.grad = grad
            q.grad = None if grad is None else grad.clone()
        for optimizer in pair:
            optimizer.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_adamw_trains_a_gpt_as_torchs():
    models = made(), made()
    pair = (
        AdamW(models[0].named_parameters(), lr=1e-2, weight_decay=0.1),
        torch.optim.AdamW(
            models[1].parameters(), 1e-2, (0.9, 0.95), weight_decay=0.1
        ),
    )
    for x, y in batches(12):
        losses = []
        for model, optimizer in zip(models, pair, strict=True):
            optimizer.zero_grad()
            losses.append(cross_entropy(model(x), y))
            losses[-1].backward()
            optimizer.step()
        torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


def test_adamw_continues_from_its_state():
    start = torch.randn(3, generator=seeded())
    grads = torch.randn(8, 3, generator=seeded(1))

    def walk(n, state=None, p=None):
        p = nn.Parameter(start.clone() if p is None else p.clone())
        optimizer = AdamW([p], lr=0.1)
        if state:
            optimizer.load_state_dict(state)
        for grad in grads[:n] if state is None else grads[8 - n :]:
            p.grad = grad
            optimizer.step()
        return optimizer.state_dict(), p.detach()

    assert torch.equal(walk(8)[1], walk(5, *walk(3))[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1}, "lr=-1 must be in"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\]=1.0 must be in \[0, 1\)"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be in"),
    ],
)
def test_adamw_numbers_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        AdamW([torch.zeros(1)], **options)


def test_groups():
    "Decayed: every matrix of a block, and the head; nothing else."
    model = made(tied=False)
    groups = parameter_groups(model.named_parameters(), 0.3)
    decayed, spared = ({n for n, _ in g["params"]} for g in groups)
    assert [g["weight_decay"] for g in groups] == [0.3, 0.0]
    assert decayed | spared == {n for n, _ in model.named_parameters()}
    assert all(n.endswith("weight") for n in decayed)
    assert "head.weight" in decayed
    assert {n for n in spared if n.endswith("embedding.weight")} == {
        "token_embedding.weight",
        "position_embedding.weight",
    }
    assert all("norm" in n or "bias" in n for n in spared if "emb" not in n)
    only = parameter_groups([("bias", nn.Parameter(torch.zeros(3)))])
    assert len(only) == 1


def test_default_optimizer():
    config = TrainConfig(steps=1, lr=0.5, betas=(0.1, 0.2), weight_decay=0.3)
    optimizer = default_optimizer(made().named_parameters(), config)
    first = optimizer.param_groups[0]
    assert (first["lr"], first["betas"]) == (0.5, (0.1, 0.2))
    assert first["weight_decay"] == 0.3
    assert first["param_names"]


# ------------------------------------------------------------ schedules


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_torchs(warmup, final):
    steps = 40
    config = TrainConfig(
        steps=steps, warmup=warmup, schedule="cosine", final=final
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = lr_scheduler.CosineAnnealingLR(
        optimizer, steps - warmup, eta_min=final
    )
    if warmup:
        rise = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1, warmup)
        schedule = lr_scheduler.SequentialLR(
            optimizer, [rise, schedule], [warmup]
        )
    for step in range(steps):
        wanted = optimizer.param_groups[0]["lr"]
        assert rate_factor(step, steps, config) == pytest.approx(wanted)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("name", ["cosine", "warmup_stable_decay"])
def test_schedules_of_transformers(name):
    "Theirs begin at 0, one step earlier."
    optimization = pytest.importorskip("transformers.optimization")
    warmup, steps, falling = 6, 50, 20
    config = TrainConfig(
        steps=steps,
        warmup=warmup,
        decay=falling / steps,
        schedule="cosine" if name == "cosine" else "stable",
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    if name == "cosine":
        theirs = optimization.get_cosine_schedule_with_warmup(
            optimizer, warmup + 1, steps + 1
        )
    else:
        theirs = optimization.get_wsd_schedule(
            optimizer,
            num_warmup_steps=warmup + 1,
            num_stable_steps=steps - falling - warmup,
            num_decay_steps=falling,
            decay_type="linear",
        )
    for step in range(steps):
        optimizer.step()
        theirs.step()
        wanted = optimizer.param_groups[0]["lr"]
        assert rate_factor(step, steps, config) == pytest.approx(wanted)


@quick
@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 300),
    st.integers(0, 50),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_rate_between_nothing_and_the_peak(
    schedule, steps, warmup, decay, final
):
    config = TrainConfig(
        steps=steps,
        schedule=schedule,
        warmup=warmup,
        decay=decay,
        final=final,
    )
    rates = [rate_factor(i, steps, config) for i in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_while_the_end_is_open_the_rate_stays():
    config = TrainConfig(minutes=1, warmup=4)
    rates = [rate_factor(i, None, config) for i in range(8)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


# ------------------------------------------------------------ configuration

WRONG = [
    ({}, "steps=None, minutes=None"),
    ({"steps": 1, "minutes": 1}, "steps=1, minutes=1"),
    ({"steps": 0}, "steps=0 must be a whole number"),
    ({"steps": 2.0}, "steps=2.0 must be a whole number"),
    ({"steps": True}, "steps=True must be a whole number"),
    ({"minutes": 0}, "minutes=0 must be above 0"),
    ({"minutes": math.inf}, "minutes=inf must be above 0"),
    ({"minutes": math.nan}, "minutes=nan must be above 0"),
    ({"minutes": 1, "schedule": "cosine"}, "schedule='cosine' needs steps"),
    ({"steps": 1, "schedule": "linear"}, "schedule='linear' must be one of"),
    ({"steps": 1, "accumulate": 0}, "accumulate=0 must be"),
    ({"steps": 1, "evaluations": 0}, "evaluations=0 must be"),
    ({"steps": 1, "lr": -1}, "lr=-1 must be in"),
    ({"steps": 1, "lr": math.nan}, "lr=nan must be in"),
    ({"steps": 1, "weight_decay": -1}, "weight_decay=-1 must be in"),
    ({"steps": 1, "clip": -1}, "clip=-1 must be in"),
    ({"steps": 1, "warmup": -1}, "warmup=-1 must be in"),
    ({"steps": 1, "decay": 1.1}, "decay=1.1 must be in"),
    ({"steps": 1, "final": -0.1}, "final=-0.1 must be in"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_config_that_cannot_be(options, words):
    with pytest.raises(ValueError) as caught:
        TrainConfig(**options)
    assert words in str(caught.value)


def test_config_is_frozen_and_named():
    with pytest.raises(TypeError):
        TrainConfig(100)
    with pytest.raises(AttributeError):
        TrainConfig(steps=1).lr = 2
    assert TrainConfig(steps=1, betas=[0.5, 0.6]).betas == (0.5, 0.6)


# ------------------------------------------------------------ one step


def gradients(model) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_accumulated_is_the_large_batch(parts, padded):
    "Batches with unequal numbers of targets, too: no mean of means."
    x, y = batch(0, B=6, padded=padded)
    y[0, 2:] = -100  # unequal parts, whatever was drawn
    model = made()
    loss, count = next_token_loss(model, (x, y))
    loss.backward()
    wanted = gradients(model)
    run = Training(model, [], TrainConfig(steps=1))
    split = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
    found, n = run.backward(split)
    assert n == count
    assert found == pytest.approx(loss.item(), rel=1e-6)
    for a, b in zip(gradients(model), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_a_mean_of_means_would_be_seen():
    "The test above can fail: the usual bug is off by far more."
    x, y = batch(0, B=6)
    y[:3, 1:] = -100
    model = made()
    next_token_loss(model, (x, y))[0].backward()
    wanted = gradients(model)
    model.zero_grad()
    for half in zip(x.chunk(2), y.chunk(2), strict=True):
        (next_token_loss(model, half)[0] / 2).backward()
    apart = [
        (a - b).norm() / b.norm()
        for a, b in zip(gradients(model), wanted, strict=True)
    ]
    assert max(apart) > 0.1


def plain(model, data, config, make):
    "What `train` does, in plain PyTorch: losses and norms."
    optimizer = make(model)
    told = []
    for step in range(config.steps):
        factor = rate_factor(step, config.steps, config)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * factor
        x, y = data[step % len(data)]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        clip = config.clip or math.inf
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        told.append((loss.item(), norm.item()))
    return told


@pytest.mark.parametrize("clip", [0, 0.5])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_train_is_plain_pytorch(clip, schedule):
    config = TrainConfig(
        steps=20, lr=1e-2, warmup=4, clip=clip, schedule=schedule
    )
    data = batches(6, padded=True)
    model, other = made(), made()

    def torchs(model):
        groups = parameter_groups(model.named_parameters(), 0.1)
        return torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))

    wanted = plain(other, data, config, torchs)
    rows = train(model, data, config, progress=False)
    found = [(row["loss"], row["norm"]) for row in rows]
    for pair in zip(found, wanted, strict=True):
        assert pair[0] == pytest.approx(pair[1], rel=1e-4)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_an_optimizer_of_the_callers():
    "Any factory: here torch's SGD, whose own rate is scheduled."
    make = partial(torch.optim.SGD, lr=0.1)
    config = TrainConfig(steps=5, warmup=0, decay=0, clip=0)
    model, other = made(), made()
    rows = train(model, batches(2), config, make=make, progress=False)
    told = plain(
        other,
        batches(2),
        TrainConfig(steps=5, lr=0.1, warmup=0, decay=0, clip=0),
        lambda m: torch.optim.SGD(m.parameters()),
    )
    assert [row["loss"] for row in rows] == pytest.approx(
        [loss for loss, _ in told], rel=1e-5
    )


def test_float32_shares_its_weights_and_bf16_has_masters():
    make = partial(AdamW, lr=1e-3)
    model = made()
    shared = MasterWeights(model, make, torch.float32)
    assert all(
        a is b for a, b in zip(shared.weights, shared.masters, strict=True)
    )
    apart = MasterWeights(made(), make, torch.bfloat16)
    assert {p.dtype for p in apart.weights} == {torch.bfloat16}
    assert {p.dtype for p in apart.masters} == {torch.float32}


# ------------------------------------------------------------ a run


def test_rows():
    config = TrainConfig(steps=6, evaluations=3, accumulate=2)
    values = iter([3.0, 2.0, 2.5])
    seen = []
    rows = train(
        made(),
        batches(4, padded=True),
        config,
        validate=lambda model: next(values),
        watch=lambda rows: seen.append(len(rows)),
        progress=False,
    )
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "valid" in row] == [2, 4, 6]
    assert seen == [1, 2, 3, 4, 5, 6]
    sizes = [int((y >= 0).sum()) for _, y in batches(4, padded=True)]
    assert [row["targets"] for row in rows[:3]] == [
        sum(sizes[:2]),
        sum(sizes),
        sum(sizes) + sum(sizes[:2]),
    ]
    assert rows[0]["lr"] == pytest.approx(1 / 2)  # a quarter of six
    times = [row["seconds"] for row in rows]
    assert times == sorted(times)


def test_evaluation_is_in_evaluation_mode():
    modes = []

    def validate(model):
        modes.append(model.training)
        return 1.0

    model = made(dropout=0.5).eval()
    config = TrainConfig(steps=2, evaluations=2)
    train(model, batches(2), config, validate=validate, progress=False)
    assert modes == [False, False]
    assert model.training


def test_warming_up_learns_nothing_and_draws_nothing():
    "Compilation and caches before the clock: the same run as without."
    config = TrainConfig(steps=3)
    models = made(dropout=0.3), made(dropout=0.3)
    torch.manual_seed(0)
    rows = train(models[0], batches(3), config, progress=False)
    torch.manual_seed(0)
    run = Resumable(models[1].train(), batches(3), config)
    wanted = [run.take_step() for _ in range(3)]
    assert [r["loss"] for r in rows] == [r["loss"] for r in wanted]


class Clock:
    "A clock on which every step takes as long as we say."

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self):
        self.now += self.seconds / 2
        return self.now


@pytest.mark.parametrize("seconds", [0.6, 1.3, 7.0])
def test_minutes_are_kept(seconds, monkeypatch):
    "The decay begins in time, ends at its end, and evaluations are even."
    from llm_from_scratch import pretraining

    monkeypatch.setattr(pretraining, "time", Clock(2 * seconds))
    config = TrainConfig(minutes=2, warmup=0, evaluations=5, decay=0.5)
    rows = train(
        made(),
        batches(2),
        config,
        validate=lambda model: 1.0,
        progress=False,
    )
    wanted = 120 / seconds
    assert len(rows) == pytest.approx(wanted, abs=2)
    flat = [row for row in rows if row["lr"] == 1]
    assert len(flat) == pytest.approx(wanted / 2, abs=2)
    assert rows[-1]["lr"] < 3 / (wanted / 2)
    assert sum("valid" in row for row in rows) == 5


def test_less_data_than_one_batch():
    config = TrainConfig(steps=2)
    with pytest.raises(ValueError, match="ended after 0 and cannot"):
        train(made(), [], config, progress=False)
    once = iter(batches(1))  # a generator does not begin again
    with pytest.raises(ValueError, match="ended after 1 and cannot"):
        train(made(), once, config, progress=False)


def test_nothing_to_train():
    frozen = made().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        train(frozen, batches(1), TrainConfig(steps=1), progress=False)


def test_any_module_and_any_loss():
    "No ids, no tokens: a line through points."
    x = torch.randn(32, 1, generator=seeded())
    data = [(x, 3 * x + 1)]

    def loss_fn(model, pair):
        return (model(pair[0]) - pair[1]).square().mean(), len(pair[0])

    line = nn.Linear(1, 1)
    config = TrainConfig(steps=400, lr=0.05, weight_decay=0)
    rows = train(line, data, config, loss_fn=loss_fn, progress=False)
    assert rows[-1]["loss"] < 1e-3
    assert line.weight.item() == pytest.approx(3, abs=0.1)


def test_a_plan_in_bf16_learns():
    plan = DevicePlan(device="cpu", dtype=torch.bfloat16)
    model = made()
    config = TrainConfig(steps=40, lr=1e-2, warmup=2)
    rows = train(model, batches(1), config, plan=plan, progress=False)
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert model.token_embedding.weight.dtype == torch.bfloat16


# ------------------------------------------------------------ not finite


def spoil_at(step, spoil, model):
    "Do something to a model after a step."

    def watch(rows):
        if rows[-1]["step"] == step:
            spoil(model)

    return watch


def poison(model):
    with torch.no_grad():
        model.blocks[1].mlp.up.weight[0, 0] = math.nan


def overflow(model):
    model.blocks[1].norm_2.register_forward_hook(lambda m, i, out: out / 0)


def spoil_gradient(model):
    model.blocks[0].mlp.down.weight.register_hook(lambda g: g * math.inf)


FAULTS = {
    "weight": (poison, "weight blocks.1.mlp.up.weight", "the loss is nan"),
    "layer": (overflow, "output of layer blocks.1.norm_2", "the loss is nan"),
    "gradient": (
        spoil_gradient,
        "gradient of blocks.0.mlp.down.weight",
        "a gradient is not finite",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("clip", [0, 1.0])
def test_not_finite_stops_with_step_batch_and_layer(name, clip, tmp_path):
    spoil, where, what = FAULTS[name]
    model = made()
    config = TrainConfig(steps=9, evaluations=3, accumulate=2, clip=clip)
    with pytest.raises(NotFinite) as caught:
        train(
            model,
            batches(4),
            config,
            validate=lambda model: 1.0,
            folder=tmp_path,
            watch=spoil_at(4, spoil, model),
            progress=False,
        )
    message = str(caught.value)
    assert where in message
    assert what in message
    assert "step 5, batch 10" in message
    store = RunFolder(tmp_path)
    assert [folder.name for folder in store.steps()] == ["step-0000003"]
    assert len(store.rows()) == 4
    healthy = made()
    rows = train(
        healthy,
        batches(4),
        config,
        validate=lambda model: 1.0,
        folder=tmp_path,
        resume=True,
        progress=False,
    )
    assert len(rows) == 9


def test_a_step_that_fails_changes_nothing():
    model = made()
    run = Training(model, batches(1), TrainConfig(steps=3))
    run.take_step()
    before = copy.deepcopy(model.state_dict())
    spoil_gradient(model)
    with pytest.raises(NotFinite):
        run.take_step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert run.step == 1


def test_other_errors_are_not_renamed():
    class Breaks(AdamW):
        def step(self):
            raise RuntimeError("no memory left")

    config = TrainConfig(steps=1)
    with pytest.raises(RuntimeError, match="no memory left"):
        train(made(), batches(1), config, make=Breaks, progress=False)


def test_find_not_finite():
    model = made()
    x, y = batch(0)
    compute = partial(next_token_loss, model, (x, y))
    assert find_not_finite(model, compute) == "loss alone"
    overflow(model)
    found = find_not_finite(model, compute)
    assert found == "output of layer blocks.1.norm_2"
    names = [n for n, m in model.named_modules() if len(m._forward_hooks)]
    assert names == ["blocks.1.norm_2"]  # our own hooks are gone
    poison(model)
    found = find_not_finite(model, compute)
    assert found == "weight blocks.1.mlp.up.weight"


# ------------------------------------------------------------ range test


def test_range_test_leaves_the_model_as_it_is():
    model = made(dropout=0.1).eval()
    before = copy.deepcopy(model.state_dict())
    found = find_learning_rate(model, batches(3), steps=12, high=10.0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    rates = [rate for rate, _ in found]
    assert rates[0] == pytest.approx(1e-5)
    steps = [b / a for a, b in pairwise(rates)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert found[0][1] == pytest.approx(math.log(40), rel=0.05)


def test_range_test_stops_when_it_explodes():
    make = partial(torch.optim.SGD, momentum=0.9)
    found = find_learning_rate(
        made(), batches(2), low=1e-3, high=1e6, steps=60, make=make
    )
    assert len(found) < 60
    assert all(math.isfinite(loss) for _, loss in found)


@pytest.mark.parametrize("low, high", [(0, 1), (1, 1), (2, 1), (-1, 1)])
def test_range_that_cannot_be(low, high):
    with pytest.raises(ValueError, match=f"low={low} .*high={high}"):
        find_learning_rate(made(), batches(1), low=low, high=high)


# ------------------------------------------------------------ leaks


def test_a_model_that_sees_the_answer_is_seen_by_its_gradient():
    "What the chapter's last exercise asks for; the right model passes."
    from llm_from_scratch.attention import attend

    def later(model):
        ids = batch(0)[0][:1]
        rows = []
        model.token_embedding.register_forward_hook(
            lambda m, i, out: rows.append(out) or out.retain_grad()
        )
        model(ids)[0, 3].sum().backward()
        return rows[0].grad[0, 4:].abs().sum().item()

    def open_eyed(q, k, v, mask=None, *, causal=False, dropout=0.0):
        return attend(q, k, v, mask)

    assert later(made()) == 0
    leaking = made()
    set_attention(leaking, open_eyed)
    assert later(leaking) > 0
