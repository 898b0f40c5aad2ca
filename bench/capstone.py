"""The whole chain by commands: text, tokenizer, model, answers, few bits.

Runs `llmfs` in an empty folder, as a reader would. `mine` begins with
nothing but the story world; `storyteller` with the shipped model. Kept of
each command: its words, seconds, memory and lines; of each model: the
bytes of its weights, and bits per byte of held-out stories. Then three
models are asked what chapter 13 asks, and graded by rule: the one that was
never tuned, the tuned one, and the same in 4 bits. The tuned one is also
opened by transformers, and the smallest one is talked to by `llmfs chat`.

    python -m bench.capstone [mine] [storyteller] [--quick] [--out FILE]

`--quick` takes seconds for each step, and keeps nothing unless `--out`
says where.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench._common import ROOT, machine, record
from bench.quantization import compared
from llm_from_scratch.checkpoint import STORYTELLER, load_checkpoint
from llm_from_scratch.data import TokenLoader, read_stories, write_tokens
from llm_from_scratch.generation import Sampling
from llm_from_scratch.instructions import (
    STOP,
    EndingJudge,
    Task,
    answers,
    grade,
    grow,
    prompt_ids,
    question_task,
    story_task,
    wilson,
)
from llm_from_scratch.quantized_files import storage
from llm_from_scratch.scoring import document_losses
from llm_from_scratch.stories import StoryWorld

JUDGED = 300  # stories held out, for bits per byte
VALID = f"data stories --count {JUDGED} --split valid --out valid.txt"
CHAINS = {
    "mine": [
        "data stories --count 20000 --out stories.txt",
        VALID,
        "tokenizer train stories.txt --vocab-size 2048 --out tokenizer.json",
        "pretrain --data stories.txt --valid valid.txt "
        "--tokenizer tokenizer.json --out model",
        "finetune instruct --model model --out assistant",
        "quantize --model assistant --scheme int4 --out small",
    ],
    "storyteller": [
        VALID,
        "finetune instruct --out assistant",
        "quantize --model assistant --scheme int4 --out small",
    ],
}
QUICK = {"pretrain": " --steps 3", "finetune": " --steps 3 --batch 2"}
TALK = [  # what is typed into `llmfs chat`
    "Tell a story with these words: Lily, kite, hill. The end: happy.",
    "Who is the story about?",
    "Where does it happen?",
    "How does Lily feel in the end?",
    "Who are you?",
    "What is two plus two?",
]
# unseen, and those of bench/instructions.py, so that shares compare
ASKED, TASKS, SHOWN = 30_000_000, 100, 10
DRAWN, CERTAIN = Sampling(temperature=0.7), Sampling(greedy=True)
# a process between: a child's peak begins at that of who started it, and
# this one has loaded torch
METER = """
import subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
except ImportError:
    peak = 0
