"""Folders that hold a model: found, fetched, and written whole or not at all.

Knows files and the hub. Knows nothing of what is in a model.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llm_from_scratch.downloads import download
from llm_from_scratch.files import cache_dir, read_text

ON_HUB = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"  # owner/name


def find_folder(
    source: str | Path,  # a folder, or owner/name on the hub
    *,
    weights: str = "model.safetensors",  # what to fetch beside config.json
    consent: bool | None = None,  # to download; None: ask in a terminal
) -> Path:  # a folder that holds `config.json`
    """Find a model's folder, or fetch one from the hub into the cache.

    What is a folder here is never looked up there. Raises
    `FileNotFoundError` for a folder without `config.json` and for a
    source that is neither, and what `download` raises.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir() and re.fullmatch(ON_HUB, str(source)):
        folder = _fetch(str(source), weights, consent)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{source} is no folder here, nor owner/name of a model on the "
            "Hugging Face hub"
        )
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no config.json: is it the folder of a model?"
        )
    return folder


def _fetch(repo_id: str, weights: str, consent: bool | None) -> Path:
    "The model's folder in the cache; what is there already is kept."
    folder = cache_dir() / "models" / repo_id.replace("/", "--")
    for name in (weights, "config.json"):
        path = folder / name
        if not path.exists():
            download(repo_id, name, path, repo_type="model", consent=consent)
            consent = True  # for the small file beside the large one
    return folder


def read_config(
    folder: Path,  # of `find_folder`
) -> dict:  # the content of its `config.json`
    "Raises `ValueError`, naming the file, unless it holds a JSON object."
    path = folder / "config.json"
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is broken: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(
            f"{path} must hold an object {{…}}, not {type(data).__name__}"
        )
    return data


@contextlib.contextmanager
def new_folder(
    path: str | Path,  # the folder that shall stand
    *,
    overwrite: bool = False,  # False: an existing one is an error
) -> Iterator[Path]:  # write into this one
    """Let a folder appear whole, with all its files, or not at all.

    The block writes into a temporary folder beside `path`. When it ends
    without an error, its files are flushed to the disk and it gets its
    name; else it is deleted, and what stood there stays. The old folder
    is replaced with all that it held, so it must be a model's, or empty:
    anything else raises `FileExistsError`, whatever `overwrite` says.
    """
    path = Path(os.path.abspath(path))
    _check_old(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}."
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as top:
        new, old = Path(top) / "new", Path(top) / "old"
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            if file.is_file():
                _finish(file)
        _check_old(path, overwrite)  # may have come meanwhile
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(new, path)
        except BaseException:
            if old.exists():
                os.replace(old, path)
            raise


def _check_old(path: Path, overwrite: bool) -> None:
    "Raise `FileExistsError` unless a new folder may take this place."
    if not path.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"{path} exists already; pass overwrite=True to replace it"
        )
    replaceable = path.is_dir() and (
        (path / "config.json").is_file() or not any(path.iterdir())
    )
    if not replaceable:
        raise FileExistsError(
            f"{path} is no folder with a config.json, so it is not deleted; "
            "choose another name or remove it yourself"
        )


def _finish(path: Path) -> None:
    "Give a file the usual mode and wait until its bytes are on the disk."
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)  # safetensors makes files for us alone
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
