"""Where and how precisely to compute, chosen by measuring.

Knows how to time some steps of a small GPT and how to prepare any model
for what won. Knows nothing of text or of training runs; the layers know
nothing of it: they follow their inputs.
"""

import ctypes
import importlib.util
import math
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import machine
from .attention import (
    attend,
    attend_fused,
    causal_mask,
    check_mask,
    set_attention,
)
from .gpt import GPT, GPTConfig

DTYPES = (torch.float32, torch.bfloat16)
PRECISIONS = ("highest", "high", "medium")
TRIAL = GPTConfig(
    vocab_size=1024, context_len=256, n_layer=2, n_head=4, n_embd=256
)
TRIAL_BATCH = 2
GAIN = 0.95  # the less exact or less simple must save 5 % of the time
HOPELESS = 4.0  # times the best: out after one short step
GIGABYTE = 1 << 30
CHOOSING = {"cuda": "CUDA_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK"}
LONG = 512  # tokens: beyond, a table of all weights is slow to write
MOST = 2**31 - 1  # the largest number that mallopt takes


class AddedMask:
    """`attend`, but a mask is added to the scores: 0 or -∞.

    Equal to `attend`, with the same contract. Adding what was prepared
    is faster on a processor than filling in, forward and backward. For
    long texts without a gradient the fused kernel serves, which never
    writes the table of all weights.
    """

    def __init__(
        self,
        context_len: int,  # longest sequence, in tokens
        *,
        dtype: torch.dtype | None = None,  # of the queries
        device: torch.device | str | None = None,  # where they will be
    ):
        mask = causal_mask(context_len, device=device)
        self.bias = as_bias(mask, dtype or torch.get_default_dtype())

    def __call__(
        self,
        q: Tensor,  # queries, (B, H, T, D)
        k: Tensor,  # keys, (B, H, S, D)
        v: Tensor,  # values, (B, H, S, D)
        mask: Tensor | None = None,  # True = may attend; None: all may
        *,
        causal: bool = False,  # apply `causal_mask` as well
        dropout: float = 0.0,  # share of the weights set to zero
    ) -> Tensor:  # weighted values, (B, H, T, D)
        "Raises what `attend` raises."
        T, S = q.shape[-2], k.shape[-2]
        if min(T, S) > LONG and not torch.is_grad_enabled():
            options = {"causal": causal, "dropout": dropout}
            return attend_fused(q, k, v, mask, **options)
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
        if mask is not None:
            check_mask(mask, tuple(scores.shape))
            scores = scores + as_bias(mask, q.dtype)
        if causal:
            scores = scores + self.bias[S - T : S, :S].to(q)
        weights = scores.softmax(-1)
        if dropout:
            weights = F.dropout(weights, dropout)
        return weights @ v  # (B, H, T, D)


def as_bias(
    mask: Tensor,  # True = may attend
    dtype: torch.dtype,  # of the scores
) -> Tensor:  # 0 where attention may go, -∞ elsewhere
    "The mask as numbers that are added to scores."
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill_(~mask, float("-inf"))


ATTENTION = {  # a name: given the longest sequence, dtype and device
    "plain": lambda *_: attend,
    "fused": lambda *_: attend_fused,
    "added": lambda n, dtype, where: AddedMask(n, dtype=dtype, device=where),
}


