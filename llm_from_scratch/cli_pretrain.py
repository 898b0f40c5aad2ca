"""`llmfs pretrain` and `llmfs evaluate`: train a model, and judge one.

Knows options and how a result is told. Knows nothing of how training
works: `presets` puts it together.
"""

import argparse
import json
import sys
from pathlib import Path

from . import terminal
from .cli_data import check_text
from .cli_options import (
    Parser,
    UserError,
    add_command,
    add_model,
    json_path,
    whole,
)
from .terminal import plural, tell


def add_pretrain(commands) -> None:
    "`llmfs pretrain`."
    parser = add_command(
        commands,
        "pretrain",
        "train a tokenizer and a model from scratch",
        "llmfs pretrain --preset coffee --out my_run",
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
    add_text(parser)
    add_budget(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="run",
        help="the folder of the run (default: %(default)s)",
    )
    old = parser.add_mutually_exclusive_group()
    old.add_argument(
        "--resume", action="store_true", help="go on with the run in --out"
    )
    old.add_argument(
        "--overwrite", action="store_true", help="replace the run in --out"
    )


def add_text(parser: Parser) -> None:
    "What a model learns from."
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
        raise UserError(f"--valid {args.valid} needs --data, to train on")
    paths = [check_text(name) for name in args.data or ()]
    valid = check_text(args.valid) if args.valid else None
    from .judging import RESULT
    from .presets import Interrupted, Request
    from .presets import pretrain as run
    from .pretraining import NotFinite

    names = ("preset", "minutes", "steps", "seed", "device")
    asked = {name: getattr(args, name) for name in names}
    asked |= read_values(args)
    Request(**asked)  # cheap mistakes first
    if paths:
        from .corpus import Corpus

        asked["corpus"] = Corpus(paths, valid)
    finished = args.resume and (Path(args.out) / RESULT).is_file()
    shown = bool(sys.stderr and sys.stderr.isatty())
    options = {"resume": args.resume, "overwrite": args.overwrite}
    options |= {"progress": shown} | ({"say": tell} if shown else {})
    out = f'"{args.out}"' if " " in args.out else args.out
    try:
        result = run(args.out, **asked, **options)
    except Interrupted:
        again = f"llmfs pretrain --out {out} --resume"
        return tell(f"interrupted; to go on: {again}", 130)
    except NotFinite as error:
        raise UserError(
            f"{str(error).partition('. ')[0]}. The run is kept in {out}, but "
            "--resume would come to this again: begin a new one with another "
            "--seed, with --dtype float32, or with other --data"
        ) from error
    if finished:
        tell(f"{out} is finished; to train longer, begin a new run")
    for line in describe(result):
        print(line)
    print(f'try it: llmfs generate --model {out} "Once upon a time"')
    return 0


def read_values(args: argparse.Namespace) -> dict:
    "Options that name something to load."
    found = {}
    if args.dtype:
        import torch

        found["dtype"] = getattr(torch, args.dtype)
    if args.tokenizer is not None:
        from .corpus import check_marker
        from .tokenization import BPETokenizer

        path = check_text(str(json_path(args.tokenizer)))
        found["tokenizer"] = BPETokenizer.load(path)
        try:
            check_marker(found["tokenizer"])
        except ValueError as error:
            raise UserError(f"--tokenizer {path}: {error}") from error
    return found


def describe(result: dict) -> list[str]:
    "What `judging.conclude` found, in lines."
    from .judging import seen

    valid, train = result["valid"], result["train"]
    gap = valid["bits_per_byte"] - train["bits_per_byte"]
    minutes = result["seconds_of_steps"] / 60
    size = terminal.size_in_words(round(1e6 * result["megabytes"]))
    size = f"the first {size}" if result.get("text_left") else size
    lines = [
        f"{result['parameters']:,} parameters, {result['corpus']}, "
        f"{size}, {result['epochs']:.2f} epochs, "
        f"{plural(result['steps'], 'step')} in {minutes:.1f} minutes "
        f"({result['seconds_in_all'] / 60:.1f} with all else)",
        f"held out: {valid['bits_per_byte']:.3f} {terminal.pick('±', '+-')} "
        f"{valid['margin']:.3f} bits per byte on {valid['documents']} "
        f"documents ({result['truncated']} cut at the context)",
        f"{seen(result) + ':':9} {train['bits_per_byte']:.3f} bits per byte",
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
    add_model(parser)
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

    from .judging import judge_text

    data = check_text(args.data) if args.data else None
    score, facts = judge_text(
        args.model,
        data,
        args.documents,
        consent=True if args.yes else None,  # None: ask
    )
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
