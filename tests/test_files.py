"Files: nothing is lost in writing, nothing is cut wrongly in reading."

import errno
import os
import re
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_from_scratch import files
from llm_from_scratch.files import (
    END,
    cache_dir,
    corpus_name,
    find_tinystories,
    load_stories,
    make_story,
    open_atomic,
    read_pieces,
    read_text,
    write_atomic,
)

quick = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX modes")


# -------------------------------------------------------------- writing


def test_what_is_written(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    assert write_atomic(path, "zwölf\r\n") == path
    assert path.read_bytes() == "zwölf\r\n".encode()
    assert write_atomic(str(path), b"\xff\0") == path
    assert path.read_bytes() == b"\xff\0"
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_file_can_be_protected(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, "old", overwrite=False)
    with pytest.raises(FileExistsError) as error:
        write_atomic(path, "new", overwrite=False)
    message = f"{path} exists already; pass overwrite=True to replace it"
    assert str(error.value) == message
    assert path.read_text("utf-8") == "old"


def full(*_, **__):
    "What a full disk does."
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullFile:
    "A file on a full disk."

    def __init__(self, handle, mode):
        self.handle = handle

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.handle)

    def write(self, data):
        os.write(self.handle, data[:3])
        full()


FAULTS = {"fsync": full, "replace": full, "fdopen": FullFile, "chmod": full}


@pytest.mark.parametrize("where", FAULTS)
@pytest.mark.parametrize("old", [None, "old"])
def test_a_full_disk(where, old, tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    if old:
        path.write_text(old, encoding="utf-8")
    monkeypatch.setattr(files.os, where, FAULTS[where])
    with pytest.raises(OSError, match="No space left") as error:
        write_atomic(path, "twelve bytes")
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(path)
    assert "could not write 12 bytes" in str(error.value)
    assert "free some space" in str(error.value)
    left = list(tmp_path.iterdir())
    assert left == ([path] if old else [])
    assert not old or path.read_text("utf-8") == old


def test_no_temporary_file_can_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "mkstemp", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "target" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="could not write 4 bytes") as error:
        write_atomic(tmp_path / "target", "text")
    assert error.value.filename == str(tmp_path / "target")
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="could not write"):
        write_atomic(tmp_path / "file" / "inside", "text")


@posix
@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write"
)
def test_a_folder_that_cannot_be_written(tmp_path):
    path = tmp_path / "closed" / "file"
    path.parent.mkdir()
    path.write_text("old", encoding="utf-8")
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="choose another folder"):
            write_atomic(path, "new")
        assert path.read_text("utf-8") == "old"
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("text", [False, True])
def test_a_file_in_steps(text, error, tmp_path):
    path = tmp_path / "folder" / "file"
    first, second = ("ä\n", "b\r\n") if text else (b"\0", b"\xff\n")
    with open_atomic(path, text=text) as file:
        file.write(first)
        assert not path.exists()
        file.write(second)
    whole = (first + second).encode() if text else first + second
    assert path.read_bytes() == whole
    with pytest.raises(error), open_atomic(str(path), text=text) as file:
        file.write(second)
        raise error
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


def test_ctrl_c_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    write_atomic(tmp_path / "file", "old")
    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text("utf-8") == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@posix
def test_modes(tmp_path):
    path, mask = tmp_path / "file", os.umask(0o027)
    try:
        write_atomic(path, "text")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_atomic(path, "more")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(mask)


# -------------------------------------------------------------- reading


@quick
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 9))
def test_pieces_are_the_text(tmp_path, text, size):
    path = tmp_path / "file.txt"
    path.write_bytes(text.encode())
    pieces = list(read_pieces(path, size))
    assert "".join(pieces) == text == read_text(path)
    assert all(len(piece.encode()) < size + 4 for piece in pieces)


@quick
@given(st.binary(max_size=30), st.integers(1, 9))
def test_bad_bytes_are_found_where_they_are(tmp_path, raw, size):
    path = tmp_path / "file.txt"
    path.write_bytes(raw)
    try:
        wanted = raw.decode()
    except UnicodeDecodeError as error:
        message = f"byte 0x{raw[error.start]:02x} at offset {error.start};"
        with pytest.raises(ValueError, match=message):
            list(read_pieces(path, size))
    else:
        assert "".join(read_pieces(path, size)) == wanted


def test_line_ends_and_marks_are_kept(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(path) == "\ufeffone\r\ntwo\rthree\n"


def test_bad_text_names_file_and_remedy(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("caf\xe9 noir".encode("latin-1"))
    with pytest.raises(ValueError, match="iconv -t UTF-8") as error:
        read_text(path)
    assert str(error.value).startswith(
        f"{path} is not UTF-8: byte 0xe9 at offset 3"
    )


@pytest.mark.parametrize("name", ["gone.txt", "."])
def test_no_file(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file") as error:
        read_text(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    with pytest.raises(FileNotFoundError):
        next(read_pieces(str(tmp_path / name)))


# ------------------------------------------------------- where data lies


def test_the_cache_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path


@pytest.mark.parametrize(
    ("platform", "variable", "last"),
    [
        ("linux", "XDG_CACHE_HOME", ".cache"),
        ("darwin", None, "Library/Caches"),
        ("win32", "LOCALAPPDATA", "AppData/Local"),
    ],
)
def test_the_cache_of_each_system(
    platform, variable, last, monkeypatch, tmp_path
):
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("LLMFS_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir() == Path.home() / last / "llm_from_scratch"
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
        assert cache_dir() == tmp_path / "llm_from_scratch"


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    "A machine without any text."
    monkeypatch.delenv("LLMFS_DATA", raising=False)
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def put(folder: Path, split: str, text: str) -> Path:
    "Put stories where they are looked for."
    path = folder / "tinystories" / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_real_stories_are_found(no_data, monkeypatch):
    assert find_tinystories() is None
    cached = put(no_data / "cache", "train", "from the cache")
    assert find_tinystories() == cached
    monkeypatch.setenv("LLMFS_DATA", str(no_data / "data"))
    assert find_tinystories() == cached
    named = put(no_data / "data", "train", "from the folder")
    assert find_tinystories("train") == named
    assert find_tinystories("valid") is None
    with pytest.raises(ValueError, match="split='test' must be 'train' or"):
        find_tinystories("test")


def test_both_splits_or_none(no_data):
    "Training on one kind of story and judging on another would mislead."
    assert corpus_name() == "the built-in stories"
    put(no_data / "cache", "train", "real")
    assert corpus_name() == "the built-in stories"
    assert load_stories("train") != "real"
    put(no_data / "cache", "valid", "also real")
    assert corpus_name() == "TinyStories"
    assert load_stories() == load_stories("train") == "real"
    assert load_stories("valid") == "also real"


def test_built_in_stories(no_data):
    train, valid = load_stories("train"), load_stories("valid")
    for text, count in ((train, 6000), (valid, 600)):
        assert text.endswith(f"\n{END}\n")
        stories = text.split(f"\n{END}\n")[:-1]
        assert len(stories) == count
        assert all(story.strip() for story in stories)
    shared = set(train.split(END)) & set(valid.split(END))
    assert shared == {"\n"}
    assert load_stories("train") == train
    with pytest.raises((ValueError, KeyError), match="test"):
        load_stories("test")


def test_a_story_is_whole():
    for seed in range(500):
        story = make_story(seed)
        assert make_story(seed) == story
        assert not re.search(r"[{}|]|  ", story), seed
        assert story[0].isupper() or story[0] in "\"'"
        assert story[-1] in '.!?"'
    assert len({make_story(seed) for seed in range(500)}) > 490
