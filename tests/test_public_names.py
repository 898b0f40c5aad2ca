"What `from llm_from_scratch import …` gives, and what it costs."

import subprocess
import sys
from importlib import import_module

import pytest

import llm_from_scratch as package
from llm_from_scratch.checkpoint import load_checkpoint

NAMES = [name for name in package.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_that_of_its_module(name):
    home, _, own = package._HOMES[name].partition(".")
    module = import_module(f"llm_from_scratch.{home}")
    assert getattr(package, name) is getattr(module, own or name)
    assert name in dir(package)


def test_all_names_have_a_home():
    assert set(NAMES) == set(package._HOMES)


def test_load_is_short_for_load_checkpoint():
    assert package.load is load_checkpoint


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="'lode'"):
        package.lode  # noqa: B018


@pytest.mark.parametrize("name", ["__version__", "BPETokenizer"])
def test_what_needs_no_torch_imports_none(name):
    code = (
        f"import sys; from llm_from_scratch import {name}\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr
