"""Check the notebooks against the style guide, without running them.

    python tools/check_notebooks.py [--quiet]

One line for each fault, and 1 as exit code if there is any; a line
that begins with `note:` is only worth a look.
"""

from __future__ import annotations

import ast
import base64
import re
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # also runs as a plain script
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebook import (
    PACKAGE,
    Book,
    Cell,
    Finding,
    Notebook,
    bound,
    load,
    mentioned,
    plain,
    unfolded,
)

ROOT = Path(__file__).resolve().parent.parent
CORE = {"torch", "numpy", "regex", "safetensors", "tqdm"}
# nbdev obeys these wherever they begin a `#|` line, in a caption too
DIRECTIVES = {
    *("default_exp", "export", "exports", "exporti", "exporte"),
    *("hide", "hide_input", "hide_output", "hide_line", "echo", "eval"),
    *("exec_doc", "filter_stream", "skip_showdoc", "notest"),
}
BUDGETS = {  # least and most that we aim at, and the limit
    "words of prose": (2000, 3500, 5000),
    "cells": (50, 100, 150),
    "code cells": (20, 45, 65),
    "exported lines": (80, 300, 450),
    "figures": (4, 8, 12),
}
EXCEPTIONS = {  # budgets that a page would be worse for keeping
    # trainer and encoder are one algorithm, and users expect one class
    ("02_tokenization", "exported lines"): 590,
    # two families of models, the files they are published in, an optimizer
    ("11_modern", "exported lines"): 640,
}
JUNK = {  # what no stored output may show
    "an absolute path": r"(?<![\w.])/(?:home|root|work|tmp|Users)/|\bC:\\",
    "an address": r"https?://",
    "a package version": r"(?<![\w.])\d+\.\d+\.\d+(?![\w.]*\w)",
    "a memory address": r" at 0x[0-9a-f]{6,}",
}
IMAGE = re.compile(
    r"!\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*([^)\s]+)[^)]*\)(\{[^}]*\})?"
)
LINK = re.compile(r"\]\(\s*([^)\s]+)[^)]*\)")
LABEL = re.compile(r"\{#([a-z]+-[\w-]+)")
REFERENCE = re.compile(r"(?<![\w@`./])@([A-Za-z]\w*(?:[-:.]\w+)*)")
NUMBERED = {"sec", "fig", "tbl", "eq", "exr", "sol", "lst", "exm"}


def check_title(nb: Notebook) -> Iterator[Finding]:
    "The first cell names the chapter, the second the module."
    first = nb.cells[0] if nb.cells else None
    label = f"sec-{nb.name.replace('_', '-')}"
    lines = first.source.splitlines() if first else []
    if not lines or not re.fullmatch(rf"# .+ \{{#{label}\}}", lines[0]):
        yield nb.fault(first, f"must begin `# Name {{#{label}}}`")
    if not any(x.startswith("> ") for x in lines[1:]):
        yield nb.fault(first, "has no `> …` line below its title")
    if nb.exports and nb.module != nb.name:
        text = f"exports, so it needs `#| default_exp {nb.name}`"
        yield nb.fault(None, f"{text}, not {nb.module or 'none'}")


def check_imports(nb: Notebook, book: Book) -> Iterator[Finding]:
    "Modules import only lower-numbered ones, few and by name."
    used = set()
    for cell in nb.exports:
        for node in ast.walk(cell.tree):
            for name in ours(node):
                used.add(name)
                yield from check_import(nb, cell, node, name, book)
        for name in foreign(cell.tree):
            text = f"{name} is not a core requirement: import it inside"
            yield nb.fault(cell, f"{text} the function that uses it")
    count = len(used - book.by_hand)
    if count > 4:
        yield nb.fault(None, f"imports {count} modules, limit 4")


def ours(node: ast.AST) -> list[str]:
    "The modules of the package that an import statement names."
    if isinstance(node, ast.Import):
        names = [x.name for x in node.names]
        return [x.partition(".")[2] for x in names if in_package(x)]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = node.module or ""
    if in_package(module) and not node.level:
        module = module.partition(".")[2]
    elif not node.level:
        return []
    return [module] if module else [x.name for x in node.names]


