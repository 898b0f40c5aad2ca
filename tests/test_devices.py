"The plan on machines of every kind, and what carries it out."

import os
import subprocess
import sys
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from llm_from_scratch import devices, machine
from llm_from_scratch.attention import attend, attend_fused, padding_mask
from llm_from_scratch.devices import (
    AddedMask,
    DevicePlan,
    MasterWeights,
    as_bias,
    check_choice,
    device_plan,
    has_bf16,
    matmul_precision,
    race,
    trainable,
    ways,
)
from llm_from_scratch.gpt import GPT, GPTConfig

ROOT = Path(__file__).resolve().parent.parent
SMALL = GPTConfig(
    vocab_size=64, context_len=16, n_layer=2, n_head=2, n_embd=16
)
CPU = DevicePlan(device="cpu")


def small(seed: int = 0) -> GPT:
    "A GPT of a few thousand weights."
    return GPT(SMALL, generator=torch.Generator().manual_seed(seed))


def ids(seed: int = 0, shape: tuple = (2, 16)) -> torch.Tensor:
    "Some token ids."
    random = torch.Generator().manual_seed(seed)
    return torch.randint(64, shape, generator=random)


def train(model, optimizer, steps: int, **options) -> list[float]:
    "Losses of some steps on the same batch."
    losses, x = [], ids()
    for _ in range(steps):
        logits = model(x[:, :-1]).flatten(0, 1).float()
        loss = nn.functional.cross_entropy(logits, x[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(**options)
        losses.append(loss.item())
    return losses


# -- the plan


@pytest.fixture
def fake(monkeypatch):
    "A machine whose measurements are given; what was asked is noted."

    def make(seconds=None, bf16=True, gpus=(), compiler="/usr/bin/g++"):
        asked = []

        def raced(plans, budget):
            asked.extend(plan.name for plan in plans)
            return {x: s for x, s in (seconds or {}).items() if x in asked}

        monkeypatch.setattr(devices, "race", raced)
        monkeypatch.setattr(devices, "has_bf16", lambda _: bf16)
        monkeypatch.setattr(machine, "cpp_compiler", lambda: compiler)
        kinds = [{"kind": kind, "name": kind, "memory": 1} for kind in gpus]
        monkeypatch.setattr(machine, "accelerators", lambda _: kinds)
        return asked

    return make


EVEN = {
    f"{way} {how}": 1.0
    for way in ("float32", "float32 medium", "bfloat16")
    for how in ("fused", "added")
}


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        ({}, "float32 fused"),
        ({"bfloat16 added": 0.4}, "bfloat16 added"),
        ({"bfloat16 fused": 0.4, "bfloat16 added": 0.5}, "bfloat16 fused"),
        ({"float32 medium added": 0.6}, "float32 medium added"),
        # less than 5 % are no reason to be less exact
        ({"bfloat16 added": 0.97}, "float32 fused"),
    ],
)
def test_the_fastest_wins(seconds, name, fake):
    asked = fake(EVEN | seconds)
    plan = device_plan()
    assert plan.name == name
    assert plan.device == "cpu"
    assert plan.seconds == EVEN | seconds
    assert asked == list(EVEN)


def test_imitated_bf16_is_not_even_tried(fake):
    asked = fake(EVEN | {"bfloat16 added": 0.1}, bf16=False)
    assert device_plan().dtype == torch.float32
    assert not any("bfloat16" in name for name in asked)


def test_who_dropped_out_does_not_win(fake):
    fake({"float32 fused": 1.0, "float32 added": 0.5})
    assert device_plan().name == "float32 added"


def test_a_dtype_that_the_caller_wants(fake):
    asked = fake(EVEN, bf16=False)
    assert device_plan(dtype=torch.bfloat16).dtype == torch.bfloat16
    assert asked == ["bfloat16 fused", "bfloat16 added"]
    asked = fake(EVEN | {"bfloat16 added": 0.1})
    assert device_plan(dtype=torch.float32).dtype == torch.float32
    assert not any("bfloat16" in name for name in asked)


