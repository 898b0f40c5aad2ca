"Folders of models appear whole or not at all, wherever a program stops."

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llm_from_scratch import checkpoint
from llm_from_scratch.checkpoint import find_folder, new_folder, read_config


def fill(folder: Path, text: str = "new") -> None:
    "What a model's folder holds, in small."
    (folder / "config.json").write_text(json.dumps({"says": text}))
    (folder / "part").mkdir()
    (folder / "part" / "weights").write_bytes(text.encode())


def content(folder: Path) -> dict[str, bytes]:
    files = (x for x in folder.rglob("*") if x.is_file())
    return {str(x.relative_to(folder)): x.read_bytes() for x in files}


@pytest.fixture
def old(tmp_path) -> Path:
    "A model's folder, alone in its own."
    path = tmp_path / "place" / "model"
    path.mkdir(parents=True)
    fill(path, "old")
    return path


# ----------------------------------------------------------- new_folder


@pytest.mark.parametrize("overwrite", [False, True])
def test_appears_at_the_end(tmp_path, overwrite):
    path = tmp_path / "a" / "b"
    with new_folder(path, overwrite=overwrite) as new:
        assert new.parent.parent == path.parent  # on the same disk
        fill(new)
        assert not path.exists()
    assert content(path)["part/weights"] == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_existing_one_stays(old):
    with (
        pytest.raises(FileExistsError, match="overwrite=True") as caught,
        new_folder(old),
    ):
        pytest.fail("nothing should be written")
    assert str(old) in str(caught.value)
    assert content(old)["part/weights"] == b"old"


def test_overwrite_leaves_nothing_of_the_old(old):
    (old / "extra").write_text("of the old")
    with new_folder(str(old), overwrite=True) as new:
        fill(new)
        assert content(old)["part/weights"] == b"old"  # until the end
    assert set(content(old)) == {"config.json", "part/weights"}
    assert content(old)["part/weights"] == b"new"
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_inside(old, error):
    with pytest.raises(error), new_folder(old, overwrite=True) as new:
        fill(new)
        raise error
    assert content(old)["part/weights"] == b"old"
    assert list(old.parent.iterdir()) == [old]


def test_error_at_the_last_step(old, monkeypatch):
    "The new folder cannot get its name: the old one gets it back."
    replace = os.replace

    def failing(source, target):
        if Path(source).name == "new":
            raise PermissionError(13, "in use by another process")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with (
        pytest.raises(PermissionError, match="in use"),
        new_folder(old, overwrite=True) as new,
    ):
        fill(new)
    assert content(old)["part/weights"] == b"old"
    assert list(old.parent.iterdir()) == [old]


KILLED = """
import os, sys
from llm_from_scratch.checkpoint import new_folder
with new_folder(sys.argv[1], overwrite=True) as new:
    (new / "config.json").write_text("half of it")
    os._exit(9)
"""


def test_killed_inside(old):
    done = subprocess.run([sys.executable, "-c", KILLED, str(old)])
    assert done.returncode == 9
    assert content(old)["part/weights"] == b"old"
    with new_folder(old, overwrite=True) as new:  # its rest does not disturb
        fill(new)
    assert content(old)["part/weights"] == b"new"


