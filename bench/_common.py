"""What the benchmarks share: the corpus, timing in turns, the record.

A speed is only ever given as a ratio to a peer that was measured in the
same run, in turns with ours, as a median with quartiles.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

# one thread for everybody, before any peer is imported
os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
MB = 1_000_000
PACKAGES = ("numpy", "regex", "tiktoken", "tokenizers", "rustbpe")


def data_folder() -> Path:
    "The folder with real text; without one the benchmark ends here."
    folder = Path(os.environ.get("LLMFS_DATA", "nowhere"))
    if not (folder / "tinystories" / "train.txt").is_file():
        print("skipped: LLMFS_DATA names no folder with tinystories")
        sys.exit(0)
    cache = folder / "tiktoken_cache"
    if cache.is_dir():
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(cache))
    return folder


def stories(split: str = "train", size: int | None = None) -> str:
    "TinyStories, the first `size` bytes of them, cut after a story."
    path = data_folder() / "tinystories" / f"{split}.txt"
    raw = path.read_bytes()
    if size is not None and size < len(raw):
        raw = raw[:size]
        end = b"<|endoftext|>\n"
        raw = raw[: raw.rindex(end) + len(end)]
    return raw.decode()


def python_code(size: int) -> str:
    "The standard library's source, file after file, `size` bytes of it."
    folder = Path(sysconfig.get_paths()["stdlib"])
    parts, left = [], size
    for path in sorted(folder.rglob("*.py")):
        if left <= 0:
            break
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        parts.append(text[:left])
        left -= len(parts[-1].encode())
    return "".join(parts)


def in_turns(
    calls: dict[str, Callable[[], object]],  # name → what to time
    rounds: int = 7,  # how often each is timed
    prepare: Callable[[], object] | None = None,  # untimed, before each
) -> dict[str, list[float]]:  # name → seconds
    "Time several calls in turns, so that a busy moment hits all of them."
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if prepare:
                prepare()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    "Median and quartiles."
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "median": round(middle, 4),
        "q1": round(low, 4),
        "q3": round(high, 4),
    }


def interval(values: list[float]) -> dict:
    "Mean, and half of a 95 % interval from the seeds (Student's t)."
    times = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}[len(values)]
    error = statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return {"mean": round(mean, 4), "margin": round(times * error, 4)}


def ratios(
    seconds: dict[str, list[float]], over: str, under: str
) -> dict[str, float]:
    "Seconds of one over seconds of another, round by round."
    pairs = zip(seconds[over], seconds[under], strict=True)
    return spread([a / b for a, b in pairs])


def machine() -> dict[str, object]:
    "Where the numbers come from."
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2)
        if hasattr(os, "getloadavg")
        else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "threads": 1,
    }


def corpus(name: str, text: str) -> dict[str, object]:
    "Which text it was."
    raw = text.encode()
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return {"name": name, "bytes": len(raw), "sha256": digest}


def record(name: str, about: dict, result: dict) -> None:
    "Write `runs/<name>.json`."
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    content = {"date": now, "machine": machine(), "corpus": about, **result}
    path = ROOT / "runs" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    print(f"→ {path.relative_to(ROOT)}")


def table(rows: list[tuple]) -> None:
    "Print rows in columns."
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    for row in text:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
