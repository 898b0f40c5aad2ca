"""Execute the notebooks and store their outputs, so that a rerun is quiet.

    python tools/run_notebooks.py [--check] [--time] [NAME ...]

After a chapter's last cell the same kernel runs the answers of
`nbs/solutions/`, which call the checks that the chapter defines.
`--check` writes nothing; it is what `make test` uses.
"""

from __future__ import annotations

import argparse
import base64
import configparser
import datetime
import json
import os
import platform
import re
import struct
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient, exceptions
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
ENV = {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
QUIET = "--IPKernelApp.log_level=ERROR"  # the kernel's own, not ours
LIMIT = 120  # seconds that a chapter may take on two cores
TIMES = "runs/notebook_seconds.json"
TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt", b"tIME", b"eXIf"}
FAILURES = (
    exceptions.CellExecutionError,
    exceptions.CellTimeoutError,
    exceptions.DeadKernelError,
)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def chapters(root: Path, names: list[str]) -> list[Path]:
    "The notebooks that `names` mean: all of them when it is empty."
    every = sorted((root / "nbs").glob("[0-9][0-9]_*.ipynb"))
    if not names:
        return every
    found = [x for x in every if any(n in (x.stem, x.name) for n in names)]
    missing = set(map(clean_name, names)) - {x.stem for x in found}
    if missing:
        raise SystemExit(f"no such notebook in nbs/: {sorted(missing)}")
    return found


def clean_name(name: str) -> str:
    "A notebook's stem, from its name or its path."
    return Path(name).name.removesuffix(".ipynb")


def skipped_flags(root: Path) -> set[str]:
    "The directives whose cells tests leave out (nbdev's `tst_flags`)."
    parser = configparser.ConfigParser(delimiters=["="], interpolation=None)
    parser.read(root / "settings.ini", encoding="utf-8")
    return set(parser["DEFAULT"].get("tst_flags", "").split())


def directives(source: str) -> dict[str, str]:
    "The `#|` lines that open a cell, as names and values."
    found = {}
    for line in source.splitlines():
        if line.strip() and not line.startswith("#|"):
            break
        name, _, value = line[2:].strip().partition(":")
        found[name.split(" ")[0]] = value.strip()
    return found


def runnable(cell: NotebookNode, flags: set[str]) -> bool:
    "Whether a cell is to be executed."
    if cell.cell_type != "code":
        return False
    found = directives(cell.source)
    return found.get("eval", "").lower() != "false" and not flags & set(found)


def strip_png(data: str) -> str:
    "A base64 PNG without its text and time chunks."
    raw = base64.b64decode(data)
    kept, at = [raw[:8]], 8
    while at < len(raw):
        size, kind = struct.unpack(">I4s", raw[at : at + 8])
        if kind not in TEXT_CHUNKS:
            kept.append(raw[at : at + 12 + size])
        at += 12 + size
    return base64.b64encode(b"".join(kept)).decode()


def strip_svg(data: str) -> str:
    "An SVG without the metadata that names the program and the date."
    data = re.sub(r"\s*<metadata>.*?</metadata>", "", data, flags=re.DOTALL)
    return re.sub(r"<!-- Created with .*?-->\s*", "", data)


def normal_data(data: dict) -> dict:
    "One output's representations, free of what changes between runs."
    images = [kind for kind in data if kind.startswith("image/")]
    if images and data.get("text/plain", "").startswith("<"):
        data = {k: v for k, v in data.items() if k != "text/plain"}
    for kind in images:
        if kind == "image/png":
            data[kind] = strip_png(data[kind])
        if kind == "image/svg+xml":
            data[kind] = strip_svg(data[kind])
    return data


def last_frames(text: str) -> str:
    "What a terminal shows after carriage returns."
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(x.rstrip("\r").rsplit("\r", 1)[-1] for x in lines)


def normal_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    "A cell's outputs with streams joined and nothing that varies."
    kept: list[NotebookNode] = []
    for out in outputs:
        if out.output_type == "stream":
            if kept and kept[-1].get("name") == out.name:
                kept[-1].text += out.text
                continue
        elif "data" in out:
            out.data = NotebookNode(normal_data(dict(out.data)))
            out.metadata = NotebookNode()
        if "execution_count" in out:
            out.execution_count = None
        kept.append(out)
    for out in kept:
        if out.output_type == "stream":
            out.text = last_frames(out.text)
    return [x for x in kept if x.output_type != "stream" or x.text.strip()]


def normalise(notebook: NotebookNode) -> None:
    "Bring a notebook to the form in which it is stored."
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = normal_outputs(cell.outputs)
    kernel = {"display_name": "python3", "language": "python"}
    kernel["name"] = "python3"
    notebook.metadata = NotebookNode(kernelspec=NotebookNode(kernel))


def noises(notebook: NotebookNode) -> list[str]:
    "What cells wrote to stderr, one line for each."
    return [
        f"cell {cell.get('id')}: {out.text.strip().splitlines()[0]}"
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        if out.get("name") == "stderr"
    ]


def write(path: Path, notebook: NotebookNode) -> bool:
    "Replace a notebook at once, and say whether it changed."
    text = nbformat.writes(notebook)
    text = json.dumps(
        json.loads(text), sort_keys=True, indent=1, ensure_ascii=False
    )
    text += "\n"
    if path.read_text(encoding="utf-8") == text:
        return False
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(name, path.stat().st_mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return True


def traceback_end(error: Exception) -> str:
    "The last lines of what went wrong in the kernel."
    text = getattr(error, "traceback", "") or str(error)
    return "\n".join(ANSI.sub("", text).rstrip().splitlines()[-12:])


def execute(cells: list[tuple[Path, NotebookNode]], folder: Path) -> str:
    "Run cells in one fresh kernel; the text of the failure, or nothing."
    book = nbformat.v4.new_notebook(cells=[cell for _, cell in cells])
    client = NotebookClient(
        book,
        kernel_name="python3",
        timeout=900,
        record_timing=False,
        extra_arguments=[QUIET],
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel():
        for index, (path, cell) in enumerate(cells):
            cell.outputs = []
            try:
                client.execute_cell(cell, index)
            except FAILURES as error:
                head = "\n".join(cell.source.splitlines()[:3])
                where = f"{path} cell {cell.get('id')}"
                return f"{where}:\n{head}\n…\n{traceback_end(error)}"
    return ""


def read(path: Path) -> NotebookNode:
    "A notebook in the newest format."
    return nbformat.read(path, as_version=4)


def run_chapter(path: Path, check: bool, root: Path = ROOT) -> str:
    "Run one chapter and its answers; what failed, or nothing."
    answers = path.parent / "solutions" / path.name
    paths = [path] + ([answers] if answers.exists() else [])
    books = {x: read(x) for x in paths}
    flags = skipped_flags(root) if check else set()
    cells = []
    for where, book in books.items():
        for cell in book.cells:
            if runnable(cell, flags):
                cells.append((where.relative_to(root), cell))
            elif cell.cell_type == "code":
                cell.outputs = []
    failure = execute(cells, path.parent)
    if failure:
        return failure
    for where, book in books.items():
        normalise(book)
        for line in noises(book):
            print(f"warning: {where.name} {line}", flush=True)
        if not check and write(where, book):
            print(f"wrote {where.relative_to(root)}", flush=True)
    return ""


def record_times(root: Path, seconds: dict[str, float]) -> None:
    "Keep how long each notebook took, with machine and date."
    path = root / TIMES
    old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    record = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "date": datetime.date.today().isoformat(),
        "seconds": {**old.get("seconds", {}), **seconds},
    }
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def set_environment() -> None:
    "Fix what outputs depend on, before the first kernel starts."
    os.environ.update(ENV)
    data = os.environ.get("LLMFS_DATA")
    if data:  # kernels run in nbs/, where a relative path means another
        os.environ["LLMFS_DATA"] = str(Path(data).resolve())


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    "Run what the command line asks for."
    parser = argparse.ArgumentParser(description="Execute the notebooks.")
    parser.add_argument("names", nargs="*", help="e.g. 02_tokenization")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--time", action="store_true", help=f"→ {TIMES}")
    args = parser.parse_args(argv)
    set_environment()
    seconds, failed = {}, False
    for path in chapters(root, [clean_name(x) for x in args.names]):
        start = time.monotonic()
        failure = run_chapter(path, args.check, root)
        seconds[path.stem] = round(time.monotonic() - start, 1)
        slow = ", more than a reader waits" * (seconds[path.stem] > LIMIT)
        print(f"{path.stem}: {seconds[path.stem]} s{slow}", flush=True)
        if failure:
            print(f"FAILED {failure}", flush=True)
            failed = True
    if args.time and not failed:
        record_times(root, seconds)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
