"What the doctor finds, on this machine and on ones that lack things."

import importlib.metadata
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llm_from_scratch import devices, doctor, machine
from llm_from_scratch.cli import main

ROWS = (
    *("Python", "torch", "libraries", "CPU", "bfloat16", "memory", "GPU"),
    *("C++", "training", "TinyStories", "cache", "tiktoken"),
    *("course", "book"),
)
NAMES = ("LLMFS_DATA", "LLMFS_CACHE", "TIKTOKEN_CACHE_DIR")


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    "A machine without text, whose cache lies in a temporary folder."
    for name in NAMES:
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setattr(machine, "bf16_seconds", lambda _: FAST)
    monkeypatch.setattr(devices, "device_plan", lambda: PLAN)


FAST = {"float32": 0.002, "bfloat16": 0.001}
SLOW = {"float32": 0.002, "bfloat16": 0.046}
PLAN = devices.DevicePlan(
    device="cpu",
    dtype=torch.bfloat16,
    attention="added",
    compile=True,
    seconds={"float32 fused": 0.05, "bfloat16 added": 0.02},
)


def without(*names: str):
    "A lookup of versions that does not find some distributions."
    real = importlib.metadata.version

    def version(name):
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    return version


def test_every_row_is_there_once_and_in_order():
    checks = doctor.examine()
    assert tuple(check.name for check in checks) == ROWS
    assert all(check.text for check in checks)
    assert doctor.is_fit(checks)


def test_the_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 72 or str(Path(sys.executable)) in out
    assert "  ✓ Python      3." in out
    assert "  ✓ bfloat16    native: a matrix product at 2.0 ×" in out
    assert "  ✓ training    on cpu in bfloat16, added attention" in out
    assert "  – TinyStories not here: the built-in stories" in out
    assert lines[lines.index("To get what is missing") + 1] == (
        "    TinyStories llmfs data tinystories"
    )


