"Each check finds what it is there to find, on a tiny book of its own."

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tools import check_notebooks, check_numbers, run_checks, run_notebooks
from tools import setup_venv as setup
from tools.docment_shapes import ShapeError, guard, guard_module, shape_of
from tools.notebook import load, plain, unfolded

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("one", "two", "three", "four", "five")
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgAB"
    "SK+kcQAAAABJRU5ErkJggg=="
)
LINES = "\n".join("x = 1" for _ in range(50))


def markdown(text: str) -> dict:
    "A cell of prose."
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code(text: str, output: dict | None = None) -> dict:
    "A code cell with at most one stored output."
    outputs = [output] if output else []
    cell = {"cell_type": "code", "metadata": {}, "source": text}
    return {**cell, "execution_count": None, "outputs": outputs}


def stream(text: str, name: str = "stdout") -> dict:
    "A stored stream."
    return {"output_type": "stream", "name": name, "text": text}


def picture(data: str = PIXEL) -> dict:
    "A stored picture."
    kind = "display_data"
    return {"output_type": kind, "metadata": {}, "data": {"image/png": data}}


def lesson() -> dict[str, dict]:
    "The cells of a chapter without faults."
    checks = "\n".join(f"def check_{n}(x): assert x" for n in range(1, 6))
    cells = {
        "title": markdown("# Alpha {#sec-alpha}\n\n> Doubles; knows nothing."),
        "exp": code("#| default_exp alpha"),
        "text": markdown(
            "See @fig-one, @sec-alpha, @knuth and [it](images/a.svg).\n\n"
            '![A line](images/a.svg){#fig-drawn fig-alt="A line"}'
        ),
        "def": code("#| export\ndef double(x: int) -> int:\n    return 2 * x"),
        "prose": markdown("It doubles: `not@this`."),
        "use": code("double(2)", stream("4\n")),
        "fig": code(
            "#| label: fig-one\n#| fig-cap: Up.\n#| fig-alt: >-\n"
            "#|   A rising\n#|   line\nplot = 1",
            picture(),
        ),
        "more": markdown("Prose."),
        "checks": code(checks),
    }
    for name in NAMES:
        cells[f"exr-{name}"] = markdown(f"::: {{#exr-{name}}}\nDo.\n:::")
        cells[f"stub-{name}"] = code("#| eval: false\ndef double(x): ...")
    return cells


def answers() -> dict[str, dict]:
    "The answers to a chapter's exercises."
    cells = {}
    for number, name in enumerate(NAMES, 1):
        cells[f"head-{name}"] = markdown(f"## {name} {{#sol-{name}}}")
        cells[f"code-{name}"] = code(f"check_{number}(True)")
    return cells


def save(path: Path, cells: dict[str, dict]) -> None:
    "Write cells as a notebook."
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"id": key, **cell} for key, cell in cells.items()]
    book = {"cells": listed, "metadata": {}, "nbformat": 4}
    book["nbformat_minor"] = 5
    path.write_text(json.dumps(book), encoding="utf-8")


class Draft:
    "A book below a temporary folder, to be spoiled and checked."

    def __init__(self, root: Path):
        self.root = root
        self.name = "02_alpha"
        self.cells = lesson()
        self.answers = answers()
        self.files = {
            "tests/test_alpha.py": "from x import double\n",
            "nbs/images/a.svg": "<svg/>",
            "references.bib": "@book{knuth, title={T}}",
            "llm_from_scratch/files.py": "a = 1\n",
            "llm_from_scratch/cli.py": "a = 1\n",
            "index.qmd": "# Home {#sec-home}\n\n@sec-alpha\n",
        }

    def set(self, key: str, text: str, output: dict | None = None) -> None:
        "Give a cell another source and perhaps an output."
        old = self.cells.get(key, code(""))
        self.cells[key] = {**old, "source": text}
        if output:
            self.cells[key]["outputs"] = [output]

    def add(self, key: str, text: str) -> None:
        "Append to a cell's source."
        self.set(key, self.cells[key]["source"] + text)

    def swap(self, key: str, old: str, new: str) -> None:
        "Replace part of a cell's source."
        assert old in self.cells[key]["source"]
        self.set(key, self.cells[key]["source"].replace(old, new))

    def faults(self) -> list[str]:
        "What the checks say."
        save(self.root / f"nbs/{self.name}.ipynb", self.cells)
        save(self.root / f"nbs/solutions/{self.name}.ipynb", self.answers)
        for name, text in self.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        found = check_notebooks.check(load(self.root))
        return [str(x) for x in found if x.fault]


