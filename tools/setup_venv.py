"""Make `.venv` and install what `book` or `dev` needs, once.

    python3 tools/setup_venv.py book|dev

A stamp in `.venv` named after the requirements' hash records what is
installed, so that a changed requirement installs again. Only the
standard library is used here, because nothing else exists yet.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
INPUTS = ("settings.ini", "setup.py", "constraints.txt")
EXTRAS = {"book": "book", "dev": "course,book,test,peers"}
NEEDS_GB = {"book": 0.5, "dev": 4.0}
SIZES = {"book": "100 MB, under a minute", "dev": "3 GB, some minutes"}
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REMEDIES = (
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full: free some space (4 GB for `make test`).",
    ),
    (
        r"NewConnectionError|NameResolutionError|Temporary failure in name"
        r"|ConnectTimeout|ProxyError|Network is unreachable",
        "pip cannot reach a package index: connect this machine, or name"
        ' a mirror or a folder of wheels, e.g. PIP_FLAGS="--find-links DIR".',
    ),
    (
        r"SSLError|CERTIFICATE_VERIFY_FAILED",
        "pip does not trust the package index: set PIP_CERT to your"
        " network's certificate file.",
    ),
    (
        r"No matching distribution found for (\S+)"
        r"|The user requested \(constraint\) (\S+)",
        "no package index here has {0} for this Python and system: is"
        " this machine offline? Else try make PYTHON=python3.12 …",
    ),
)


def say(text: str) -> None:
    "Print one line at once."
    print(text, flush=True)


def stop(text: str) -> None:
    "End with one clear sentence."
    sys.exit(f"setup: {text}")


def venv_python() -> Path:
    "The interpreter inside `.venv`."
    windows = VENV / "Scripts" / "python.exe"
    return windows if os.name == "nt" else VENV / "bin" / "python"


def stamp(kind: str) -> Path:
    "The file whose presence means that `kind` is installed."
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return VENV / f".{kind}-{digest.hexdigest()[:12]}"


def runs(python: str | Path, code: str) -> bool:
    "Whether a Python exists and runs some code without an error."
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def use_new_python() -> None:
    "Go on with Python 3.11 or newer, or say what to do."
    if sys.version_info >= OLDEST:
        return
    mine = ".".join(map(str, sys.version_info[:2]))
    for minor in (13, 12, 11, 14):
        other = shutil.which(f"python3.{minor}")
        if other and runs(other, "pass"):
            say(f"This is Python {mine}; going on with {other}")
            os.execv(other, [other, *sys.argv])
    stop(
        f"Python 3.11 or newer is needed, this is {mine}: install it and"
        " name it, e.g. make PYTHON=python3.12 book"
    )


def works() -> bool:
    "Whether `.venv` holds a usable Python with pip."
    code = f"import sys, pip; sys.exit(sys.version_info < {OLDEST})"
    return runs(venv_python(), code)


def make_venv() -> None:
    "Create `.venv` unless a usable one exists."
    if works():
        return
    version = "{}.{}".format(*sys.version_info)
    try:
        import ensurepip  # noqa: F401
        import venv
    except ImportError:
        stop(
            "this Python cannot make environments: install its venv"
            f" module (Debian, Ubuntu: sudo apt install python{version}-venv)"
        )
    say(f"Making .venv with Python {version}")
    try:
        venv.create(VENV, clear=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        stop(f"could not make {VENV}: {error}")


def check_disk(kind: str) -> None:
    "Refuse to start an installation that cannot fit."
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < NEEDS_GB[kind]:
        stop(
            f"only {free:.1f} GB free on this disk, {NEEDS_GB[kind]:g} GB"
            " needed: free some space first."
        )


def requirements(kind: str) -> list[str]:
    "What pip is asked for: the project itself only for `dev`."
    if kind == "dev":
        return ["--use-pep517", "-e", f".[{EXTRAS['dev']}]"]
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]["book_requirements"].split()


def explain(log: str) -> str:
    "The remedy for what pip complained about, in one sentence."
    for pattern, remedy in REMEDIES:
        found = re.search(pattern, log)
        if found:
            return remedy.format(*filter(None, found.groups()))
    errors = re.findall(r"^ERROR.*|^\s*\w+Error: .*", log, re.MULTILINE)
    return errors[0].strip() if errors else "pip failed."


def show(line: str) -> None:
    "Turn the lines of pip that matter into progress."
    found = re.match(r"\s*(?:Downloading|Using cached) (\S+) (\(.*\))", line)
    if found:
        say(f"  {found[1].rsplit('/')[-1]} {found[2]}")
    elif line.startswith("Installing collected"):
        say(f"  unpacking {line.count(',') + 1} packages")


def install(kind: str) -> None:
    "Run pip, with the full log kept in `.venv/pip.log`."
    command = [str(venv_python()), "-m", "pip", "install"]
    command += ["--disable-pip-version-check", "--progress-bar", "off"]
    command += ["-c", "constraints.txt", *requirements(kind)]
    command += shlex.split(os.environ.get("PIP_FLAGS", ""))
    lines = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as pip:
        for line in pip.stdout or ():
            lines.append(line)
            show(line)
    log = VENV / "pip.log"
    log.write_text("".join(lines), encoding="utf-8")
    if pip.returncode:
        stop(f"{explain(''.join(lines))} (full log: {log})")


def tip() -> None:
    "Linux without a GPU would fetch gigabytes of CUDA for nothing."
    linux = sys.platform == "linux" and not shutil.which("nvidia-smi")
    if linux and not os.environ.get("PIP_FLAGS"):
        say(
            "  (no GPU here? smaller PyTorch wheels: make test"
            f' PIP_FLAGS="--extra-index-url {CPU_INDEX}")'
        )


def main() -> None:
    "Install one kind of requirements unless its stamp says it is there."
    kind = sys.argv[1] if len(sys.argv) > 1 else "dev"
    if kind not in EXTRAS:
        stop(f"unknown kind {kind!r}: use book or dev")
    use_new_python()
    mark = stamp(kind)
    if mark.exists() and works():
        return
    start = time.monotonic()
    check_disk(kind)
    make_venv()
    say(f"Installing what `{kind}` needs (about {SIZES[kind]})")
    if kind == "dev":
        tip()
    install(kind)
    for old in VENV.glob(f".{kind}-*"):
        old.unlink()
    mark.touch()
    say(f"Installed in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
