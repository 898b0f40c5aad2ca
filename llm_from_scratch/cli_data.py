"""`llmfs data`: get text, make text, make token files, look at them."""

import argparse

from . import terminal
from .cli_options import (
    UserError,
    add_command,
    add_output,
    check_new,
    whole,
    writing,
)
from .files import END, SEEDS, find_tinystories, make_story
from .terminal import plural


def add_data(commands) -> None:
    "`llmfs data …`."
    group = add_command(
        commands,
        "data",
        "get text, make text, turn it into token files, look at it",
        "llmfs data stories",
    ).add_subparsers(title="commands", metavar="COMMAND")
    add_tinystories(group)
    add_stories(group)


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
    with writing(path) as file:
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