@pytest.fixture
def draft(tmp_path):
    "A draft without faults."
    return Draft(tmp_path)


def drop(key: str):
    "A change that takes a cell away."
    return lambda d: d.cells.pop(key)


FROM = "#| export\nfrom llm_from_scratch"
FAULTS = {
    "must begin": lambda d: d.set("title", "# Alpha\n\n> x"),
    "no `> …` line": lambda d: d.set("title", "# Alpha {#sec-alpha}"),
    "needs `#| default_exp alpha`": lambda d: d.set("exp", "1"),
    "not beta": lambda d: d.set("exp", "#| default_exp beta"),
    "must be named": lambda d: setattr(d, "name", "02-alpha"),
    "import names from": lambda d: d.set(
        "i", "#| export\nimport llm_from_scratch.files"
    ),
    "imports * from files": lambda d: d.set("i", f"{FROM}.files import *"),
    "no chapter's module": lambda d: d.set("i", f"{FROM}.zeta import a"),
    "no earlier chapter": lambda d: d.set("i", f"{FROM}.alpha import a"),
    "imports 5 modules": lambda d: d.set(
        "i", "#| export\n" + "\n".join(f"from .m{n} import a" for n in "abcde")
    ),
    "scipy is not a core": lambda d: d.set("i", "#| export\nimport scipy"),
    "binds double again": lambda d: d.set("again", "double = 3"),
    "besides its export": lambda d: d.set("i", "#| export\n#| echo: false\n"),
    "exports and has an output": lambda d: d.set(
        "i", "#| export\nA = 1", stream("1")
    ),
    "exports an expression": lambda d: d.set("i", "#| export\nprint(1)"),
    "does not parse": lambda d: d.set("i", "x ="),
    "without a colon": lambda d: d.swap("def", "export", "export:"),
    "80 columns": lambda d: d.set("i", "x = '" + "a" * 74 + "'"),
    "begins with 'export'": lambda d: d.swap("fig", "A rising", "export is"),
    "words of prose": lambda d: d.add("prose", " word" * 5001),
    "code cell 5 without prose": lambda d: d.cells.update(
        {str(n): code("1") for n in range(4)}
    ),
    "66 code cells": lambda d: d.cells.update(
        {str(n): code("1") for n in range(56)}
    ),
    "151 cells": lambda d: d.cells.update(
        {str(n): markdown("x") for n in range(132)}
    ),
    "452 exported lines": lambda d: d.cells.update(
        {
            str(n): code("#| export\n" + "\n".join(["A = 1"] * 30))
            for n in range(15)
        }
    ),
    "13 figures": lambda d: d.add(
        "text", '\n![](images/a.svg){fig-alt="a"}' * 11
    ),
    "KB, limit 600": lambda d: d.add("prose", "<!--" + "a" * 620000 + "-->"),
    "16 lines of code, limit 15": lambda d: d.set("i", "\n".join("a" * 16)),
    "50 lines of code, limit 40": lambda d: d.set("i", f"#| export\n{LINES}"),
    "f: 42 lines": lambda d: d.set(
        "i", "#| export\nclass A:\n  def f():\n" + "    x = 1\n" * 41
    ),
    "without `#| label": lambda d: d.swap("fig", "fig-one", "one"),
    "stores no figure": lambda d: d.cells["fig"].update(outputs=[]),
    "without fig-cap": lambda d: d.swap("fig", "#| fig-cap: Up.\n", ""),
    "without fig-alt": lambda d: d.swap("fig", "fig-alt", "fig-other"),
    "a.svg has no fig-alt": lambda d: d.swap("text", "fig-alt", "alt"),
    "21 lines of output": lambda d: d.set("use", "1", stream("a\n" * 21)),
    "an absolute path": lambda d: d.set("use", "1", stream("in /home/a")),
    "an address": lambda d: d.set("use", "1", stream("see https://a.b")),
    "a package version": lambda d: d.set("use", "1", stream("torch 2.13.0")),
    "a memory address": lambda d: d.set(
        "use", "1", stream("<f at 0x7f00ff00>")
    ),
    "stderr": lambda d: d.set("use", "1", stream("warning", "stderr")),
    "a PNG of": lambda d: d.set(
        "fig", lesson()["fig"]["source"], picture("AAAA" * 30000)
    ),
    "double is used in no lesson": lambda d: d.set("use", "1"),
    "double is used in no test": lambda d: d.files.update(
        {"tests/test_alpha.py": "'double'"}
    ),
    "4 exercises": drop("exr-five"),
    "exr-two has no `#| eval": drop("stub-two"),
    "exr-five has no check_5": lambda d: d.swap("checks", "check_5", "other"),
    "no answer {#sol-two}": lambda d: d.answers.pop("head-two"),
    "sol-two does not call": lambda d: d.answers.pop("code-two"),
    "answers no exercise": lambda d: d.answers.update(
        x=markdown("## X {#sol-extra}")
    ),
    "sec-home is given twice": lambda d: d.add("prose", " {#sec-home}"),
    "@sec-lost leads nowhere": lambda d: d.add("prose", " [see @sec-lost]"),
    "@turing leads nowhere": lambda d: d.add("prose", " [@turing, p. 3]"),
    "@fig-lost leads nowhere": lambda d: d.swap(
        "fig", "Up.", "See @fig-lost."
    ),
    "b.svg does not exist": lambda d: d.swap("text", "[it](images/a", "[i](b"),
    "write @sec-…": lambda d: d.add("prose", " In chapter 3."),
}


