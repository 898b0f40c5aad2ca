"""What makes a language model a good classifier, and how many labels?

Two tasks whose labels follow from a rule. `mood`: how the hero of a story
of the built-in world feels in the end, four labels; the last 63 tokens are
read, and by half of the arms of words the whole story, too. `order`: the
first six sentences of a TinyStory, two neighbours of which were swapped, or
not; every story is there in both ways, so the words alone say nothing.
Every arm is one row: a way to judge, a number of labels, three seeds (which
labels, the first weights, the order). Arms are kept one by one: what
`runs/classification.json` has is not run again.
`classification.py mood` or `classification.py head tfidf` runs a part;
a word chooses the arms whose name holds it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import ROOT, interval, machine, stories
from llm_from_scratch.attention import attend_fused, set_attention
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.classification import (
    Classifier,
    LabelLoader,
    calibration_error,
    classification_loss,
    confusion,
    encode_text,
    find_temperature,
    freeze,
    predict,
    split_sentences,
    swap_neighbours,
)
from llm_from_scratch.files import END
from llm_from_scratch.modern import ModernGPT
from llm_from_scratch.pretraining import TrainConfig, train
from llm_from_scratch.stories import StoryWorld
from llm_from_scratch.word_baseline import WordWeights, fit_logistic

SEEDS = [0, 1, 2]
TEST = 600  # texts, the same for all arms
TUNE = 200  # texts to find a temperature on
BATCH = 16
MOODS = ("calm", "happy", "proud", "sad")
TASKS = {  # labels, most tokens of a text, usual number of examples
    "mood": (MOODS, 64, 128),
    "order": (("left", "swapped"), 160, 1024),
}
RATES = {0: 1e-2, 2: 1e-3, None: 3e-4}  # by `freeze`; from a short pilot
PROMPT = " The child felt"  # for the model as it is
FILE = ROOT / "runs" / "classification.json"


@cache
def mood_examples(first: int, n: int) -> tuple[list[str], list[str]]:
    "Stories of the built-in world, told with seeds of their own."
    world = StoryWorld()
    texts = [*world.stream(first, n)]
    return texts, [world.parse(text).mood for text in texts]


@cache
def order_examples(split: str, first: int, n: int):
    "Openings of TinyStories, as they are and with two sentences swapped."
    rng, texts = random.Random(first), []
    documents = [x.strip() for x in stories(split).split(END)]
    for text in filter(None, documents[first:]):
        if pair := swap_neighbours(text, rng, most=6):
            texts += pair
        if len(texts) >= n:
            break
    return texts, ["left", "swapped"] * (len(texts) // 2)


def examples(task: str, part: str, n: int, seed: int = 0):
    "Texts and labels of one part; no text is in two of them."
    if task == "mood":
        first = {"test": 20_000_000, "tune": 21_000_000}
        return mood_examples(first.get(part, 30_000_000 + 100_000 * seed), n)
    place = {"test": ("valid", 0), "tune": ("valid", 1500)}
    return order_examples(*place.get(part, ("train", 4000 * seed)), n)


class AtPlace(Classifier):
    "A classifier that reads elsewhere."

    def __init__(self, *args, place: str, **options):
        super().__init__(*args, **options)
        self.place = place

    def forward(self, ids: Tensor, sizes: Tensor) -> Tensor:
        "At the first token, the last column, or on average."
        x = self.model.features(ids)  # (B, T, C)
        if self.place == "first":
            return self.score(x[:, 1])
        if self.place == "column":
            return self.score(x[:, -1])
        real = torch.arange(ids.shape[1]) < sizes[:, None]  # (B, T)
        x = (x * real[..., None]).sum(1) / sizes[:, None]  # (B, C)
        return self.score(x.to(self.score.weight.dtype))


class Marked(LabelLoader):
    "Texts that end in the marker, too."

    def batch(self, windows):
        "One more token for each."
        ids, sizes, targets = super().batch(windows)
        ids = F.pad(ids, (0, 1))
        ids[torch.arange(len(ids)), sizes] = self.rows[0][0]
        return ids, sizes + 1, targets


def base(fresh: int | None = None, dtype=torch.float32):
    "The storyteller, or its shape with random weights."
    model, tokenizer, _ = load_checkpoint(dtype=dtype)
    if fresh is not None:
        chance = torch.Generator().manual_seed(fresh)
        model = ModernGPT(model.config, generator=chance)
    set_attention(model, attend_fused)
    return model, tokenizer


def figures(task: str, scores: Tensor, targets: Tensor) -> dict:
    "How good, and how sure."
    right = (scores.argmax(1) == targets).double()
    return {
        "accuracy": round(right.mean().item(), 4),
        "loss": round(F.cross_entropy(scores, targets).item(), 4),
        "calibration": round(calibration_error(scores, targets), 4),
    }


def numbers(task: str, labels: list[str]) -> Tensor:
    "Labels as numbers."
    return torch.tensor([TASKS[task][0].index(label) for label in labels])


def by_majority(task: str, n: int, seed: int) -> dict:
    "Say what was most frequent."
    known = numbers(task, examples(task, "train", n, seed)[1])
    targets = numbers(task, examples(task, "test", TEST)[1])
    counts = torch.bincount(known, minlength=len(TASKS[task][0])) + 1.0
    scores = counts.log().expand(len(targets), -1)
    return figures(task, scores, targets)


def as_models(task: str, texts: list[str]) -> list[str]:
    "What the models get to read of each text."
    tokenizer, length = base()[1], TASKS[task][1]
    kept = (encode_text(tokenizer, text, length)[0] for text in texts)
    return [tokenizer.decode(ids[1:]) for ids in kept]


def by_words(task: str, n: int, seed: int, cut: bool = False) -> dict:
    "TF-IDF and logistic regression, both as scikit-learn has them."
    texts, labels = examples(task, "train", n, seed)
    texts = as_models(task, texts) if cut else texts
    words = WordWeights(texts)
    weight, shift = fit_logistic(
        words(texts), numbers(task, labels), len(TASKS[task][0])
    )
    texts, labels = examples(task, "test", TEST)
    texts = as_models(task, texts) if cut else texts
    scores = words(texts) @ weight + shift
    return figures(task, scores, numbers(task, labels))


@cache
def read(task: str, part: str, n: int, seed: int = 0, fresh: bool = False):
    "Features of the last token, of a model that stays as it is."
    model, tokenizer = base(seed if fresh else None)
    names, length, _ = TASKS[task]
    texts, labels = examples(task, part, n, seed)
    loader = LabelLoader(texts, labels, tokenizer, names, batch_size=32,
                         context_len=length, shuffle=False,
                         epochs=1)  # fmt: skip
    reader = Classifier(model, names)
    reader.score = nn.Identity()
    return predict(reader, loader)


def by_features(task: str, n: int, seed: int, way: str = "fit") -> dict:
    "A regression, or the nearest mean, on features that stay."
    x, targets = read(task, "train", n, seed)
    others, wanted = read(task, "test", TEST)
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x, others = (x - mean) / spread, (others - mean) / spread
    labels = len(TASKS[task][0])
    if way == "fit":
        weight, shift = fit_logistic(x, targets, labels, strength=0.01)
        return figures(task, others.double() @ weight + shift, wanted)
    means = [x[targets == i].mean(0) for i in range(labels)]
    scores = -torch.cdist(others, torch.stack(means))
    return figures(task, scores, wanted)


@torch.no_grad()
def by_asking(task: str, n: int, seed: int) -> dict:
    "Which label's word would the model say next? No label is used."
    model, tokenizer = base()
    names, length, _ = TASKS[task]
    ask = tokenizer.encode(PROMPT)
    words = torch.tensor([tokenizer.encode(f" {x}")[0] for x in names])
    rows, texts = [], examples(task, "test", TEST)
    for text in texts[0]:
        ids = tokenizer.encode(text)[1 - length :]
        ids = [tokenizer.special_tokens[END], *ids, *ask]
        logits = model(torch.tensor([ids]))[0, -1]  # (V,)
        rows.append(logits.log_softmax(0)[words])
    scores = torch.stack(rows)
    scores = scores - scores.mean(0)  # what it says of any text
    return figures(task, scores, numbers(task, texts[1]))


@torch.no_grad()
def by_loss(task: str, n: int, seed: int) -> dict:
    "Is the text less likely, per token, than a bound that fits best?"
    model, tokenizer = base()

    def surprise(part: str, n: int) -> tuple[Tensor, Tensor]:
        found, (texts, labels) = [], examples(task, part, n, seed)
        for text in texts:
            ids = [tokenizer.special_tokens[END], *tokenizer.encode(text)]
            ids = torch.tensor([ids[:512]])
            logits = model(ids[:, :-1])[0]
            found.append(F.cross_entropy(logits, ids[0, 1:]))
        return torch.stack(found), numbers(task, labels)

    x, y = surprise("train", min(n, 400))
    bounds = x.sort().values
    rights = [((x > bound).long() == y).sum() for bound in bounds]
    bound = bounds[torch.stack(rights).argmax()]
    x, y = surprise("test", TEST)
    pairs = x.view(-1, 2)
    scores = torch.stack((bound - x, x - bound), 1)
    best = (pairs[:, 0] < pairs[:, 1]).double().mean().item()
    return figures(task, scores, y) | {"in_pairs": round(best, 4)}


def by_training(
    task: str,
    n: int,
    seed: int,
    *,
    blocks: int | None = None,
    fresh: bool = False,
    place: str = "last",
    marked: bool = False,
    short: bool = False,  # two sentences each, of unequal length
    drawn: int | None = None,  # these stories with every seed
    updates: int | None = None,
    scale: float = 1.0,
) -> dict:
    "Train a classifier with the trainer of `pretraining`."
    names, length, _ = TASKS[task]
    model, tokenizer = base(seed if fresh else None)
    chance = torch.Generator().manual_seed(100 + seed)
    kind = Classifier if place == "last" else partial(AtPlace, place=place)
    classifier = kind(model, names, generator=chance)
    count = freeze(classifier, blocks)
    kind = Marked if marked else LabelLoader
    options = {"batch_size": BATCH, "context_len": length}

    def load(part: str, n: int, draw: int = 0, **more):
        texts, labels = examples(task, part, n, draw)
        if short:
            texts = [" ".join(split_sentences(x)[-2:]) for x in texts]
        return kind(texts, labels, tokenizer, names, **options | more)

    loader = load("train", n, seed if drawn is None else drawn, seed=seed)
    steps = updates or max(3 * len(loader), 48)
    config = TrainConfig(
        steps=steps,
        lr=scale * (1e-3 if fresh else RATES[blocks]),
        weight_decay=0.01,
        warmup=steps // 10,
        decay=0.9,
    )
    start = time.perf_counter()
    train(classifier, loader, config, loss_fn=classification_loss,
          progress=False)  # fmt: skip
    seconds = time.perf_counter() - start
    more = {"batch_size": 32, "shuffle": False, "epochs": 1}
    scores, targets = predict(classifier, load("test", TEST, **more))
    tuning = predict(classifier, load("tune", TUNE, **more))
    heat = find_temperature(*tuning)
    after = calibration_error(scores / heat, targets)
    return figures(task, scores, targets) | {
        "trained": count,
        "steps": steps,
        "seconds": round(seconds, 1),
        "temperature": round(heat, 3),
        "calibrated": round(after, 4),
        "confusion": confusion(scores, targets).tolist(),
    }


def arms() -> dict[str, tuple[Callable, str, int]]:
    "Name → how, on which task, with how many labels."
    found = {}
    for task, (_, _, usual) in TASKS.items():
        curve = (32, 64, 128, 512) if task == "mood" else (usual,)
        for n in curve:
            found[f"{task}_majority_{n}"] = by_majority, task, n
            found[f"{task}_tfidf_{n}"] = by_words, task, n
            same = partial(by_words, cut=True)
            found[f"{task}_tfidf_cut_{n}"] = same, task, n
            found[f"{task}_probe_{n}"] = by_features, task, n
            two = partial(by_training, blocks=2)
            found[f"{task}_two_blocks_{n}"] = two, task, n
            fresh = partial(by_training, fresh=True)
            found[f"{task}_random_{n}"] = fresh, task, n
        found[f"{task}_untuned_{usual}"] = (
            by_asking if task == "mood" else by_loss, task, usual)  # fmt: skip
        nearest = partial(by_features, way="nearest")
        found[f"{task}_nearest_{usual}"] = nearest, task, usual
    ways = {
        "head": {"blocks": 0},
        "all": {},
        "first_token": {"blocks": 2, "place": "first"},
        "short": {"blocks": 2, "short": True},
        "short_column": {"blocks": 2, "short": True, "place": "column"},
        "mean": {"blocks": 2, "place": "mean"},
        "marker": {"blocks": 2, "marked": True},
        "rate_x3": {"blocks": 2, "scale": 3.0},
        "rate_third": {"blocks": 2, "scale": 1 / 3},
    }
    for name, options in ways.items():
        how = partial(by_training, **options)
        found[f"mood_{name}_128"] = how, "mood", 128
    same = partial(by_training, blocks=2, drawn=0)
    found["mood_same_stories_64"] = same, "mood", 64
    return found


def keep(name: str, row: dict) -> None:
    "Put an arm into the record, with the machine of this run."
    known = {"arms": {}}
    if FILE.is_file():
        known = json.loads(FILE.read_text("utf-8"))
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "settings": {
            "test": TEST,
            "tune": TUNE,
            "batch": BATCH,
            "seeds": SEEDS,
            "rates": {str(k): x for k, x in RATES.items()},
            "prompt": PROMPT,
            "optimizer": "AdamW, weight decay 0.01, a tenth of warm-up",
        },
    }
    known |= about
    known["arms"][name] = row
    text = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
    FILE.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    "Run the arms that are asked for and not there yet."
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    done = {}
    if FILE.is_file():
        done = json.loads(FILE.read_text("utf-8"))["arms"]
    asked = sys.argv[1:]
    for name, (how, task, n) in arms().items():
        if name in done or (asked and not any(x in name for x in asked)):
            continue
        start = time.perf_counter()
        rows = [how(task, n, seed) for seed in SEEDS]
        row = {"task": task, "labels": n, "seeds": rows}
        for key in ("accuracy", "loss", "calibration", "calibrated"):
            if key in rows[0]:
                row[key] = interval([x[key] for x in rows])
        row["minutes"] = round((time.perf_counter() - start) / 60, 2)
        keep(name, row)
        print(f"{name:24}", row["accuracy"], row["minutes"], flush=True)


if __name__ == "__main__":
    main()
