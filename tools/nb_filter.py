"""Make a notebook readable for Quarto: JSON on stdin, JSON on stdout.

Quarto runs it on each notebook (`ipynb-filters` in `_quarto.yml`). nbdev's
directives without a colon (`#| export`) would stop Quarto's YAML parser, and
terminal codes in outputs would print as junk. The book builder uses the same
functions. Standard library only.
"""

import json
import re
import sys
from itertools import groupby

OPTION_LINE = re.compile(r"#\s*\|\s?(.*)")
OPTION_START = re.compile(r"[\w-]+:(\s|$)")
DIRECTIVE = re.compile(
    r"(default_exp|exporti?|exports|hide|hide_input|hide_output|eval"
    r"|skip_showdoc|skip_exec)\b\s*(.*)"
)
COLOUR = re.compile(r"\x1b\[([0-9;]*)m")
CONTROL = re.compile(
    r"\x1b(?:\[[0-9;?]*[A-Za-ln-z]|\][^\x07]*\x07|[()][A-Z0-9])"
)
DROPPED = {"hide", "default_exp"}


def joined(text):
    "Notebook text as one string; the format allows a list of lines."
    return "".join(text) if isinstance(text, list) else text


def split_options(source):
    "Split a cell into nbdev directives, lines of YAML options and code."
    directives, options = {}, []
    lines = source.split("\n")
    while lines and (match := OPTION_LINE.match(lines[0])):
        lines.pop(0)
        word = DIRECTIVE.match(match[1])
        if word and not OPTION_START.match(match[1]):
            directives[word[1]] = word[2]
        else:
            options.append(match[1])
    return directives, options, "\n".join(lines).strip("\n")


def screen(text):
    "Remove codes but colours; keep the last frame of progress lines."
    lines = CONTROL.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").split("\r")[-1] for line in lines)


def strip_codes(text):
    "Remove terminal codes and keep the last frame of progress lines."
    return screen(COLOUR.sub("", text))


def merged(outputs):
    "Outputs, with neighbouring pieces of a stream joined: frames meet."
    result = []
    for name, group in groupby(outputs, lambda output: output.get("name")):
        pieces = list(group)
        if name:
            text = "".join(joined(piece["text"]) for piece in pieces)
            pieces = [{**pieces[0], "text": text}]
        result += pieces
    return result


def clean_output(output):
    "Strip terminal codes from whatever an output prints."
    if "text" in output:
        output["text"] = strip_codes(joined(output["text"]))
    if "traceback" in output:
        text = strip_codes("\n".join(output["traceback"]))
        output["traceback"] = text.split("\n")
    data = output.get("data", {})
    if "text/plain" in data:
        data["text/plain"] = strip_codes(joined(data["text/plain"]))


def clean_cell(cell):
    "Return the cell for Quarto, or None if it is to be left out."
    if cell["cell_type"] != "code":
        return cell
    directives, options, code = split_options(joined(cell["source"]))
    if DROPPED & set(directives):
        return None
    lines = [f"#| {line}" for line in options]
    cell["source"] = "\n".join([*lines, code])
    cell["outputs"] = merged(cell.get("outputs", []))
    for output in cell["outputs"]:
        clean_output(output)
    return cell


def clean(notebook):
    "Apply `clean_cell` to the cells of a notebook."
    cells = [clean_cell(cell) for cell in notebook["cells"]]
    notebook["cells"] = [cell for cell in cells if cell is not None]
    return notebook


def main():
    "Filter one notebook, in UTF-8 whatever the locale."
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    json.dump(clean(json.load(sys.stdin)), sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
