"""Which numbers of a training run matter, and how much?

A small GPT learns TinyStories, always from the same number of tokens.
One number at a time is changed from a common middle, each value from
three seeds (first weights and order of the text). What counts is the
loss on held-out stories. Every run is stored as soon as it is done, so
that a stopped measurement goes on where it was: `hyperparameters.py`
again. `hyperparameters.py --fresh` begins anew.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import MB, ROOT, corpus, machine, stories, table
from llm_from_scratch.attention import attend_fused, set_attention
from llm_from_scratch.data import TokenLoader, Windows, write_tokens
from llm_from_scratch.files import END, write_atomic
from llm_from_scratch.gpt import GPT, GPTConfig, count_parameters
from llm_from_scratch.pretraining import TrainConfig, next_token_loss, train
from llm_from_scratch.tokenization import BPETokenizer

FILE = ROOT / "runs" / "hyperparameters.json"
SEEDS = [0, 1, 2]
SIZE = 6 * MB  # of text, more than a run reads
VOCABULARY, CONTEXT = 1024, 64
TOKENS = 1 << 19  # that each run learns from
HELD_OUT = 400  # windows
MIDDLE = {
    "lr": 0.004,
    "batch_size": 16,
    "warmup": 50,
    "weight_decay": 0.1,
    "decay": 0.4,
    "clip": 1.0,
    "depth_x_width": "3x96",
}
KNOBS = {  # every value that is tried, the middle's too, in order
    "lr": [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016],
    "batch_size": [4, 8, 16, 32, 64],
    "warmup": [0, 10, 50, 200],
    "weight_decay": [0.0, 0.01, 0.1, 1.0],
    "decay": [0.0, 0.1, 0.4, 0.8],
    "clip": [0.0, 0.1, 1.0],  # 0: any length
    "depth_x_width": ["1x160", "3x96", "6x64", "12x48"],
}


def arms() -> list[tuple[str, object, dict]]:
    "Knob, its value, and all settings."
    found = [("middle", None, MIDDLE)]
    for knob, values in KNOBS.items():
        found += [
            (knob, value, MIDDLE | {knob: value})
            for value in values
            if value != MIDDLE[knob]
        ]
    wide = {"depth_x_width": "1x160", "warmup": 200}  # which needs both
    return [*found, ("with_long_warmup", "1x160", MIDDLE | wide)]


def model_of(shape: str, seed: int) -> GPT:
    "Depth x width, with heads of 16 channels."
    depth, width = map(int, shape.split("x"))
    config = GPTConfig(
        vocab_size=VOCABULARY,
        context_len=CONTEXT,
        n_layer=depth,
        n_head=width // 16,
        n_embd=width,
    )
    model = GPT(config, generator=torch.Generator().manual_seed(seed))
    set_attention(model, attend_fused)
    return model


def run(settings: dict, seed: int, files: tuple) -> dict:
    "One run; its loss on held-out text and the way there."
    started = time.perf_counter()
    settings = dict(settings)
    size = settings.pop("batch_size")
    model = model_of(settings.pop("depth_x_width"), seed)
    steps = TOKENS // (size * CONTEXT)
    # a warm-up is counted in steps of the middle's size
    settings["warmup"] *= MIDDLE["batch_size"] / size
    config = TrainConfig(steps=steps, evaluations=4, **settings)
    windows = Windows(files[1], CONTEXT)
    x, y = windows.batch(range(HELD_OUT))

    @torch.no_grad()
    def validate(model: GPT) -> float:
        pairs = zip(x.split(50), y.split(50), strict=True)
        losses = [next_token_loss(model, pair)[0].item() for pair in pairs]
        return statistics.fmean(losses)

    loader = TokenLoader(files[0], size, CONTEXT, seed=seed)
    rows = train(model, loader, config, validate=validate, progress=False)
    return {
        "seed": seed,
        "valid": round(rows[-1]["valid"], 4),
        "best": round(min(r["valid"] for r in rows if "valid" in r), 4),
        "parameters": count_parameters(model.config),
        "seconds": round(time.perf_counter() - started, 1),
    }


def write(about: dict, settings: dict, runs: dict) -> None:
    "The record, of what is there so far."
    rows = []
    for knob, value, _ in arms():
        done = [runs[key(knob, value, seed)] for seed in SEEDS
                if key(knob, value, seed) in runs]  # fmt: skip
        if len(done) == len(SEEDS):
            finals = [one["valid"] for one in done]
            row = {"knob": knob, "value": value, "valid": finals}
            row |= {"mean": round(statistics.fmean(finals), 4)}
            rows.append(row | {"std": round(statistics.stdev(finals), 4)})
    wanted = len(arms()) * len(SEEDS)
    record = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "corpus": about,
        "torch": torch.__version__.split("+")[0],
        **settings,
        "complete": len(runs) == wanted,
        "hours": round(sum(r["seconds"] for r in runs.values()) / 3600, 2),
        "arms": rows,
        "runs": runs,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    write_atomic(FILE, text)


def key(knob: str, value: object, seed: int) -> str:
    "The name of a run in the record."
    return f"{knob} {value} {seed}"


def main() -> None:
    "All runs that are not in the record yet, arm by arm."
    torch.set_num_threads(1)  # as every benchmark here
    train_text, held = stories("train", SIZE), stories("valid", MB // 2)
    about = corpus("TinyStories, train", train_text)
    tokenizer = BPETokenizer.train(
        train_text, VOCABULARY, special_tokens=[END]
    )
    settings = {
        "task": "held-out loss in nats a token, after equal tokens",
        "tokens": TOKENS,
        "vocabulary": VOCABULARY,
        "context": CONTEXT,
        "held_out_tokens": HELD_OUT * CONTEXT,
        "seeds": SEEDS,
        "middle": MIDDLE,
        "knobs": KNOBS,
    }
    runs = {}
    if FILE.exists() and "--fresh" not in sys.argv:
        old = json.loads(FILE.read_text("utf-8"))
        same = all(old.get(name) == value for name, value in settings.items())
        if not same or old["corpus"] != about:
            raise SystemExit(
                "the record was made with other settings; pass --fresh"
            )
        runs = old["runs"]
    place = Path(tempfile.mkdtemp())
    texts = {"train": train_text, "held": held}
    files = tuple(
        write_tokens(place / name, text.split(END)[:-1], tokenizer, workers=1)
        for name, text in texts.items()
    )
    for knob, value, chosen in arms():
        for seed in SEEDS:
            name = key(knob, value, seed)
            if name not in runs:
                runs[name] = run(chosen, seed, files)
                print(name, runs[name], flush=True)
                write(about, settings, runs)
    rows = [("knob", "value", "held out", "seeds")]
    for arm in json.loads(FILE.read_text("utf-8"))["arms"]:
        shown = f"{arm['mean']:.3f} ± {arm['std']:.3f}"
        rows.append((arm["knob"], arm["value"], shown, arm["valid"]))
    table(rows)


if __name__ == "__main__":
    main()
