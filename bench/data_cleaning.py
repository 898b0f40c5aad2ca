"""What does cleaning find in the real files, and how often?

The mojibake of TinyStories V1 is looked for in the first thousand rows as
published; the other steps and the duplicates in the V2 files.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import corpus, data_folder, record, stories, table
from llm_from_scratch.data import (
    clean_stories,
    find_duplicates,
    find_near_duplicates,
    jaccard,
    mend_mojibake,
    shingles,
)
from llm_from_scratch.files import END

V1 = "v1_first1000_with_mojibake.json"
V2 = 2_717_699  # stories in all of the training file
RUN = re.compile(r"[^\x00-\x7f]+")


def spoilt(rows: list[str]) -> dict[str, object]:
    "How much of V1 is mojibake, and what is left after mending."
    pairs = [mend_mojibake(row) for row in rows]
    before = Counter(RUN.findall("\n".join(rows)))
    after = Counter(RUN.findall("\n".join(text for text, _ in pairs)))
    found = {"rows": len(rows), "runs": before.total()}
    found |= {"mended": sum(n for _, n in pairs)}
    found |= {"rows_mended": sum(n > 0 for _, n in pairs)}
    found |= {"lost_third_byte": before["â€"]}
    return found | {"before": dict(before), "after": dict(after)}


def seconds_a_pair(texts: list[str], sample: int = 20_000) -> float:
    "How long comparing two stories takes."
    rng, sets = random.Random(0), [shingles(text) for text in texts]
    pairs = [rng.sample(sets, 2) for _ in range(sample)]
    start = time.perf_counter()
    for a, b in pairs:
        jaccard(a, b)
    return (time.perf_counter() - start) / sample


def main() -> None:
    "Count, print and record."
    text, held_out = stories("train"), stories("valid")
    parts = [part.strip() for part in text.split(END)]
    parts = [part for part in parts if part]
    counts = Counter()
    clean = list(clean_stories(parts, counts))
    start = time.perf_counter()
    near = {
        str(level): len(find_near_duplicates(clean, threshold=level))
        for level in (0.7, 0.5)
    }
    seconds = (time.perf_counter() - start) / len(near)
    valid = list(clean_stories(held_out.split(END)))
    both = find_near_duplicates(clean + valid, threshold=0.5)
    result = {"v1": {"file": V1}, "cleaning": dict(counts)}
    path = data_folder() / "tinystories" / V1
    if path.is_file():
        result["v1"] |= spoilt(json.loads(path.read_text("utf-8")))
    result["exact_groups"] = len(find_duplicates(clean))
    result["near_groups"] = near
    result["near_seconds"] = round(seconds, 1)
    each, n = seconds_a_pair(clean), len(clean)
    result["all_pairs_minutes"] = round(each * n**2 / 2 / 60, 1)
    result["all_pairs_days_of_v2"] = round(each * V2**2 / 2 / 86_400)
    result["across_splits"] = sum(
        min(group) < len(clean) <= max(group) for group in both
    )
    table(list(result.items()))
    record("data_cleaning", corpus("TinyStories V2, train", text), result)


if __name__ == "__main__":
    main()
