"""Keep what a training run found: from its folder to `runs/`.

    llmfs pretrain --preset coffee --out coffee_run
    python tools/record_run.py coffee_run pretrain_coffee

writes `runs/pretrain_coffee.json`: machine, text, settings, result, and
the log, of which one step in five is kept and every evaluation.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench._common import record
from llm_from_scratch.run_folder import RunFolder

EVERY = 5  # steps


def thinned(rows: list[dict], every: int = EVERY) -> list[dict]:
    "One row in some, rounded, and every one with an evaluation."
    kept = []
    for row in rows:
        if row["step"] % every == 0 or "valid" in row:
            kept.append({k: round(v, 4) for k, v in row.items()})
    return kept


def main(arguments: list[str] | None = None) -> int:
    "Read a run's folder and write its record."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    args = parser.parse_args(arguments)
    run = RunFolder(args.folder)
    facts, rows = run.facts(), run.rows()
    result = json.loads((args.folder / "result.json").read_text("utf-8"))
    about = {"name": facts["text"]["corpus"]}
    settings = {"preset": facts["preset"], "plan": facts["plan"]}
    told = {"result": result, **settings, "history": thinned(rows)}
    record(args.name, about, told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
