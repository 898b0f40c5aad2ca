"""`downloads` against a small server that behaves like the hub, badly."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from llm_from_scratch import downloads
from llm_from_scratch.downloads import (
    agree_to_model,
    download,
    download_tinystories,
)
from llm_from_scratch.files import END, find_tinystories, load_stories

STORY = f"Lily lost her red ball, so she asked Ben.\n{END}\n".encode()
CONTENT = STORY * 5000
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Hub(BaseHTTPRequestHandler):
    "The two requests of a download: HEAD at the hub, GET at its storage."

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code: int, headers: dict, body: bytes = b"") -> None:
        self.send_response(code)
        headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, hub) -> None:
        code = {404: "EntryNotFound", 401: "RepoNotFound"}.get(hub.status)
        headers = {"X-Error-Code": code} if code else {}
        self.answer(hub.status, headers, b"no")

    def do_HEAD(self):
        hub = self.server.hub
        hub.asked.append(f"HEAD {self.path}")
        if hub.status:
            return self.refuse(hub)
        port = self.server.server_port
        name = self.path.rsplit("/", 1)[1]
        headers = {"X-Repo-Commit": COMMIT, "ETag": '"something else"'}
        headers["X-Linked-Etag"] = f'"{hub.etag}"'
        headers["X-Linked-Size"] = str(hub.size)
        headers["Location"] = f"http://localhost:{port}/storage/{name}"
        return self.answer(302, headers)

    def do_GET(self):
        hub = self.server.hub
        if self.path.startswith("/api/models/"):
            hub.asked.append(f"GET {self.path}")
            if hub.status:
                return self.refuse(hub)
            files = [{"rfilename": k, "size": n} for k, n in hub.files.items()]
            told = {"id": "someone/model", "siblings": files}
            kind = {"Content-Type": "application/json"}
            return self.answer(200, kind, json.dumps(told).encode())
        if "/storage/" not in self.path:
            hub.asked.append(f"GET {self.path}")
            port = self.server.server_port
            name = self.path.rsplit("/", 1)[1]
            to = f"http://localhost:{port}/storage/{name}"
            return self.answer(302, {"Location": to})
        start = 0
        if asked := self.headers.get("Range"):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        hub.starts.append(start)
        if hub.get_status:
            return self.answer(hub.get_status, {}, b"no")
        if start and start >= len(hub.body):
            return self.answer(416, {})
        if hub.ignores_range:
            start, asked = 0, None
        body, whole = hub.body[start:], len(hub.body)
        headers = {"Content-Length": str(len(body))}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        if hub.drops:  # less than was promised, then silence
            hub.drops -= 1
            body = body[: hub.drop_after]
        self.close_connection = True
        return self.answer(206 if asked else 200, headers, body)


@pytest.fixture
def hub(monkeypatch) -> Iterator[SimpleNamespace]:
    "A hub that one can make fail; everything is set up to reach it."
    hub = SimpleNamespace(body=CONTENT, etag=sha256(CONTENT), asked=[])
    hub.size, hub.status, hub.get_status = len(CONTENT), 0, 0
    hub.drops, hub.drop_after, hub.ignores_range = 0, 0, False
    hub.starts, hub.files = [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.hub = hub
    serve = server.serve_forever
    thread = Thread(target=serve, args=(0.01,), daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    huggingface_hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub import file_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    # it writes pieces of 10 MB, and pauses between attempts
    monkeypatch.setattr(file_download.constants, "DOWNLOAD_CHUNK_SIZE", 500)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    yield hub
    getattr(huggingface_hub, "close_session", lambda: None)()
    server.shutdown()
    server.server_close()
    thread.join()


def get(target: Path, **options) -> Path:
    options = {"consent": True} | options
    return download("someone/stories", "all.txt", target, **options)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -------------------------------------------------------------- it works


def test_a_file_arrives_whole_and_alone(hub, tmp_path):
    path = get(tmp_path / "new" / "x.txt", sha256=sha256(CONTENT))
    assert path.read_bytes() == CONTENT
    assert left(path.parent) == ["x.txt"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~get_umask()
    at_commit = f"GET /datasets/someone/stories/resolve/{COMMIT}/all.txt"
    assert at_commit in hub.asked


def get_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_tinystories_lands_where_it_is_looked_for(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path))
    monkeypatch.delenv("LLMFS_DATA", raising=False)
    files = {
        split: (name, len(CONTENT))
        for split, (name, _) in downloads.TINYSTORIES_FILES.items()
    }
    monkeypatch.setattr(downloads, "TINYSTORIES_FILES", files)
    train, valid = download_tinystories(consent=True)
    assert (
        find_tinystories("train")
        == train
        == tmp_path / ("tinystories/train.txt")
    )
    assert find_tinystories("valid") == valid
    assert load_stories("valid") == CONTENT.decode()
    names = [x.rsplit("/", 1)[1] for x in hub.asked if x.startswith("HEAD")]
    assert names == [name for name, _ in files.values()]
    assert "roneneldan/TinyStories" in hub.asked[0]
    hub.asked.clear()
    assert download_tinystories() == [train, valid]  # nothing to ask
    for split in ("valid", ["valid"]):
        assert download_tinystories(split) == [valid]
    assert not hub.asked
    with pytest.raises(ValueError, match=r"test.*train.*valid"):
        download_tinystories(["test"], consent=True)


def test_the_published_sizes():
    sizes = {k: n for k, (_, n) in downloads.TINYSTORIES_FILES.items()}
    assert sizes == {"train": 2_227_753_162, "valid": 22_502_601}


def test_a_small_file_is_checked_by_gits_hash(hub, tmp_path):
    git = hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT)
    hub.etag = git.hexdigest()
    assert get(tmp_path / "x").read_bytes() == CONTENT
    hub.body = CONTENT[:-1] + b"!"
    with pytest.raises(ValueError, match=hub.etag):
        get(tmp_path / "y")
    assert left(tmp_path) == ["x"]


# ------------------------------------------------------------ connections


def test_a_dropped_connection_is_resumed(hub, tmp_path):
    hub.drops, hub.drop_after = 2, 1000
    assert get(tmp_path / "x").read_bytes() == CONTENT
    assert hub.starts == [0, 1000, 2000]
    assert left(tmp_path) == ["x"]


def test_a_later_call_goes_on_where_the_first_gave_up(
    hub, tmp_path, monkeypatch
):
    hub.drops, hub.drop_after = 1, 5000

    def fail(_):
        hub.drops, hub.drop_after = 99, 0  # from now on nothing comes

    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", fail)
    with pytest.raises(ConnectionError, match="5000 bytes are kept"):
        get(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert find_tinystories("train") != tmp_path / "x"
    hub.drops = 0
    hub.starts.clear()
    assert get(tmp_path / "x").read_bytes() == CONTENT
    assert hub.starts == [5000]
    assert left(tmp_path) == ["x"]


def test_a_server_without_ranges_starts_again(hub, tmp_path):
    hub.drops, hub.drop_after, hub.ignores_range = 1, 1000, True
    assert get(tmp_path / "x").read_bytes() == CONTENT


def test_a_new_version_does_not_continue_the_old(hub, tmp_path):
    old = tmp_path / f".x.{sha256(b'old')[:12]}.part"
    old.write_bytes(b"the old version")
    assert get(tmp_path / "x").read_bytes() == CONTENT
    assert left(tmp_path) == ["x"]


def test_no_network_is_one_clear_error(tmp_path, monkeypatch, hub):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody there
    with pytest.raises(ConnectionError) as found:
        get(tmp_path / "x.txt")
    message = str(found.value)
    assert "someone/stories/all.txt" in message
    assert f"place it at {tmp_path / 'x.txt'}" in message
    assert left(tmp_path) == []


def test_offline_mode_is_told(tmp_path):
    program = (
        "from llm_from_scratch.downloads import download\n"
        "try: download('a/b', 'c', 'x', consent=True)\n"
        "except ConnectionError as e: print(e)\n"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=tmp_path, check=True,
        env=env | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert "OfflineModeIsEnabled" in done.stdout
    assert left(tmp_path) == []


# --------------------------------------------------------------- bad files


def test_a_tampered_file_is_not_kept(hub, tmp_path):
    hub.body = CONTENT.replace(b"red", b"RED", 1)
    with pytest.raises(ValueError) as found:
        get(tmp_path / "x")
    assert sha256(CONTENT) in str(found.value)
    assert sha256(hub.body) in str(found.value)
    assert left(tmp_path) == []


def test_a_damaged_rest_is_not_kept(hub, tmp_path):
    (tmp_path / f".x.{hub.etag[:12]}.part").write_bytes(b"?" * 1000)
    with pytest.raises(ValueError, match="damaged or tampered"):
        get(tmp_path / "x")
    assert left(tmp_path) == []
    assert get(tmp_path / "x").read_bytes() == CONTENT


def test_a_rest_that_is_too_long_is_dropped(hub, tmp_path):
    part = tmp_path / f".x.{hub.etag[:12]}.part"
    part.write_bytes(CONTENT + b"more")
    assert get(tmp_path / "x").read_bytes() == CONTENT


def test_a_truncated_file_never_gets_its_name(hub, tmp_path):
    hub.body = CONTENT[:7000]  # and the server calls that all of it
    for _ in range(3):
        with pytest.raises(OSError, match=r"all\.txt"):
            get(tmp_path / "x")
        assert not (tmp_path / "x").exists()
    hub.body = CONTENT
    assert get(tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 12}, [f"has {len(CONTENT)} bytes", "size=12"]),
        ({"sha256": "a" * 64}, [f"sha256={'a' * 64}", sha256(CONTENT)]),
    ],
)
def test_another_file_on_the_hub(hub, tmp_path, options, words):
    with pytest.raises(ValueError) as found:
        get(tmp_path / "x", **options)
    assert all(word in str(found.value) for word in words)
    assert not hub.starts  # nothing was fetched


def test_a_file_without_checksum_needs_one(hub, tmp_path):
    hub.etag = "W/weak"
    with pytest.raises(ValueError, match=r"sha256=…"):
        get(tmp_path / "x")
    assert get(tmp_path / "x", sha256=sha256(CONTENT)).is_file()


def test_existing_files_are_kept_or_named(hub, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"mine")
    assert get(path, consent=None) == path
    assert get(path, size=4, sha256=sha256(b"mine")) == path
    with pytest.raises(FileExistsError, match="has 4 bytes, not 5"):
        get(path, size=5)
    with pytest.raises(FileExistsError, match=sha256(b"mine")):
        get(path, sha256="b" * 64)
    assert path.read_bytes() == b"mine"
    assert not hub.asked


# ----------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [
        (404, FileNotFoundError, "check the repository"),
        (401, PermissionError, "hf auth login"),
        (403, PermissionError, "accept its terms"),
        (500, OSError, "try again later"),
    ],
)
def test_refusals(hub, tmp_path, code, kind, word):
    hub.status = code
    with pytest.raises(kind, match=word) as found:
        get(tmp_path / "x")
    assert "someone/stories/all.txt" in str(found.value)
    assert str(code) in str(found.value)
    assert left(tmp_path) == []


def test_the_storage_refuses(hub, tmp_path):
    hub.get_status = 500
    with pytest.raises(OSError, match="500 for someone"):
        get(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_name_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="a/b/c/d is no file"):
        download("a/b/c", "d", tmp_path / "x", consent=True)


# ----------------------------------------------------------------- consent


def test_without_a_terminal_one_has_to_say_yes(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(PermissionError) as found:
        get(tmp_path / "x", consent=None, size=2_000_000, licence="MIT")
    for word in ("2 MB", "someone/stories", "MIT", "consent=True", "--yes"):
        assert word in str(found.value)
    assert str(tmp_path / "x") in str(found.value)
    with pytest.raises(PermissionError, match="nothing was downloaded"):
        get(tmp_path / "x", consent=False)
    assert not hub.asked


@pytest.mark.parametrize("answer", ["y", "YES ", "n", ""])
def test_a_terminal_is_asked(hub, tmp_path, monkeypatch, answer):
    asked = []
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(
        "builtins.input", lambda text: asked.append(text) or answer
    )
    if answer.strip().lower() in ("y", "yes"):
        assert get(tmp_path / "x", consent=None).is_file()
    else:
        with pytest.raises(PermissionError, match="no consent"):
            get(tmp_path / "x", consent=None)
        assert not hub.asked
    assert "unknown size" in asked[0]
    assert "its page" in asked[0]


def test_no_answer_is_no_consent(hub, tmp_path, monkeypatch):
    def closed(_):
        raise EOFError

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", closed)
    with pytest.raises(PermissionError, match="nothing was downloaded"):
        get(tmp_path / "x", consent=None)
    assert not hub.asked


def ask_for_model(monkeypatch, tmp_path, answer: str | None, **options) -> str:
    "The question, or the error of who cannot be asked (`answer` None)."
    asked = []
    terminal = SimpleNamespace(isatty=lambda: answer is not None)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr("builtins.input", lambda x: asked.append(x) or answer)
    options = {"consent": None, "why": "there is no folder; "} | options
    try:
        agree_to_model("someone/model", tmp_path / "x", **options)
    except PermissionError as error:
        if answer != "n":
            return str(error)
        assert str(error).startswith("there is no folder; nothing was")
    return "".join(asked)


PARTS = {"model-00001-of-00002.safetensors": 7_000_000_000}
PARTS |= {"model-00002-of-00002.safetensors": 500_000_000}
OTHERS = {"config.json": 800, "pytorch_model.bin": 10**10}
OTHERS |= {"onnx/model.safetensors": 10**9, "original.safetensors": 10**9}


@pytest.mark.parametrize(
    ("files", "amount"),
    [
        ({"model.safetensors": 12_000_000} | PARTS | OTHERS, "12 MB"),
        (PARTS | OTHERS, "7,500 MB"),
        (OTHERS, "unknown size"),
        ({"model.safetensors": None}, "unknown size"),
    ],
)
@pytest.mark.parametrize("answer", ["y", "n"])
def test_who_is_asked_for_a_model_is_told_its_size(
    hub, tmp_path, monkeypatch, answer, files, amount
):
    hub.files = files
    question = ask_for_model(monkeypatch, tmp_path, answer)
    assert question.startswith(f"There is no folder; download {amount}") or (
        question.startswith(f"There is no folder; download data of {amount}")
    )
    assert "someone/model" in question
    assert str(tmp_path / "x") in question
    (asked,) = hub.asked
    assert asked.lower() == "get /api/models/someone/model?blobs=true"


def test_a_hub_that_tells_no_size(hub, tmp_path, monkeypatch):
    hub.status = 500
    assert "unknown size" in ask_for_model(monkeypatch, tmp_path, "y")


def test_the_hub_is_not_asked_where_nobody_is(hub, tmp_path, monkeypatch):
    error = ask_for_model(monkeypatch, tmp_path, None)
    assert error.startswith("there is no folder; this would download data of")
    assert "--yes" in error
    error = ask_for_model(monkeypatch, tmp_path, None, consent=False)
    assert error.startswith("there is no folder; nothing was downloaded")
    assert not ask_for_model(monkeypatch, tmp_path, "n", consent=True)
    assert not hub.asked


# --------------------------------------------------------------------- disk


def test_a_small_disk_is_noticed_before(hub, tmp_path, monkeypatch):
    small = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    with pytest.raises(OSError, match=f"1000 .* needs {len(CONTENT)}") as e:
        get(tmp_path / "x")
    assert e.value.errno == errno.ENOSPC
    assert not hub.starts


def test_a_disk_that_fills_up_is_told(hub, tmp_path, monkeypatch):
    from huggingface_hub import file_download

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", full)
    with pytest.raises(OSError, match="the disk is full"):
        get(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_importing_does_not_import_the_hub():
    program = (
        "import sys, llm_from_scratch.downloads;"
        "print('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "False\n"
