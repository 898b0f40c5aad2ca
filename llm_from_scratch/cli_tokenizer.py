"""`llmfs tokenizer`: train a tokenizer, use it, look at what it does."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from . import terminal
from .cli_options import (
    UserError,
    add_allow_special,
    add_command,
    add_output,
    add_text,
    add_which,
    add_workers,
    check_new,
    json_path,
    load_tokenizer,
    read_source,
    text_of,
    whole,
)
from .files import END, corpus_name, find_tinystories, load_stories
from .terminal import plural, tell

SENTENCE = "Lily lost her red ball, so she asked Ben."


def add_tokenizer(commands) -> None:
    "`llmfs tokenizer …`."
    group = add_command(
        commands,
        "tokenizer",
        "train a tokenizer, use it, look at what it does",
        "llmfs tokenizer train stories.txt --vocab-size 1000\n"
        'llmfs tokenizer show "Lily lost her red ball."',
    ).add_subparsers(title="commands", metavar="COMMAND")
    add_train(group)
    add_encode(group)
    add_decode(group)
    add_show(group)


def add_train(commands) -> None:
    "`llmfs tokenizer train`."
    parser = add_command(
        commands,
        "train",
        "learn byte-level BPE from text",
        "llmfs tokenizer train stories.txt --vocab-size 1000",
        tokenizer_train,
        "The result is a tokenizer.json, which Hugging Face's libraries "
        "read too.",
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="UTF-8 text, - is standard input (default: TinyStories if they "
        "are here, else the built-in stories)",
    )
    parser.add_argument(
        "--vocab-size",
        type=whole(1),
        default=4096,
        metavar="N",
        help="tokens in all (default: %(default)s)",
    )
    parser.add_argument(
        "--pattern",
        choices=("gpt2", "gpt4"),
        default="gpt2",
        help="whose definition of a word (default: %(default)s)",
    )
    parser.add_argument(
        "--special",
        action="append",
        metavar="TOKEN",
        help=f"a special token; repeat for more (default: {END})",
    )
    add_workers(parser)
    what = "a .json file or a folder (default: %(default)s)"
    add_output(parser, "tokenizer.json", what)


def tokenizer_train(args: argparse.Namespace) -> None:
    "Train, save, and say what came out."
    path = check_new(json_path(args.out), args.overwrite)
    specials = args.special or [END]
    blocks, name = training_text(args.files, specials)
    from .tokenization import GPT2, GPT4, BPETokenizer

    tokenizer = BPETokenizer.train(
        blocks,
        args.vocab_size,
        special_tokens=specials,
        pattern={"gpt2": GPT2, "gpt4": GPT4}[args.pattern],
        workers=args.workers,
    )
    tokenizer.save(path, overwrite=args.overwrite)
    print(f"{path}: {plural(len(tokenizer), 'token')}, learned from {name}")
    if len(tokenizer) < args.vocab_size:
        tell(f"the text holds no more: {args.vocab_size:,} were asked for")


def training_text(
    files: list[str],  # none: the corpus of this machine
    specials: list[str],  # where documents end
) -> tuple[str | Iterator[str], str]:  # blocks of text, their name
    "What a tokenizer shall learn from; an error if a file is not there."
    if not files and corpus_name() != "TinyStories":
        return load_stories(), corpus_name()
    names = files or [str(find_tinystories("train"))]
    for name in names:
        if name != "-" and not Path(name).is_file():
            kind = "is a folder" if Path(name).is_dir() else "does not exist"
            raise UserError(f"{name} {kind}; name files of text")
    return read_blocks(names, specials), ", ".join(names)


def read_blocks(names: list[str], specials: list[str]) -> Iterator[str]:
    "Files in blocks that are counted one by one, with a progress bar."
    from tqdm import tqdm

    from .streams import safe_blocks

    sizes = [Path(name).stat().st_size for name in names if name != "-"]
    total = sum(sizes) if len(sizes) == len(names) else None
    options = {"unit": "B", "unit_scale": True, "leave": False}
    # disable=None: a bar only in a terminal
    with tqdm(total=total, desc="reading", disable=None, **options) as bar:
        for name in names:
            for block in safe_blocks(read_source(name), specials):
                yield block
                bar.update(len(block.encode("utf-8")))


def add_encode(commands) -> None:
    "`llmfs tokenizer encode`."
    parser = add_command(
        commands,
        "encode",
        "turn text into ids",
        'llmfs tokenizer encode "Lily lost her red ball."',
        tokenizer_encode,
        "A token that ends a line of the text ends a line of the ids. For "
        "a corpus, see llmfs data tokenize.",
    )
    add_text(parser)
    add_which(parser)
    add_allow_special(parser)


def tokenizer_encode(args: argparse.Namespace) -> None:
    "Print the ids of a text."
    text = text_of(args)
    tokenizer = load_tokenizer(args.tokenizer)
    specials = "all" if args.allow_special else "none"
    between = ""
    for token in tokenizer.encode_iterable(text, specials):
        print(between, token, sep="", end="")
        between = "\n" if b"\n" in tokenizer.vocab[token] else " "
    print()


def add_decode(commands) -> None:
    "`llmfs tokenizer decode`."
    parser = add_command(
        commands,
        "decode",
        "turn ids back into text",
        "llmfs tokenizer decode 76 105 108 121",
        tokenizer_decode,
        "The text comes exactly, without a line break at its end, except "
        "in a terminal.",
    )
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="none: from standard input"
    )
    add_which(parser)


def tokenizer_decode(args: argparse.Namespace) -> None:
    "Print the text of some ids."
    ids = read_ids(" ".join(args.ids) or "".join(read_source("-")))
    text = load_tokenizer(args.tokenizer).decode(ids)
    at_prompt = sys.stdout and sys.stdout.isatty()
    end = "\n" if at_prompt and not text.endswith("\n") else ""
    print(text, end=end)


def read_ids(text: str) -> list[int]:
    "Ids as people write them: between spaces, perhaps a Python list."
    words = text.translate(str.maketrans(",[]", "   ")).split()
    if wrong := [word for word in words if not word.isdecimal()]:
        raise UserError(
            f"{wrong[0]!r} is no token id; ids are whole numbers, such as "
            "76 105 108 121"
        )
    return list(map(int, words))


def add_show(commands) -> None:
    "`llmfs tokenizer show`."
    parser = add_command(
        commands,
        "show",
        "show where a text is cut into tokens",
        'llmfs tokenizer show "Lily lost her red ball." --ids',
        tokenizer_show,
        "Tokens alternate in colour; without colour a | stands between them.",
    )
    add_text(parser)
    add_which(parser)
    add_allow_special(parser)
    parser.add_argument(
        "--ids", action="store_true", help="write its id below each token"
    )
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto: in a terminal, unless NO_COLOR is set",
    )


def tokenizer_show(args: argparse.Namespace) -> None:
    "Print the tokens of a text, and how much text a token carries."
    at_prompt = sys.stdin and sys.stdin.isatty()
    if at_prompt and args.text is None and not args.file:
        args.text = SENTENCE
    text = text_of(args)
    tokenizer = load_tokenizer(args.tokenizer)
    specials = "all" if args.allow_special else "none"
    ids = list(tokenizer.encode_iterable(text, specials))
    tokens = [tokenizer.vocab[token] for token in ids]
    terminal.show_tokens(
        tokens,
        ids,
        set(tokenizer.special_tokens.values()),
        color=terminal.wants_color(args.color),
        with_ids=args.ids,
    )
    size = sum(map(len, tokens))
    rate = f", {size / len(ids):.2f} bytes per token" if ids else ""
    print(f"{plural(len(ids), 'token')}, {plural(size, 'byte')}{rate}")