def test_good_draft_has_no_fault(draft):
    assert draft.faults() == []


def test_modules_written_by_hand_may_be_imported(draft):
    draft.set("i", f"{FROM} import files\nfrom .files import a")
    assert draft.faults() == []
    draft.set("i", f"{FROM} import cli")
    assert "imports 'cli', which is no chapter" in draft.faults()[0]


@pytest.mark.parametrize("message", FAULTS)
def test_fault_is_found(draft, message):
    FAULTS[message](draft)
    found = [x for x in draft.faults() if message in x]
    assert found
    assert found[0].startswith(("nbs/02", "index.qmd"))


def test_folded_boxes_are_not_counted():
    box = ':::: {.callout-tip collapse="true"}\n::: {.x}\nb\n:::\nc\n::::'
    assert unfolded(f"a\n{box}\nd") == "a\nd"


def test_plain_drops_code_maths_and_comments():
    text = "a `@b` $x_@c$\n```\n@d\n```\n<!-- @e -->$5 to $6\n"
    assert plain(text).split() == ["a", "$5", "to", "$6"]


def test_main_reports_faults(draft, capsys):
    draft.cells.pop("title")
    draft.faults()
    assert check_notebooks.main(["--quiet"], draft.root) == 1
    assert "must begin" in capsys.readouterr().out


NUMBER_CASES = {
    "0.39<!--= runs/a.json r.x .2f -->": "",
    "(39<!--= runs/a.json r.x *100 .0f --> %)": "",
    "**0.4<!--= runs/a.json r.x .1f -->**": "",
    "~2<!--= runs/a.json list.1 d -->": "",
    "0.40<!--= runs/a.json r.x .2f -->": "says 0.40",
    "<!--= runs/a.json r.x .2f -->": "says nothing",
    "1<!--= runs/b.json r.x .2f -->": "no file runs/b.json",
    "1<!--= runs/a.json r.y .2f -->": "no 'y' of 'r.y'",
    "1<!--= runs/a.json list.7 d -->": "no '7' of",
    "1<!--= runs/a.json r.x -->": "need: file",
    "1<!--= runs/a.json r.x x3 .2f -->": "cannot apply",
    "1<!--= runs/a.json r .2f -->": "not a number",
    "1<!--= runs/a.json r.x .2q -->": "Unknown format",
}


