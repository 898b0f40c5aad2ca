"""From text to a trained model in one call: presets that are time budgets.

Knows which sizes, optimizer and schedule go together, and puts the
pieces of the other modules in a row. Knows nothing that they know.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch

from .corpus import (
    Corpus,
    check_marker,
    growing,
    open_prepared,
    prepare,
    quiet,
)
from .data import TokenLoader
from .devices import (
    DevicePlan,
    can_compile,
    check_choice,
    check_range,
    device_kind,
    device_plan,
    devices,
)
from .files import read_text
from .judging import CARD, RESULT, conclude, measure
from .locks import hold
from .modern import ModernConfig, ModernGPT, muon_and_adamw
from .pretraining import TrainConfig, train
from .run_folder import LOCK, RunFolder
from .terminal import plural
from .token_files import check_sizes, read_header, tokenizer_hash
from .tokenization import BPETokenizer

DATA = "data"  # the folder of a run's tokenizer and token files
WATCHED = 200  # documents held out, at each checkpoint
LONG = 2.0  # minutes from which on it pays to compile
MANY = 300  # steps from which on it does


@dataclass(frozen=True, kw_only=True)
class Preset:
    "A budget of time, and what fits into it."

    name: str = "own"
    minutes: float  # on the clock of steps
    vocab_size: int = 4096  # tokens, at most
    window: int = 256  # tokens of a training window
    batch_size: int = 16  # windows a step
    context_len: int = 512  # longest sequence of the model, in tokens
    n_layer: int = 6
    n_embd: int = 256
    n_head: int = 4
    n_kv_head: int = 2
    mlp_width: int = 576
    lr_muon: float = 0.01  # for the matrices in blocks
    lr_adamw: float = 6e-3  # for tables and norms
    weight_decay: float = 0.0  # of the matrices in blocks
    warmup: int = 20  # steps; Muon needs few
    decay: float = 0.4  # share of the run in which the rate falls
    evaluations: int = 10
    megabytes: float = 400.0  # of text to train on; more is left
    stories: int = 100_000  # of the built-in world, if there is no text
    accelerator: bool = False  # too much for a processor

    def __post_init__(self):
        for name in ("lr_muon", "lr_adamw", "weight_decay"):
            check_range(name, getattr(self, name), 0, math.inf)
        sizes = {"window": self.window, "batch_size": self.batch_size}
        check_sizes(**sizes, stories=self.stories)
        if not self.megabytes > 0:
            raise ValueError(f"megabytes={self.megabytes!r} must be above 0")
        self.model_config(self.vocab_size)  # checks its sizes
        self.train_config()
        if self.window > self.context_len:
            raise ValueError(
                f"window={self.window} must be at most context_len="
                f"{self.context_len}"
            )

    def model_config(
        self,
        vocab_size: int,  # of the tokenizer
    ) -> ModernConfig:  # a dense Qwen3
        "The sizes of the model."
        return ModernConfig(
            vocab_size=vocab_size,
            context_len=self.context_len,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_kv_head=self.n_kv_head,
            head_size=64,
            n_embd=self.n_embd,
            mlp_width=self.mlp_width,
        )

    def train_config(
        self,
        steps: int | None = None,  # instead of the minutes
    ) -> TrainConfig:
        "Budget and schedule."
        return TrainConfig(
            steps=steps,
            minutes=self.minutes if steps is None else None,
            lr=self.lr_adamw,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            decay=self.decay,
            evaluations=self.evaluations,
        )

    def optimizer(
        self,
        plan: DevicePlan,  # in bfloat16, Muon is, too
    ) -> Callable:  # named parameters → an optimizer
        "Muon and AdamW, with this preset's rates."
        narrow = plan.dtype if plan.dtype == torch.bfloat16 else None
        rates = {"lr_muon": self.lr_muon, "lr_adamw": self.lr_adamw}
        options = {"weight_decay": self.weight_decay, "dtype": narrow}
        return partial(muon_and_adamw, **rates, **options)


PRESETS = {
    "coffee": Preset(name="coffee", minutes=7.0),
    "hour": Preset(
        name="hour",
        evaluations=20,
        minutes=55.0,
        weight_decay=0.1,
        megabytes=2500.0,
        stories=400_000,
    ),
    "gpu": Preset(
        name="gpu",
        minutes=10.0,
        batch_size=64,
        window=512,
        n_layer=12,
        n_embd=768,
        n_head=12,
        n_kv_head=4,
        mlp_width=2048,
        megabytes=2500.0,
        stories=400_000,
        accelerator=True,
    ),
}


def find_preset(
    name: str,  # a key of PRESETS
) -> Preset:
    "Raises `ValueError` that lists the names."
    check_choice("preset", name, PRESETS)
    return PRESETS[name]


class Interrupted(KeyboardInterrupt):
    "Ctrl-C while a model was trained; the run can go on."


@dataclass(frozen=True, kw_only=True)
class Request:
    "What is asked of a run. None: what it recorded, else the usual."

    preset: Preset | str | None = None  # or its name; usually coffee
    minutes: float | None = None  # instead of the preset's
    steps: int | None = None  # instead of minutes
    seed: int | None = None  # of weights and order; usually 0
    corpus: Corpus | None = None  # usually what this machine has
    tokenizer: BPETokenizer | None = None  # usually one is trained
    plan: DevicePlan | None = None  # usually measured, for:
    device: str | None = None  # usually the fastest
    dtype: torch.dtype | None = None  # usually what is faster

    def __post_init__(self):
        if self.minutes is not None and self.steps is not None:
            raise ValueError(
                f"minutes={self.minutes} and steps={self.steps}: give one"
            )
        seed = self.seed
        if seed is not None and (type(seed) is not int or seed < 0):
            raise ValueError(f"seed={seed!r} must be 0 or a greater integer")
        if isinstance(self.preset, str):
            object.__setattr__(self, "preset", find_preset(self.preset))
        if self.device is not None:
            object.__setattr__(self, "device", device_kind(self.device))
        if self.tokenizer is not None:
            check_marker(self.tokenizer)

    def budget(
        self,
        before: dict,  # of `RunFolder.facts`; {}: a new run
    ) -> tuple[Preset, int | None]:  # and steps, None: minutes
        "What to do for how long."
        preset, steps = self.preset, self.steps
        if before:
            preset = preset or read_preset(before["preset"])
            if self.steps is None and self.minutes is None:
                steps = before["train"]["steps"]
        preset = preset or find_preset("coffee")
        if self.minutes is not None:
            preset = replace(preset, minutes=self.minutes)
        return preset, steps

    def facts(
        self,
        before: dict,  # of `RunFolder.facts`; {}: a new run
    ) -> dict:  # JSON can hold it
        "What this says of a run, and a resumed one must share."
        preset, steps = self.budget(before)
        seed = before.get("seed", 0) if self.seed is None else self.seed
        config = asdict(preset.train_config(steps))
        facts = {"preset": asdict(preset), "train": config, "seed": seed}
        if self.corpus:
            facts["text"] = self.corpus.facts()
        if self.tokenizer:
            facts["tokenizer"] = tokenizer_hash(self.tokenizer)
        if self.plan:
            facts["plan"] = write_plan(self.plan)
        elif before:
            given = {"device": self.device, "dtype": self.dtype}
            told = {key: x for key, x in given.items() if x is not None}
            facts["plan"] = before["plan"] | as_words(told)
        return facts

    def choose_plan(
        self,
        say: Callable[[str], None],  # is told what begins
    ) -> DevicePlan:
        "For a new run. Raises `ValueError` if it needs what is not here."
        preset, steps = self.budget({})
        here = devices()
        device = self.plan.device if self.plan else self.device or here[0]
        if preset.accelerator and device == "cpu":
            names = [name for name, x in PRESETS.items() if not x.accelerator]
            raise ValueError(
                f"preset={preset.name} needs an accelerator; device={device} "
                f"is none, here are: {', '.join(here)}. Choose preset="
                + " or ".join(names)
            )
        plan = self.plan
        if plan is None:
            say("measuring what computes fastest")
            plan = device_plan(self.device, self.dtype)
        long = preset.minutes >= LONG if steps is None else steps >= MANY
        return replace(plan, compile=plan.compile and long)


def pretrain(
    folder: str | Path,  # of the run
    preset: Preset | str | None = None,  # as all below: see `Request`
    *,
    resume: bool = False,  # go on with the run in the folder
    overwrite: bool = False,  # replace a run that is in the folder
    progress: bool = True,  # show bars
    say: Callable[[str], None] = quiet,  # is told what begins
    watch: Callable | None = None,  # is given all rows after each step
    **wishes,  # further fields of `Request`
) -> dict:  # scores, text, cost: also in `result.json`
    """Train a tokenizer and a model on stories, and write both.

    A run that goes on must be asked for what it recorded, or not at
    all; of a finished one the result is read. Other processes are kept
    out of the folder meanwhile. Raises `Interrupted` for Ctrl-C when the
    run can go on, what `train` raises, and, before anything is written,
    `ValueError` and `OSError` for what cannot be.
    """
    request, start = Request(preset=preset, **wishes), time.perf_counter()
    store, told = RunFolder(folder), {"progress": progress, "say": say}
    if resume and overwrite:
        raise ValueError("resume=True and overwrite=True: give one")
    if resume:
        facts = recall(store, request)
        if (store.path / RESULT).is_file():
            return json.loads(read_text(store.path / RESULT))
    else:
        store.check_new(overwrite=overwrite)
    with hold(store.path, LOCK):
        if not resume:
            facts = begin(store, request, overwrite=overwrite, **told)
        try:
            prepared = open_prepared(store.path / DATA)
            rows = carry_out(store, facts, prepared, watch=watch, **told)
            say("judging the best checkpoint")
            plan = read_plan(facts["plan"])
            return conclude(store, rows, facts, prepared, plan, start)
        except KeyboardInterrupt as error:
            raise Interrupted(str(store.path)) from error


def begin(
    store: RunFolder,  # held by this process
    request: Request,  # what is wanted
    *,
    overwrite: bool,  # replace a run that is in the folder
    progress: bool,  # show bars
    say: Callable[[str], None],  # is told what begins
) -> dict:  # what the run will have in common with those that resume it
    "Prepare text; then, all at once, the folder is that of the new run."
    start, (preset, _) = time.perf_counter(), request.budget({})
    store.check_new(overwrite=overwrite)  # another may have come meanwhile
    store.clean()
    if request.corpus is None:
        corpus = Corpus(stories=preset.stories)
        request = replace(request, corpus=corpus)
    request = replace(request, plan=request.choose_plan(say))
    facts, data = request.facts({}), store.path / DATA
    with growing(data) as new:
        prepare(
            request.corpus,
            new,
            tokenizer=request.tokenizer,
            vocab_size=preset.vocab_size,
            megabytes=preset.megabytes,
            progress=progress,
            say=say,
        )
        check_batch(preset, new)
        facts["text_left"] = request.corpus.cut
        facts["prepared"] = round(time.perf_counter() - start, 1)
        with store.replacing(DATA, RESULT, CARD):
            store.start(facts, overwrite=overwrite)
            new.rename(data)
    return facts


def check_batch(
    preset: Preset,  # whose batches are wanted
    folder: Path,  # of `prepare`
) -> None:
    "Raise `ValueError` for less text than one batch."
    n = read_header(folder / "train")[1]["n_tokens"]
    if n <= preset.batch_size * preset.window:
        raise ValueError(
            f"the text to train on has {n} tokens, less than one batch of "
            f"{preset.batch_size} windows of {preset.window} tokens: give "
            "more text"
        )


def recall(
    store: RunFolder,  # of a run that was begun
    request: Request,  # what is wanted now
) -> dict:  # what the run was begun with
    "Raise `ValueError` if something else is wanted, or is not here."
    before = store.facts()
    lost = {"preset", "train", "seed", "plan", "text"} - before.keys()
    if lost:
        raise ValueError(
            f"{store.path} was not begun by pretrain: its run.json has no "
            f"{', '.join(sorted(lost))}; resume it with the code it was "
            "begun with"
        )
    store.check(request.facts(before))
    if not (store.path / RESULT).is_file():
        check_plan(store, read_plan(before["plan"]))
    return before


def check_plan(
    store: RunFolder,  # of a run that shall go on
    plan: DevicePlan,  # of it
) -> None:
    "Raise `ValueError` for what this machine cannot do."
    lacks, here = "", devices()
    if plan.device not in here:
        lacks = f"on device={plan.device}, here are: {', '.join(here)}"
    elif plan.compile and not can_compile(plan.device):
        lacks = "compiled, here is no compiler: llmfs doctor says what to get"
    if lacks:
        raise ValueError(
            f"{store.path} was begun {lacks}; go on where it was, or begin a "
            "new run"
        )


def carry_out(
    store: RunFolder,  # of a run that was begun
    facts: dict,  # of it
    prepared: tuple,  # tokenizer, text to train on, text held out
    *,
    progress: bool,  # show bars
    say: Callable[[str], None],  # is told what begins
    watch: Callable | None,  # is given all rows after each step
) -> list[dict]:  # a row a step
    "Train, from the newest checkpoint on if there is one."
    tokenizer, text, held_out = prepared
    preset, plan = read_preset(facts["preset"]), read_plan(facts["plan"])
    seed, config = facts["seed"], TrainConfig(**facts["train"])
    sizes = preset.model_config(len(tokenizer))
    random = torch.Generator().manual_seed(seed)
    model = ModernGPT(sizes, generator=random)
    say(describe_budget(config, plan))
    shared = {"preset", "seed", "plan", "text", "text_left", "prepared"}
    return train(
        plan.compile_blocks(model),
        TokenLoader(text, preset.batch_size, preset.window, seed=seed),
        config,
        make=preset.optimizer(plan),
        validate=partial(measure, file=held_out, n_documents=WATCHED),
        plan=plan,
        folder=store.path,
        resume="model" in store.facts(),  # which `train` records
        overwrite=True,
        tokenizer=tokenizer,
        facts={name: x for name, x in facts.items() if name in shared},
        watch=watch,
        progress=progress,
    )


def describe_budget(
    config: TrainConfig,  # steps, or minutes
    plan: DevicePlan,  # how to compute
) -> str:
    "What comes now, and how long that will take."
    before = "compiling, then " if plan.compile else ""
    if config.steps is None:
        return f"{before}training for {config.minutes:g} minutes"
    return f"{before}training, {plural(config.steps, 'step')} in all"


def as_words(
    facts: dict,  # perhaps with a dtype
) -> dict:  # JSON can hold it
    "Call a dtype by its name."
    return {
        key: str(x).removeprefix("torch.") if key == "dtype" else x
        for key, x in facts.items()
    }


def write_plan(
    plan: DevicePlan,  # any
) -> dict:  # JSON can hold it
    "The choices of a plan, without what was measured."
    return as_words({k: x for k, x in vars(plan).items() if k != "seconds"})


def read_plan(
    data: dict,  # of `write_plan`
) -> DevicePlan:
    "Raise `ValueError` for the plan of another version."
    check_fields("plan", data, DevicePlan)
    dtype = getattr(torch, data["dtype"], data["dtype"])
    return DevicePlan(**data | {"dtype": dtype})


def read_preset(
    data: dict,  # of `asdict`
) -> Preset:
    "Raise `ValueError` for the preset of another version."
    check_fields("preset", data, Preset)
    return Preset(**data)


def check_fields(
    name: str,  # of what is read
    data: dict,  # that was recorded
    kind: type,  # a dataclass of this version
) -> None:
    "Raise `ValueError` if other fields were recorded than are known."
    names = {field.name for field in fields(kind)}
    known = names - {"seconds"}  # of a plan, which are not recorded
    if other := {*data} ^ known:
        raise ValueError(
            f"the run's {name} differs in {', '.join(sorted(other))} from "
            "what this version of the package knows; resume it with the "
            "version it was begun with"
        )