open(sys.argv[1], "w").write(str(peak))
sys.exit(code)
"""


# ----------------------------------------------------------------- commands


def llmfs(folder: Path, words: str, typed: str = "") -> dict:
    "Run a command: what it says, its seconds, and its memory at most."
    note = folder / "memory"
    command = [sys.executable, "-c", METER, str(note)]
    command += [sys.executable, "-m", "llm_from_scratch", *shlex.split(words)]
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, input=typed, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        encoding="utf-8",
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"llmfs {words}\n{done.stderr[-2000:]}")
    memory = int(note.read_text("utf-8") or 0) or None
    note.unlink()
    return {"command": f"llmfs {words}", "seconds": round(seconds, 2),
            "memory": memory,
            "told": done.stdout.strip().splitlines()}  # fmt: skip


# -------------------------------------------------------------------- bills


def quality(folder: Path, name: str, count: int) -> dict:
    "Bits per byte of held-out stories, and what the weights take."
    source = f" --model {name}" if (folder / name).is_dir() else ""
    words = f"evaluate{source} --data valid.txt --documents {count} --json"
    found = json.loads("\n".join(llmfs(folder, words)["told"]))
    place = folder / name if source else STORYTELLER
    numbers, kept = storage(load_checkpoint(place)[0])
    return found | {"numbers": numbers, "weights": kept}


def floor(documents: list[str]) -> float:
    "Bits per byte that the grammar itself needs for these stories."
    world = StoryWorld()
    bits = -sum(map(world.log_prob, documents)) / math.log(2)
    return bits / sum(len(x.encode()) for x in documents)


def added(folder: Path, documents: list[str]) -> dict:
    "What 4 bits add, story by story: bits per byte, with an interval."
    nats = []
    for name in ("assistant", "small"):
        place = folder / name
        model, tokenizer, _ = load_checkpoint(place, dtype=torch.float32)
        file = write_tokens(folder / "judged", documents, tokenizer)
        length = model.config.context_len
        how = {"mode": "documents", "shuffle": False, "epochs": 1}
        loader = TokenLoader(file, 8, length, **how)
        nats.append(document_losses(model, loader)[0])
        sizes = file.document_bytes(len(file), length)
        del file
        for path in folder.glob("judged*"):
            path.unlink()
    base, bits = (x / math.log(2) for x in nats)
    sizes = torch.as_tensor(list(sizes), dtype=torch.double)
    found = compared(bits, base, sizes)
    return {"bits_per_byte": found["more"], "margin": found["more_margin"],
            "share": found["more_share"]}  # fmt: skip


# ------------------------------------------------------------------ answers


def asked(count: int) -> dict[str, list[Task]]:
    "Wishes, and questions about stories that are given or were told."
    world, own = StoryWorld(), range(ASKED, ASKED + count)
    seeds = range(ASKED + 10_000, ASKED + 10_000 + count)
    return {
        "wishes": [story_task(world, x) for x in own],
        "given": [question_task(world, x) for x in seeds],
        "told": [question_task(world, x, told=True) for x in seeds],
    }


def judged(model, tokenizer, tasks: dict, judge: EndingJudge) -> dict:
    "Ask everything, and grade it."
    found = {}
    for kind, items in tasks.items():
        most, how = (300, DRAWN) if kind == "wishes" else (20, CERTAIN)
        start, said = time.perf_counter(), []
        for i in range(0, len(items), 50):
            said += answers(
                model, tokenizer, [x.messages for x in items[i : i + 50]],
                max_tokens=most, sampling=how,
                generator=torch.Generator().manual_seed(i),
            )  # fmt: skip
        seconds = time.perf_counter() - start
        pairs = list(zip(items, said, strict=True))
        shares = count_up([grade(*pair, judge) for pair in pairs])
        if kind == "wishes":
            each = [
                {"each word": word.casefold() in text.casefold()}
                for task, text in pairs
                for word in task.request.words
            ]
            shares |= count_up(each)
        samples = [show(*pair, judge) for pair in pairs[:SHOWN]]
        found[kind] = {"shares": shares, "samples": samples,
                       "seconds": round(seconds, 2)}  # fmt: skip
    return found


def show(task: Task, text: str, judge: EndingJudge) -> dict:
    "An answer, whole, and its grades."
    return {"asked": task.messages[-1]["content"], "answer": text,
            "right": None if task.request else task.answer,
            "met": grade(task, text, judge)}  # fmt: skip


def count_up(graded: list[dict]) -> dict:
    "How often each thing that was asked for was met, with intervals."
    found = {}
    for what in dict.fromkeys(key for row in graded for key in row):
        hits = [row[what] for row in graded if what in row]
        low, high = wilson(sum(hits), len(hits))
        found[what] = {"share": sum(hits) / len(hits), "n": len(hits),
                       "low": low, "high": high}  # fmt: skip
    return found


def ask_all(folder: Path, base: Path, count: int, judge: EndingJudge) -> dict:
    "The untuned model, the tuned one, and the same in 4 bits."
    tasks, found = asked(count), {}
    for name in ("untuned", "assistant", "small"):
        source = base if name == "untuned" else folder / name
        model, tokenizer, _ = load_checkpoint(source, dtype=torch.float32)
        if name == "untuned":
            model, tokenizer = grow(model, tokenizer)
        found[name] = judged(model.eval(), tokenizer, tasks, judge)
        for kind, row in found[name].items():
            told = {k: round(x["share"], 2) for k, x in row["shares"].items()}
            print(f"{name:10} {kind:7} {row['seconds']:5.0f} s {told}",
                  flush=True)  # fmt: skip
    return found


@torch.no_grad()
def peers(folder: Path, count: int) -> dict | None:
    "Whether transformers says the same with the tuned folder; None: missing."
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        return None
    model, tokenizer, _ = load_checkpoint(folder, dtype=torch.float32)
    their_tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    stop, same, prompts, apart = STOP, 0, 0, 0.0
    items = asked(count)["told"]
    for task in items:
        asks = {"add_generation_prompt": True, "return_tensors": "pt"}
        told = their_tokenizer.apply_chat_template(
            task.messages, return_dict=True, **asks
        )
        ids = told["input_ids"]
        prompts += ids[0].tolist() == prompt_ids(tokenizer, task.messages)
        gap = (theirs(ids).logits - model(ids)).abs().max().item()
        apart = max(apart, gap)
        how = {"do_sample": False, "max_new_tokens": 20}
        new = theirs.generate(**told, **how)[0, ids.shape[1] :]
        text = their_tokenizer.decode(new).partition(stop)[0].strip()
        how = {"max_tokens": 20, "sampling": CERTAIN}
        same += [text] == answers(model, tokenizer, [task.messages], **how)
    return {"n": len(items), "prompts": prompts, "answers": same,
            "scores_apart": apart}  # fmt: skip


# --------------------------------------------------------------------- runs


def run(name: str, quick: bool) -> dict:
    "One chain, in a folder of its own."
    count, several = (20, 4) if quick else (JUDGED, TASKS)
    judge = EndingJudge.of(StoryWorld(), 60 if quick else 2000)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        steps, models = [], {}
        for words in CHAINS[name]:
            more = QUICK.get(words.split()[0], "") if quick else ""
            if quick:
                words = words.replace("20000", "2000")
            step = llmfs(folder, words + more)
            steps.append(step | {"command": f"llmfs {words}"})
            last = step["told"][-1] if step["told"] else ""
            print(f"{step['seconds']:6.1f} s  {words}\n{last:>12}", flush=True)
            if words == VALID and name == "storyteller":
                models[name] = quality(folder, name, count)
            made = words.rsplit("--out ")[-1]
            if (folder / made).is_dir():
                models[made] = quality(folder, made, count)
        documents = list(read_stories(folder / "valid.txt"))[:count]
        base = folder / "model" if name == "mine" else STORYTELLER
        words = "chat --model small --temperature 0.7 --seed 1"
        talk = llmfs(folder, words, "\n".join(TALK) + "\n")
        print(*talk["told"], sep="\n", flush=True)
        return {
            "steps": steps,
            "models": models,
            "documents": count,
            "floor": floor(documents),
            "added": added(folder, documents),
            "talk": talk | {"typed": TALK},
            "asked": ask_all(folder, base, several, judge),
            "transformers": peers(folder / "assistant", several // 2),
            "load": machine()["load"],
        }


def main() -> None:
    "Run the chains that are named, and keep what they told."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chains", nargs="*", help="of " + ", ".join(CHAINS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="not into runs/")
    options = parser.parse_args()
    path = options.out or ROOT / "runs" / "capstone.json"
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    kept = kept.get("chains", {})
    for name in options.chains or CHAINS:
        kept[name] = run(name, options.quick)
        kept = {key: kept[key] for key in CHAINS if key in kept}
        where = machine() | {"threads": torch.get_num_threads()}
        result = {"machine": where, "tasks": TASKS, "chains": kept}
        if options.out:
            text = json.dumps(result, indent=1, ensure_ascii=False)
            path.write_text(text + "\n", "utf-8")
        elif not options.quick:
            record("capstone", {"name": "the story world"}, result)


if __name__ == "__main__":
    main()