@pytest.fixture
def recorded(tmp_path):
    "A folder with one recorded run."
    (tmp_path / "runs").mkdir()
    record = {"r": {"x": 0.391}, "list": [1, 2]}
    (tmp_path / "runs/a.json").write_text(json.dumps(record))
    return tmp_path


@pytest.mark.parametrize(("text", "message"), NUMBER_CASES.items())
def test_number_is_compared_with_its_record(recorded, text, message):
    (recorded / "README.md").write_text(f"So {text} it is.")
    faults = check_numbers.check_file(recorded / "README.md", recorded, False)
    assert len(faults) == bool(message)
    assert message in "".join(faults)


def test_numbers_are_mended_in_pages_and_notebooks(recorded, capsys):
    text = "It is 7<!--= runs/a.json r.x .2f --> or so."
    (recorded / "index.qmd").write_text(text)
    save(recorded / "nbs/02_a.ipynb", {"a": markdown(text)})
    assert check_numbers.main([], recorded) == 1
    assert capsys.readouterr().out.count("says 7") == 2
    assert check_numbers.main(["--fix"], recorded) == 0
    assert "is 0.39<!--=" in (recorded / "index.qmd").read_text()
    assert "is 0.39<!--=" in (recorded / "nbs/02_a.ipynb").read_text()


def chapter(root: Path, answer: str = "check_1(2)") -> Path:
    "A small notebook with answers, ready to run."
    shutil.copy(ROOT / "settings.ini", root)
    cells = {
        "a": markdown("# A"),
        "b": code("import os, sys\nprint('x\\ry')\nprint(os.getcwd()[-3:])"),
        "c": code("#| eval: false\n1 / 0"),
        "d": code("def check_1(x): assert x == 2, 'two wanted'"),
        "e": code("#| notest\nopen('ran', 'w').close()\n3"),
    }
    save(root / "nbs/02_a.ipynb", cells)
    save(root / "nbs/solutions/02_a.ipynb", {"s": code(f"{answer}; 'fine'")})
    return root / "nbs/02_a.ipynb"


def outputs(path: Path) -> list:
    "All outputs stored in a notebook."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell["outputs"] for cell in cells if "outputs" in cell]


@pytest.fixture
def same_environment(monkeypatch):
    "Undo what the runner sets."
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_notebook_and_answers_are_run_and_stored(tmp_path, same_environment):
    path = chapter(tmp_path)
    assert run_notebooks.main([], tmp_path) == 0
    first = path.read_bytes()
    printed, skipped, _, last = outputs(path)
    assert printed[0]["text"] == ["y\n", "nbs\n"]
    assert skipped == []
    assert last[0]["data"] == {"text/plain": ["3"]}
    assert "fine" in str(outputs(tmp_path / "nbs/solutions/02_a.ipynb"))
    assert run_notebooks.main(["02_a", "--time"], tmp_path) == 0
    assert path.read_bytes() == first
    assert "02_a" in (tmp_path / run_notebooks.TIMES).read_text()
    assert not list(path.parent.glob("*.tmp"))


def test_wrong_answer_is_reported(tmp_path, same_environment, capsys):
    path = chapter(tmp_path, "check_1(3)")
    before = path.read_bytes()
    assert run_notebooks.main(["--check"], tmp_path) == 1
    said = capsys.readouterr().out
    assert "nbs/solutions/02_a.ipynb cell s:\ncheck_1(3)" in said
    assert "AssertionError: two wanted" in said
    assert path.read_bytes() == before
    assert not (tmp_path / "nbs/ran").exists()  # tst_flags name notest


def test_unknown_notebook_is_an_error(tmp_path):
    chapter(tmp_path)
    with pytest.raises(SystemExit, match="07_x"):
        run_notebooks.chapters(tmp_path, ["07_x"])