@pytest.mark.parametrize(
    ("kind", "bf16", "found"),
    [
        ("cuda", True, (torch.bfloat16, "high")),
        ("cuda", False, (torch.float32, "high")),
        ("rocm", True, (torch.bfloat16, "high")),
        ("mps", True, (torch.bfloat16, "highest")),
        ("xpu", False, (torch.float32, "highest")),
    ],
)
def test_an_accelerator_goes_first_and_is_not_measured(
    kind, bf16, found, fake
):
    asked = fake(gpus=[kind], bf16=bf16)
    plan = device_plan()
    assert plan.device == {"rocm": "cuda"}.get(kind, kind)
    assert (plan.dtype, plan.matmul_precision) == found
    assert (plan.attention, plan.seconds, asked) == ("fused", {}, [])
    assert not (kind == "mps" and plan.compile)


def test_the_processor_although_there_is_an_accelerator(fake):
    fake(EVEN, gpus=["cuda"])
    assert device_plan("cpu").device == "cpu"
    assert device_plan("cuda:0").device == "cuda"


def test_a_driver_that_fails(monkeypatch):
    def fails(_):
        raise RuntimeError("CUDA driver is too old")

    monkeypatch.setattr(machine, "accelerators", fails)
    assert devices.devices() == ["cpu"]


def test_without_compiler_or_headers(fake, monkeypatch, tmp_path):
    fake(EVEN)
    assert device_plan().compile == devices.can_compile("cpu")
    monkeypatch.setattr(devices.sysconfig, "get_path", lambda _: str(tmp_path))
    assert device_plan().compile is False
    (tmp_path / "Python.h").touch()
    assert device_plan().compile is True
    fake(EVEN, compiler=None)
    assert device_plan().compile is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device=tpu must be one of: cpu"),
        ({"dtype": torch.float16}, "dtype=torch.float16 must be one of: "),
        ({"seconds": 0}, "seconds=0 must be above 0"),
        ({"seconds": float("nan")}, "seconds=nan must be above 0"),
    ],
)
def test_wishes_that_cannot_be(options, message, fake):
    fake(EVEN)
    with pytest.raises(ValueError, match=message):
        device_plan(**options)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("dtype", torch.float16, "torch.float32, torch.bfloat16"),
        ("attention", "flash", "plain, fused, added"),
        ("matmul_precision", "low", "highest, high, medium"),
    ],
)
def test_a_plan_that_cannot_be(field, value, allowed):
    message = f"{field}={value} must be one of: {allowed}"
    with pytest.raises(ValueError, match=message):
        DevicePlan(device="cpu", **{field: value})
    with pytest.raises(ValueError, match=message):
        check_choice(field, value, allowed.split(", "))


@pytest.mark.parametrize(
    ("seconds", "pays"), [((1.0, 0.5), 1), ((1.0, 1.5), 1), ((1.0, 23.0), 0)]
)
def test_whether_bf16_pays_is_measured(seconds, pays, monkeypatch):
    told = dict(zip(("float32", "bfloat16"), seconds, strict=True))
    monkeypatch.setattr(machine, "bf16_seconds", lambda _: told)
    assert has_bf16("cpu") == bool(pays)
    assert len(ways(None)) == 2 + pays
    assert has_bf16("nowhere") is False


def test_bf16_of_an_old_graphics_processor(monkeypatch):
    asked = []

    def supported(including_emulation):
        asked.append(including_emulation)
        return False

    cuda = SimpleNamespace(is_bf16_supported=supported)
    monkeypatch.setattr(devices.torch, "cuda", cuda)
    assert has_bf16("cuda") is False
    assert asked == [False]


