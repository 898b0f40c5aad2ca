"""`llmfs data`: get text, make text, make token files, look at them."""

import argparse
import json
import sys
from array import array
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from statistics import median

from . import terminal
from .cli_options import (
    UserError,
    add_command,
    add_output,
    add_which,
    add_workers,
    check_new,
    load_tokenizer,
    whole,
)
from .files import (
    END,
    SEEDS,
    corpus_name,
    find_tinystories,
    make_story,
    open_atomic,
    read_text,
)
from .terminal import plural


def add_data(commands) -> None:
    "`llmfs data …`."
    group = add_command(
        commands,
        "data",
        "get text, make text, turn it into token files, look at it",
        "llmfs data stories --count 2000 --out stories.txt\n"
        "llmfs data info stories.txt",
    ).add_subparsers(title="commands", metavar="COMMAND")
    add_tinystories(group)
    add_stories(group)
    add_tokenize(group)
    add_info(group)


def add_tinystories(commands) -> None:
    "`llmfs data tinystories`."
    parser = add_command(
        commands,
        "tinystories",
        "download TinyStories, after asking",
        "llmfs data tinystories --split valid --yes",
        data_tinystories,
        "An interrupted download is continued by the next call.",
    )
    parser.add_argument(
        "--split",
        choices=("train", "valid", "both"),
        default="both",
        help="train is 2.2 GB, valid 22 MB (default: %(default)s)",
    )
    parser.add_argument(
        "--yes", action="store_true", help="agree without being asked"
    )


def data_tinystories(args: argparse.Namespace) -> None:
    "Download what is not here, and say where the files are."
    from .downloads import download_tinystories

    splits = ("train", "valid") if args.split == "both" else (args.split,)
    for split in splits:
        path = find_tinystories(split)
        if not path:
            try:
                consent = True if args.yes else None  # None: ask
                path = download_tinystories([split], consent=consent)[0]
            except EOFError:
                raise UserError(
                    "nothing was downloaded: no answer; add --yes to agree"
                ) from None
        size = terminal.size_in_words(path.stat().st_size)
        print(f"{split}: {path}, {size}")


def add_stories(commands) -> None:
    "`llmfs data stories`."
    parser = add_command(
        commands,
        "stories",
        "write stories of the built-in story world",
        "llmfs data stories --count 2000 --out stories.txt",
        data_stories,
        f"After each comes a line with {END}.",
    )
    parser.add_argument(
        "--count",
        type=whole(1),
        default=3,
        metavar="N",
        help="how many (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        default=0,
        metavar="N",
        help="the number of the first one; the next have the next numbers "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "valid"),
        default="train",
        help="valid: none of these is ever in train (default: %(default)s)",
    )
    add_output(parser, None, "a file (default: print them)")


def data_stories(args: argparse.Namespace) -> None:
    "Print stories, or write them to a file."
    seeds = story_seeds(args.split, args.seed, args.count)
    told = (f"{make_story(seed)}\n{END}\n" for seed in seeds)
    if not args.out:
        for story in told:
            print(story, end="")
        return
    path = check_new(args.out, args.overwrite)
    from tqdm import tqdm

    bar = {"total": args.count, "unit": " stories", "leave": False}
    with open_atomic(path, text=True) as file:
        file.writelines(tqdm(told, **bar, disable=None))
    size = terminal.size_in_words(path.stat().st_size)
    stories = plural(args.count, "story", "stories")
    print(f"{path}: {stories}, {size}")


def story_seeds(
    split: str,  # "train" or "valid"
    first: int,  # from 0 on, in either split
    count: int,  # stories
) -> range:  # what to give `make_story`
    "Seeds of a split; `UserError` if train would reach into valid."
    start, limit = SEEDS[split][0], SEEDS["valid"][0]
    if split == "train" and first + count > limit:
        raise UserError(
            f"--seed {first} --count {count} reaches the stories of --split "
            f"valid, which begin at {limit}; take smaller numbers"
        )
    return range(start + first, start + first + count)


def add_tokenize(commands) -> None:
    "`llmfs data tokenize`."
    parser = add_command(
        commands,
        "tokenize",
        "turn text into a token file",
        "llmfs data tokenize stories.txt",
        data_tokenize,
        f"A document ends at {END} or with its file. The result is a header, "
        "NAME.json, with the ids and an index beside it.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 text")
    add_which(parser)
    add_workers(parser)
    what = "the header (default: the first file's name, ending in .json)"
    add_output(parser, None, what)


def data_tokenize(args: argparse.Namespace) -> None:
    "Write a token file, and say what is in it."
    paths = [check_text(name) for name in args.files]
    from .token_files import header_path

    out = header_path(args.out or paths[0].stem)
    check_new(out, args.overwrite)
    tokenizer = load_tokenizer(args.tokenizer)
    from .data import read_stories, write_tokens

    stories = chain.from_iterable(map(read_stories, paths))
    file = write_tokens(
        out,
        paths[0] if len(paths) == 1 else stories,
        tokenizer,
        overwrite=args.overwrite,
        workers=args.workers,
        progress=bool(sys.stderr and sys.stderr.isatty()),
    )
    count = plural(len(file), "document")
    tokens = plural(len(file.tokens), "token")
    print(f"{out}: {tokens}, {count}, {bytes_per_token(file)}")


def bytes_per_token(file) -> str:
    "How much text a token of a `TokenFile` carries, in words."
    # a marker before each document, and one behind the last, are no text
    n = len(file.tokens) - len(file) - 1
    return f"{file.header['text_bytes'] / max(n, 1):.2f} bytes per token"