@dataclass(frozen=True, kw_only=True)
class DevicePlan:
    "How a model is computed here; made by `device_plan`."

    device: str  # "cpu", "cuda", "xpu" or "mps"
    dtype: torch.dtype = torch.float32  # of the weights in use
    attention: str = "plain"  # a key of ATTENTION
    matmul_precision: str = "highest"  # of products of float32 numbers
    compile: bool = False  # can torch.compile work here?
    seconds: dict[str, float] = field(default_factory=dict)  # of a step

    def __post_init__(self):
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("attention", self.attention, ATTENTION)
        check_choice("matmul_precision", self.matmul_precision, PRECISIONS)

    @property
    def name(self) -> str:
        "Such as `bfloat16 added`, the key of its own entry in `seconds`."
        exact = self.matmul_precision == "highest"
        precision = "" if exact else f"{self.matmul_precision} "
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{dtype} {precision}{self.attention}"

    def place(
        self,
        model: nn.Module,  # changed in place
    ) -> nn.Module:  # the same
        "Move a model to the device and set how it attends; no cast."
        config = getattr(model, "config", None)
        longest = getattr(config, "context_len", 1024)
        make = ATTENTION[self.attention]
        set_attention(model, make(longest, self.dtype, self.device))
        return model.to(self.device)

    def prepare(
        self,
        model: nn.Module,  # changed in place
    ) -> nn.Module:  # the same
        "Place a model and cast it, to use it as it is."
        return self.place(model).to(self.dtype)

    def prepare_training(
        self,
        model: nn.Module,  # changed in place
        make: Callable,  # (name, parameter) pairs → an optimizer
    ) -> "MasterWeights":  # steps like an optimizer
        """Place a model, cast it, and make what will train it.

        `make` may be as short as `lambda named: AdamW(named, 3e-4)`.
        In bfloat16 the optimizer works on float32 masters.
        """
        return MasterWeights(self.place(model), make, self.dtype)

    def compile_blocks(
        self,
        model: nn.Module,  # changed in place
    ) -> nn.Module:  # the same
        """Let torch compile each block at its first use, if it can.

        Blocks are alike, so one compilation serves all of them. It takes
        some ten seconds: whether a run is long enough, the caller knows.
        A model without `blocks` is compiled as a whole.
        """
        options = compile_options(self.device) if self.compile else None
        for block in getattr(model, "blocks", [model]) if self.compile else ():
            block.compile(options=options)
        return model

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Set what is global, and restore it at the end.

        That is the precision of float32 products. What
        `keep_freed_memory` did stays until the process ends.
        """
        if self.device == "cpu":
            keep_freed_memory()
        with matmul_precision(self.matmul_precision):
            yield


class MasterWeights:
    """An optimizer of float32 weights, for a model in fewer bits too.

    The model computes in bfloat16, whose numbers have 8 significant
    bits: a weight of 1 does not change when 0.001 is added. So the
    optimizer adds to float32 copies, the masters, and the model gets
    them rounded (Micikevicius et al. 2018, section 3.1). In float32 the
    weights are their own masters.
    """

    def __init__(
        self,
        model: nn.Module,  # is cast in place
        make: Callable,  # (name, parameter) pairs → an optimizer
        dtype: torch.dtype = torch.bfloat16,  # that the model computes in
    ):
        "Raises `ValueError` if there is nothing to train."
        named, masters = trainable(model), []
        for name, p in named:
            own = p.dtype == dtype == torch.float32
            copy = p if own else nn.Parameter(p.detach().float().clone())
            masters.append((name, copy))
        model.to(dtype)
        self.weights = [p for _, p in named]
        self.masters = [p for _, p in masters]
        self.optimizer = make(masters)

    @property
    def param_groups(self) -> list[dict]:
        "The optimizer's own, for schedules of the learning rate."
        return self.optimizer.param_groups

    def zero_grad(self) -> None:
        "Forget the gradients."
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(
        self,
        max_norm: float | None = None,  # clip to this length; None: do not
    ) -> Tensor | None:  # length of all gradients, if it clips
        """Hand the gradients to the masters, step, and round them back.

        With `max_norm`, raises `RuntimeError` before the step unless all
        gradients are finite.
        """
        pairs = [
            (weight, master)
            for weight, master in zip(self.weights, self.masters, strict=True)
            if weight.grad is not None
        ]
        for weight, master in pairs:
            master.grad = weight.grad.float()
        grown = [master for _, master in pairs]
        norm = None
        if max_norm is not None:
            norm = nn.utils.clip_grad_norm_(
                grown, max_norm, error_if_nonfinite=True
            )
        self.optimizer.step()
        for weight, master in pairs:
            if weight is not master:
                weight.copy_(master)
                master.grad = None
        return norm

    def state_dict(self) -> dict:
        "The masters and the optimizer's state, to be saved."
        masters = [master.detach() for master in self.masters]
        return {"masters": masters, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load_state_dict(
        self,
        state: dict,  # of `state_dict`
    ) -> None:
        """Continue from a saved state; the model's weights follow.

        Raises `ValueError` if it belongs to another model.
        """
        found = [tuple(saved.shape) for saved in state["masters"]]
        wanted = [tuple(master.shape) for master in self.masters]
        if found != wanted:
            raise ValueError(
                f"the state has {len(found)} tensors {found[:3]}…, the "
                f"model {len(wanted)} tensors {wanted[:3]}…: it was saved "
                "from another model"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        triples = zip(
            self.weights, self.masters, state["masters"], strict=True
        )
        for weight, master, saved in triples:
            master.copy_(saved)
            weight.copy_(saved)


def device_plan(
    device: str | None = None,  # None: an accelerator, if there is one
    dtype: torch.dtype | None = None,  # None: what is faster
    *,
    seconds: float = 2.0,  # to measure in, about
) -> DevicePlan:  # what was fastest
    """Choose device, precision and attention for training.

    On a processor by some steps of a small GPT, never by its name: where
    bfloat16 is imitated, a step can take 60 times as long. They run on
    one thread, by its own time, which other programs disturb less. A
    choice less exact or less simple has to be 5 % faster. Raises
    `ValueError` for a device that is not here and a dtype that is not
    float32 or bfloat16.
    """
    if dtype is not None:
        check_choice("dtype", dtype, DTYPES)
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds={seconds} must be above 0, such as 2")
    here = devices()
    device = here[0] if device is None else device_kind(device)
    check_choice("device", device, here)
    can = {"device": device, "compile": can_compile(device)}
    if device != "cpu":
        narrow = dtype or (DTYPES[0], DTYPES[1])[has_bf16(device)]
        high = "high" if device == "cuda" else "highest"
        return DevicePlan(
            **can, dtype=narrow, attention="fused", matmul_precision=high
        )
    plans = [
        DevicePlan(**can, dtype=x, matmul_precision=precision, attention=how)
        for x, precision in ways(dtype)
        for how in ("fused", "added")  # which equals plain, only faster
    ]
    with threads(1):
        found = race(plans, seconds)
    best = plans[0]
    for plan in plans:
        if found.get(plan.name, math.inf) < GAIN * found[best.name]:
            best = plan
    return DevicePlan(**{**vars(best), "seconds": found})


def ways(
    dtype: torch.dtype | None,  # None: both, if bfloat16 is not slower
) -> list[tuple[torch.dtype, str]]:  # dtype, precision of products
    "What is worth a try on this processor, the most exact first."
    if dtype == torch.bfloat16:
        return [(torch.bfloat16, "highest")]
    found = [(torch.float32, "highest"), (torch.float32, "medium")]
    if dtype is None and has_bf16("cpu"):
        found.append((torch.bfloat16, "highest"))
    return found


def race(
    plans: list[DevicePlan],  # the first is what others must beat
    seconds: float,  # until no further round begins, after two
) -> dict[str, float]:  # a plan's name: its best step, in seconds
    """Time steps of training in turns.

    Who is hopeless in one short step drops out before a long one.
    """
    runners = {plan.name: trial(plan) for plan in plans}
    best: dict[str, float] = {}
    end = time.perf_counter() + seconds
    for tokens in (TRIAL.context_len // 4, TRIAL.context_len):
        best = {}
        for name, step in list(runners.items()):
            best[name] = step(tokens)
            if best[name] > HOPELESS * min(best.values()):
                del runners[name]
    rounds = 0
    while rounds < 2 or time.perf_counter() < end:
        rounds += 1
        for name, step in runners.items():
            best[name] = min(best[name], step(TRIAL.context_len))
    return {name: best[name] for name in runners}


def trial(
    plan: DevicePlan,  # for the processor
) -> Callable[[int], float]:  # tokens a sequence → seconds of a step
    "Prepare a step of training, so that it can be timed."
    random = torch.Generator().manual_seed(0)
    model = GPT(TRIAL, generator=random)
    shape, clock = (TRIAL_BATCH, TRIAL.context_len), thread_clock()
    ids = torch.randint(TRIAL.vocab_size, shape, generator=random)
    optimizer = plan.prepare_training(
        model, lambda named: torch.optim.AdamW(named, fused=True)
    )

    def step(n_tokens: int) -> float:
        x = ids[:, :n_tokens]
        start = clock()
        with matmul_precision(plan.matmul_precision):
            logits = model(x).flatten(0, 1)
            F.cross_entropy(logits, x.flatten()).backward()
            optimizer.step()
            optimizer.zero_grad()
        return clock() - start

    return step


def thread_clock() -> Callable[[], float]:  # seconds
    "The thread's own time, which does not run while others compute."
    fine = time.get_clock_info("thread_time").resolution < 1e-3
    return time.thread_time if fine else time.perf_counter


def devices() -> list[str]:
    "Accelerators that this torch can use, then the processor."
    found = []
    with suppress(Exception):  # a driver that does not fit
        kinds = (gpu["kind"] for gpu in machine.accelerators(torch))
        found = [{"rocm": "cuda"}.get(kind, kind) for kind in kinds]
    return [*dict.fromkeys(found), "cpu"]


def device_kind(
    device: torch.device | str,  # such as "cuda" or "cuda:0"
) -> str:  # such as "cuda"
    "Raise `ValueError` for another device than the first of its kind."
    kind, _, index = str(device).partition(":")
    if index not in ("", "0") and kind in CHOOSING:
        raise ValueError(
            f"device={device!s}: only the first {kind} device is used; set "
            f"{CHOOSING[kind]}={index} before Python starts, and give "
            f"device={kind}"
        )
    return kind


def has_bf16(
    device: str,  # a kind
) -> bool:  # whether it pays there
    "Whether a device computes in bfloat16, not only imitates it."
    try:
        if device == "cpu":
            told = machine.bf16_seconds(torch)
            return told["bfloat16"] < 2 * told["float32"]
        if device == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        some = torch.ones(8, 8, dtype=torch.bfloat16, device=device)
        return bool((some @ some).sum().item() == 512)
    except Exception:  # a torch or driver that cannot do it
        return False


def can_compile(
    device: str,  # a kind
) -> bool:  # whether what torch.compile needs is here
    "On a processor a C++ compiler and Python's headers, else Triton."
    if device == "cpu":
        headers = Path(sysconfig.get_path("include")) / "Python.h"
        return machine.cpp_compiler() is not None and headers.is_file()
    return device != "mps" and importlib.util.find_spec("triton") is not None


def compile_options(
    device: str,  # a kind
    *,
    checked: bool = True,  # False: no checks of shapes between calls
) -> dict | None:  # for torch.compile; None: its own
    """A faster tanh on processors, by a sigmoid, where torch offers it.

    GELU adds 1 to it, so that the lost digits of small values do not
    count. What is compiled checks the shape of each array that it is
    given by another function; a step of many small calls can do without.
    """
    wanted = {"cpp.use_decompose_tanh": True}
    if not checked:
        wanted |= {"size_asserts": False, "alignment_asserts": False}
    with suppress(Exception):  # a torch that lists no options
        from torch._inductor import list_options

        if device == "cpu" and wanted.keys() <= {*list_options()}:
            return wanted
    return None


def keep_freed_memory(
    gigabytes: int = 4,  # of addresses for large pages
) -> bool:  # whether it was done
    """Let this process keep memory that it frees, in pages of 2 MB.

    Every step of training frees and asks for the same large blocks. The
    GNU C library gives them back to the system, which has to fill them
    with zeros anew; and in small pages a processor spends a tenth of a
    step looking up where they lie. Only addresses are set apart for
    large pages; memory is taken as it is used. With another library
    nothing is done. It holds until the process ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
        kept = library.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never
        # M_MMAP_THRESHOLD; older ones know a limit: M_MMAP_MAX then
        kept &= library.mallopt(-3, MOST) or library.mallopt(-4, 0)
        if kept:
            prefer_large_pages(library, gigabytes)
        return bool(kept)
    except (OSError, AttributeError):
        return False


