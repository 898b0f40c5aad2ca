"""`llmfs finetune`: teach a trained model something else.

Knows options and how a result is told. Knows nothing of how it is
learned: `finetuning` puts that together.
"""

import argparse
import json
import sys
from pathlib import Path

from . import terminal
from .cli_chat import add_instruct
from .cli_data import check_text
from .cli_options import Parser, UserError, add_command, add_model, whole
from .cli_pretrain import positive
from .terminal import plural, tell


def add_finetune(commands) -> None:
    "`llmfs finetune`, a group."
    parser = add_command(
        commands,
        "finetune",
        "teach a trained model something else",
        "llmfs finetune classify --data labels.csv\n"
        "llmfs finetune instruct --minutes 5 --out my_assistant",
    )
    kinds = parser.add_subparsers(title="commands", metavar="COMMAND")
    add_classify(kinds)
    add_instruct(kinds)


def add_classify(commands) -> None:
    "`llmfs finetune classify`."
    parser = add_command(
        commands,
        "classify",
        "let a model say one of several labels for a text",
        "llmfs finetune classify --data labels.csv",
        classify,
        "The table's first row names the columns. Beside the result stand "
        "the commonest label and a regression on words alone.",
    )
    parser.add_argument(
        "--data", metavar="FILE", required=True, help="a CSV file in UTF-8"
    )
    parser.add_argument(
        "--test",
        metavar="FILE",
        help="another one to judge by (default: a fifth of --data)",
    )
    for name, what in (("text", "read"), ("label", "learn")):
        parser.add_argument(
            f"--{name}",
            metavar="COLUMN",
            default=name,
            help=f"the column to {what} (default: %(default)s)",
        )
    add_model(parser)
    add_how(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="classifier",
        help="the folder of the classifier (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what is in --out"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, for programs"
    )


def add_how(parser: Parser) -> None:
    "How it is learned."
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--blocks",
        type=blocks,
        metavar="N",
        default=2,
        help="last blocks that learn, 0: the head alone, all: everything "
        "(default: %(default)s)",
    )
    what.add_argument(
        "--lora",
        type=whole(1),
        metavar="RANK",
        help="let adapters of this rank learn instead, beside all blocks; "
        "they are merged at the end",
    )
    parser.add_argument(
        "--epochs",
        type=whole(1),
        metavar="N",
        default=3,
        help="times through the table; a small one is seen more often "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--lr",
        type=positive,
        metavar="X",
        help="learning rate (default: what suits --blocks)",
    )
    parser.add_argument(
        "--context",
        type=whole(2),
        metavar="N",
        help="most tokens of a text (default: the model's context)",
    )
    parser.add_argument(
        "--keep",
        choices=("end", "start"),
        default="end",
        help="what to keep of a longer text (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        metavar="N",
        default=0,
        help="of all draws (default: %(default)s)",
    )


def blocks(text: str) -> int | None:
    "A reader of a whole number, or `all`."
    return None if text == "all" else whole(0)(text)


def classify(args: argparse.Namespace) -> None:
    "Train a classifier, and say what came of it."
    data = check_text(args.data)
    test = check_text(args.test) if args.test else None
    if Path(args.out).exists() and not args.overwrite:
        raise UserError(
            f"{args.out} exists already; add --overwrite to replace it"
        )
    from .finetuning import Wish
    from .finetuning import classify as run
    from .pretraining import NotFinite

    names = ("text", "label", "model", "blocks", "lora", "epochs", "lr")
    names += ("keep", "seed")
    asked = {name: getattr(args, name) for name in names}
    wish = Wish(data=data, test=test, context_len=args.context, **asked)
    shown = bool(sys.stderr and sys.stderr.isatty())
    try:
        result = run(
            wish,
            args.out,
            overwrite=args.overwrite,
            consent=True if args.yes else None,  # None: ask
            progress=shown,
            **({"say": tell} if shown else {}),
        )
    except NotFinite as error:
        raise UserError(
            f"{str(error).partition('. ')[0]}; nothing was written: try a "
            "lower --lr"
        ) from error
    if args.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return
    print(*describe(result), sep="\n")
    print(f"written to {args.out}; load_classifier and transformers read it")


def describe(result: dict) -> list[str]:
    "What `finetuning.classify` found, in lines."
    sign, texts = terminal.pick("±", "+-"), result["texts"]
    many = plural(len(result["names"]), "label")
    lines = [
        f"{many}: {', '.join(result['names'])}",
        f"{plural(texts['train'], 'text')} to learn from, "
        f"{texts['test']} to be judged by, {texts['tune']} for the "
        f"temperature, {result['temperature']:.2f}; {result['cut']} cut at "
        f"{result['context_len']} tokens",
    ]
    rows = {"classifier": result["classifier"], **result["baselines"]}
    for name, row in rows.items():
        lines.append(
            f"{name + ':':12} {100 * row['right']:5.1f} {sign} "
            f"{100 * row['margin']:.1f} % right, loss {row['loss']:.3f}, "
            f"calibration error {row['calibration']:.3f}"
        )
    return lines