def test_the_hopeless_run_one_short_step(monkeypatch):
    "Its long step would take 60 s here."
    calls = []

    def trial(plan):
        def step(tokens):
            calls.append((plan.attention, tokens))
            return (
                tokens
                * {"plain": 1e-3, "added": 2e-3, "fused": 1.0}[plan.attention]
            )

        return step

    monkeypatch.setattr(devices, "trial", trial)
    plans = [
        DevicePlan(device="cpu", attention=how)
        for how in ("plain", "fused", "added")
    ]
    found = race(plans, 1e-9)
    assert found == {"float32 plain": 0.256, "float32 added": 0.512}
    assert [x for x in calls if x[0] == "fused"] == [("fused", 64)]
    assert calls.count(("plain", 256)) == 3


@pytest.mark.parametrize("resolution", [1e-9, 0.0156])
def test_a_clock_fine_enough(resolution, monkeypatch):
    "On Windows a thread's time goes in steps of 16 ms."
    told = SimpleNamespace(resolution=resolution)
    monkeypatch.setattr(devices.time, "get_clock_info", lambda _: told)
    clock = devices.thread_clock()
    assert clock.__name__ == (
        "thread_time" if resolution < 1e-3 else "perf_counter"
    )


def test_a_real_plan_trains(capsys):
    "On this machine, whatever it is; and torch is left as it was."
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    plan = device_plan("cpu", seconds=0.01)
    now = torch.get_num_threads(), torch.get_float32_matmul_precision()
    assert now == before
    assert plan.name in plan.seconds
    assert plan.seconds["float32 fused"] > 0
    model = small()
    make = partial(torch.optim.AdamW, lr=1e-2)
    with plan.activate():
        optimizer = plan.prepare_training(model, make)
        losses = train(model, optimizer, 20)
    assert losses[-1] < losses[0] / 2
    assert model.token_embedding.weight.dtype == plan.dtype
    assert torch.get_float32_matmul_precision() == before[1]
    assert capsys.readouterr().out == ""


def test_where_bf16_is_imitated_the_plan_is_float32():
    "A processor with AVX2 alone, which torch and oneDNN can pretend."
    code = (
        "import torch\n"
        "from llm_from_scratch.devices import device_plan\n"
        "from llm_from_scratch.gpt import GPT, GPTConfig\n"
        "plan = device_plan('cpu', seconds=0.01)\n"
        "model = GPT(GPTConfig(vocab_size=64, context_len=16, n_layer=1,\n"
        "                      n_head=2, n_embd=16))\n"
        "with plan.activate():\n"
        "    optimizer = plan.prepare_training(model, torch.optim.AdamW)\n"
        "    model(torch.zeros(1, 8).long()).square().mean().backward()\n"
        "    optimizer.step()\n"
        "print(torch.backends.cpu.get_cpu_capability(), plan.dtype,\n"
        "      sorted(plan.seconds))\n"
    )
    limits = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **limits, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    capability, dtype, *names = done.stdout.split(maxsplit=2)
    if capability != "AVX2":
        pytest.skip(f"this processor knows no AVX2: {capability}")
    assert dtype == "torch.float32"
    assert "float32 fused" in names[0]
    assert "bfloat16" not in names[0]


# -- what carries it out


def test_prepare_casts_and_sets_the_attention():
    for how, kind in (("plain", attend), ("fused", attend_fused)):
        plan = DevicePlan(device="cpu", dtype=torch.bfloat16, attention=how)
        model = plan.prepare(small())
        assert model(ids()).dtype == torch.bfloat16
        layers = [block.attention for block in model.blocks]
        assert all(layer.attend is kind for layer in layers)
    plan = DevicePlan(device="cpu", attention="added")
    layers = [block.attention for block in plan.prepare(small()).blocks]
    assert all(isinstance(layer.attend, AddedMask) for layer in layers)
    assert layers[0].attend is layers[1].attend
    assert layers[0].attend.bias.shape == (16, 16)


