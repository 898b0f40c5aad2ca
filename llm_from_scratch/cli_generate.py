"""`llmfs generate`: let a model tell something."""

import argparse
import math
from collections.abc import Callable
from contextlib import suppress

from .cli_options import (
    Parser,
    UserError,
    add_command,
    add_model,
    whole,
)
from .files import END
from .terminal import tell

SMALL = 200_000_000  # bytes of weights that are widened unless asked


def add_generate(commands) -> None:
    "`llmfs generate`."
    parser = add_command(
        commands,
        "generate",
        "let a model continue a text, or tell one by itself",
        'llmfs generate "Once upon a time"\n'
        'llmfs generate "Lily lost her red ball" --temperature 0.5 --seed 7',
        generate,
        "The text appears as it is written.",
    )
    parser.add_argument(
        "prompt",
        nargs="?",
        metavar="PROMPT",
        help="how it begins (default: the model begins)",
    )
    add_model(parser)
    parser.add_argument(
        "--adapter",
        metavar="DIR",
        help="a folder of save_adapter or peft, put on the model",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "stored"),
        help="how precisely to compute; stored: as the weights are (default: "
        f"float32 up to {SMALL // 10**6} MB of weights, stored above)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="write one function for the whole model first: seconds, then "
        "each token is faster; for long texts",
    )
    parser.add_argument(
        "--count",
        type=whole(1),
        default=1,
        metavar="N",
        help=f"texts to write; after each of several comes {END} "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-tokens",
        type=whole(1),
        metavar="N",
        help="tokens to add at most (default: as many as the context holds)",
    )
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help=r"end before this text; \n is a line break; may be repeated",
    )
    add_sampling(parser)


def add_sampling(parser: Parser) -> None:
    "The options that say how tokens are chosen."
    parser.add_argument(
        "--temperature",
        type=number(0, math.inf, "; --greedy takes the best token always"),
        default=0.8,
        metavar="X",
        help="below 1: bolder words are rarer (default: %(default)s)",
    )
    parser.add_argument(
        "--top-k",
        type=whole(1),
        metavar="K",
        help="choose among the K best tokens (default: all)",
    )
    parser.add_argument(
        "--top-p",
        type=number(0, 1),
        metavar="P",
        help="choose among the fewest tokens that hold this share of the "
        "probability (default: 1)",
    )
    parser.add_argument(
        "--repetition-penalty",
        type=number(0, math.inf),
        default=1.0,
        metavar="X",
        help="above 1: what was said becomes less likely "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--greedy",
        action="store_true",
        help="take the best token always, leave nothing to chance",
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        metavar="N",
        help="of the first text; the next have the next numbers. The same "
        "seed gives the same text (default: another each time)",
    )


def number(
    low: float,  # values are above it
    high: float,  # values are at most this; infinity: finite
    remedy: str = "",  # told besides
) -> Callable[[str], float]:
    "A reader of options that are numbers in a range."

    def read(text: str) -> float:
        with suppress(ValueError):
            if low < float(text) <= high and math.isfinite(float(text)):
                return float(text)
        most = f" and at most {high}" if math.isfinite(high) else ""
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a number above {low}{most}{remedy}"
        )

    return read


def generate(args: argparse.Namespace) -> None:
    "Write what the model says, as it comes."
    if "" in args.stop:
        raise UserError("--stop '': an empty text would end every text")
    prompt = read_prompt(args)
    import torch

    from .decoding import Decoder
    from .generation import Sampling, stream

    sampling = Sampling(
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        repetition_penalty=args.repetition_penalty,
        greedy=args.greedy,
    )
    model, tokenizer = load(args)
    if args.adapter is not None:
        from .lora import load_adapter, merge_adapters

        model = load_adapter(model, args.adapter)
        if getattr(model, "quantization", None) is None:
            model = merge_adapters(model)  # codes have nothing to add to
    try:
        model = Decoder(model, compiled=args.compile)
    except ValueError as error:  # no compiler
        raise UserError(f"--compile: {error}") from error
    random = torch.Generator()
    first = random.seed() if args.seed is None else args.seed
    for seed in range(first, first + args.count):
        pieces = stream(
            model,
            tokenizer,
            prompt,
            max_tokens=args.max_tokens or model.config.context_len,
            sampling=sampling,
            stop=[text.replace("\\n", "\n") for text in args.stop],
            generator=random.manual_seed(seed % 2**63),
        )
        print(prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print(f"\n{END}" if args.count > 1 else "")


def read_prompt(args: argparse.Namespace) -> str:
    "How the text begins; empty if the model shall begin."
    prompt = args.prompt or ""
    if args.prompt is not None and not prompt.strip():
        raise UserError(
            "the prompt is empty; leave it out, and the model begins by itself"
        )
    if prompt.endswith(" "):
        tell("the prompt's last space is left out: words bring their own")
    return prompt.rstrip(" ")


def load(args: argparse.Namespace) -> tuple:
    "The model, as precise as it shall be, and its tokenizer."
    import torch

    from .checkpoint import STORYTELLER, load_checkpoint

    source = args.model or STORYTELLER
    asked = args.dtype if args.dtype != "stored" else None
    model, tokenizer, _ = load_checkpoint(
        source,
        dtype=getattr(torch, asked) if asked else None,
        consent=True if args.yes else None,  # None: ask
    )
    if tokenizer is None:
        raise UserError(f"{source} holds no tokenizer.json to read text with")
    size = sum(x.numel() * x.element_size() for x in model.parameters())
    if args.dtype is None and size <= SMALL:
        model = model.float()
    return model, tokenizer
