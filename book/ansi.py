"""Terminal text as runs of one style each."""

import html
from collections.abc import Iterator

from tools.nb_filter import COLOUR

from .tree import Blocks, quoted, raw

NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
FLAGS = {1: "bold", 3: "italic", 4: "underline"}
ENDS = {22: "bold", 23: "italic", 24: "underline", 39: "fg", 49: "bg"}


def nearest(codes: Iterator[int]) -> str:
    "The basic colour nearest to the one that the codes after 38 name."
    if next(codes, 5) == 2:
        levels = [next(codes, 0) // 51 for _ in range(3)]
    else:
        number = next(codes, 0)
        if not 16 <= number < 232:
            return NAMES[number % 8] if number < 16 else "white"
        number -= 16  # in a cube of six levels
        levels = [number // 36, number // 6 % 6, number % 6]
    bits = zip((1, 2, 4), levels, strict=True)
    return NAMES[sum(bit for bit, level in bits if level > 1)]


def restyle(style: dict[str, str], codes: Iterator[int]) -> dict[str, str]:
    "The style after a colour sequence."
    style = dict(style)
    for code in codes:
        tens, unit = divmod(code, 10)
        field = "fg" if tens in (3, 9) else "bg"
        bright = "bright-" if tens > 8 else ""
        if code == 0:
            style = {}
        elif code in FLAGS:
            style[FLAGS[code]] = FLAGS[code]
        elif code in ENDS:
            style.pop(ENDS[code], None)
        elif code in (38, 48):
            style[field] = f"{field}-{nearest(codes)}"
        elif unit < 8 and tens in (3, 4, 9, 10):
            style[field] = f"{field}-{bright}{NAMES[unit]}"
    return style


def runs(text: str) -> Iterator[tuple[str, dict]]:
    "Pieces of text of one style each."
    style: dict[str, str] = {}
    for index, piece in enumerate(COLOUR.split(text)):
        if index % 2:
            codes = (int(code or 0) for code in piece.split(";"))
            style = restyle(style, codes)
        elif piece:
            yield piece, style


def blocks(text: str, kind: str) -> Blocks:
    "The text for each format: spans of HTML, an array for Typst."
    page = ""
    for piece, style in runs(text):
        names = " ".join(f"ansi-{name}" for name in style.values())
        piece = html.escape(piece, quote=False)
        page += f'<span class="{names}">{piece}</span>' if names else piece
    array = quoted([{"text": piece, **style} for piece, style in runs(text)])
    call = f"#terminal(kind: {quoted(kind)}, json(bytes({quoted(array)})))"
    page = f'<pre tabindex="0">{page}</pre>'
    return [raw("html5", page), raw("typst", call)]
