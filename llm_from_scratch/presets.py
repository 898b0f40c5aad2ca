"""From text to a trained model in one call: presets that are time budgets.

Knows which sizes, optimizer and schedule go together, and puts the
pieces of the other modules in a row. Knows nothing that they know.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from .checkpoint import STORYTELLER, load_checkpoint
from .data import (
    TokenLoader,
    Windows,
    read_stories,
    split_by_hash,
    write_tokens,
)
from .devices import (
    DevicePlan,
    check_choice,
    check_range,
    device_plan,
    devices,
)
from .files import END, SEEDS, find_tinystories, make_story, write_atomic
from .modern import ModernConfig, ModernGPT, muon_and_adamw
from .pretraining import TrainConfig, train
from .run_folder import DATA, RunFolder, checksum
from .scoring import Score, evaluate
from .token_files import TokenFile
from .tokenization import BPETokenizer

LEAST = 200  # documents: fewer make no tokenizer and no validation
MEMORISING = 0.1  # bits per byte: a wider gap is called that
SAMPLE = 20_000_000  # bytes that a tokenizer is trained on, at most


@dataclass(frozen=True, kw_only=True)
class Preset:
    "A budget of time, and what fits into it."

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
    lr_muon: float = 0.02  # for the matrices in blocks
    lr_adamw: float = 3e-3  # for tables and norms
    weight_decay: float = 0.0  # of all matrices
    decay: float = 0.4  # share of the run in which the rate falls
    stories: int = 40_000  # of the built-in world, if there is no text
    evaluations: int = 10

    def __post_init__(self):
        for name in ("lr_muon", "lr_adamw", "weight_decay"):
            check_range(name, getattr(self, name), 0, math.inf)
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
    "coffee": Preset(minutes=7.0),
    "hour": Preset(minutes=55.0, weight_decay=0.1, stories=200_000),
    "gpu": Preset(
        minutes=10.0,
        batch_size=64,
        window=512,
        n_layer=12,
        n_embd=768,
        n_head=12,
        n_kv_head=4,
        mlp_width=2048,
        stories=200_000,
    ),
}


def find_preset(
    name: str,  # a key of PRESETS
) -> Preset:
    "Raises `ValueError` that lists the names."
    check_choice("preset", name, PRESETS)
    return PRESETS[name]


class Corpus:
    "Documents to train on and documents held out, from files or built in."

    def __init__(
        self,
        paths: list[Path] | None = None,  # None: what this machine has
        valid: Path | None = None,  # None: TinyStories' own, or a share
        stories: int = 40_000,  # of the built-in world
    ):
        """Find the text; nothing is read yet.

        Raises `FileNotFoundError` for a file that is not there.
        """
        for path in [*(paths or []), *([valid] if valid else [])]:
            if not Path(path).is_file():
                raise FileNotFoundError(f"there is no file {path}")
        self.paths, self.valid, self.stories = paths, valid, stories
        self.name = ", ".join(Path(path).name for path in paths or [])
        if not paths:
            found = [find_tinystories(x) for x in ("train", "valid")]
            self.name = "the built-in story world"
            if all(found):
                self.name = "TinyStories"
                self.paths, self.valid = found[:1], valid or found[1]

    def documents(self) -> tuple[Iterator[str], Iterator[str]]:
        """Documents to train on, and those held out, each once.

        Of files without a validation file, every document is on the
        side that its text decides, one in twenty held out.
        """
        if not self.paths:
            first, limit = SEEDS["train"][0], SEEDS["valid"][0]
            n = min(self.stories, limit - first)
            held = range(limit, limit + 1000)
            return map(make_story, range(first, first + n)), map(
                make_story, held
            )
        read = chain.from_iterable(map(read_stories, self.paths))
        if self.valid:
            return read, read_stories(self.valid)
        texts = list(read)
        sides = split_by_hash(texts, valid_share=0.05)
        train, valid = ([texts[i] for i in side] for side in sides)
        return iter(train), iter(valid)

    def facts(self) -> dict:  # JSON can hold it
        "What a resumed run must find again: names and contents."
        files = [*(self.paths or []), *([self.valid] if self.valid else [])]
        sums = [checksum(Path(path)) for path in files]
        return {"corpus": self.name, "sha256": sums or [self.stories]}


def prepare(
    corpus: Corpus | None,  # where text comes from; None: files are there
    folder: Path,  # gets a tokenizer and token files; old ones are used
    *,
    tokenizer: BPETokenizer | None = None,  # None: one is trained
    vocab_size: int = 4096,  # of that one, at most
    progress: bool = True,  # show bars
) -> tuple[BPETokenizer, TokenFile, TokenFile]:  # and train, valid
    """Train a tokenizer and write token files, each whole or not at all.

    Raises `ValueError` if there is too little text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / "tokenizer.json"
    if saved.is_file() and tokenizer is None:
        tokenizer = BPETokenizer.load(saved)
    paths = {side: folder / f"{side}.json" for side in ("train", "valid")}
    if tokenizer is None or not all(map(Path.is_file, paths.values())):
        documents = dict(zip(paths, corpus.documents(), strict=True))
        if tokenizer is None:
            documents["train"], sample = sampled(documents["train"])
            tokenizer = BPETokenizer.train(
                sample, vocab_size, special_tokens=[END]
            )
        tokenizer.save(saved, overwrite=True)
        for side, texts in documents.items():
            options = {"overwrite": True, "progress": progress}
            source = f"{corpus.name}, {side}"
            write_tokens(
                paths[side], texts, tokenizer, source=source, **options
            )
    train, valid = (TokenFile(path, tokenizer) for path in paths.values())
    return tokenizer, train, valid


