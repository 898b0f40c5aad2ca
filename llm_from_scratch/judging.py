"""What models are worth: scores on documents, the result of a run, a card.

Knows which documents the book judges on, and how that is told. Knows
nothing of how models are trained.
"""

import json
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

import torch
from torch import nn

from .checkpoint import STORYTELLER, load_checkpoint
from .corpus import Corpus
from .data import TokenLoader, Windows, read_stories, write_tokens
from .devices import DevicePlan, device_plan
from .files import write_atomic
from .run_folder import RunFolder, step_name
from .scoring import Score, evaluate, write_margin
from .terminal import plural, size_in_words
from .token_files import TokenFile

RESULT, CARD = "result.json", "model_card.md"  # of a finished run
MEMORISING = 0.1  # bits per byte: a wider gap is called that
JUDGED = 1000  # documents of each side


def measure(
    model: nn.Module,  # with a `config`
    file: TokenFile,  # documents
    n_documents: int = JUDGED,  # the first so many, at most
) -> Score:  # bits per byte with an interval
    "The book's metric: a document a window, cut at the context."
    n, length = min(n_documents, len(file)), model.config.context_len
    options = {"mode": "documents", "shuffle": False, "epochs": 1}
    loader = TokenLoader(file, 8, length, n_documents=n, **options)
    return evaluate(model, loader, file.document_bytes(n, length))


def truncated(
    file: TokenFile,  # documents
    context_len: int,  # of the model
    n_documents: int = JUDGED,  # the first so many, at most
) -> int:  # documents of `measure` that are cut
    "How many documents are not judged to their end."
    n = min(n_documents, len(file))
    return Windows(file, context_len, "documents", n).waste()["truncated"]


def conclude(
    store: RunFolder,  # of a run that came to its end
    rows: list[dict],  # its log
    facts: dict,  # of the run
    prepared: tuple,  # tokenizer, text to train on, text held out
    plan: DevicePlan,  # how to compute
    start: float,  # when this process began with it
) -> dict:  # what was found
    "Judge the best checkpoint, and write down what it is and what it cost."
    begun = time.perf_counter()
    model, _, meta = load_checkpoint(store.path, dtype=plan.dtype)
    plan.place(model)
    with plan.activate():
        train, valid = (measure(model, file) for file in prepared[1:])
    last, now = last_row(store, rows), time.perf_counter()
    epochs = last["targets"] / len(prepared[1].tokens)
    found = judged(model, train, valid, prepared[2], epochs)
    parts = facts["prepared"] + last["seconds"] + last.get("outside", 0)
    result = found | {
        "preset": facts["preset"]["name"],
        "corpus": facts["text"]["corpus"],
        "licence": facts["text"]["licence"],
        "best_step": meta["step"],
        "steps": last["step"],
        "targets": last["targets"],
        "epochs": round(epochs, 3),
        "megabytes": prepared[1].header["text_bytes"] / 1e6,
        "text_left": facts.get("text_left", False),
        "seconds_of_steps": last["seconds"],
        # of a resumed run, earlier processes are counted by their parts
        "seconds_in_all": round(max(parts + now - begun, now - start), 1),
        "plan": f"{plan.device}, {plan.name}",
        "compile": plan.compile,
        "threads": torch.get_num_threads(),
    }
    write_atomic(store.path / CARD, describe_model(result))
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    write_atomic(store.path / RESULT, text)
    return result


def last_row(
    store: RunFolder,  # of a run that came to its end
    rows: list[dict],  # its log, perhaps damaged
) -> dict:  # with step, targets, seconds, outside
    "What the log says of the end; if that is lost, what was saved."
    if rows and step_name(rows[-1]["step"]) == store.pointer("latest"):
        return rows[-1]
    return store.newest()[1]


def judged(
    model: nn.Module,  # with a `config`
    train: Score,  # on text to train on
    valid: Score,  # on text held out
    held_out: TokenFile,  # that text
    epochs: float,  # how often the text to train on was read
) -> dict:  # JSON can hold it
    "Scores and sizes. What was not yet read as a whole is not memorised."
    gap, config = valid.bits_per_byte - train.bits_per_byte, model.config
    return {
        "valid": asdict(valid),
        "train": asdict(train),
        "memorising": gap > MEMORISING and epochs >= 1,
        "truncated": truncated(held_out, config.context_len),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": config.vocab_size,
        "context_len": config.context_len,
    }