def in_package(module: str) -> bool:
    "Whether a dotted name is ours."
    return module.split(".")[0] == PACKAGE


def foreign(tree: ast.Module) -> list[str]:
    "Top-level imports beyond the standard library and the core."
    names = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [x.name.split(".")[0] for x in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append((node.module or "").split(".")[0])
    known = sys.stdlib_module_names | CORE | {PACKAGE}
    return [x for x in names if x not in known]


def check_import(
    nb: Notebook, cell: Cell, node: ast.AST, name: str, book: Book
) -> Iterator[Finding]:
    "One import from the package."
    if isinstance(node, ast.Import):
        yield nb.fault(cell, f"import names from {PACKAGE}.{name} instead")
    elif any(x.name == "*" for x in node.names):
        yield nb.fault(cell, f"imports * from {name}: name what you use")
    if name in book.by_hand:
        return
    if name not in book.numbers:
        yield nb.fault(cell, f"imports {name!r}, which is no chapter's module")
    elif book.numbers[name] >= nb.number:
        yield nb.fault(cell, f"imports {name}, which is no earlier chapter")


def check_last_binding(nb: Notebook) -> Iterator[Finding]:
    "What is exported is the last thing of its name."
    exported: set[str] = set()
    for cell in nb.code:
        if not cell.evaluated:
            continue
        names = bound(cell.tree) & exported
        if names:
            text = f"binds {', '.join(sorted(names))} again after its export"
            yield nb.fault(cell, text)
        if cell.exported:
            exported |= set(cell.definitions)


def check_export_cells(nb: Notebook) -> Iterator[Finding]:
    "An export cell holds its directive and definitions only."
    for cell in nb.exports:
        if len(cell.options) > 1:
            yield nb.fault(cell, "has `#|` lines besides its export")
        if cell.outputs:
            yield nb.fault(cell, "exports and has an output")
        bare = [x for x in cell.tree.body if isinstance(x, ast.Expr)]
        if any(not isinstance(x.value, ast.Constant) for x in bare):
            yield nb.fault(cell, "exports an expression: show it elsewhere")


def check_directives(nb: Notebook) -> Iterator[Finding]:
    "`#|` lines mean what they say, and code parses and fits the page."
    for cell in nb.code:
        if not cell.tree.body and cell.error:
            yield nb.fault(cell, f"does not parse: {cell.error}")
        for line in cell.source.splitlines():
            word = line[2:].split(":")[0].strip() if line[:2] == "#|" else ""
            if word in DIRECTIVES and line.rstrip().endswith(":"):
                yield nb.fault(cell, f"write `#| {word}` without a colon")
            if len(line) > 79:
                yield nb.fault(
                    cell, f"a line of {len(line)} columns, limit 79"
                )
        for word in cell.continued & DIRECTIVES:
            text = f"a caption's line begins with {word!r}, which nbdev obeys"
            yield nb.fault(cell, text)


def check_prose_between(nb: Notebook) -> Iterator[Finding]:
    "At most three code cells follow one another."
    run = 0
    for cell in nb.cells:
        hidden = {"hide", "default_exp"} & set(cell.options)
        run = (run + (not hidden)) if cell.kind == "code" else 0
        if run > 3:
            yield nb.fault(cell, f"code cell {run} without prose, limit 3")


def drawn(nb: Notebook) -> int:
    "How many figures are pictures, not computed."
    return len(IMAGE.findall(nb.prose))


def computed(nb: Notebook) -> int:
    "How many figures come from a cell."
    return sum(x.label.startswith("fig-") for x in nb.code)


def measure(nb: Notebook) -> dict[str, int]:
    "The quantities that have a budget."
    return {
        "words of prose": len(re.findall(r"\S*\w\S*", unfolded(nb.prose))),
        "cells": len(nb.cells),
        "code cells": len(nb.code),
        "exported lines": sum(x.length for x in nb.exports),
        "figures": drawn(nb) + computed(nb),
    }


def check_budgets(nb: Notebook) -> Iterator[Finding]:
    "A chapter is as long as one can read."
    for what, number in measure(nb).items():
        least, most, limit = BUDGETS[what]
        limit = EXCEPTIONS.get((nb.path.stem, what), limit)
        if what == "exported lines" and not nb.exports:
            continue
        if number > limit:
            yield nb.fault(None, f"{number} {what}, limit {limit}")
        elif not least <= number <= most:
            yield nb.note(f"{number} {what}, aim at {least}–{most}")
    if not drawn(nb) or not computed(nb):
        yield nb.note("has no drawn or no computed figure")
    size = nb.path.stat().st_size // 1024
    if size > 600:
        yield nb.fault(None, f"{size} KB, limit 600")


def check_lengths(nb: Notebook) -> Iterator[Finding]:
    "Cells and functions are short."
    long = []
    for cell in nb.code:
        classes = any(isinstance(x, ast.ClassDef) for x in cell.tree.body)
        aim, limit = (25, 40) if cell.exported else (8, 15)
        limit = 100 if cell.exported and classes else limit
        if cell.length > limit:
            yield nb.fault(cell, f"{cell.length} lines of code, limit {limit}")
        elif cell.length > aim and not classes:
            long.append(cell.id)
        for node in ast.walk(cell.tree) if cell.exported else ():
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 40:
                    text = f"{node.name}: {length} lines, limit 40"
                    yield nb.fault(cell, text)
    if long:
        yield nb.note(
            f"{len(long)} cells longer than aimed at: {' '.join(long)}"
        )


def check_figures(nb: Notebook) -> Iterator[Finding]:
    "Each figure has a label, a caption and a text for the blind."
    for cell in nb.code:
        images = [x for out in cell.outputs for x in out.get("data", {})]
        shown = any(x.startswith("image/") for x in images)
        if shown and not cell.label.startswith("fig-"):
            yield nb.fault(cell, "shows a figure without `#| label: fig-…`")
        if cell.label.startswith("fig-") and not shown:
            yield nb.fault(cell, f"is labelled {cell.label}, stores no figure")
        for key in ("fig-cap", "fig-alt"):
            if shown and not cell.options.get(key):
                yield nb.fault(cell, f"shows a figure without {key}")
    for cell in nb.markdown:
        for target, extra in IMAGE.findall(plain(cell.source)):
            if "fig-alt=" not in extra:
                yield nb.fault(cell, f"{target} has no fig-alt")


def shown_text(output: dict) -> str:
    "What an output says, pictures apart."
    data = output.get("data", {})
    kinds = ("text/plain", "text/markdown", "text/html")
    parts = [data[x] for x in kinds if x in data]
    parts.append(output.get("text", ""))
    return "".join("".join(x) for x in parts).replace("http://www.w3.org", "")


def check_outputs(nb: Notebook) -> Iterator[Finding]:
    "Stored outputs are short, silent and the same everywhere."
    for cell in nb.code:
        texts = [shown_text(x) for x in cell.outputs]
        lines = sum(len(x.splitlines()) for x in texts)
        if lines > 20:
            yield nb.fault(cell, f"{lines} lines of output, limit 20")
        for what, pattern in JUNK.items():
            found = re.search(pattern, "\n".join(texts))
            if found:
                yield nb.fault(cell, f"shows {what}: {found[0].strip()}")
        for out in cell.outputs:
            if out.get("name") == "stderr" or out["output_type"] == "error":
                yield nb.fault(cell, "stores stderr or an error")
            png = "".join(out.get("data", {}).get("image/png", ""))
            size = len(base64.b64decode(png)) // 1024
            if size > 80:
                yield nb.fault(cell, f"a PNG of {size} KB, limit 80")


def check_used(nb: Notebook, book: Book) -> Iterator[Finding]:
    "Every exported name is used in a lesson and in a test."
    lessons = [x for x in nb.code if x.evaluated and not x.exported]
    used = set().union(*(mentioned(x.tree) for x in lessons))
    for cell in nb.exports:
        for name in cell.definitions:
            if name.startswith("_"):
                continue
            if name not in used:
                yield nb.fault(cell, f"{name} is used in no lesson cell")
            if name not in book.tested:
                yield nb.fault(cell, f"{name} is used in no test")


def exercises(nb: Notebook) -> dict[str, list[Cell]]:
    "Each exercise's label, and the code cells that follow it."
    found: dict[str, list[Cell]] = {}
    for cell in nb.cells:
        if cell.kind == "code":
            if found:
                found[list(found)[-1]].append(cell)
            continue
        for label in re.findall(r"\{#exr-([\w-]+)", plain(cell.source)):
            found[label] = []
    return found


def check_exercises(nb: Notebook, book: Book) -> Iterator[Finding]:
    "Each exercise has a stub, a check and an answer."
    found = exercises(nb)
    if not 5 <= len(found) <= 8:
        yield nb.fault(None, f"{len(found)} exercises, 5 to 8 wanted")
    defined = set().union(*(bound(x.tree) for x in nb.code if x.evaluated))
    answers = book.answers.get(nb.name)
    solved = exercise_calls(answers) if answers else {}
    for number, (label, cells) in enumerate(found.items(), 1):
        check = f"check_{number}"
        if not any(not x.evaluated for x in cells):
            yield nb.fault(None, f"exr-{label} has no `#| eval: false` stub")
        if check not in defined:
            yield nb.fault(None, f"exr-{label} has no {check}")
        if label not in solved:
            yield nb.fault(None, f"no answer {{#sol-{label}}} in solutions/")
        elif check not in solved[label]:
            yield nb.fault(None, f"sol-{label} does not call {check}")
    for label in set(solved) - set(found):
        yield nb.fault(None, f"sol-{label} answers no exercise")


def exercise_calls(answers: Notebook) -> dict[str, set[str]]:
    "The names used below each answer's heading."
    found: dict[str, set[str]] = {}
    for cell in answers.cells:
        if cell.kind == "code" and found:
            found[list(found)[-1]] |= mentioned(cell.tree)
        for label in re.findall(r"^#+ .*\{#sol-([\w-]+)", cell.source, re.M):
            found[label] = set()
    return found


def check_references(book: Book) -> Iterator[Finding]:
    "Labels are unique; references, links and pictures lead somewhere."
    labels: set[str] = set()
    for page, text in book.pages.items():
        for label in LABEL.findall(plain(text)):
            if label in labels:
                yield Finding(page, "", f"label {label} is given twice")
            labels.add(label)
    bib = book.root / "references.bib"
    works = bib.read_text(encoding="utf-8") if bib.exists() else ""
    works = set(re.findall(r"@\w+\{\s*([^,\s]+)\s*,", works))
    for page, text in book.pages.items():
        for name in REFERENCE.findall(plain(text)):
            known = labels if name.split("-")[0] in NUMBERED else works
            if name not in known:
                yield Finding(page, "", f"@{name} leads nowhere")
        for target in LINK.findall(plain(text)):
            path = (book.root / page).parent / target.split("#")[0]
            outside = re.match(r"[a-z]+:|#", target)
            if not outside and not path.exists():
                yield Finding(page, "", f"{target} does not exist")
        for typed in re.findall(r"\b[Cc]hapter \d+", plain(text)):
            yield Finding(page, "", f"says {typed!r}: write @sec-…")


def check(book: Book) -> Iterator[Finding]:
    "Everything that this file can find."
    one_page = (check_title, check_last_binding, check_export_cells)
    one_page += (check_budgets, check_lengths, check_figures)
    one_page += (check_prose_between,)
    for nb in book.chapters:
        for rule in one_page:
            yield from rule(nb)
        for rule in (check_imports, check_used, check_exercises):
            yield from rule(nb, book)
    for nb in (*book.chapters, *book.answers.values()):
        if not re.fullmatch(r"\d\d_[a-z][a-z_]*", nb.path.stem):
            yield nb.fault(None, "must be named NN_name.ipynb")
        yield from check_directives(nb)
        yield from check_outputs(nb)
    yield from check_references(book)


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    "Print what is found; 1 if anything is a fault."
    quiet = "--quiet" in (sys.argv[1:] if argv is None else argv)
    findings = sorted(check(load(root)), key=lambda x: not x.fault)
    for finding in findings:
        if finding.fault or not quiet:
            print(finding)
    return int(any(x.fault for x in findings))


if __name__ == "__main__":
    sys.exit(main())