def test_json_for_machines(capsys):
    assert main(["doctor", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    data = json.loads(out)
    assert data["ok"] is True
    assert tuple(row["name"] for row in data["checks"]) == ROWS
    rows = {row["name"]: row for row in data["checks"]}
    assert rows["torch"]["details"]["threads"] >= 1
    assert rows["bfloat16"]["details"]["seconds"] == FAST
    assert rows["training"]["details"]["dtype"] == "bfloat16"
    assert rows["training"]["details"]["seconds"] == PLAN.seconds
    assert rows["TinyStories"]["details"] == {"train": None, "valid": None}
    assert {row["name"] for row in data["checks"] if row["required"]} == {
        *("Python", "torch", "libraries")
    }


def test_without_torch(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "  ! torch       not installed" in out
    assert "bfloat16    not measured: no torch" in out
    assert "training    not measured: no torch" in out
    assert '-m pip install "torch>=' in out


def test_a_torch_that_does_not_load(monkeypatch):
    def broken(name):
        raise OSError("libc10.so: cannot open")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    torch, error = doctor.import_torch()
    assert torch is None
    assert error == "installed, but broken: libc10.so: cannot open"
    check = doctor.check_torch(torch, error)
    assert (check.ok, check.text) == (False, error)


def test_a_torch_that_lacks_a_library(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'sympy'", name="sympy")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    assert doctor.import_torch() == (None, "broken: No module named 'sympy'")


def test_an_old_torch():
    old = SimpleNamespace(
        __version__="1.13.1+cu117", get_num_threads=lambda: 1
    )
    check = doctor.check_torch(old, "")
    assert not check.ok
    assert check.text.startswith("1.13.1+cu117 is too old: torch>=")
    assert '-m pip install "torch>=' in check.remedy


def test_without_a_library_of_the_core(capsys, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", without("safetensors"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "! libraries   missing: safetensors>=" in out
    assert '-m pip install "safetensors>=' in out


@pytest.mark.parametrize(
    ("extra", "name"), [("course", "matplotlib"), ("book", "typst")]
)
def test_without_an_optional_library(extra, name, capsys, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", without(name))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"  – {extra:<12}missing: {name}>=" in out
    assert f'-m pip install "{name}>=' in out


def test_an_old_library(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.9.2")
    check = doctor.check_extra("course")
    assert not check.ok
    assert "matplotlib>=3.9 (here: 0.9.2)" in check.text
    assert "(here" not in check.remedy
    assert '"matplotlib>=3.9"' in check.remedy


def test_versions_are_compared_as_numbers():
    assert doctor.numbers("2.13.0+cpu") == (2, 13, 0)
    assert doctor.numbers("2.13.0") > doctor.numbers("2.9")


def test_run_from_a_folder_without_installation(monkeypatch):
    def lost(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", lost)
    assert doctor.requirements() == list(doctor.CORE)
    check = doctor.check_extra("course")
    assert (check.ok, check.remedy) == (False, "")
    assert "not installed" in check.text


def test_the_core_is_what_settings_say():
    needs = {x.partition(">")[0] for x in doctor.requirements()}
    assert needs == set(doctor.CORE)


def test_emulated_bf16(monkeypatch):
    import torch

    monkeypatch.setattr(machine, "bf16_seconds", lambda _: SLOW)
    check = doctor.check_bf16(torch)
    assert not check.ok
    assert "emulated: a matrix product takes 23 ×" in check.text
    assert check.details == {"native": False, "seconds": SLOW}


def test_bf16_that_fails(monkeypatch):
    def fails(_):
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(machine, "bf16_seconds", fails)
    check = doctor.check_bf16(SimpleNamespace())
    assert check.text == "fails: not implemented for 'BFloat16'"


def test_how_to_train(monkeypatch):
    check = doctor.check_plan(torch)
    assert check.ok
    assert check.text == (
        "on cpu in bfloat16, added attention, compiled if it is long: "
        "2.5 × the speed of plain float32"
    )
    plan = devices.DevicePlan(
        device="cuda", attention="fused", matmul_precision="high"
    )
    monkeypatch.setattr(devices, "device_plan", lambda: plan)
    assert doctor.check_plan(torch).text == (
        "on cuda in float32, fused attention, high precision of products"
    )


def test_a_plan_that_fails(monkeypatch):
    def fails():
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(devices, "device_plan", fails)
    check = doctor.check_plan(torch)
    assert (check.ok, check.text) == (False, "fails: no kernel image")


def test_memory_that_nobody_tells(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (None, None))
    check = doctor.check_memory()
    assert (check.ok, check.text) == (False, "this system does not tell")


def test_graphics_processors(monkeypatch):
    found = [
        {"kind": "cuda", "name": "NVIDIA H100", "memory": 85_000_000_000},
        {"kind": "mps", "name": "Apple GPU", "memory": None},
    ]
    monkeypatch.setattr(machine, "accelerators", lambda _: found)
    check = doctor.check_gpu(SimpleNamespace())
    assert check.ok
    assert check.text == "NVIDIA H100 (cuda, 85.0 GB), Apple GPU (mps)"


def test_a_driver_that_torch_cannot_use(monkeypatch):
    monkeypatch.setattr(machine, "accelerators", lambda _: [])
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    check = doctor.check_gpu(SimpleNamespace())
    assert "there is an NVIDIA driver, but torch cannot use it" in check.text
    assert "pytorch.org" in check.remedy


def test_a_driver_that_fails(monkeypatch):
    def fails(_):
        raise RuntimeError("CUDA driver is too old")

    monkeypatch.setattr(machine, "accelerators", fails)
    check = doctor.check_gpu(SimpleNamespace())
    assert check.text == "torch cannot use it: CUDA driver is too old"


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo apt-get install g++"),
        ("dnf", "sudo dnf install gcc-c++"),
        ("none", "install g++"),
    ],
)
def test_without_a_compiler(manager, command, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine, "cpp_compiler", lambda: None)
    monkeypatch.setattr(shutil, "which", {manager: "/x"}.get)
    check = doctor.check_compiler()
    assert (check.ok, check.remedy) == (False, command)


def test_a_compiler_without_headers(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "cpp_compiler", lambda: "/usr/bin/g++")
    monkeypatch.setattr(doctor.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(shutil, "which", {"apt-get": "/x"}.get)
    check = doctor.check_compiler()
    assert not check.ok
    assert str(tmp_path / "Python.h") in check.text
    version = "{}.{}".format(*sys.version_info)
    assert check.remedy == f"sudo apt-get install python{version}-dev"


def test_corpora_are_found_with_their_sizes(tmp_path):
    folder = tmp_path / "llmfs_data" / "tinystories"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_bytes(b"x" * 1_500_000)
    check = doctor.check_corpus()
    assert not check.ok
    assert f"train 1.5 MB, {folder / 'train.txt'}; no valid" in check.text
    (folder / "valid.txt").write_bytes(b"x" * 500)
    check = doctor.check_corpus()
    assert check.ok
    assert f"valid 500 bytes, {folder / 'valid.txt'}" in check.text
    assert check.details["train"]["bytes"] == 1_500_000


def test_a_data_folder_that_is_not_there(tmp_path):
    text = doctor.check_corpus().text
    assert f"LLMFS_DATA={tmp_path / 'llmfs_data'} names no folder" in text


def test_the_cache_and_its_disk(tmp_path):
    check = doctor.check_cache()
    folder = tmp_path / "llmfs_cache"
    assert check.ok
    assert check.details["path"] == str(folder)
    assert check.details["free"] == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.1
    )
    assert not folder.exists()  # looking makes nothing


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "llmfs_cache").write_text("a file", encoding="utf-8")
    check = doctor.check_cache()
    assert not check.ok
    assert "cannot be written" in check.text
    assert "LLMFS_CACHE" in check.remedy


def test_published_tokenizers_on_this_disk(tmp_path):
    folder = tmp_path / "tiktoken_cache_dir"
    assert doctor.check_tiktoken().details["encodings"] == []
    folder.mkdir()
    first, second = map(doctor.cache_key, doctor.ENCODINGS["gpt2"])
    (folder / first).touch()
    assert doctor.check_tiktoken().details["encodings"] == []
    (folder / second).touch()
    check = doctor.check_tiktoken()
    assert check.ok
    assert check.text == f"gpt2 in {folder}"


def test_the_names_of_tiktokens_files(tmp_path, monkeypatch):
    "Where tiktoken itself looks."
    load = pytest.importorskip("tiktoken.load")
    constructors = pytest.importorskip("tiktoken_ext.openai_public")
    asked = set()

    def note(url, *_):
        asked.add(url)
        raise LookupError

    for name in ("data_gym_to_mergeable_bpe_ranks", "load_tiktoken_bpe"):
        monkeypatch.setattr(
            constructors, name, lambda *a, **k: note(*a, *k.values())
        )
    for name, urls in doctor.ENCODINGS.items():
        asked.clear()
        with pytest.raises(LookupError):
            constructors.ENCODING_CONSTRUCTORS[name]()
        assert asked <= {doctor.TIKTOKEN_URL + url for url in urls}
        assert asked
    assert load


def test_this_python_can_be_called(monkeypatch):
    name = Path(sys.executable).name
    monkeypatch.setattr(
        shutil,
        "which",
        lambda _: str(Path(sys.executable).with_name("python")),
    )
    assert doctor.python() == "python"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert doctor.python().strip("'\"") == sys.executable
    assert os.path.basename(doctor.python().strip("'\"")) == name
    assert doctor.pip_install(["a>=1", "b"]).endswith(
        '-m pip install "a>=1" b'
    )
