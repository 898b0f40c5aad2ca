"""The terminal: signs that it can write, messages, tokens in colour.

Knows encodings, colours and widths. Knows nothing of commands, and of
tokens only that they are bytes with a number.
"""

import os
import shutil
import sys
import textwrap
import unicodedata
from contextlib import suppress

BACKGROUNDS = (153, 223, 157, 225, 229)  # light ones of the 256 colours
BLACK, SPECIAL, PLAIN = "\x1b[38;5;16m", "\x1b[1;7m", "\x1b[0m"
CLOSED_PIPE = 141  # what shells say of a program that SIGPIPE ended


def set_up_streams() -> None:
    """Make files and pipes UTF-8, with line ends as they are.

    A terminal keeps its encoding, and so does a user who chose one with
    PYTHONIOENCODING; what that cannot write is then shown as \\u2713.
    """
    chosen = "PYTHONIOENCODING" in os.environ
    for stream, how in (
        (sys.stdin, {"newline": ""}),
        (sys.stdout, {"newline": "\n", "errors": "backslashreplace"}),
    ):
        if not hasattr(stream, "reconfigure"):  # None, or a notebook's
            continue
        if stream.isatty():
            how.pop("newline")
        elif not chosen:
            how["encoding"] = "utf-8"
        stream.reconfigure(**how)


def tell(
    text: str,  # what happened, perhaps on several lines
    code: int = 0,  # the exit code
) -> int:  # the same code
    "Print one line beside the output."
    if sys.stderr:
        # behind the ^C that a terminal shows, a new line
        start = "\n" if code == 130 and sys.stderr.isatty() else ""
        line = " ".join(text.split())
        print(f"{start}llmfs: {line}", file=sys.stderr, flush=True)
    return code


def is_closed_pipe(
    error: Exception,  # what writing raised
) -> bool:  # has the reader of our output left?
    "Windows says EINVAL, and names no file, where others say EPIPE."
    windows = os.name == "nt" and getattr(error, "errno", 0) == 22
    return isinstance(error, BrokenPipeError) or (
        windows and error.filename is None
    )


def drop_output() -> int:  # an exit code
    "Let the interpreter's last flush go nowhere, in silence."
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return CLOSED_PIPE


def pick(
    *signs: str,  # the best first, the last in ASCII
) -> str:  # the first that the output can write
    "Choose a sign, for terminals that do not know all of Unicode."
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    for sign in signs:
        with suppress(UnicodeEncodeError, LookupError):
            sign.encode(encoding)
            return sign
    return signs[-1]


def plural(
    n: int,  # how many
    one: str,  # the noun
    many: str = "",  # its plural, if that is not just `one` and an s
) -> str:  # such as "1 story" or "4,096 tokens"
    "A number and its noun."
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def size_in_words(
    size: int,  # bytes
) -> str:  # such as "2.2 GB", "11.0 MB", "418 bytes"
    "A size that one can read."
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return plural(size, "byte")


def columns() -> int:
    "The width of the terminal, at least sixty characters."
    return max(shutil.get_terminal_size().columns, 60)


def wrap(
    text: str,  # one paragraph
    width: int,  # characters a line
) -> list[str]:  # its lines
    "Break a text between words; a path stays whole."
    return textwrap.wrap(
        text, width, break_long_words=False, break_on_hyphens=False
    )


def wants_color(
    choice: str,  # "always", "never" or "auto"
) -> bool:  # shall the output be coloured?
    "auto: in a terminal, unless NO_COLOR (no-color.org) is set."
    if choice == "auto":
        dumb = os.environ.get("TERM") == "dumb"
        silent = os.environ.get("NO_COLOR") or dumb
        return bool(sys.stdout and sys.stdout.isatty() and not silent)
    return choice == "always"


def visible(
    token: bytes,  # any bytes
) -> str:  # what one can see of them
    "Spaces as ␣, line breaks as ⏎, what cannot be seen as \\xa0."
    text = token.decode("utf-8", "backslashreplace")
    signs = {" ": pick("␣", "·", "_"), "\n": pick("⏎", "¶", "\\n")}
    for sign in set(text) - signs.keys():
        escaped = sign.encode("unicode_escape").decode()
        signs[sign] = pick(sign, escaped) if sign.isprintable() else escaped
    return "".join(map(signs.__getitem__, text))


def width_of(
    text: str,  # printable
) -> int:  # columns of a terminal
    "How wide a text is: some signs take two columns, some none."
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    none = sum(unicodedata.combining(sign) > 0 for sign in text)
    return len(text) + wide - none


def paint(text: str, i: int, special: bool) -> str:
    "The `i`-th token on a background unlike its neighbours'."
    shade = BACKGROUNDS[i % len(BACKGROUNDS)]
    start = SPECIAL if special else f"{BLACK}\x1b[48;5;{shade}m"
    return f"{start}{text}{PLAIN}"


def show_tokens(
    tokens: list[bytes],  # what the ids stand for
    ids: list[int],  # the ids
    special: set[int],  # ids of special tokens
    *,
    color: bool = False,  # backgrounds; False: a | between tokens
    with_ids: bool = False,  # each id below its token
) -> None:
    "Print a text so that one sees where its tokens begin and end."
    if color and os.name == "nt":
        os.system("")  # makes older Windows consoles obey the colours
    line: list[tuple[str, str, str]] = []  # as shown, painted, id
    for i, (token, data) in enumerate(zip(ids, tokens, strict=True)):
        text = visible(data)
        painted = paint(text, i, token in special) if color else text
        line.append((text, painted, str(token)))
        if b"\n" in data or i + 1 == len(ids):
            if with_ids:
                print_grid(line)
            else:
                print(("" if color else "|").join(x[1] for x in line))
            line = []


def print_grid(
    line: list[tuple[str, str, str]],  # as shown, painted, id
) -> None:
    "Print tokens over their ids, in rows that fit the terminal."
    rows, used = [[]], 0
    for text, painted, token in line:
        cell = max(width_of(text), len(token))
        used += cell + 2
        if rows[-1] and used - 2 > columns():
            rows.append([])
            used = cell + 2
        gap = " " * (cell - width_of(text))
        rows[-1].append((painted + gap, token.ljust(cell)))
    for row in rows:
        for part in zip(*row, strict=True):
            print("  ".join(part).rstrip())
        print()
