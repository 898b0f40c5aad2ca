"""Terminal text (colours, carriage returns) as styled runs."""

import html
import re
from collections.abc import Iterator

NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"]
FLAGS = {1: "bold", 3: "italic", 4: "underline"}
ENDS = {22: "bold", 23: "italic", 24: "underline", 39: "fg", 49: "bg"}
COLOUR = re.compile(r"\x1b\[([0-9;]*)m")
OTHER = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-ln-z]|\x1b\][^\x07]*\x07|\x1b[()][A-Z0-9]"
)
Style = dict[str, str]


def screen(text: str) -> str:
    "What a terminal shows: text after a carriage return replaces a line."
    lines = OTHER.sub("", text).replace("\r\n", "\n").split("\n")
    frames = [[f for f in line.split("\r") if f] for line in lines]
    return "\n".join(frame[-1].rstrip() if frame else "" for frame in frames)


def palette(number: int) -> str:
    "Colour of the 256-colour table, as a name or as #rrggbb."
    if number < 16:
        return ("bright-" if number > 7 else "") + NAMES[number % 8]
    if number > 231:
        return "#" + f"{8 + (number - 232) * 10:02x}" * 3
    number -= 16
    steps = (number // 36, number // 6 % 6, number % 6)
    return "#" + "".join(f"{s and 55 + 40 * s:02x}" for s in steps)


def extended(codes: list[int]) -> str:
    "Colour of the codes that follow 38 or 48, which are used up."
    if codes and codes.pop(0) == 5:
        return palette(codes.pop(0)) if codes else ""
    rgb, codes[:3] = codes[:3], []
    return "#" + "".join(f"{value:02x}" for value in rgb)


def restyle(style: Style, codes: list[int]) -> Style:
    "The style after a colour sequence."
    style = dict(style)
    while codes:
        code = codes.pop(0)
        field = "fg" if code // 10 in (3, 9) else "bg"
        if code == 0:
            style = {}
        elif code in FLAGS:
            style[FLAGS[code]] = "yes"
        elif code in ENDS:
            style.pop(ENDS[code], None)
        elif code in (38, 48):
            style[field] = extended(codes)
        elif code % 10 < 8 and code // 10 in (3, 4):
            style[field] = NAMES[code % 10]
        elif code % 10 < 8 and code // 10 in (9, 10):
            style[field] = "bright-" + NAMES[code % 10]
    return style


def runs(text: str) -> Iterator[tuple[str, Style]]:
    "Pieces of text of one style each."
    style: Style = {}
    for index, piece in enumerate(COLOUR.split(screen(text))):
        if index % 2:
            style = restyle(style, [int(c or 0) for c in piece.split(";")])
        elif piece:
            yield piece, style


def to_html(text: str) -> str:
    "HTML with a span for each styled run."
    return "".join(
        html_run(html.escape(piece, quote=False), style)
        for piece, style in runs(text)
    )


def html_run(piece: str, style: Style) -> str:
    "One run: named colours are classes, others inline styles."
    classes = [f"ansi-{f}" for f in FLAGS.values() if f in style]
    rules = []
    for field, rule in (("fg", "color"), ("bg", "background-color")):
        colour = style.get(field, "")
        if colour.startswith("#"):
            rules.append(f"{rule}:{colour}")
        elif colour:
            classes.append(f"ansi-{field}-{colour}")
    marks = f' class="{" ".join(classes)}"' if classes else ""
    marks += f' style="{";".join(rules)}"' if rules else ""
    return f"<span{marks}>{piece}</span>" if marks else piece


def quoted(text: str) -> str:
    "A Typst string."
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n") + '"'


def to_typst(text: str) -> str:
    "A Typst array of dictionaries, one for each run."
    return (
        "("
        + "".join(
            "("
            + ", ".join(
                f"{key}: {quoted(value)}"
                for key, value in {"text": piece, **style}.items()
            )
            + "), "
            for piece, style in runs(text)
        )
        + ")"
    )