def describe_model(
    result: dict,  # of `conclude`
) -> str:  # Markdown
    "A model card: what it is, what it cost, what it is good for."
    valid, train = (in_words(result[side]) for side in ("valid", "train"))
    minutes = result["seconds_of_steps"] / 60
    in_all = result["seconds_in_all"] / 60
    size = size_in_words(round(1e6 * result["megabytes"]))
    left = "; more was left" if result.get("text_left") else ""
    about = f"""Trained from scratch with `llmfs pretrain`, preset
        {result["preset"]}: a dense Qwen3 with a byte-level BPE of
        {result["vocab_size"]:,} tokens, for texts of up to
        {result["context_len"]:,} tokens."""
    points = {
        "Text": f"{result['corpus']}, {size}, read {result['epochs']:.2f} "
        f"times{left}. Its licence: {result['licence']}.",
        "Training": f"{plural(result['steps'], 'step')}, "
        f"{result['targets']:,} tokens, {minutes:.1f} minutes of steps, "
        f"{in_all:.1f} with all else, on {result['plan']}, "
        f"{plural(result['threads'], 'thread')}. These are the weights "
        f"after step {result['best_step']:,}, the best by validation.",
        "Scores": "bits per byte, lower is better, with 95 % intervals: "
        f"held out: {valid}; {seen(result)}: {train}; "
        f"{result['truncated']} of those held out were cut at the context.",
        "Use": "it goes on with texts like those it was trained on. What it "
        "says is invented; it knows nothing else and follows no orders.",
    }
    told = "".join(
        fill(f"- **{name}**: {text}", 79, subsequent_indent="  ") + "\n"
        for name, text in points.items()
    )
    title = f"# A language model of {result['parameters']:,} parameters"
    return f"{title}\n\n{fill(' '.join(about.split()), 79)}\n\n{told}"


def seen(
    result: dict,  # of `conclude`
) -> str:
    "What to call text to train on: some of it may be new to the model."
    if result["epochs"] >= 1:
        return "seen"
    return f"training text, read {result['epochs']:.2f} times"


def in_words(
    score: dict,  # of `asdict`
) -> str:
    "A score with its interval."
    rate = f"{score['bits_per_byte']:.3f} ± {write_margin(score['margin'])}"
    return f"{rate} on {plural(score['documents'], 'document')}"


def judge_text(
    source: str | Path | None = None,  # a model; None: the storyteller
    path: str | Path | None = None,  # a text; None: validation stories here
    n_documents: int = JUDGED,  # the first so many, at most
    *,
    consent: bool | None = None,  # to download; None: ask in a terminal
) -> tuple[Score, dict]:  # and what was judged on
    """Score a model on text of any length, one document after another.

    Computes in float32 unless the weights have fewer bits and fewer are
    faster. Raises `ValueError` for a model without a tokenizer and for a
    text without two documents.
    """
    model, tokenizer, _ = load_checkpoint(
        source or STORYTELLER, consent=consent
    )
    if tokenizer is None:
        raise ValueError(f"{source} holds no tokenizer.json to read text by")
    name = Path(path).name if path else ""
    texts = read_stories(path) if path else None
    if texts is None:
        corpus = Corpus()
        name, (_, texts) = f"{corpus.name}, held out", corpus.documents()
    documents = list(islice(texts, n_documents))
    if len(documents) < 2:
        raise ValueError(
            f"{name} holds {len(documents)} documents: an interval needs two "
            "or more"
        )
    exact = next(model.parameters()).dtype == torch.float32
    plan = device_plan(dtype=torch.float32 if exact else None)
    model = plan.prepare(model)
    length = model.config.context_len
    with TemporaryDirectory() as folder, plan.activate():
        file = write_tokens(Path(folder) / "text", documents, tokenizer)
        score = measure(model, file, n_documents)
        cut = truncated(file, length, n_documents)
        del file  # unmaps it, so that the folder can go on Windows
    return score, {"text": name, "truncated": cut, "context_len": length}
