"""How much memory does training take, beside Hugging Face's?

Each run is a fresh process that trains on the same file of 5 MB; what
counts is the process's peak resident memory, imports and all.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import (
    MB,
    ROOT,
    corpus,
    ratios,
    record,
    spread,
    stories,
    table,
)

SIZE, VOCAB, ROUNDS = 5 * MB, 10_000, 5
TARGET = 0.5
# Linux's ru_maxrss starts at the peak of the process that forked this one,
# so the status file comes first
PEAK = """
import resource, sys
from pathlib import Path
status = Path("/proc/self/status")
if status.exists():
    line = next(x for x in status.open() if x.startswith("VmHWM"))
    print(int(line.split()[1]) * 1024)
else:
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""
OURS = """
import sys
from pathlib import Path
from llm_from_scratch.tokenization import train_bpe
end = "<|endoftext|>"
train_bpe(Path(sys.argv[1]), int(sys.argv[2]), special_tokens=[end])
"""
HF = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
level = pre_tokenizers.ByteLevel
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = level(add_prefix_space=False)
trainer = trainers.BpeTrainer(
    vocab_size=int(sys.argv[2]), special_tokens=["<|endoftext|>"],
    initial_alphabet=level.alphabet(), show_progress=False)
"""
HF_FILE = HF + "tokenizer.train([sys.argv[1]], trainer)\n"
HF_DOCUMENTS = (
    HF
    + """
text = open(sys.argv[1], encoding="utf-8").read()
tokenizer.train_from_iterator(text.split("<|endoftext|>"), trainer)
"""
)
HF_STRING = (
    HF
    + """
text = open(sys.argv[1], encoding="utf-8").read()
tokenizer.train_from_iterator([text], trainer)
"""
)
PROGRAMS = {
    "ours": OURS,
    "hf_file": HF_FILE,
    "hf_documents": HF_DOCUMENTS,
    "hf_string": HF_STRING,
    "ours_import": "import llm_from_scratch.tokenization\n",
}


def peak(program: str, path: Path) -> int:
    "Peak resident memory of a fresh process, in bytes."
    done = subprocess.run(
        [sys.executable, "-c", program + PEAK, str(path), str(VOCAB)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return int(done.stdout)


def main() -> None:
    "Measure in turns, print and record."
    text = stories("train", SIZE)
    peaks: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        path.write_text(text, encoding="utf-8", newline="")
        for _ in range(ROUNDS):
            for name, program in PROGRAMS.items():
                peaks[name].append(peak(program, path) / MB)
    sums = {name: spread(values) for name, values in peaks.items()}
    best = min("hf_file", "hf_documents", key=lambda k: sums[k]["median"])
    ratio = ratios(peaks, "ours", best)
    table(
        [("process", "peak MB", "q1", "q3")]
        + [(name, *value.values()) for name, value in sums.items()]
        + [(f"ours / {best}", *ratio.values())]
    )
    result = {"vocab_size": VOCAB, "peak_mb": sums, "hf_smaller_way": best}
    result |= {"ratio_hf": ratio, "target": f"≤ {TARGET}"}
    for way in ("hf_file", "hf_documents", "hf_string"):
        result[f"ratio_{way}"] = ratios(peaks, "ours", way)
    result["met"] = ratio["median"] <= TARGET
    record("bpe_memory", corpus("TinyStories, train", text), result)


if __name__ == "__main__":
    main()
