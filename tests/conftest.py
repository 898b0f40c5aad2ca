"What all tests share: data, no network, shapes checked as promised."

import importlib
import os
import re
import socket
from pathlib import Path

import pytest

from tools.docment_shapes import guard_module

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "llm_from_scratch"
REQUIRED = os.environ.get("LLMFS_REQUIRE_DATA") == "1"
LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def pytest_configure():
    "Guard the shapes of every module, in the order of the chapters."
    for path in sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb")):
        module = ROOT / PACKAGE / f"{path.stem[3:]}.py"
        # only modules that promise shapes, so that the rest stays fast
        if module.exists() and re.search(
            r"#.*\([A-Z]\b", module.read_text(encoding="utf-8")
        ):
            guard_module(importlib.import_module(f"{PACKAGE}.{module.stem}"))


def data_folder() -> Path | None:
    "The folder with real text, if the environment names one."
    name = os.environ.get("LLMFS_DATA")
    return Path(name) if name and Path(name).is_dir() else None


def pytest_runtest_setup(item):
    "Skip a `data` test whose files are missing."
    mark = item.get_closest_marker("data")
    if not mark:
        return
    folder = data_folder()
    if folder is None:
        pytest.skip("LLMFS_DATA names no folder with real text")
    missing = [x for x in mark.args if not (folder / x).exists()]
    if missing:
        pytest.skip(f"not in LLMFS_DATA: {', '.join(missing)}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    "Where the data must be there, a skipped `data` test is a failure."
    report = (yield).get_result()
    wants_data = item.get_closest_marker("data") or (
        "data_dir" in getattr(item, "fixturenames", ())
    )
    if REQUIRED and report.skipped and wants_data:
        report.outcome = "failed"
        report.longrepr = f"LLMFS_REQUIRE_DATA=1, but: {report.longrepr}"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    "The folder with real text; without one the test is skipped."
    folder = data_folder()
    if folder is None:
        pytest.skip("LLMFS_DATA names no folder with real text")
    return folder


def guarded(connect):
    "`connect`, which fails the test for any address but our own."

    def checked(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if host and not str(host).startswith(LOCAL):
            pytest.fail(f"a test may not use the network: {address}")
        return connect(self, address)

    return checked


@pytest.fixture(scope="session", autouse=True)
def no_network():
    "Tests reach this machine only."
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            real = getattr(socket.socket, name)
            patch.setattr(socket.socket, name, guarded(real))
        yield