def test_png_loses_its_metadata_only():
    raw = base64.b64decode(PIXEL)
    note = b"\0\0\0\x0ctEXtSoftware\0abc" + b"\0\0\0\0"
    spoiled = base64.b64encode(raw[:33] + note + raw[33:]).decode()
    assert run_notebooks.strip_png(spoiled) == PIXEL


def test_svg_loses_its_metadata_only():
    svg = "<svg>\n <metadata>\n <x>today</x>\n </metadata>\n <g/></svg>"
    assert run_notebooks.strip_svg(svg) == "<svg>\n <g/></svg>"


def test_figures_lose_their_text():
    data = {"text/plain": "<Figure size 1x1>", "image/svg+xml": "<svg/>"}
    assert run_notebooks.normal_data(data) == {"image/svg+xml": "<svg/>"}


def attend(
    q: np.ndarray,  # queries, (B, T, D)
    k: np.ndarray,  # keys, (B, S, D)
    mask=None,  # True = may attend, broadcastable to (B, T, S)
) -> np.ndarray:  # scores, (B, T, S)
    "Multiply (Author 2017)."
    return q @ k.swapaxes(1, 2) if mask is None else q


class Layer:
    "Holds a method."

    def forward(
        self,
        x: np.ndarray,  # input, (B, 2*T)
    ):
        "Do nothing."
        return x


@pytest.mark.parametrize(
    ("comment", "shape"),
    [
        ("ids, (B, T)", ["B", "T"]),
        ("weights (V,)", ["V"]),
        ("rows, (B, 2*T, 3)", ["B", "2*T", "3"]),
        ("any of (B, T) or (T)", None),
        ("like (…, T)", None),
        ("text (UTF-8)", None),
        ("see (Vaswani et al. 2017)", None),
        (None, None),
    ],
)
def test_shape_in_a_docment(comment, shape):
    assert shape_of(comment) == shape


def test_shapes_are_checked():
    checked, zeros = guard(attend), np.zeros
    assert checked(zeros((2, 3, 4)), zeros((2, 5, 4))).shape == (2, 3, 5)
    with pytest.raises(ShapeError, match=r"k .* \(3, 5, 4\), but B = 2"):
        checked(zeros((2, 3, 4)), zeros((3, 5, 4)))
    with pytest.raises(ShapeError, match=r"q .* got \(3, 4\)"):
        checked(zeros((3, 4)), k=zeros((2, 5, 4)))
    with pytest.raises(ShapeError, match="the result"):
        checked(zeros((2, 3, 4)), zeros((2, 5, 4)), zeros(1))


def test_methods_are_guarded_too():
    module = SimpleNamespace(__name__=__name__, attend=attend, Layer=Layer)
    real = Layer.forward
    try:
        assert guard_module(module) == 2
        with pytest.raises(ShapeError):
            Layer().forward(np.zeros(3))
    finally:
        Layer.forward = real


def test_network_is_closed():
    with (
        socket.socket() as open_socket,
        pytest.raises(pytest.fail.Exception, match="network"),
    ):
        open_socket.connect(("192.0.2.1", 80))


DATA_TEST = """
import pytest

@pytest.mark.data("tinystories/valid.txt")
def test_a():
    pass

def test_b(data_dir):
    pass
"""


@pytest.mark.parametrize(
    ("required", "with_data", "closing"),
    [
        ("0", False, "2 skipped"),
        ("1", False, "failed|error"),
        ("1", True, "2 passed"),
    ],
)
def test_missing_data(tmp_path, required, with_data, closing):
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pytest.ini", tmp_path)
    (tmp_path / "tests/test_x.py").write_text(DATA_TEST)
    data = tmp_path / "data"
    if with_data:
        (data / "tinystories").mkdir(parents=True)
        (data / "tinystories/valid.txt").touch()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LLMFS_DATA": str(data)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**env, "LLMFS_REQUIRE_DATA": required},
        capture_output=True,
        text=True,
    )
    assert re.search(closing, done.stdout.splitlines()[-1])
    assert (done.returncode == 0) == ("failed" not in closing)


