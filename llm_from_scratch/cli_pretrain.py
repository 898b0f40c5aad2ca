"""`llmfs pretrain` and `llmfs evaluate`: train a model, and judge one.

Knows options and how a result is told. Knows nothing of how training
works: `presets` puts it together.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from . import terminal
from .cli_options import Parser, UserError, add_command, whole
from .terminal import plural, tell


def add_pretrain(commands) -> None:
    "`llmfs pretrain`."
    parser = add_command(
        commands,
        "pretrain",
        "train a tokenizer and a model from scratch",
        "llmfs pretrain --preset coffee --out my_run\n"
        "llmfs generate --model my_run",
        pretrain,
        "Without --data: on TinyStories if this machine has it, else on the "
        "built-in story world. An interrupted run goes on with --resume.",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="a budget of time: coffee (7 minutes), hour, or gpu "
        "(default: coffee)",
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        nargs="+",
        help="UTF-8 text, documents ended by <|endoftext|>",
    )
    parser.add_argument(
        "--valid",
        metavar="FILE",
        help="text held out (default: one document in twenty)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="a tokenizer.json or a folder with one (default: train one)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="run",
        help="the folder of the run (default: %(default)s)",
    )
    add_budget(parser)
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the run in --out"
    )


def add_budget(parser: Parser) -> None:
    "How long, with which draws, and on what."
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes", type=positive, metavar="M", help="instead of the preset's"
    )
    budget.add_argument(
        "--steps", type=whole(1), metavar="N", help="instead of minutes"
    )
    parser.add_argument(
        "--seed", type=whole(0), metavar="N", help="of all draws (default: 0)"
    )
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, … (default: the fastest)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="how precisely to compute (default: what is measured faster)",
    )


def positive(text: str) -> float:
    "A reader of options that are numbers above 0."
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return value


def pretrain(args: argparse.Namespace) -> int:
    "Train, and say what came of it."
    if args.valid and not args.data:
        raise UserError("--valid needs --data")
    from .devices import device_plan
    from .presets import Corpus, find_preset
    from .presets import pretrain as run

    preset = None
    if args.preset or not args.resume:
        preset = find_preset(args.preset or "coffee")
    if args.minutes:
        preset = replace(preset or find_preset("coffee"), minutes=args.minutes)
    corpus = None
    if args.data:
        paths = [existing(name) for name in args.data]
        corpus = Corpus(paths, existing(args.valid) if args.valid else None)
    plan = None
    if args.device or args.dtype or not args.resume:
        dtype = as_dtype(args.dtype) if args.dtype else None
        plan = device_plan(args.device, dtype)
    shown = bool(sys.stderr and sys.stderr.isatty())
    options = {"resume": args.resume, "overwrite": args.overwrite}
    try:
        result = run(
            args.out,
            preset,
            corpus=corpus,
            tokenizer=read_tokenizer(args.tokenizer),
            plan=plan,
            steps=args.steps,
            seed=args.seed,
            progress=shown,
            **options,
        )
    except KeyboardInterrupt:
        if not (Path(args.out) / "latest").is_file():
            raise
        again = f"llmfs pretrain --out {args.out} --resume"
        return tell(f"interrupted; to go on: {again}", 130)
    for line in describe(result):
        print(line)
    print(f'llmfs generate --model {args.out} "Once upon a time"')
    return 0


def existing(name: str) -> Path:
    "A path that names a file; `UserError` for others."
    path = Path(name)
    if not path.is_file():
        raise UserError(f"there is no file {name}")
    return path


def as_dtype(name: str):
    "A dtype of torch."
    import torch

    return getattr(torch, name)


def read_tokenizer(name: str | None):
    "The tokenizer that was named, or None."
    if name is None:
        return None
    from .cli_options import json_path
    from .tokenization import BPETokenizer

    return BPETokenizer.load(existing(str(json_path(name))))


def describe(result: dict) -> list[str]:
    "What `presets.conclude` found, in lines."
    valid, train = result["valid"], result["train"]
    gap = valid["bits_per_byte"] - train["bits_per_byte"]
    minutes = result["seconds_of_steps"] / 60
    lines = [
        f"{result['parameters']:,} parameters, {result['corpus']}, "
        f"{result['megabytes']:.1f} MB, {result['epochs']:.2f} epochs, "
        f"{plural(result['steps'], 'step')} in {minutes:.1f} minutes "
        f"({result['seconds_in_all'] / 60:.1f} with all else)",
        f"held out: {valid['bits_per_byte']:.3f} {terminal.pick('±', '+-')} "
        f"{valid['margin']:.3f} bits per byte on {valid['documents']} "
        f"documents ({result['truncated']} cut at the context)",
        f"seen:     {train['bits_per_byte']:.3f} bits per byte",
    ]
    if result["memorising"]:
        lines.append(
            f"the gap of {gap:.3f} says that it memorises: give more text, or "
            "less time"
        )
    return lines


def add_evaluate(commands) -> None:
    "`llmfs evaluate`."
    parser = add_command(
        commands,
        "evaluate",
        "say how well a model predicts text, in bits per byte",
        "llmfs evaluate --documents 100",
        judge,
        "One document a window, from <|endoftext|> on, cut at the context.",
    )
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="a checkpoint or a run (default: the storyteller)",
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="UTF-8 text (default: the validation stories of this machine)",
    )
    parser.add_argument(
        "--documents",
        type=whole(2),
        metavar="N",
        default=1000,
        help="the first so many, at most (default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, for programs"
    )


def judge(args: argparse.Namespace) -> None:
    "Measure a model, and print its score with an interval."
    from dataclasses import asdict

    from .presets import judge_text

    data = existing(args.data) if args.data else None
    score, facts = judge_text(args.model, data, args.documents)
    if args.json:
        print(json.dumps(asdict(score) | facts, indent=2))
        return
    print(
        f"{score.bits_per_byte:.3f} {terminal.pick('±', '+-')} "
        f"{score.margin:.3f} bits per byte "
        f"({score.loss:.3f} nats a token) on "
        f"{plural(score.documents, 'document')} of {facts['text']}, "
        f"{facts['truncated']} cut at {facts['context_len']} tokens"
    )