def sampled(
    documents: Iterator[str],  # a stream
) -> tuple[Iterator[str], list[str]]:  # the same stream; its beginning
    "Take enough text for a tokenizer, and put it back."
    sample, size = [], 0
    for text in documents:
        sample.append(text)
        size += len(text)
        if size >= SAMPLE:
            break
    if len(sample) < LEAST:
        raise ValueError(
            f"there are {len(sample)} documents, too few for a tokenizer "
            f"and a model: give at least {LEAST}, each ended by {END}"
        )
    return chain(sample, documents), sample


def measure(
    model: nn.Module,  # with a `config`
    file: TokenFile,  # documents
    n_documents: int = 1000,  # the first so many, at most
) -> Score:  # bits per byte with an interval
    "The book's metric: a document a window, cut at the context."
    n, length = min(n_documents, len(file)), model.config.context_len
    options = {"mode": "documents", "shuffle": False, "epochs": 1}
    loader = TokenLoader(file, 8, length, n_documents=n, **options)
    return evaluate(model, loader, file.document_bytes(n, length))


def pretrain(
    folder: str | Path,  # of the run
    preset: Preset | None = None,  # None: coffee, or that of the run
    *,
    corpus: Corpus | None = None,  # None: what this machine has
    tokenizer: BPETokenizer | None = None,  # None: one is trained
    plan: DevicePlan | None = None,  # None: measured
    steps: int | None = None,  # instead of the preset's minutes
    seed: int | None = None,  # of weights and order; None: 0
    resume: bool = False,  # go on with the run in the folder
    overwrite: bool = False,  # replace a run that is in the folder
    progress: bool = True,  # show bars
    watch: Callable | None = None,  # is given all rows after each step
) -> dict:  # scores, text, cost: also in `result.json`
    """Train a tokenizer and a model on stories, and write both.

    A run that goes on takes what is not given from its own records.
    Raises what `train` raises, before anything is written.
    """
    folder, start = Path(folder).expanduser(), time.perf_counter()
    store = RunFolder(folder)
    before = store.facts() if resume else {}
    if before:
        preset = preset or Preset(**before["preset"])
        seed = before["seed"] if seed is None else seed
        steps = steps or before["train"]["steps"]
        plan = plan or recorded_plan(before["plan"])
    preset = preset or PRESETS["coffee"]
    plan, seed = plan or device_plan(), seed or 0
    if corpus is None and not resume:
        corpus = Corpus(stories=preset.stories)
    facts = {"preset": asdict(preset), "seed": seed, "plan": as_data(plan)}
    facts["text"] = corpus.facts() if corpus else before["text"]
    if resume:
        store.check(facts)
    else:
        store.check_new(overwrite=overwrite)
        shutil.rmtree(folder / DATA, ignore_errors=True)
    sizes = {"vocab_size": preset.vocab_size, "progress": progress}
    tokenizer, *files = prepare(
        corpus, folder / DATA, tokenizer=tokenizer, **sizes
    )
    random = torch.Generator().manual_seed(seed)
    config = preset.model_config(len(tokenizer.vocab))
    budget = {"steps": steps} if steps else {"minutes": preset.minutes}
    rest = {"decay": preset.decay, "evaluations": preset.evaluations}
    rows = train(
        plan.compile_blocks(ModernGPT(config, generator=random)),
        TokenLoader(files[0], preset.batch_size, preset.window, seed=seed),
        TrainConfig(**budget, **rest),
        make=preset.optimizer(plan),
        validate=partial(measure, file=files[1], n_documents=200),
        plan=plan,
        folder=folder,
        resume=resume,
        overwrite=overwrite,
        tokenizer=tokenizer,
        facts=facts,
        watch=watch,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    return conclude(folder, rows, files, facts, plan, seconds)


def as_data(
    plan: DevicePlan,  # any
) -> dict:  # JSON can hold it
    "The choices of a plan."
    data = dict(vars(plan))
    del data["seconds"]
    return data | {"dtype": str(plan.dtype).removeprefix("torch.")}


def recorded_plan(
    data: dict,  # of `as_data`
) -> DevicePlan:  # the same, as far as this machine can
    "The plan that a run was started with, so that it goes on alike."
    plan = DevicePlan(**data | {"dtype": getattr(torch, data["dtype"])})
    if plan.device not in devices():
        raise ValueError(
            f"the run was started on device={plan.device!r}, which is not "
            f"here: {devices()}; go on where it was, or start a new run"
        )
    return plan


def conclude(
    folder: Path,  # of the run
    rows: list[dict],  # its log
    files: list[TokenFile],  # to train on, held out
    facts: dict,  # of the run
    plan: DevicePlan,  # how it was computed
    seconds: float,  # that all took, in this process
) -> dict:  # what was found
    "Judge the best checkpoint, and write down what it is and what it cost."
    model, _, meta = load_checkpoint(folder, dtype=plan.dtype)
    plan.place(model)
    scores = {
        side: measure(model, file)
        for side, file in zip(("train", "valid"), files, strict=True)
    }
    tokens, last = len(files[0].tokens), rows[-1]
    result = {
        "corpus": facts["text"]["corpus"],
        "valid": asdict(scores["valid"]),
        "train": asdict(scores["train"]),
        "memorising": gap(scores) > MEMORISING,
        "parameters": sum(p.numel() for p in model.parameters()),
        "best_step": meta["step"],
        "steps": last["step"],
        "targets": last["targets"],
        "epochs": round(last["targets"] / tokens, 3),
        "megabytes": files[0].header["text_bytes"] / 1e6,
        "truncated": truncated(files[1], model.config.context_len),
        "seconds_of_steps": last["seconds"],
        "seconds_in_all": round(seconds, 1),
        "plan": f"{plan.device}, {plan.name}",
        "compile": plan.compile,
        "threads": torch.get_num_threads(),
    }
    write_atomic(folder / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def truncated(
    file: TokenFile,  # documents
    context_len: int,  # of the model
) -> int:  # documents of `measure` that are cut
    "How many documents are not judged to their end."
    n = min(1000, len(file))
    return Windows(file, context_len, "documents", n).waste()["truncated"]


def gap(scores: dict[str, Score]) -> float:
    "Bits per byte between text held out and text seen."
    return scores["valid"].bits_per_byte - scores["train"].bits_per_byte


def judge_text(
    source: str | Path | None = None,  # a model; None: the storyteller
    path: Path | None = None,  # a text; None: validation stories here
    n_documents: int = 1000,  # the first so many, at most
) -> tuple[Score, dict]:  # and what was judged on
    """Score a model on text of any length, one document after another.

    Raises `ValueError` for a model without a tokenizer and for a text
    without two documents.
    """
    model, tokenizer, _ = load_checkpoint(source or STORYTELLER)
    if tokenizer is None:
        raise ValueError(f"{source} holds no tokenizer.json to read text by")
    corpus = Corpus([path], path) if path else Corpus()
    documents = list(islice(corpus.documents()[1], n_documents))
    if len(documents) < 2:
        raise ValueError(
            f"{corpus.name} holds {len(documents)} documents: an interval "
            "needs two or more"
        )
    plan = device_plan()
    model = plan.prepare(model)
    with TemporaryDirectory() as folder, plan.activate():
        file = write_tokens(Path(folder) / "text", documents, tokenizer)
        score = measure(model, file, n_documents)
        cut = truncated(file, model.config.context_len)
        del file  # unmaps it, so that the folder can go on Windows
    length = model.config.context_len
    facts = {"text": corpus.name, "truncated": cut, "context_len": length}
    return score, facts