def test_somebody_else_was_faster(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(FileExistsError, match="exists already"):  # noqa: SIM117
        with new_folder(path) as new:
            fill(new)
            path.mkdir()
            fill(path, "theirs")
    assert content(path)["part/weights"] == b"theirs"


@pytest.mark.parametrize("kind", ["file", "other folder", "home"])
def test_what_is_no_model_is_never_deleted(kind, tmp_path, monkeypatch):
    path = tmp_path / "thesis"
    if kind == "file":
        path.write_text("years of work")
    else:
        path.mkdir()
        (path / "chapter").write_text("years of work")
    monkeypatch.chdir(path if kind == "home" else tmp_path)
    target = "." if kind == "home" else path
    before = content(tmp_path)
    with (
        pytest.raises(FileExistsError, match="not deleted") as caught,
        new_folder(target, overwrite=True),
    ):
        pytest.fail("nothing should be written")
    assert str(path) in str(caught.value)
    assert content(tmp_path) == before


def test_empty_folder_may_be_filled(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    with pytest.raises(FileExistsError), new_folder(path):
        pass
    with new_folder(path, overwrite=True) as new:
        fill(new)
    assert set(content(path)) == {"config.json", "part/weights"}


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_others_may_read_what_the_umask_allows(tmp_path):
    mask = os.umask(0o027)
    try:
        with new_folder(tmp_path / "model") as new:
            fill(new)
            (new / "config.json").chmod(0o600)  # as safetensors does
    finally:
        os.umask(mask)
    found = [tmp_path / "model", tmp_path / "model" / "config.json"]
    modes = [stat.S_IMODE(x.stat().st_mode) for x in found]
    assert modes == [0o750, 0o640]


def test_place_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OSError, match="file"),
        new_folder(tmp_path / "file" / "model"),
    ):
        pytest.fail("nothing should be written")
    assert content(tmp_path) == {"file": b"x"}


# ---------------------------------------------------------- find_folder


def test_finds_a_folder(old, monkeypatch):
    assert find_folder(old) == old
    assert find_folder(str(old)) == old
    monkeypatch.chdir(old.parent)
    assert find_folder("model") == Path("model")
    monkeypatch.setenv("HOME", str(old.parent))
    monkeypatch.setenv("USERPROFILE", str(old.parent))
    assert find_folder("~/model") == old


def test_folder_here_before_the_hub(old, monkeypatch):
    "A name that could be on the hub is not asked for when it is here."
    monkeypatch.setattr(checkpoint, "download", None)
    monkeypatch.chdir(old.parent.parent)
    assert find_folder("place/model") == Path("place/model")


@pytest.mark.parametrize("source", ["nowhere", "../a/b", "a/b/c", "a b/c"])
def test_neither_here_nor_a_name(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "download", None)
    with pytest.raises(FileNotFoundError, match="owner/name") as caught:
        find_folder(source)
    assert source in str(caught.value)


def test_folder_without_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json") as caught:
        find_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_from_the_hub(tmp_path, monkeypatch):
    "The second file needs no second consent; what is there is kept."
    calls = []

    def fake(repo_id, name, target, *, repo_type, consent):
        calls.append((name, consent))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("{}")

    monkeypatch.setattr(checkpoint, "download", fake)
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path))
    folder = find_folder("owner/a-model", weights="w.bin", consent=None)
    assert folder == tmp_path / "models" / "owner--a-model"
    assert calls == [("w.bin", None), ("config.json", True)]
    assert find_folder("owner/a-model", weights="w.bin") == folder
    assert len(calls) == 2


def test_interrupted_fetch_is_continued(tmp_path, monkeypatch):
    def fake(repo_id, name, target, **options):
        if name == "config.json":
            raise ConnectionError("gone")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("weights")

    monkeypatch.setattr(checkpoint, "download", fake)
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path))
    for _ in range(2):
        with pytest.raises(ConnectionError, match="gone"):
            find_folder("owner/name", consent=True)


# ---------------------------------------------------------- read_config


def test_reads_a_config(old):
    assert read_config(old) == {"says": "old"}


@pytest.mark.parametrize(
    "raw, word",
    [
        (b"", "broken"),
        (b'{"a": 1', "line 1"),
        (b"[1, 2]", "list"),
        (b'"gpt2"', "str"),
        (b"\xff\xfe{", "offset 0"),
    ],
)
def test_broken_config(old, raw, word):
    (old / "config.json").write_bytes(raw)
    with pytest.raises(ValueError, match=word) as caught:
        read_config(old)
    assert str(old / "config.json") in str(caught.value)
