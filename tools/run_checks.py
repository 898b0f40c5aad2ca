"""Run the project's checks, and say how long each took.

    python tools/run_checks.py check|test|export

`check` is the quick set for before a commit, `test` everything.
`export` cleans the notebooks and writes the modules, in place.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # also runs as a plain script
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.notebook import PACKAGE, hand_written, load, plain

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("nbs", "tests", "tools", "book", "bench", "setup.py")
# run a second time, without the data folder, on the built-in corpus
ON_BUILT_IN_TEXT = (
    "00_overview",
    "02_tokenization",
    "03_stories",
    "04_data",
    "05_embeddings",
    "07_block",
    "08_gpt",
    "11_modern",
)
LIMIT = {"check": 3 * 60, "test": 30 * 60}  # seconds
Stage = Callable[[], tuple[bool, str]]  # passed?, a remark


def run(*command: str, cwd: Path = ROOT, **env: str) -> bool:
    "Run a command in the project's folder; whether it succeeded."
    full = {**os.environ, "OMP_NUM_THREADS": "2", **env}
    return subprocess.run(command, cwd=cwd, env=full).returncode == 0


def python(*command: str, **env: str) -> bool:
    "Run a command of this environment's Python."
    return run(sys.executable, *command, **env)


def nbdev(name: str, cwd: Path) -> bool:
    "Run one of nbdev's commands in `cwd`."
    return run(str(Path(sys.executable).with_name(name)), cwd=cwd)


def git(*command: str) -> list[str]:
    "The lines that git prints; none without git or a repository."
    try:
        done = subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return []
    return done.stdout.splitlines()


def export() -> tuple[bool, str]:
    "Clean the notebooks and write the modules, in the tree."
    return nbdev("nbdev_clean", ROOT) and nbdev("nbdev_export", ROOT), ""


def in_sync() -> tuple[bool, str]:
    "Notebooks are clean and modules are what they export."
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for name in ("nbs", PACKAGE):
            shutil.copytree(
                ROOT / name,
                copy / name,
                ignore=shutil.ignore_patterns(".ipynb_*", "__pycache__"),
            )
        for name in ("settings.ini", "setup.py", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        if not (nbdev("nbdev_clean", copy) and nbdev("nbdev_export", copy)):
            return False, "nbdev failed"
        names = different(copy)
    for name in names:
        print(f"{name} is not what clean and export make of it")
    if names:
        print("mend with: make export")
    return not names, f"{len(names)} files differ" if names else ""


def different(copy: Path) -> list[str]:
    "The notebooks and modules that differ from those in `copy`."
    names = {
        path.relative_to(top).as_posix()
        for top in (copy, ROOT)
        for pattern in ("nbs/**/*.ipynb", f"{PACKAGE}/**/*.py")
        for path in top.glob(pattern)
        if ".ipynb_checkpoints" not in path.parts
    }
    return [
        name
        for name in sorted(names)
        if not (copy / name).exists()
        or not (ROOT / name).exists()
        or not filecmp.cmp(copy / name, ROOT / name, shallow=False)
    ]


def code() -> list[str]:
    "What ruff looks at: generated modules are checked as notebooks."
    paths = [ROOT / x for x in FOLDERS if (ROOT / x).exists()]
    paths += hand_written(ROOT)
    return [x.relative_to(ROOT).as_posix() for x in paths]


def lint() -> tuple[bool, str]:
    "Ruff finds nothing to complain about."
    return python("-m", "ruff", "check", *code()), ""


def layout() -> tuple[bool, str]:
    "Ruff would not lay out anything differently."
    ok = python("-m", "ruff", "format", "--check", *code())
    return ok, "" if ok else "mend with: .venv/bin/ruff format FILE"


def style() -> tuple[bool, str]:
    "The notebooks keep the style guide's rules."
    return python("tools/check_notebooks.py"), ""


def numbers() -> tuple[bool, str]:
    "Numbers in prose are the recorded ones."
    return python("tools/check_numbers.py"), ""


def spelling() -> tuple[bool, str]:
    "The prose, without its code, is free of common misspellings."
    ignored = ROOT / "tools" / "spelling.txt"
    with tempfile.TemporaryDirectory() as folder:
        for name, text in load(ROOT).pages.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = re.sub(r"https?://\S+|[@#][\w-]+", "", plain(text))
            path.write_text(text, encoding="utf-8")
        command = (sys.executable, "-m", "codespell_lib")
        ok = run(*command, "-I", str(ignored), ".", cwd=Path(folder))
    remark = "real words go into tools/spelling.txt"
    return ok, "" if ok else remark


def book_check() -> tuple[bool, str]:
    "The book's sources are in order."
    return python("-m", "book", "--check"), ""


def book() -> tuple[bool, str]:
    "The book is built without a warning."
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "book"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    print(done.stdout, end="")
    warned = re.search(r"^warning\b", done.stdout, re.I | re.M)
    return not (done.returncode or warned), "warnings" if warned else ""


def notebooks() -> tuple[bool, str]:
    "Every notebook runs, and the answers satisfy their checks."
    return python("tools/run_notebooks.py", "--check"), ""


def notebooks_on_built_in_text() -> tuple[bool, str]:
    "The chapters on text run without the data folder, too."
    if not os.environ.get("LLMFS_DATA"):
        return True, "not needed: the first pass had no data folder"
    names = [x for x in ON_BUILT_IN_TEXT if (ROOT / f"nbs/{x}.ipynb").exists()]
    if not names:
        return True, "no such chapter yet"
    with tempfile.TemporaryDirectory() as folder:
        names_of_data = ("LLMFS_DATA", "LLMFS_CACHE", "TIKTOKEN_CACHE_DIR")
        empty = dict.fromkeys(names_of_data, folder)
        command = ("tools/run_notebooks.py", "--check", *names)
        return python(*command, **empty), " ".join(names)


def pytest(*args: str) -> tuple[bool, str]:
    "Run pytest and keep its closing line."
    last = ""
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode == 0, last.strip("= ")


def tests() -> tuple[bool, str]:
    "The whole test suite, slow tests apart."
    return pytest()


def changed() -> set[str]:
    "Files changed since the last commit, or by it."
    names = git("diff", "--name-only", "HEAD")
    names += git("ls-files", "--others", "--exclude-standard")
    return set(names or git("diff", "--name-only", "HEAD~1"))


def tests_of(path: Path) -> str:
    "The pattern of the test files that cover a file."
    if path.suffix == ".ipynb":
        return f"test_{path.stem[3:]}.py"
    if path.parts[0] in ("tools", "book"):
        return f"test_{path.parts[0]}*.py"
    if path.parts[0] == PACKAGE:
        return f"test_{path.stem}.py"
    if path.match("tests/test_*.py"):
        return path.name
    return "test_setup.py" if len(path.parts) == 1 else ""


def changed_tests() -> tuple[bool, str]:
    "The tests of what changed."
    patterns = {tests_of(Path(x)) for x in changed()} - {""}
    files = {x for p in patterns for x in (ROOT / "tests").glob(p)}
    names = sorted(x.relative_to(ROOT).as_posix() for x in files)
    return pytest("-q", *names) if names else (True, "nothing changed")


QUICK = (in_sync, lint, layout, style, numbers, spelling)
STAGES: dict[str, tuple[Stage, ...]] = {
    "export": (export,),
    "check": (*QUICK, book_check, changed_tests),
    "test": (
        *(*QUICK, notebooks),
        *(notebooks_on_built_in_text, tests, book),
    ),
}


def run_stage(stage: Stage) -> tuple[str, bool, float, str]:
    "Run one stage under its headline; name, success, seconds, remark."
    name = stage.__name__.replace("_", " ")
    print(f"\n== {name}: {stage.__doc__}", flush=True)
    start = time.monotonic()
    try:
        passed, remark = stage()
    except OSError as error:
        passed, remark = False, str(error)
    seconds = time.monotonic() - start
    print(f"-- {'passed' if passed else 'FAILED'} in {seconds:.1f} s {remark}")
    return name, passed, seconds, remark


def main(argv: list[str] | None = None) -> int:
    "Run one set of stages to the end; 1 if any failed."
    kind = (argv or sys.argv[1:] or ["check"])[0]
    if kind not in STAGES:
        raise SystemExit(f"unknown set {kind!r}: {', '.join(STAGES)}")
    results = [run_stage(stage) for stage in STAGES[kind]]
    total = sum(seconds for _, _, seconds, _ in results)
    print(f"\n{'stage':28} {'seconds':>8}")
    for name, passed, seconds, remark in results:
        word = "passed" if passed else "FAILED"
        print(f"{name:28} {seconds:8.1f} {word} {remark}".rstrip())
    print(f"{'total':28} {total:8.1f}")
    if total > LIMIT.get(kind, total):
        print(f"note: slower than the limit of {LIMIT[kind]} s")
    failed = [name for name, passed, _, _ in results if not passed]
    print(f"FAILED: {', '.join(failed)}" if failed else "Everything passed.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
