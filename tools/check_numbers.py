"""Numbers in prose are read from recorded runs, never typed.

In a markdown cell, `index.qmd` or `README.md` write

    0.39<!--= runs/bpe_speed.json train.ratio_hf.median .2f -->

The text before the comment must be the value at that path in that
format. A multiplier may stand between: `… .median *100 .0f -->`.
`--fix` writes the recorded values into the text.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("index.qmd", "README.md")
MARK = re.compile(
    r"(?P<shown>[^\s(\[~≈*|–>]*)<!--=(?P<rule>.*?)-->", re.DOTALL
)
FACTOR = re.compile(r"([*/])(\d.*)")


def lookup(record: object, path: str) -> object:
    "The value at a dotted path; digits index lists."
    for part in path.split("."):
        inside = isinstance(record, list) and part.isdigit()
        if inside and int(part) < len(record):
            record = record[int(part)]
        elif isinstance(record, dict) and part in record:
            record = record[part]
        else:
            raise ValueError(f"no {part!r} of {path!r}")
    return record


def scale(value: object, factor: str) -> object:
    "`value` times (`*100`) or divided by (`/1e6`) a number."
    found = FACTOR.fullmatch(factor)
    if not found or not isinstance(value, int | float):
        raise ValueError(f"cannot apply {factor!r} to {value!r}")
    number = float(found[2])
    return value * number if found[1] == "*" else value / number


def expected(rule: str, root: Path) -> str:
    "What the text before a comment must say."
    words = rule.split()
    if len(words) not in (3, 4):
        raise ValueError("need: file path [*factor] format")
    file = root / words[0]
    if not file.is_file():
        raise ValueError(f"no file {words[0]}")
    value = lookup(json.loads(file.read_text(encoding="utf-8")), words[1])
    if len(words) == 4:
        value = scale(value, words[2])
    if isinstance(value, dict | list | bool | None):
        raise ValueError(f"{words[1]} is not a number: {value!r}")
    return format(value, words[-1])


def check_text(
    text: str,  # markdown
    root: Path,  # where the rules' paths start
    report: Callable[[str], None],  # is told of each fault
) -> str:  # the text with the recorded numbers
    "Compare every marked number with its record."

    def one(match: re.Match) -> str:
        shown, rule = match["shown"], match["rule"].strip()
        try:
            wanted = expected(rule, root)
        except ValueError as error:
            report(f"{rule}: {error}")
            return match[0]
        if shown != wanted:
            report(f"says {shown or 'nothing'}, {rule} is {wanted}")
        return f"{wanted}<!--= {rule} -->"

    return MARK.sub(one, text)


def check_notebook(path: Path, root: Path, report: Callable) -> str:
    "Check the markdown cells of a notebook; its text, corrected."
    text = path.read_text(encoding="utf-8")
    book = json.loads(text)
    for cell in book["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        where = f"cell {cell.get('id')}"
        old = "".join(cell["source"])
        new = check_text(old, root, lambda x, at=where: report(f"{at}: {x}"))
        if new != old:
            cell["source"] = new.splitlines(keepends=True)
    new = json.dumps(book, sort_keys=True, indent=1, ensure_ascii=False)
    return new + "\n"


def check_file(path: Path, root: Path, fix: bool) -> list[str]:
    "The faults of one file, which `fix` mends where it can."
    faults: list[str] = []
    if path.suffix == ".ipynb":
        new = check_notebook(path, root, faults.append)
    else:
        text = path.read_text(encoding="utf-8")
        new = check_text(text, root, faults.append)
    if fix and faults:
        path.write_text(new, encoding="utf-8", newline="\n")
    return faults


def files(root: Path) -> list[Path]:
    "Every page that may quote a recorded number."
    pages = [root / name for name in PAGES if (root / name).exists()]
    return pages + sorted((root / "nbs").glob("**/[0-9][0-9]_*.ipynb"))


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    "Check all pages; 1 if any number is wrong."
    parser = argparse.ArgumentParser(description="Check quoted numbers.")
    parser.add_argument("--fix", action="store_true", help="correct them")
    fix = parser.parse_args(argv).fix
    count = 0
    for path in files(root):
        if fix:
            check_file(path, root, fix=True)
        for fault in check_file(path, root, fix=False):
            print(f"{path.relative_to(root)} {fault}")
            count += 1
    if count and not fix:
        print("mend with: .venv/bin/python tools/check_numbers.py --fix")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
