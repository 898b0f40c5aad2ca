"One process at a time in a folder, also after a process was killed."

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_from_scratch import locks
from llm_from_scratch.locks import hold

ROOT = Path(__file__).resolve().parent.parent
HOLDER = """
import sys
from pathlib import Path
from llm_from_scratch.locks import hold
with hold(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(
    folder: Path, name: str = "lock"
) -> Iterator[subprocess.Popen]:
    "A process that holds the folder until it is killed, or the block ends."
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    try:
        assert process.stdout.readline().strip() == b"held"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_another_process_is_kept_out(tmp_path):
    with held_by_another(tmp_path) as other:
        with (
            pytest.raises(BlockingIOError, match="in use") as caught,
            hold(tmp_path, "lock"),
        ):
            pass
        assert f"in use by process {other.pid}: " in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    # it was killed: its file is there, its lock is not
    assert (tmp_path / "lock").read_text() == str(other.pid)
    with hold(tmp_path, "lock"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    assert not list(tmp_path.iterdir())


def test_a_hold_within_a_hold(tmp_path):
    with hold(tmp_path, "lock"):
        with hold(tmp_path / ".." / tmp_path.name, "lock"):
            pass
        assert (tmp_path / "lock").exists()
        with hold(tmp_path / "other", "lock"):
            assert (tmp_path / "other" / "lock").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [True, False])
def test_folders_that_stay_empty_are_removed(kept, tmp_path):
    folder = tmp_path / "new" / "deep"
    with pytest.raises(KeyboardInterrupt), hold(folder, "lock"):
        if kept:
            (folder.parent / "file").touch()
        raise KeyboardInterrupt
    assert not folder.exists()
    assert folder.parent.exists() is kept


@pytest.mark.skipif(os.name == "nt", reason="fcntl")
def test_a_disk_without_locks(tmp_path, monkeypatch):
    def unable(*_):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(locks.fcntl, "lockf", unable)
    with hold(tmp_path, "lock"):
        assert (tmp_path / "lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed")
def test_a_file_that_its_owner_removed(tmp_path, monkeypatch):
    "Opened before, locked after: it is not the one others will open."
    path, lock, left = tmp_path / "lock", locks.lock, [1]

    def late(file):
        if left and left.pop():
            path.unlink()
        lock(file)

    monkeypatch.setattr(locks, "lock", late)
    with hold(tmp_path, "lock"):
        assert path.read_text() == str(os.getpid())
