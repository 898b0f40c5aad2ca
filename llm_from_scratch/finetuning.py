"""Makes a classifier from a table of texts and labels, and judges it.

Knows which parts of the package are needed and in which order. Knows
nothing of the command line.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import attend_fused, set_attention
from .checkpoint import STORYTELLER, load_checkpoint
from .classification import (
    Classifier,
    LabelLoader,
    calibration_error,
    classification_loss,
    confusion,
    find_temperature,
    freeze,
    label_names,
    predict,
    read_labels,
    save_classifier,
)
from .devices import check_range
from .files import END
from .lora import LoRAConfig, adapters, add_adapters, merge_adapters
from .pretraining import TrainConfig, train
from .quantized_files import check_trainable
from .tokenization import BPETokenizer
from .word_baseline import WordWeights, fit_logistic

RATES = {0: 1e-2, None: 3e-4}  # by blocks that learn; others: 1e-3
LORA_RATE = 1e-3  # of adapters; up to 1e-2 as many were right
LEAST = 48  # steps, so that a small table is seen often enough


@dataclass(frozen=True, kw_only=True)
class Wish:
    "What is asked of a classifier."

    data: str | Path  # a CSV file
    test: str | Path | None = None  # another; None: a fifth of `data`
    text: str = "text"  # the column to read
    label: str = "label"  # the column to learn
    model: str | Path | None = None  # None: the storyteller
    blocks: int | None = 2  # last ones to train; 0: the head; None: all
    lora: int | None = None  # rank of adapters that learn in place of blocks
    epochs: int = 3  # at least; a small table is seen more often
    lr: float | None = None  # None: what suits `blocks`
    batch_size: int = 16  # texts a step
    context_len: int | None = None  # most tokens a text; None: the model's
    keep: str = "end"  # of a longer text; or "start"
    seed: int = 0  # of the split, the head and the order

    def __post_init__(self):
        if self.lr is not None:
            check_range("lr", self.lr, 0, 1)
        for name in ("epochs", "batch_size", "lora"):
            value = getattr(self, name)
            if name == "lora" and value is None:
                continue
            if type(value) is not int or value < 1:
                raise ValueError(
                    f"{name}={value!r} must be a whole number of at least 1"
                )


def classify(
    wish: Wish,  # what is asked
    out: str | Path,  # the folder of the classifier, is made
    *,
    overwrite: bool = False,  # replace a model that is there
    consent: bool | None = None,  # to download; None: ask in a terminal
    progress: bool = False,  # show a bar
    say: Callable[[str], None] = lambda _: None,  # is told what begins
) -> dict:  # scores of the classifier and of what it has to beat
    """Train a classifier, judge it on texts held out, and write it.

    Raises `ValueError` and `OSError` for what cannot be, before training.
    """
    if Path(out).exists() and not overwrite:
        raise FileExistsError(
            f"{out} exists already; pass overwrite=True to replace it"
        )
    parts = split(wish)
    names = label_names(parts["train"][1])
    source = STORYTELLER if wish.model is None else wish.model
    model, tokenizer, _ = load_checkpoint(
        source, dtype=torch.float32, consent=consent
    )
    check_trainable(model, f"model={source}")
    if tokenizer is None or END not in tokenizer.special_tokens:
        raise ValueError(
            f"model={source} has no tokenizer with the marker {END}, so "
            "texts cannot be given to it as in training"
        )
    set_attention(model, attend_fused)
    room = min(
        wish.context_len or model.config.context_len, model.config.context_len
    )
    options = {"context_len": room, "keep": wish.keep}
    options["batch_size"] = wish.batch_size
    loaders = {"train": LabelLoader(*parts["train"], tokenizer, names,
                                    seed=wish.seed, **options)}  # fmt: skip
    for part in ("tune", "test"):
        loaders[part] = LabelLoader(*parts[part], tokenizer, names,
                                    shuffle=False, epochs=1,
                                    **options)  # fmt: skip
    chance = torch.Generator().manual_seed(wish.seed)
    classifier = Classifier(model, names, generator=chance)
    trained = choose(classifier, wish, chance)
    steps = max(wish.epochs * len(loaders["train"]), LEAST)
    lr = LORA_RATE if wish.lora else RATES.get(wish.blocks, 1e-3)
    lr = lr if wish.lr is None else wish.lr
    cut = sum(loader.n_cut for loader in loaders.values())
    say(f"training {trained:,} weights for {steps} steps; {cut} texts cut")
    train(
        classifier,
        loaders["train"],
        TrainConfig(
            steps=steps,
            lr=lr,
            weight_decay=0.01,
            warmup=steps // 10,
            decay=0.9,
            evaluations=1,
        ),
        loss_fn=classification_loss,
        progress=progress,
    )
    merge_adapters(model)
    say("judging it on texts held out")
    heat = find_temperature(*predict(classifier, loaders["tune"]))
    scores, targets = predict(classifier, loaders["test"])
    result = {
        "names": list(names),
        "texts": {name: len(part[0]) for name, part in parts.items()},
        "cut": cut,
        "context_len": room,
        "trained": trained,
        "steps": steps,
        "temperature": heat,
        "classifier": judge(scores / heat, targets),
        "confusion": confusion(scores, targets).tolist(),
        "baselines": baselines(as_read(parts, loaders, tokenizer), names),
    }
    save_classifier(
        out,
        classifier,
        tokenizer,
        temperature=heat,
        keep=wish.keep,
        meta={"finetuned": result},
        overwrite=overwrite,
    )
    return result


def choose(
    classifier: Classifier,  # changed in place
    wish: Wish,  # blocks, or adapters
    chance: torch.Generator,  # of the adapters' first weights
) -> int:  # weights that are trained
    """Blocks, or adapters beside all maps of all blocks.

    Raises `ValueError` for a rank above a map's smaller side.
    """
    if wish.lora is None:
        return freeze(classifier, wish.blocks)
    count = freeze(classifier, 0)
    config = LoRAConfig(rank=wish.lora, alpha=2.0 * wish.lora)
    add_adapters(classifier.model, config, generator=chance)
    pairs = (adapter for _, adapter in adapters(classifier))
    return count + sum(x.lora_A.numel() + x.lora_B.numel() for x in pairs)


def split(
    wish: Wish,  # with a table, perhaps two
) -> dict[str, tuple[list[str], list[str]]]:  # train, tune, test
    """A fifth to judge by unless it is given, a tenth to tune one number.

    Raises `ValueError` for fewer than ten examples to learn from, and
    for a label to be judged by that is not among those learned.
    """
    columns = {"text": wish.text, "label": wish.label}
    texts, labels = read_labels(wish.data, **columns)
    if len(texts) < 10:
        raise ValueError(
            f"{wish.data} has {len(texts)} examples; at least 10 are needed, "
            "and some dozens of each label to be of use"
        )
    label_names(labels)
    # a text that stands there twice must not be on two sides
    order = sorted({*texts})
    random.Random(wish.seed).shuffle(order)
    test = 0 if wish.test else -(-len(order) // 5)
    tune = -(-len(order) // 10)
    side = dict.fromkeys(order, "train")
    side |= dict.fromkeys(order[:test], "test")
    side |= dict.fromkeys(order[test : test + tune], "tune")
    parts = {name: ([], []) for name in ("train", "tune", "test")}
    for text, label in zip(texts, labels, strict=True):
        for kept, value in zip(parts[side[text]], (text, label), strict=True):
            kept.append(value)
    if wish.test:
        parts["test"] = read_labels(wish.test, **columns)
    known = {*parts["train"][1]}
    for name in ("tune", "test"):
        if unknown := sorted({*parts[name][1]} - known):
            raise ValueError(
                f"labels={unknown[:5]} stand among the texts to {name} but "
                f"not among those to learn from, {sorted(known)}; give more "
                "examples of them, or leave them out"
            )
    return parts


def judge(
    scores: Tensor,  # (N, L)
    targets: Tensor,  # (N,)
) -> dict[str, float]:  # share right, its 95 % margin, loss, calibration
    "How good, and how sure."
    n, right = len(targets), (scores.argmax(1) == targets).double().mean()
    return {
        "right": right.item(),
        "margin": (1.96 * (right * (1 - right) / n).sqrt()).item(),
        "loss": F.cross_entropy(scores.double(), targets).item(),
        "calibration": calibration_error(scores, targets),
    }


def as_read(
    parts: dict,  # of `split`
    loaders: dict[str, LabelLoader],  # of the same texts, by name
    tokenizer: BPETokenizer,  # of the loaders
) -> dict[str, tuple[list[str], list[str]]]:  # the same, cut
    "What the model gets to read, so that nobody is judged by more."
    return {
        name: ([tokenizer.decode(row[1:]) for row in loaders[name].rows], y)
        for name, (_, y) in parts.items()
    }


def baselines(
    parts: dict,  # of `split`, or of `as_read`
    names: tuple[str, ...],  # of the labels
) -> dict[str, dict]:  # by name, each as `judge` gives it
    "What a classifier has to beat: the commonest label, words alone."
    texts, labels = parts["train"]
    known = torch.tensor([names.index(x) for x in labels])
    targets = torch.tensor([names.index(x) for x in parts["test"][1]])
    counts = torch.bincount(known, minlength=len(names)) + 1.0
    found = {"majority": judge(counts.log().expand(len(targets), -1), targets)}
    try:
        words = WordWeights(texts)
    except ValueError:  # in a script without words as we know them
        return found
    weight, shift = fit_logistic(words(texts), known, len(names))
    scores = words(parts["test"][0]) @ weight + shift
    return found | {"words alone": judge(scores, targets)}
