"The package's metadata, and what importing it does."

import configparser
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "llm_from_scratch"
EXTRAS = ("course", "book", "test", "peers")
parser = configparser.ConfigParser(delimiters=["="], interpolation=None)
parser.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = parser["DEFAULT"]
KEYS = ("requirements", *(f"{x}_requirements" for x in EXTRAS))
WANTED = [Requirement(x) for key in KEYS for x in SETTINGS[key].split()]


def constraints() -> dict[str, str]:
    "The version that constraints.txt gives each distribution."
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [x.split("==") for x in lines if x and not x.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def python(code: str) -> subprocess.CompletedProcess:
    "Run some code in a fresh interpreter."
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_constraints_satisfy_the_bounds(wanted):
    version = constraints().get(canonicalize_name(wanted.name))
    assert version, f"{wanted.name} is not in constraints.txt"
    assert version in wanted.specifier


def test_metadata_is_what_settings_say():
    data = importlib.metadata.metadata(PACKAGE)
    assert data["Version"] == SETTINGS["version"]
    assert data["Requires-Python"] == f">={SETTINGS['min_python']}"
    assert set(EXTRAS) <= set(data.get_all("Provides-Extra"))
    told = {Requirement(x).name for x in data.get_all("Requires-Dist")}
    wanted = {x.name for x in WANTED}
    assert {canonicalize_name(x) for x in told} == {
        canonicalize_name(x) for x in wanted
    }


def test_import_is_silent_and_light():
    code = (
        f"import sys, {PACKAGE}; heavy = {{'torch', 'numpy', 'matplotlib'}};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = python(code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


SCRIPTS = SETTINGS.get("console_scripts", "").split()


@pytest.mark.parametrize("script", SCRIPTS or [None])
def test_console_script_resolves(script):
    if script is None:
        pytest.skip("settings.ini names no command yet")
    name, _, value = script.partition("=")
    scripts = importlib.metadata.entry_points(group="console_scripts")
    assert callable(scripts[name].load())
    assert scripts[name].value == value


def test_version_agrees_with_the_package():
    code = f"import {PACKAGE}; print({PACKAGE}.__version__)"
    assert python(code).stdout.strip() == SETTINGS["version"]
