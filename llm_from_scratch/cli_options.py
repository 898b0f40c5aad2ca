"""What the commands of `llmfs` share: options, text, tokenizers, mistakes.

Knows how a command is described and where its text comes from. Knows
none of the commands.
"""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from .files import END, read_pieces
from .terminal import tell


class UserError(Exception):
    "A mistake of the user's; its text is the line that is printed."


class Parser(argparse.ArgumentParser):
    "A parser that tells a mistake in one line, with the help to read."

    def error(self, message: str):
        "Raise `UserError` instead of printing the usage."
        raise UserError(f"{message}; see {self.prog} --help")


def help_layout(prog: str) -> argparse.HelpFormatter:
    "Descriptions and examples as written; room for long names."
    layout = argparse.RawDescriptionHelpFormatter
    return layout(prog, max_help_position=28)


def add_command(
    commands,  # what `add_subparsers` gave
    name: str,  # the word that calls it
    summary: str,  # a line for the list of commands
    example: str,  # one command that works, or several lines
    run: Callable | None = None,  # is given the options; None: print help
    more: str = "",  # what the help says besides
) -> Parser:
    "Describe a command, or a group of commands."
    about = f"{summary[0].upper()}{summary[1:]}. {more}"
    parser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(about, 79),
        epilog="Example:\n" + textwrap.indent(example, "  "),
        formatter_class=help_layout,
        allow_abbrev=False,
    )
    run = run or (lambda _: parser.print_help())
    parser.set_defaults(run=run, parser=parser)
    debug = "show where in the program an error arose"
    parser.add_argument("--debug", action="store_true", help=debug)
    return parser


def whole(least: int) -> Callable[[str], int]:
    "A reader of options that are whole numbers, `least` or greater."

    def read(text: str) -> int:
        with suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a whole number, {least} or greater"
        )

    return read


def add_output(parser: Parser, default: str | None, what: str) -> None:
    "The options of a command that writes a file."
    parser.add_argument("--out", metavar="PATH", default=default, help=what)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing file"
    )


def check_new(path: str | Path, overwrite: bool) -> Path:
    "The path of an output; `UserError` if something is there already."
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise UserError(
            f"{path} exists already; add --overwrite to replace it"
        )
    return path


def add_workers(parser: Parser) -> None:
    "The option of a command that can use several processes."
    parser.add_argument(
        "--workers",
        type=whole(1),
        metavar="N",
        help="processes (default: all processors, one for a small text)",
    )


def read_source(
    name: str,  # a file; "-": standard input
) -> Iterator[str]:  # consecutive pieces of its text
    "Read text piece by piece, exactly as it is."
    if name != "-":
        yield from read_pieces(name)
        return
    if not sys.stdin:
        raise UserError("there is no standard input; name a file")
    if sys.stdin.isatty():
        key = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
        tell(f"reading what you type; end with {key} on a line of its own")
    try:
        while piece := sys.stdin.read(1 << 16):
            yield piece
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UserError(
            f"standard input is not UTF-8: it holds the byte 0x{byte:02x}; "
            "convert it, for instance with iconv -t UTF-8"
        ) from error


def add_text(parser: Parser) -> None:
    "The options of a command that takes text in any of three ways."
    parser.add_argument("text", nargs="?", metavar="TEXT", help="the text")
    parser.add_argument(
        "--file", help="take the text of a file; neither: standard input"
    )


def text_of(args: argparse.Namespace) -> Iterator[str]:
    "The text of a command's argument, file or standard input."
    if args.text is None:
        return read_source(args.file or "-")
    if args.file:
        raise UserError(
            f"there is a text, {args.text!r:.40}, and --file {args.file}; "
            "give one of them"
        )
    with suppress(OSError, ValueError):
        if Path(args.text).is_file():
            name = args.text
            tell(f"taking {name!r} as text; to read the file: --file {name}")
    return iter([args.text])


def json_path(path: str) -> Path:
    "A tokenizer's file: what ends in .json, else one in that folder."
    file = Path(path)
    return file if file.suffix == ".json" else file / "tokenizer.json"


def add_which(parser: Parser) -> None:
    "The options of a command that uses a tokenizer."
    parser.add_argument(
        "--tokenizer",
        metavar="NAME",
        default="tokenizer.json",
        help="a tokenizer.json, a folder with one, or a name that tiktoken "
        "knows, such as gpt2 (default: %(default)s)",
    )


def add_allow_special(parser: Parser) -> None:
    "The option of a command that encodes."
    parser.add_argument(
        "--allow-special",
        action="store_true",
        help=f"let {END} and the like count as special tokens, not as text",
    )


def load_tokenizer(name: str):
    "The tokenizer in a file or folder, else one of tiktoken's."
    from .tokenization import BPETokenizer

    if json_path(name).is_file():
        return BPETokenizer.load(name)
    if name == "tokenizer.json":
        raise UserError(
            "there is no tokenizer.json in this folder; make one with "
            "llmfs tokenizer train, or name one with --tokenizer"
        )
    if Path(name).is_dir() or Path(name).name != name or "." in name:
        raise UserError(
            f"there is no tokenizer {json_path(name)}; --tokenizer takes a "
            "tokenizer.json, a folder with one, or a name such as gpt2"
        )
    return BPETokenizer.from_tiktoken(tiktoken_encoding(name))


def tiktoken_encoding(name: str):
    "A published encoding, from tiktoken's cache or the network."
    try:
        import tiktoken
    except ImportError:
        raise UserError(
            f"--tokenizer {name}: there is no such file or folder, and names "
            "of published ones need tiktoken: python -m pip install tiktoken"
        ) from None
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise UserError(
            f"--tokenizer {name}: there is no such file or folder, and "
            f"tiktoken knows only {', '.join(known)}"
        )
    try:
        return tiktoken.get_encoding(name)
    except Exception as error:  # of tiktoken, or of whatever it downloads by
        raise UserError(
            f"--tokenizer {name}: tiktoken has no copy of it here and cannot "
            f"download one ({type(error).__name__}); connect this machine, or "
            "set TIKTOKEN_CACHE_DIR to a folder that has it"
        ) from error


def add_model(parser: Parser) -> None:
    "The options that say which model."
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="a model's folder, the folder of a training run, or owner/name "
        "on the Hugging Face hub (default: the storyteller)",
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="agree to a download from the hub without being asked",
    )
