"""Terminal text as runs of one style each."""

import html
from collections.abc import Iterator

from tools.nb_filter import COLOUR

from .tree import Blocks, quoted, raw

NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
FLAGS = {1: "bold", 3: "italic", 4: "underline"}
ENDS = {22: "bold", 23: "italic", 24: "underline", 39: "fg", 49: "bg"}
Style = dict[str, str]


def nearest(codes: list[int]) -> str:
    "The basic colour nearest to the one after 38 or 48, which is used up."
    mode, *values = codes[:4]
    del codes[: 4 if mode == 2 else 2]
    if mode == 5:
        number = values[0]
        if number < 16 or number > 231:
            return NAMES[number % 8 if number < 16 else 7]
        steps = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
        values = [51 * step for step in steps]
    bits = zip((1, 2, 4), values, strict=False)
    return NAMES[sum(bit for bit, value in bits if value > 100)]


def restyle(style: Style, codes: list[int]) -> Style:
    "The style after a colour sequence."
    style = dict(style)
    while codes:
        code = codes.pop(0)
        tens, unit = divmod(code, 10)
        field = "fg" if tens in (3, 9) else "bg"
        bright = "bright-" if tens > 8 else ""
        if code == 0:
            style = {}
        elif code in FLAGS:
            style[FLAGS[code]] = FLAGS[code]
        elif code in ENDS:
            style.pop(ENDS[code], None)
        elif code in (38, 48) and codes:
            style[field] = f"{field}-{nearest(codes)}"
        elif unit < 8 and tens in (3, 4, 9, 10):
            style[field] = f"{field}-{bright}{NAMES[unit]}"
    return style


def runs(text: str) -> Iterator[tuple[str, Style]]:
    "Pieces of text of one style each."
    style: Style = {}
    for index, piece in enumerate(COLOUR.split(text)):
        if index % 2:
            style = restyle(style, [int(c or 0) for c in piece.split(";")])
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