@pytest.mark.parametrize(
    ("log", "remedy"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("NewConnectionError: …", "cannot reach a package index"),
        ("SSLError(1)", "certificate"),
        ("ERROR: No matching distribution found for torch==9", "torch==9"),
        ("    The user requested (constraint) torch==9\n", "offline"),
        ("  FileNotFoundError: no README.md\n", "no README.md"),
        ("x\nERROR: something else\n", "ERROR: something else"),
        ("", "pip failed"),
    ],
)
def test_pip_errors_are_explained(log, remedy):
    assert remedy in setup.explain(log)


def test_old_python_is_told(monkeypatch):
    monkeypatch.setattr(setup, "OLDEST", (99, 0))
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed"):
        setup.use_new_python()


def test_missing_venv_module_is_told(monkeypatch):
    monkeypatch.setattr(setup, "works", lambda: False)
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(
        SystemExit, match=r"sudo apt install python3\.\d+-venv"
    ):
        setup.make_venv()


def test_full_disk_is_told(monkeypatch):
    usage = SimpleNamespace(free=1e9)
    monkeypatch.setattr(setup.shutil, "disk_usage", lambda path: usage)
    setup.check_disk("book")
    with pytest.raises(SystemExit, match=r"1\.0 GB free"):
        setup.check_disk("dev")


def test_changed_requirements_change_the_stamp(monkeypatch, tmp_path):
    for name in setup.INPUTS:
        (tmp_path / name).write_text("a")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    first = setup.stamp("book")
    assert setup.stamp("book") == first
    (tmp_path / "constraints.txt").write_text("b")
    assert setup.stamp("book") != first


def test_book_needs_no_torch():
    assert "typst" in " ".join(setup.requirements("book"))
    assert "torch" not in " ".join(setup.requirements("book"))


def test_all_stages_run_and_one_failure_counts(monkeypatch, capsys):
    def good():
        "Fine."
        return True, "a remark"

    def bad():
        "Not fine."
        raise OSError("no such program")

    monkeypatch.setattr(run_checks, "STAGES", {"x": (bad, good)})
    assert run_checks.main(["x"]) == 1
    said = capsys.readouterr().out
    assert "FAILED no such program" in said
    assert "passed a remark" in said
    assert said.endswith("FAILED: bad\n")


def test_misspelling_is_found(draft, monkeypatch, capfd):
    monkeypatch.setattr(run_checks, "ROOT", draft.root)
    draft.files["tools/spelling.txt"] = "\n"
    draft.faults()
    assert run_checks.spelling()[0]
    draft.add("prose", " `teh` is the word recieve")
    draft.faults()
    assert not run_checks.spelling()[0]
    said = capfd.readouterr().out
    assert "recieve" in said
    assert "teh" not in said


def test_unclean_notebook_is_found(draft, monkeypatch, capfd):
    monkeypatch.setattr(run_checks, "ROOT", draft.root)
    for name in ("settings.ini", "setup.py"):
        shutil.copy(ROOT / name, draft.root)
    draft.files["README.md"] = "# Read me\n"
    draft.files["llm_from_scratch/__init__.py"] = ""
    draft.faults()
    assert not run_checks.in_sync()[0]
    assert "nbs/02_alpha.ipynb is not what" in capfd.readouterr().out
    assert run_checks.export()[0]
    assert run_checks.in_sync()[0]
    module = draft.root / "llm_from_scratch/alpha.py"
    module.write_text(module.read_text() + "x = 1\n")
    assert not run_checks.in_sync()[0]
    assert "llm_from_scratch/alpha.py is not" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("nbs/02_alpha.ipynb", "test_alpha.py"),
        ("nbs/solutions/02_alpha.ipynb", "test_alpha.py"),
        ("llm_from_scratch/files.py", "test_files.py"),
        ("book/site.py", "test_book*.py"),
        ("tests/test_alpha.py", "test_alpha.py"),
        ("constraints.txt", "test_setup.py"),
        ("runs/a.json", ""),
    ],
)
def test_tests_of_a_changed_file(path, pattern):
    assert run_checks.tests_of(Path(path)) == pattern
