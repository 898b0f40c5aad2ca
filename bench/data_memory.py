"""How much memory, and how long, do token files take as the text grows?

Each run is a fresh process on a synthetic corpus: stories, one word in a
thousand replaced by a made-up name, so that new words never cease as in
real text. `ours` streams into a token file and opens it, `in_memory` reads
the text, encodes it and makes a tensor, as many tutorials do. What counts
is the resident memory of the process and its children together, looked at
five times a second. The largest corpus has the size of all of TinyStories.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import MB, ROOT, machine, record, table
from llm_from_scratch.files import END, corpus_name, load_stories
from llm_from_scratch.tokenization import BPETokenizer

FULL = 2_227_753_162  # bytes of TinyStories V2's training text
SIZES, NAIVE = (25 * MB, 100 * MB, 400 * MB, FULL), (25 * MB, 100 * MB)
VOCAB, LIMIT = 4096, 2000  # tokens; MB that the largest may take
OURS = """
import json, sys, time
from pathlib import Path
from llm_from_scratch.data import TokenLoader, write_tokens
from llm_from_scratch.tokenization import BPETokenizer

if __name__ == "__main__":
    text, folder = map(Path, sys.argv[1:])
    tokenizer, start = BPETokenizer.load(folder), time.perf_counter()
    file = write_tokens(folder / "tokens", text, tokenizer, overwrite=True)
    print(json.dumps({"seconds": time.perf_counter() - start, **file.header}))
"""
LOAD = """
import json, sys, time
from itertools import islice
from pathlib import Path
from llm_from_scratch.data import TokenLoader
from llm_from_scratch.token_files import TokenFile

file = TokenFile(Path(sys.argv[2]) / "tokens")
loader = TokenLoader(file, 32, 256)
batches = iter(loader)
next(batches)
start = time.perf_counter()
for x, y in islice(batches, 2000):
    pass
seconds = time.perf_counter() - start
lines = Path("/proc/self/status").read_text("utf-8").splitlines()
own = next(int(x.split()[1]) for x in lines if x.startswith("RssAnon"))
print(json.dumps({"seconds": seconds, "tokens": 2000 * 32 * 256,
                  "own_mb": own * 1024 / 1e6}))
"""
IN_MEMORY = """
import json, sys, time
from pathlib import Path
from llm_from_scratch.data import TokenDataset
from llm_from_scratch.tokenization import BPETokenizer

tokenizer, start = BPETokenizer.load(sys.argv[2]), time.perf_counter()
text = Path(sys.argv[1]).read_text(encoding="utf-8")
dataset = TokenDataset(tokenizer.encode(text, "all"), 256)
print(json.dumps({"seconds": time.perf_counter() - start,
                  "n_tokens": len(dataset.ids)}))
"""


def write_corpus(path: Path, stories: list[str], size: int) -> dict:
    "Stories, some words made up, until the file has `size` bytes."
    rng, written, count = random.Random(0), 0, 0
    with path.open("wb") as file:
        while written < size:
            words = rng.choice(stories).split(" ")
            if rng.random() < len(words) / 1000:
                place = rng.randrange(len(words))
                words[place] = "".join(rng.choices("aeiklmnorst", k=7))
            data = f"{' '.join(words)}\n{END}\n".encode()
            written += file.write(data)
            count += 1
    return {"bytes": written, "stories": count}


def resident(pid: int) -> int:
    "Bytes that a process and its children have in memory now."
    parents, own = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text("utf-8")
        except OSError:
            continue  # it has just ended
        fields = dict(
            x.split(":\t", 1) for x in status.splitlines() if ":\t" in x
        )
        number = int(folder.name)
        parents[number] = int(fields["PPid"])
        own[number] = int(fields.get("VmRSS", "0").split()[0]) * 1024
    family, grown = {pid}, True
    while grown:
        more = {p for p, q in parents.items() if q in family} - family
        family, grown = family | more, bool(more)
    return sum(own.get(p, 0) for p in family)


def measure(program: str, text: Path, folder: Path) -> dict:
    "Run a program in a fresh process; its JSON, and the peak in MB."
    script = folder / "program.py"  # spawned processes import it again
    script.write_text(program, encoding="utf-8")
    command = [sys.executable, str(script), str(text), str(folder)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=env
    ) as running:
        peak = 0
        while running.poll() is None:
            peak = max(peak, resident(running.pid))
            time.sleep(0.2)
        result = json.loads(running.stdout.read())
    return result | {"peak_mb": round(peak / MB, 1)}


def main() -> None:
    "Measure, print and record."
    parser = argparse.ArgumentParser()
    parser.add_argument("--largest", type=float, default=FULL, help="bytes")
    largest = int(parser.parse_args().largest)
    if not Path("/proc/self/status").exists():
        print("skipped: this benchmark reads Linux's /proc")
        return
    stories = [x.strip() for x in load_stories().split(END) if x.strip()]
    tokenizer = BPETokenizer.train(stories, VOCAB, special_tokens=[END])
    rows = [("text MB", "way", "peak MB", "seconds", "MB/s")]
    result = {
        "vocab_size": VOCAB,
        "workers": os.cpu_count(),
        "limit_mb": LIMIT,
    }
    result |= {"ours": [], "in_memory": []}
    with tempfile.TemporaryDirectory() as name:
        folder, text = Path(name), Path(name) / "corpus.txt"
        tokenizer.save(folder)
        for size in sorted({min(size, largest) for size in SIZES}):
            about = write_corpus(text, stories, size)
            ways = {"ours": OURS}
            if size in NAIVE:
                ways["in_memory"] = IN_MEMORY
            for way, program in ways.items():
                found = measure(program, text, folder)
                seconds = found["seconds"]
                speed = about["bytes"] / MB / seconds
                row = {"text_mb": round(about["bytes"] / MB, 1)}
                row |= {"stories": about["stories"]}
                row |= {"tokens": found["n_tokens"]}
                row |= {"peak_mb": found["peak_mb"]}
                row |= {"seconds": round(seconds, 1)}
                row |= {"mb_per_second": round(speed, 2)}
                result[way].append(row)
                rows.append((row["text_mb"], way, *list(row.values())[3:]))
                print(rows[-1], flush=True)
        files = [
            folder.glob(f"tokens*{end}") for end in ("json", "bin", "idx")
        ]
        sizes = [sum(x.stat().st_size for x in found) for found in files]
        found = measure(LOAD, text, folder)
        result["files_mb"] = dict(
            zip(("json", "bin", "idx"), (s / MB for s in sizes), strict=True)
        )
        speed = found["tokens"] / found["seconds"]
        result["loading"] = {
            "batch": [32, 256],
            "tokens_per_second": round(speed),
            "own_mb": round(found["own_mb"], 1),
        }
    last = result["ours"][-1]
    result["largest"] = last
    result["met"] = last["peak_mb"] < LIMIT
    table(rows)
    print(result["loading"], result["files_mb"], machine()["load"])
    about = {"name": f"synthetic, made from {corpus_name()}, train"}
    about |= {"bytes": int(last["text_mb"] * MB)}
    record("data_memory", about, result)


if __name__ == "__main__":
    main()
