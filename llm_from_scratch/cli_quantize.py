"""`llmfs quantize`: store a model in few bits.

Knows options and how the result is told. Knows nothing of how numbers
are rounded: `quantization` does.
"""

import argparse
from pathlib import Path

from .cli_options import UserError, add_command, add_model, whole
from .terminal import size_in_words, tell


def add_quantize(commands) -> None:
    "`llmfs quantize`."
    parser = add_command(
        commands,
        "quantize",
        "store a model in 8 or 4 bits a number",
        "llmfs quantize --out small\n"
        'llmfs generate "Once upon a time" --model small',
        quantize,
        "The folder that it writes is read by all other commands; programs "
        "besides this one do not know it.",
    )
    add_model(parser)
    parser.add_argument(
        "--scheme",
        choices=("int8", "int8_dynamic", "int4", "nf4"),
        default="int4",
        help="of the matrices in blocks (default: %(default)s)",
    )
    parser.add_argument(
        "--table",
        choices=("float", "int8", "int4"),
        default="int8",
        help="of the token table and the head (default: %(default)s)",
    )
    parser.add_argument(
        "--group-size",
        type=whole(2),
        metavar="G",
        help="weights that share a scale (default: 32 for int4, 64 for nf4, "
        "a row for int8)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="quantized",
        help="the folder to write (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a folder in --out"
    )


def quantize(args: argparse.Namespace) -> None:
    "Load, round, write, and say how large it was and is."
    out = Path(args.out)
    if out.exists() and not args.overwrite:
        raise UserError(f"{out} exists already; add --overwrite to replace it")
    from . import quantization
    from .checkpoint import STORYTELLER, load_checkpoint
    from .quantized_files import save_quantized, storage

    config = quantization.QuantConfig(
        scheme=args.scheme, table=args.table, group_size=args.group_size
    )
    source = args.model or STORYTELLER
    consent = True if args.yes else None  # None: ask
    model, tokenizer, meta = load_checkpoint(source, consent=consent)
    if not hasattr(model, "blocks"):
        raise UserError(f"{source} is no language model of this package")
    small = quantization.quantize(model, config)
    meta.pop("format_version", None)
    known = {key: value for key, value in meta.items() if key != "scores"}
    save_quantized(out, small, tokenizer, meta=known, overwrite=args.overwrite)
    (numbers, old), (_, new) = map(storage, (model, small))
    print(
        f"{out}: {size_in_words(new)}, {8 * new / numbers:.2f} bits a number"
    )
    print(f"before: {size_in_words(old)}; in float32 it is "
          f"{4 * numbers / new:.1f} times as large")  # fmt: skip
    if tokenizer is None:
        tell(f"{source} holds no tokenizer.json, so {out} has none, either")