def check_text(name: str) -> Path:
    "A path that names a file; `UserError` for others."
    path = Path(name)
    if path.is_dir():
        raise UserError(f"{name} is a folder; name files in it")
    if not path.is_file():
        raise UserError(f"there is no file {name}")
    return path


def add_info(commands) -> None:
    "`llmfs data info`."
    parser = add_command(
        commands,
        "info",
        "describe a text, a token file or a tokenizer",
        "llmfs data info stories.txt",
        data_info,
        "Without a path: say which text this machine has.",
    )
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help="a text, the header of a token file, a tokenizer.json, or a "
        "folder with one",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read a token file as a whole and compare its checksum",
    )


def data_info(args: argparse.Namespace) -> None:
    "Find out what a path is, and describe it."
    if args.path is None:
        print_rows(describe_machine())
        return
    path = find_file(args.path)
    if path.suffix != ".json":
        kind, rows = "text", describe_text(path)
    elif is_token_file(path):
        kind, rows = "token file", describe_tokens(path, args.verify)
    else:
        kind, rows = "tokenizer", describe_tokenizer(path)
    print(f"{path}: {kind}")
    print_rows(rows)


def find_file(name: str) -> Path:
    "The file that a user means by a path; `UserError` if there is none."
    path = Path(name)
    if path.is_dir():
        return check_text(str(path / "tokenizer.json"))
    header = path.with_name(f"{path.name}.json")
    if not path.exists() and header.is_file():
        return header  # a token file, named without its ending
    if path.suffix in (".bin", ".idx"):
        raise UserError(
            f"{name} is a part of a token file; name its header, which ends "
            "in .json"
        )
    return check_text(name)


def is_token_file(path: Path) -> bool:
    "Whether a .json file is the header of a token file."
    from .token_files import FORMAT

    with suppress(ValueError, AttributeError):
        return json.loads(read_text(path)).get("format") == FORMAT
    return False


def print_rows(rows: dict[str, str]) -> None:
    "Names and what there is to say about them, in two columns."
    width = max(map(len, rows)) + 2
    for name, text in rows.items():
        print(f"  {name:<{width}}{text}")


def describe_machine() -> dict[str, str]:
    "Which text is here."
    rows = {}
    for split in ("train", "valid"):
        path = find_tinystories(split)
        size = path and terminal.size_in_words(path.stat().st_size)
        lost = "not here; get it with llmfs data tinystories"
        rows[f"TinyStories, {split}"] = f"{size}, {path}" if path else lost
    told = " and ".join(f"{SEEDS[x][1]:,} {x}" for x in SEEDS)
    rows["built-in stories"] = f"{told}; any number with llmfs data stories"
    rows["the notebooks use"] = corpus_name()
    return rows


def describe_text(path: Path) -> dict[str, str]:
    "Sizes of a text and of its documents."
    from tqdm import tqdm

    from .data import read_stories

    counts, sizes = Counter(), array("Q")
    bar = {"unit": " documents", "leave": False, "disable": None}
    for story in tqdm(read_stories(path, counts), **bar):
        sizes.append(len(story.encode("utf-8")))
        counts["characters"] += len(story)
        counts["words"] += len(story.split())
    rows = {
        "size": terminal.size_in_words(path.stat().st_size),
        "documents": f"{len(sizes):,}, separated by {END}",
    }
    if counts["empty"]:
        rows["empty"] = plural(counts["empty"], "document")
    if sizes:
        rows["characters"] = f"{counts['characters']:,}"
        rows["words"] = f"{counts['words']:,}, separated by white space"
        rows["bytes each"] = spread(sizes)
    return rows


def spread(sizes: Sequence[int]) -> str:
    "The least, the middle and the greatest of some numbers."
    return f"{min(sizes):,} to {max(sizes):,}, median {median(sizes):,.0f}"


def describe_tokens(path: Path, verify: bool) -> dict[str, str]:
    "What a token file's header says, checked against its files."
    from .token_files import TokenFile

    file = TokenFile(path)
    header, index = file.header, file.index[:, 0].tolist()
    if verify:
        file.verify()
    lengths = [b - a - 1 for a, b in pairwise(index)]
    text = terminal.size_in_words(header["text_bytes"])
    rows = {
        "tokens": f"{len(file.tokens):,}, {header['dtype']}",
        "documents": f"{len(file):,}",
        "tokens each": spread(lengths),
        "text": f"{text}, {bytes_per_token(file)}",
        "tokenizer": f"{plural(header['vocab_size'], 'token')}, hash "
        f"{header['tokenizer'][:16]}",
        "checksum": "correct" if verify else "not checked; add --verify",
    }
    if header.get("source"):
        rows["made from"] = str(header["source"])
    return rows


def describe_tokenizer(path: Path) -> dict[str, str]:
    "The tokens of a tokenizer."
    from .token_files import tokenizer_hash
    from .tokenization import GPT2, GPT4, BPETokenizer

    tokenizer = BPETokenizer.load(path)
    special = tokenizer.special_tokens
    plain = [
        data
        for token, data in tokenizer.vocab.items()
        if token not in special.values()
    ]
    known = {GPT2: "GPT-2's", GPT4: "GPT-4's"}
    names = ", ".join(f"{name} = {token}" for name, token in special.items())
    return {
        "tokens": f"{len(tokenizer):,}, {len(special)} of them special",
        "special": names or "none",
        "merges": f"{len(tokenizer.merges):,}",
        "words": known.get(tokenizer.pattern, tokenizer.pattern),
        "longest": terminal.visible(max(plain, key=len)),
        "hash": tokenizer_hash(tokenizer)[:16],
    }