@pytest.mark.parametrize("how", ["plain", "fused", "added"])
def test_every_attention_gives_the_same_logits(how):
    x = ids()
    wanted = small()(x)
    model = DevicePlan(device="cpu", attention=how).prepare(small())
    torch.testing.assert_close(model(x), wanted)
    cache = model.new_cache(2)
    parts = [model(x[:, a:b], cache) for a, b in pairwise((0, 5, 6, 16))]
    torch.testing.assert_close(torch.cat(parts, 1), wanted)


def test_prepare_takes_any_model():
    layer = DevicePlan(device="cpu", dtype=torch.bfloat16).prepare(
        nn.Linear(2, 2)
    )
    assert layer.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("n_query", [16, 5, 1])
def test_the_added_mask_is_attend(causal, masked, n_query):
    "Values and gradients, with fewer queries than keys and padding."
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 3, n_query, 8), (2, 3, 16, 8), (2, 3, 16, 8))
    both = []
    for function in (attend, AddedMask(32)):
        random.manual_seed(0)
        q, k, v = (
            torch.randn(shape, generator=random, requires_grad=True)
            for shape in shapes
        )
        real = torch.ones(2, 16, dtype=torch.bool)
        real[0, :4] = False
        mask = padding_mask(real, n_query) if masked else None
        out = function(q, k, v, mask, causal=causal)
        out.square().sum().backward()
        both.append((out, q.grad, k.grad, v.grad))
    for wanted, found in zip(*both, strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_added_mask_in_few_bits_and_with_dropout():
    q, k, v = torch.randn(3, 1, 2, 6, 8).bfloat16()
    found = AddedMask(6, dtype=torch.bfloat16)(q, k, v, causal=True)
    assert found.dtype == torch.bfloat16
    wanted = attend(q.float(), k.float(), v.float(), causal=True)
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)
    ones = torch.ones(1, 1, 64, 1)
    dropped = AddedMask(64)(ones, ones, ones, dropout=0.5)
    assert not torch.equal(dropped, ones)


@pytest.mark.parametrize("n_query", [600, 700])
def test_the_added_mask_of_a_long_text_without_a_gradient(n_query):
    "It hands over to the fused kernel, which must get the mask as well."
    random = torch.Generator().manual_seed(0)
    q = torch.randn(1, 1, n_query, 8, generator=random)
    k, v = torch.randn(2, 1, 1, 700, 8, generator=random)
    real = torch.arange(700)[None] >= 5
    added = AddedMask(700)
    with torch.no_grad():
        for options in (
            {"causal": True},
            {"mask": padding_mask(real, n_query)},
        ):
            wanted = attend(q, k, v, **options)
            torch.testing.assert_close(added(q, k, v, **options), wanted)


def test_the_added_mask_refuses_what_attend_refuses():
    q = torch.zeros(1, 2, 4, 8)
    with pytest.raises(TypeError, match=r"boolean.*torch.float32"):
        AddedMask(4)(q, q, q, torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"\(3, 4\) does not broadcast"):
        AddedMask(4)(q, q, q, torch.ones(3, 4, dtype=torch.bool))


def test_a_bias_is_zero_where_attention_may_go():
    mask = torch.tensor([[True, False], [True, True]])
    wanted = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]])
    assert torch.equal(as_bias(mask, torch.float32), wanted)


def test_the_precision_is_restored_after_an_error():
    before = torch.get_float32_matmul_precision()
    plan = DevicePlan(device="cpu", matmul_precision="medium")
    with pytest.raises(KeyError), plan.activate():
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
    with matmul_precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_freed_memory_is_kept_where_glibc_is():
    "Twice is once; elsewhere nothing happens."
    import platform

    kept = devices.keep_freed_memory()
    assert kept == (platform.libc_ver()[0] == "glibc")
    assert devices.keep_freed_memory() == kept
    block = torch.ones(8 << 20)
    assert block.sum() == 8 << 20


@pytest.mark.parametrize("system", ["darwin", "win32", "linux"])
def test_without_glibc_nothing_is_kept(system, monkeypatch):
    monkeypatch.setattr(devices.sys, "platform", system)
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert devices.keep_freed_memory() is False