def prefer_large_pages(
    library: ctypes.CDLL,  # glibc
    gigabytes: int,  # of addresses
) -> None:
    "Ask Linux for large pages where the next blocks will lie."
    address, size = ctypes.c_void_p, ctypes.c_size_t
    library.malloc.restype, library.malloc.argtypes = address, [size]
    library.free.argtypes = [address]
    library.madvise.argtypes = [address, size, ctypes.c_int]
    blocks = [library.malloc(GIGABYTE) for _ in range(gigabytes)]
    page = 1 << 12
    for block in filter(None, blocks):
        start = -(-block // page) * page
        library.madvise(start, GIGABYTE - page, 14)  # MADV_HUGEPAGE
        library.free(block)


@contextmanager
def matmul_precision(
    name: str,  # one of PRECISIONS
) -> Iterator[None]:
    "Set how exactly float32 matrices are multiplied, for a while."
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def threads(
    number: int,  # of torch's threads
) -> Iterator[None]:
    "Compute on so many threads, for a while."
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def trainable(
    model: nn.Module,  # any
) -> list[tuple[str, nn.Parameter]]:  # each once
    "What training changes. Raises `ValueError` if that is nothing."
    found = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no parameter that requires_grad: "
            "there is nothing to train"
        )
    return found


def check_choice(
    name: str,  # of the argument
    value: object,  # what was given
    allowed: object,  # a collection
) -> None:
    "Raise `ValueError` unless a value is one of those allowed."
    if value not in allowed:
        listed = ", ".join(map(str, allowed))
        raise ValueError(f"{name}={value!s} must be one of: {listed}")


def check_range(
    name: str,  # of the argument
    value: float,  # what was given
    low: float,  # the least allowed
    high: float,  # must be below it
) -> None:
    "Raise `ValueError` unless low ≤ value < high."
    if not low <= value < high:
        raise ValueError(f"{name}={value!r} must be in [{low}, {high})")
