"""What does the storyteller learn from instructions, and what does it lose?

Arms: guesses without a model, an n-gram model, the untuned storyteller
with examples in its prompt, and tuned ones from three seeds each, with
and without plain text among the dialogs; and some that were tuned on the
instructions of shared data, if they are there. Each is asked the same
unseen things, and graded by rule. Every arm is stored as soon as it is
done: `instructions.py` goes on where it was,
`instructions.py tuned replay` computes those kinds only, and
`instructions.py --fresh` begins anew. `--smoke` computes every arm in a
minute, far too small, and writes nothing.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import ROOT, interval, machine, table
from llm_from_scratch.chat_files import save_chat_model
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.data import read_stories, write_tokens
from llm_from_scratch.devices import device_plan
from llm_from_scratch.dialogs import read_dialogs
from llm_from_scratch.files import END, find_tinystories, write_atomic
from llm_from_scratch.generation import Sampling, generate
from llm_from_scratch.instructions import (
    STOP,
    DialogLoader,
    EndingJudge,
    Example,
    Task,
    answers,
    dialog_loss,
    encode_dialog,
    encode_text,
    grade,
    grow,
    prompt_ids,
    question_task,
    story_task,
    wilson,
    word_task,
)
from llm_from_scratch.judging import measure
from llm_from_scratch.modern import muon_and_adamw
from llm_from_scratch.pretraining import TrainConfig, train
from llm_from_scratch.stories import (
    NGram,
    Request,
    StoryWorld,
    ask,
    unmet,
)

FILE = ROOT / "runs" / "instructions.json"
SEEDS = [0, 1, 2]
LEARNED, ASKED = 20_000_000, 30_000_000  # first seeds of the world's tasks
TASKS, STEPS, ROWS = 3000, 200, 8  # dialogs, steps, packed rows a step
MUON, ADAMW, WARMUP = 5e-3, 1e-3, 10  # half of pretraining's, or less
EVERY, SEEN = 20, 64  # steps between looks at the loss; unseen dialogs
STORIES, QUESTIONS = 100, 100  # asked: wishes; questions of each kind
JUDGED = 150  # documents of each text, for bits per byte
REPLAYED = 0.5  # plain documents for each dialog
SAMPLING = Sampling(temperature=0.7)
SMOKE = "--smoke" in sys.argv
if SMOKE:
    TASKS, STEPS, ROWS, SEEDS, EVERY, SEEN = 8, 2, 2, [0, 1], 1, 4
    STORIES = QUESTIONS = JUDGED = 3
TOLD = ("story", "tiny")  # kinds whose answers are stories

WORLD = StoryWorld()
TINY = {  # stories of each side; none, if TinyStories are not here
    side: list(islice(read_stories(path), 12_000)) if path else []
    for side, path in ((x, find_tinystories(x)) for x in ("train", "valid"))
}
JUDGE = EndingJudge.of(WORLD, 60 if SMOKE else 2000)


@cache
def plan():
    "How to compute here; found once, by trying."
    return device_plan()


def tasks(first: int, n: int) -> list[Task]:
    "A story that was wished for, or is given, and two questions about it."
    return [
        question_task(WORLD, seed, told=seed % 4 > 0, count=2)
        for seed in range(first, first + n)
    ]


def asked() -> dict[str, list[Task]]:
    "What every arm is asked."
    seeds = range(ASKED, ASKED + STORIES)
    found = {"story": [story_task(WORLD, seed) for seed in seeds]}
    if TINY["valid"]:
        some = TINY["valid"][JUDGED : JUDGED + STORIES]
        found["tiny"] = [word_task(x, random.Random(0)) for x in some]
    for name, told in (("given", False), ("told", True)):
        seeds = range(ASKED + 10_000, ASKED + 10_000 + QUESTIONS)
        found[name] = [question_task(WORLD, x, told=told) for x in seeds]
    return found


# ------------------------------------------------------------------ grading


def share(hits: list[bool]) -> dict:
    "Hits, trials and their interval."
    low, high = wilson(sum(hits), len(hits))
    rate = sum(hits) / len(hits)
    return {
        "hits": sum(hits),
        "n": len(hits),
        "share": round(rate, 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def judge_all(reply: Callable, *, tiny: bool = True) -> dict:
    "Ask everything; `reply` takes a kind and tasks, and gives texts."
    found = {}
    for kind, items in asked().items():
        if kind == "tiny" and not tiny:
            continue
        texts = reply(kind, items)
        grades = [
            grade(*pair, JUDGE) for pair in zip(items, texts, strict=True)
        ]
        for what in ("words", "end", "begin", "length", "all", "right"):
            hits = [x[what] for x in grades if what in x]
            if hits:
                name = kind if what == "right" else what
                name = f"tiny_{what}" if kind == "tiny" else name
                found[name] = share(hits)
        if kind == "story":
            pairs = list(zip(items, texts, strict=True))
            strict = [not unmet(WORLD, t.request, x) for t, x in pairs]
            found["of_the_world"] = share(strict)
            some = [
                word.casefold() in x.casefold()
                for t, x in pairs
                for word in t.request.words
            ]
            found["single_words"] = share(some)
            found["samples"] = [
                {"asked": t.messages[-1]["content"], "answer": x}
                for t, x in pairs[:12]
            ]
            found["mean_words"] = statistics.mean(
                len(x.split()) for x in texts
            )
        elif kind == "tiny":
            found["tiny_samples"] = [
                {"asked": t.messages[-1]["content"], "answer": x}
                for t, x in list(zip(items, texts, strict=True))[:4]
            ]
        else:
            found[f"{kind}_by_question"] = by_question(items, grades)
    return found


def by_question(items: list[Task], grades: list[dict]) -> dict:
    "Questions begin with what they ask for."
    found = defaultdict(list)
    for task, told in zip(items, grades, strict=True):
        question = task.messages[-1]["content"].splitlines()[-1]
        found[" ".join(question.split()[:2])].append(told["right"])
    return {name: share(hits) for name, hits in sorted(found.items())}


# ---------------------------------------------------------------- baselines


def constant() -> dict:
    "Some story of the world, and to each question its commonest answer."
    common = defaultdict(Counter)
    for task in tasks(LEARNED, TASKS):
        question = task.messages[-1]["content"].splitlines()[-1]
        common[" ".join(question.split()[:2])][task.answer] += 1

    def reply(kind: str, items: list[Task]) -> list[str]:
        if kind == "tiny":
            return TINY["train"][: len(items)]
        if kind == "story":
            first = LEARNED + 10**6
            return [WORLD.sample(first + i) for i in range(len(items))]
        lines = [x.messages[-1]["content"].splitlines()[-1] for x in items]
        keys = [" ".join(x.split()[:2]) for x in lines]
        return [common[key].most_common(1)[0][0] for key in keys]

    return judge_all(reply)


class Babbler:
    "Draws from an n-gram model without summing over the vocabulary."

    def __init__(self, model: NGram):
        self.model, self.after = model, defaultdict(list)
        for gram, n in model.counts.items():
            left = max(n - 0.75, 0)
            self.after[gram[:-1]].append((gram[-1], left))

    def draw(self, ids: list[int], rng: random.Random) -> int:
        "Interpolation is a way to draw: a long context, or the next shorter."
        padded = [-1] * self.model.n + ids
        for size in range(self.model.n - 1, -1, -1):
            context = tuple(padded[len(padded) - size :])
            total, _ = self.model.contexts.get(context, (0, 0))
            point = rng.random() * total
            for symbol, left in self.after.get(context, ()):
                point -= left
                if point < 0:
                    return symbol
        return rng.randrange(self.model.vocab_size)


def ngram(n: int = 5) -> dict:
    "Counts the same dialogs."
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    _, tokenizer = grow(model, tokenizer)
    found = [encode_dialog(tokenizer, x.dialog) for x in tasks(LEARNED, TASKS)]
    babbler = Babbler(NGram(n, len(tokenizer)).fit(x.ids for x in found))
    stop, rng = tokenizer.special_tokens[STOP], random.Random(0)

    def reply(kind: str, items: list[Task]) -> list[str]:
        texts = []
        for task in items:
            ids, new = prompt_ids(tokenizer, task.messages), []
            while len(new) < (300 if kind in TOLD else 20):
                new.append(babbler.draw(ids + new, rng))
                if new[-1] == stop:
                    new.pop()
                    break
            texts.append(tokenizer.decode(new))
        return texts

    return judge_all(reply)


def fewshot() -> dict:
    "The untuned storyteller, with examples of what is wanted before."
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    model = plan().prepare(model)
    end = tokenizer.special_tokens[END]
    many = [story_task(WORLD, x) for x in range(LEARNED, LEARNED + 400)]
    short = min(many, key=lambda x: len(tokenizer.encode(x.answer)))
    tales = [" ".join(x.split()) for x in TINY["train"][:400]]
    tales = [x for x in tales if len(tokenizer.encode(x)) > 80]
    tale = min(tales, key=lambda x: len(tokenizer.encode(x)), default="")
    tale = word_task(tale, random.Random(0)) if tale else None

    def story_prompt(task: Task) -> list[int]:
        shown = tale if task.begin else short
        shown = f"{shown.messages[0]['content']} {shown.answer}"
        wish = f"{task.messages[0]['content']}"
        return [end, *tokenizer.encode(shown), end, *tokenizer.encode(wish)]

    def question_prompt(task: Task) -> list[int]:
        story, question = last_story(task)
        told = short.answer
        shown = " ".join(
            f"{q} The answer is {a}." for q, a in ask(WORLD.parse(told))
        )
        text = f"{story} {question} The answer is"
        first = tokenizer.encode(f"{told} {shown}")
        return [end, *first, end, *tokenizer.encode(text)]

    def reply(kind: str, items: list[Task]) -> list[str]:
        make = story_prompt if kind in TOLD else question_prompt
        most = 300 if kind in TOLD else 12
        found = []
        for start in range(0, len(items), 50):
            ids = [make(task) for task in items[start : start + 50]]
            ids = [x if len(x) < 500 else x[-500:] for x in ids]
            with plan().activate():
                new = generate(
                    model, ids, max_tokens=most, stop_ids={end},
                    sampling=SAMPLING if kind in TOLD
                    else Sampling(greedy=True),
                    generator=torch.Generator().manual_seed(0),
                )  # fmt: skip
            found += [tokenizer.decode(x) for x in new]
        if kind in TOLD:
            return [x.strip() for x in found]
        firsts = [x.split(".")[0].strip() for x in found]
        return [f"The answer is {x}." for x in firsts]

    return judge_all(reply)


def last_story(task: Task) -> tuple[str, str]:
    "The story that a question is about, and the question."
    *_, last = task.messages
    if len(task.messages) > 1:
        return task.messages[1]["content"], last["content"]
    story, _, question = last["content"].rpartition("\n\n")
    return story, question


# ------------------------------------------------------------------- tuning


def texts(side: str, n: int) -> dict[str, list[str]]:
    "Plain documents: of the world and, if it is here, of TinyStories."
    first = LEARNED + 2 * 10**6 if side == "train" else 10_000_000
    found = {"world": [WORLD.sample(x) for x in range(first, first + n)]}
    if path := find_tinystories(side):
        stories = read_stories(path)
        found["tiny"] = list(islice(stories, n))
    return found


def forgetting(model, tokenizer) -> dict:
    "Bits per byte on both texts held out."
    found = {}
    for name, documents in texts("valid", JUDGED).items():
        with tempfile.TemporaryDirectory() as folder:
            file = write_tokens(Path(folder) / "t", documents, tokenizer)
            score = measure(model, file, JUDGED)
            found[name] = {
                "bits_per_byte": round(score.bits_per_byte, 4),
                "margin": round(score.margin, 4),
            }
            del file
    return found


def tuned(seed: int, *, replay: bool = False) -> dict:
    "Tune, ask, and see what was forgotten."
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    model, tokenizer = grow(model, tokenizer)
    first = LEARNED + 100_000 * seed
    found = [encode_dialog(tokenizer, x.dialog) for x in tasks(first, TASKS)]
    if replay:
        some = texts("train", round(REPLAYED * TASKS))
        plain = [x for part in some.values() for x in part]
        plain = random.Random(seed).sample(plain, round(REPLAYED * TASKS))
        found += [encode_text(tokenizer, x) for x in plain]
    course = []
    if seed == 0 and not replay:
        course.append({"step": 0, **surprise(model, tokenizer)})

    def watch(rows: list) -> None:
        if course and len(rows) % EVERY == 0:
            own = surprise(model, tokenizer)
            course.append({"step": len(rows), **own})

    rows, seconds = fit(model, found, seed, watch=watch)
    with plan().activate():
        result = answer_all(model, tokenizer, tiny=seed == 0)
    model = model.float()
    result |= {
        "forgetting": forgetting(model, tokenizer),
        "swapped": swapped(model, tokenizer),
        "course": course,
        "loss": [round(row["loss"], 4) for row in rows],
        "seconds": round(seconds, 1),
        "examples": len(found),
    }
    if folder := os.environ.get("LLMFS_KEEP"):
        name = f"{'replay' if replay else 'tuned'}_{seed}"
        folder = Path(folder) / name
        save_chat_model(folder, model, tokenizer, overwrite=True)
    return result


def fit(model, found: list, seed: int, steps: int = 0, watch=None):
    "Train in place."
    loader = DialogLoader(found, ROWS, model.config.context_len, seed=seed)
    options = {"lr": ADAMW, "warmup": WARMUP, "weight_decay": 0.0}
    config = TrainConfig(steps=steps or STEPS, **options)
    start = time.perf_counter()
    narrow = plan().dtype if plan().dtype == torch.bfloat16 else None
    rates = {"lr_muon": MUON, "lr_adamw": ADAMW, "dtype": narrow}
    options = {"loss_fn": dialog_loss, "plan": plan(), "progress": False}
    options |= {"make": partial(muon_and_adamw, **rates), "watch": watch}
    rows = train(model, loader, config, **options)
    model.eval()
    return rows, time.perf_counter() - start


def kinds(tokenizer, task: Task, example: Example) -> list[str]:
    "What each target is: an asked word's first mention, a key, an end."
    stop, text, spans = tokenizer.special_tokens[STOP], "", []
    for target in example.targets:
        piece = tokenizer.decode([target]) if target >= 0 else ""
        piece = "\0" if target == stop else piece
        spans.append((len(text), len(text) + len(piece)))
        text += piece
    marked = [
        ("key", x.span(1)) for x in re.finditer(r"answer is (.*?)\.\0", text)
    ]
    asked = task.messages[0]["content"]
    wished = asked.startswith("Tell a story")
    words = asked.partition(": ")[2].partition(".")[0].split(", ")
    for word in words if wished else []:
        match = re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)
        marked += [("word", match.span())] if match else []
    found = []
    for (start, end), target in zip(spans, example.targets, strict=True):
        names = [x for x, (a, b) in marked if start < b and end > a]
        name = names[0] if names and end > start else "rest"
        found.append("end" if target == stop else name)
    return found


@torch.no_grad()
def by_token(model, examples: list[Example]) -> list[torch.Tensor]:
    "Nats of every target, 0 where there is none."
    loader, found = DialogLoader(examples, 16, 512, packed=False), []
    for first in range(0, len(examples), 16):
        some = range(first, min(first + 16, len(examples)))
        ids, targets, mask = loader.collate([[i] for i in some])
        with plan().activate():
            scores = F.linear(
                model.features(ids, mask=mask), model.token_embedding.weight
            )
        loss = F.cross_entropy(
            scores.float().flatten(0, 1), targets.flatten(), reduction="none"
        )
        found += loss.view_as(targets).unbind()
    return found


def surprise(model, tokenizer) -> dict[str, float]:
    "Nats a token of unseen dialogs, by what the token is."
    some = tasks(ASKED + 20_000, SEEN)
    examples = [encode_dialog(tokenizer, x.dialog) for x in some]
    sums, counts = Counter(), Counter()
    losses = by_token(model, examples)
    for task, example, loss in zip(some, examples, losses, strict=True):
        names = kinds(tokenizer, task, example)
        for name, target, x in zip(
            names, example.targets, loss.tolist(), strict=False
        ):
            if target >= 0:
                sums[name] += x
                counts[name] += 1
                sums["all"] += x
                counts["all"] += 1
    return {x: round(sums[x] / counts[x], 4) for x in sorted(sums)}


def swapped(model, tokenizer) -> dict:
    """How much more a story surprises behind a wish that is not its own.

    Nats a story, for other words, another ending, another length.
    """
    some = [story_task(WORLD, x) for x in range(ASKED, ASKED + 2 * SEEN)]
    some = [x for x in some if x.length][:SEEN]
    others = some[1:] + some[:1]

    def total(change: Callable[[Task, Task], str]) -> torch.Tensor:
        dialogs = []
        for own, other in zip(some, others, strict=True):
            first, last = own.dialog
            dialogs.append([first | {"content": change(own, other)}, last])
        examples = [encode_dialog(tokenizer, x) for x in dialogs]
        losses = by_token(model, examples)
        return torch.stack([x.sum() for x in losses])

    def wish(words: tuple, mood: str, length: str) -> str:
        return f"{Request(words, mood)} Length: {length}."

    def ending(own: Task) -> str:
        moods = ["happy", "proud", "calm", "sad"]
        return moods[(moods.index(own.request.mood) + 1) % 4]

    def parts(own: Task) -> dict:
        return {**own.request._asdict(), "length": own.length}

    right = total(lambda own, other: wish(**parts(own)))
    changes = {
        "words": lambda a, b: wish(**parts(a) | {"words": b.request.words}),
        "end": lambda a, b: wish(**parts(a) | {"mood": ending(a)}),
        "length": lambda a, b: wish(
            **parts(a) | {"length": "long" if a.length == "short" else "short"}
        ),
    }
    found = {}
    for name, change in changes.items():
        more = total(change) - right
        margin = 1.96 * more.std() / math.sqrt(len(more))
        found[name] = {
            "nats": round(more.mean().item(), 3),
            "margin": round(margin.item(), 3),
        }
    return found | {"n": len(some)}


def answer_all(model, tokenizer, *, tiny: bool) -> dict:
    "Everything that is asked, in batches."

    def reply(kind: str, items: list[Task]) -> list[str]:
        found = []
        for start in range(0, len(items), 50):
            own = [x.messages for x in items[start : start + 50]]
            most = 300 if kind in TOLD else 20
            how = SAMPLING if kind in TOLD else Sampling(greedy=True)
            found += answers(
                model, tokenizer, own, max_tokens=most, sampling=how,
                generator=torch.Generator().manual_seed(start),
            )  # fmt: skip
        return found

    return judge_all(reply, tiny=tiny)


def untuned() -> dict:
    "What there is to be forgotten."
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    return {"before": forgetting(model, tokenizer)}


def shared(seed: int) -> dict | None:
    "Instructions that people wrote; nine in ten to learn from."
    folder = Path(os.environ.get("LLMFS_DATA", "nowhere"))
    path = folder / "instructions" / "instruction-data.json"
    if not path.is_file():
        return None
    pairs = {json.dumps(x): x for x in read_dialogs(path)}
    pairs = list(pairs.values())
    random.Random(seed).shuffle(pairs)
    held, learned = pairs[: len(pairs) // 10], pairs[len(pairs) // 10 :]
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    model, tokenizer = grow(model, tokenizer)
    found = [encode_dialog(tokenizer, x) for x in learned]
    before = {
        "held_out": loss_of(model, tokenizer, held),
        "learned": loss_of(model, tokenizer, learned[:100]),
    }
    rows, _ = fit(model, found, seed, STEPS // 3)
    after = {
        "held_out": loss_of(model, tokenizer, held),
        "learned": loss_of(model, tokenizer, learned[:100]),
    }
    result = {"learned": len(learned), "held_out": len(held)}
    for name, some in (("exact", held), ("exact_learned", learned[:100])):
        greedy = {"max_tokens": 60, "sampling": Sampling(greedy=True)}
        said = answers(model, tokenizer, [x[:-1] for x in some], **greedy)
        right = [x[-1]["content"] for x in some]
        pairs = list(zip(said, right, strict=True))
        result[name] = share([a.strip() == b for a, b in pairs])
        result[f"{name}_samples"] = [
            {"asked": x[0]["content"], "answer": a, "right": b}
            for x, (a, b) in zip(some[:6], pairs, strict=False)
        ]
    return result | {"before": before, "after": after, "steps": len(rows)}


@torch.no_grad()
def loss_of(model, tokenizer, dialogs: list) -> float:
    "Nats a token of the answers."
    model = model.float().eval()
    found = [encode_dialog(tokenizer, x) for x in dialogs]
    loader = DialogLoader(found, 8, model.config.context_len, epochs=1)
    total = count = 0
    for batch in loader:
        loss, n = dialog_loss(model, batch)
        total, count = total + loss.item() * n, count + n
    return round(total / count, 4)


# --------------------------------------------------------------------- arms


def arms() -> dict[str, Callable[[], dict | None]]:
    "A name, kind first, and what computes it."
    found = {"constant": constant, "untuned": untuned, "fewshot": fewshot}
    found["ngram"] = ngram
    for seed in SEEDS:
        found[f"tuned_{seed}"] = partial(tuned, seed)
    for seed in SEEDS:
        found[f"replay_{seed}"] = partial(tuned, seed, replay=True)
    for seed in SEEDS:
        found[f"shared_{seed}"] = partial(shared, seed)
    return found


def summarize(results: dict) -> dict:
    "Mean over seeds, and half of a 95 % interval by Student's t."
    kinds = defaultdict(list)
    for name, result in results.items():
        if "_" in name and "words" in result:
            kinds[name.rpartition("_")[0]].append(result)
    found = {}
    for kind, some in kinds.items():
        names = ("words", "end", "length", "all", "given", "told")
        names += ("single_words", "of_the_world")
        rows = {x: [part[x]["share"] for part in some] for x in names}
        for what in ("words", "end", "length"):
            rows[f"swapped_{what}"] = [
                x["swapped"][what]["nats"] for x in some
            ]
        for text in some[0]["forgetting"]:
            rows[f"bits_{text}"] = [
                part["forgetting"][text]["bits_per_byte"] for part in some
            ]
        found[kind] = {
            name: {"mean": round(statistics.mean(x), 4), "half": half(x)}
            for name, x in rows.items()
        }
    return found


def half(values: list[float]) -> float | None:
    "Half of a 95 % interval from the seeds; None for a single one."
    return interval(values)["margin"] if len(values) > 1 else None


def save(results: dict) -> None:
    "Write what there is."
    about = {"tasks": TASKS, "steps": STEPS, "rows": ROWS, "lr": ADAMW}
    about |= {"lr_muon": MUON}
    about |= {"asked": STORIES, "questions": QUESTIONS, "judged": JUDGED}
    about |= {"replayed": REPLAYED, "seeds": SEEDS, "temperature": 0.7}
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    content = {"date": now, "machine": machine(), "settings": about}
    content["machine"]["threads"] = torch.get_num_threads()
    content |= {"summary": summarize(results), "arms": results}
    text = json.dumps(content, indent=1, ensure_ascii=False)
    if not SMOKE:
        write_atomic(FILE, text + "\n", overwrite=True)


def main() -> None:
    "All arms that are asked for and not there yet."
    words = sys.argv[1:]
    results = {}
    if FILE.is_file() and not SMOKE and "--fresh" not in words:
        results = json.loads(FILE.read_text("utf-8"))["arms"]
    kinds = [x for x in words if not x.startswith("--")]
    for name, call in arms().items():
        kind = name.rpartition("_")[0] or name
        if name in results or (kinds and not {kind, name} & {*kinds}):
            continue
        start = time.perf_counter()
        found = call()
        if found is None:
            print(f"{name}: skipped, LLMFS_DATA has no instructions")
            continue
        results[name] = found
        save(results)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    save(results)
    rows = [("", "words", "end", "length", "all", "given", "told")]
    for name, result in results.items():
        if "words" in result:
            shares = [f"{result[x]['share']:.3f}" for x in rows[0][1:]]
            rows.append((name, *shares))
    table(rows)


if __name__ == "__main__":
    main()