@pytest.mark.parametrize("refused", [(), (-3,), (-3, -4), (-1,)])
def test_an_old_glibc(refused, monkeypatch):
    "It refuses a large size from which blocks are mapped."
    calls = []

    def mallopt(name, value):
        calls.append(name)
        return int(name not in refused)

    fake = SimpleNamespace(mallopt=mallopt, gnu_get_libc_version=None)
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda _: fake)
    monkeypatch.setattr(devices, "prefer_large_pages", lambda *_: None)
    assert devices.keep_freed_memory() == (refused in ((), (-3,)))
    assert (-4 in calls) == (-3 in refused)


def test_large_pages_are_asked_for_inside_each_block():
    "And nothing, where there is no room for addresses."
    blocks, asked, freed = [4096 * 7 + 16, None], [], []

    class Library(SimpleNamespace):
        malloc = Mock(side_effect=lambda _: blocks.pop(0))
        free = Mock(side_effect=freed.append)
        madvise = Mock(side_effect=lambda *call: asked.append(call))

    devices.prefer_large_pages(Library(), 2)
    (start, size, advice), *more = asked
    assert not more
    assert start == 4096 * 8
    assert start + size <= 4096 * 7 + 16 + devices.GIGABYTE
    assert advice == 14
    assert freed == [4096 * 7 + 16]


def test_a_plan_that_does_not_compile_leaves_the_blocks_alone():
    model = CPU.compile_blocks(small())
    assert all(b._compiled_call_impl is None for b in model.blocks)


def test_blocks_are_compiled_each(monkeypatch):
    asked = []
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **o: asked.append((self, o))
    )
    plan = DevicePlan(device="cpu", compile=True)
    model = plan.compile_blocks(small())
    assert [block for block, _ in asked] == list(model.blocks)
    for _, options in asked:
        assert options["options"] == devices.compile_options("cpu")
    asked.clear()
    layer = plan.compile_blocks(nn.Linear(2, 2))
    assert [block for block, _ in asked] == [layer]
    assert devices.compile_options("cuda") is None
    few = devices.compile_options("cpu", checked=False)
    if few is not None:
        assert few.items() >= devices.compile_options("cpu").items()
        assert few["size_asserts"] is False


@pytest.mark.slow
def test_compiled_blocks_compute_the_same():
    "In a process of its own: the guards of shapes cannot be compiled."
    if not devices.can_compile("cpu"):
        pytest.skip("no compiler here")
    code = (
        "import torch\n"
        "from llm_from_scratch.devices import DevicePlan\n"
        "from llm_from_scratch.gpt import GPT, GPTConfig\n"
        "sizes = dict(vocab_size=64, context_len=16, n_layer=2, n_head=2)\n"
        "model = GPT(GPTConfig(**sizes, n_embd=16))\n"
        "ids = torch.arange(32).view(2, 16)\n"
        "wanted = model(ids)\n"
        "plan = DevicePlan(device='cpu', attention='added', compile=True)\n"
        "model = plan.compile_blocks(plan.prepare(model))\n"
        "torch.testing.assert_close(model(ids), wanted)\n"
        "from torch._dynamo.utils import counters\n"
        "print(counters['stats']['unique_graphs'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"]  # one for both blocks


# -- masters


def test_masters_do_what_float32_does():
    "With rounding of bf16, not more, after many steps."
    make = partial(torch.optim.AdamW, lr=1e-3)
    exact, model = small(), small()
    masters = MasterWeights(model, make)
    wanted = train(exact, make(exact.parameters()), 30)
    found = train(model, masters, 30)
    assert model(ids()).dtype == torch.bfloat16
    assert wanted[-1] < 0.9 * wanted[0]
    assert found == pytest.approx(wanted, rel=0.02)
    for weight, master in zip(masters.weights, masters.masters, strict=True):
        assert master.dtype == torch.float32
        assert torch.equal(weight, master.bfloat16())


