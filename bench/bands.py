"""Record what the coffee preset reaches, by text read, from several seeds.

Each run goes for a fixed number of steps, so that the result does not
depend on the clock; short and long ones, because the end of a run
depends on its length. Runs are kept one by one in runs/bands.json, so
that the script can be stopped and called again; at the end it writes
llm_from_scratch/bands.json, which `check_my_run` reads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from bench._common import record
from llm_from_scratch.bands import BANDS
from llm_from_scratch.corpus import BUILT_IN, Corpus
from llm_from_scratch.devices import device_plan
from llm_from_scratch.presets import PRESETS, pretrain
from llm_from_scratch.run_folder import RunFolder

STEPS, SEEDS = (300, 1300), (0, 1, 2)
LEAST = 0.015  # bits per byte on either side, for other machines
RUNS = ROOT / "runs" / "bands.json"


def corpora() -> dict[str, Corpus]:
    "TinyStories if it is here, and the built-in world in any case."
    found = {}
    here = Corpus()
    if here.name == "TinyStories":
        found[here.name] = here
    before = dict(os.environ)
    os.environ.pop("LLMFS_DATA", None)
    os.environ["LLMFS_CACHE"] = tempfile.gettempdir()  # has no TinyStories
    found[BUILT_IN] = Corpus()
    os.environ.clear()
    os.environ.update(before)
    return found


def one(corpus: Corpus, steps: int, seed: int, dtype: str) -> dict:
    "Train once; the scores on the way and at the end."
    plan = device_plan(dtype=getattr(torch, dtype) if dtype else None)
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "run"
        options = {"corpus": corpus, "plan": plan, "steps": steps}
        result = pretrain(folder, PRESETS["coffee"], seed=seed, **options)
        rows = [row for row in RunFolder(folder).rows() if "valid" in row]
    return {"history": rows, "result": result}


def spread(values: list[float]) -> tuple[float, float]:
    "Three standard deviations round the mean, or what is least."
    width = max(3 * stdev(values) if len(values) > 1 else 0.0, LEAST)
    return round(mean(values) - width, 4), round(mean(values) + width, 4)


def bands_of(runs: list[dict]) -> dict[str, dict]:
    "Two bands: while the rate is at its peak, and at the end."
    points = {"stable": {}, "end": {}}
    for run in runs:
        rows = run["history"]
        total = rows[-1]["targets"]
        for row in rows[:-1]:
            if row["targets"] <= (1 - PRESETS["coffee"].decay) * total:
                where = points["stable"].setdefault(row["step"], [])
                where.append((row["targets"], row["valid"]))
        end = points["end"].setdefault(rows[-1]["step"], [])
        end.append((total, rows[-1]["valid"]))
    found = {}
    for name, steps in points.items():
        band = {"targets": [], "low": [], "high": []}
        for step in sorted(steps):
            targets, valid = zip(*steps[step], strict=True)
            low, high = spread(list(valid))
            band["targets"].append(round(mean(targets)))
            band["low"].append(low)
            band["high"].append(high)
        found[name] = band
    return found


def main() -> None:
    "Run what is missing, and write the bands."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="", help="instead of measuring")
    parser.add_argument("--only", type=int, help="runs in this call, at most")
    parser.add_argument("--corpus", help="only the one of this name")
    args = parser.parse_args()
    known = json.loads(RUNS.read_text("utf-8")) if RUNS.is_file() else {}
    runs = known.get("runs", {})
    left = args.only
    for name, corpus in corpora().items():
        for seed in SEEDS:
            for steps in STEPS:
                key = f"{name}, {steps} steps, seed {seed} {args.dtype}"
                done = key.strip() in runs or left == 0
                if done or args.corpus not in (None, name):
                    continue
                run = one(corpus, steps, seed, args.dtype)
                runs[key.strip()] = {"corpus": name, "seed": seed, **run}
                record("bands", {"names": [*corpora()]}, {"runs": runs})
                left = None if left is None else left - 1
    by_corpus: dict[str, list] = {}
    for run in runs.values():
        by_corpus.setdefault(run["corpus"], []).append(run)
    bands = {name: bands_of(found) for name, found in by_corpus.items()}
    text = json.dumps({"preset": "coffee", "bands": bands}, indent=1)
    BANDS.write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