def test_one_step_equals_that_of_float32_exactly():
    "Given the same gradients."
    make = partial(torch.optim.AdamW, lr=1e-2)
    exact, model = nn.Linear(8, 8), nn.Linear(8, 8)
    model.load_state_dict(exact.state_dict())
    masters = MasterWeights(model, make)
    plain = make(exact.parameters())
    for weight, other in zip(masters.weights, exact.parameters(), strict=True):
        weight.grad = torch.randn_like(weight)
        other.grad = weight.grad.float()
    masters.step()
    plain.step()
    for master, other in zip(masters.masters, exact.parameters(), strict=True):
        assert torch.equal(master, other)


def test_small_updates_add_up():
    "1 + 0.001 is 1 in bfloat16, a thousand times over."
    sgd = partial(torch.optim.SGD, lr=1e-3)
    plain, model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    for layer in (plain, model):
        nn.init.ones_(layer.weight)
    plain = plain.bfloat16()
    lost, masters = sgd(plain.parameters()), MasterWeights(model, sgd)
    for _ in range(1000):
        for layer, optimizer in ((plain, lost), (model, masters)):
            layer.weight.grad = -torch.ones_like(layer.weight)
            optimizer.step()
    assert plain.weight.item() == 1.0
    assert model.weight.item() == pytest.approx(2.0, rel=0.01)


def test_masters_start_from_the_exact_weights():
    model = nn.Linear(4, 4)
    exact = model.weight.detach().clone()
    masters = MasterWeights(model, partial(torch.optim.SGD, lr=0.1))
    assert torch.equal(masters.masters[0], exact)
    assert not torch.equal(model.weight.float(), exact)


def test_masters_clip():
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    masters = MasterWeights(model, partial(torch.optim.SGD, lr=1.0))
    model.weight.grad = torch.tensor([[3.0, 4.0]]).bfloat16()
    norm = masters.step(max_norm=1.0)
    assert norm.item() == pytest.approx(5.0)
    found = masters.masters[0].detach()
    torch.testing.assert_close(found, torch.tensor([[-0.6, -0.8]]))


def test_the_frozen_and_the_unused_stay():
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)])
    model[0].requires_grad_(False)
    masters = MasterWeights(model, partial(torch.optim.SGD, lr=0.1))
    assert len(masters.masters) == 4
    before = [p.detach().clone() for p in model.parameters()]
    model[1](torch.ones(1, 2).bfloat16()).sum().backward()
    masters.step()
    same = [
        torch.equal(old, new)
        for old, new in zip(before, model.parameters(), strict=True)
    ]
    assert same == [True, True, False, False, True, True]
    masters.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_tied_weight_has_one_master():
    model = small()
    masters = MasterWeights(model, partial(torch.optim.SGD, lr=0.1))
    assert len(masters.masters) == len(list(model.parameters()))
    assert masters.param_groups[0]["lr"] == 0.1


def test_masters_go_on_as_if_never_stopped():
    make = partial(torch.optim.AdamW, lr=1e-2)
    model, again = small(), small(1)
    masters, others = MasterWeights(model, make), MasterWeights(again, make)
    train(model, masters, 3)
    others.load_state_dict(deepcopy(masters.state_dict()))
    assert train(again, others, 3) == train(model, masters, 3)
    for one, other in zip(masters.masters, others.masters, strict=True):
        assert torch.equal(one, other)


def test_the_state_of_another_model():
    sgd = partial(torch.optim.SGD, lr=0.1)
    state = MasterWeights(nn.Linear(2, 3), sgd).state_dict()
    masters = MasterWeights(nn.Linear(3, 2), sgd)
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\).*another"):
        masters.load_state_dict(state)


def test_nothing_to_train():
    layer = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="Linear has no parameter that req"):
        MasterWeights(layer, partial(torch.optim.SGD, lr=0.1))
    assert trainable(small())[0][0] == "token_embedding.weight"
