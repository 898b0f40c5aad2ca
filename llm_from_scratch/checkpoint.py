"""Folders that hold a model: found, fetched, and written whole or not at all.

Knows files, the hub, and which class reads which kind of model. Knows
nothing of what is in a model or how it is trained.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from llm_from_scratch.downloads import download
from llm_from_scratch.files import cache_dir, read_text

if TYPE_CHECKING:
    import torch
    from torch import nn

    from llm_from_scratch.tokenization import BPETokenizer

ON_HUB = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"  # owner/name
OWN_KEY = "llm_from_scratch"  # of what we write beside others' keys
STORYTELLER = Path(__file__).parent / "models" / "storyteller"
KINDS = {  # model_type: our module, what reads it, what it is stored as
    "gpt2": ("gpt", "load_gpt2", "gpt2_tensors"),
    "llama": ("modern", "load_modern", "modern_tensors"),
    "qwen3": ("modern", "load_modern", "modern_tensors"),
    OWN_KEY: ("modern", "load_modern", "modern_tensors"),  # with relu2
}


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


def save_checkpoint(
    folder: str | Path,  # is made
    model: "nn.Module",  # GPT-2, Llama or Qwen3; others: weights only
    tokenizer: "BPETokenizer | None" = None,  # None: none is written
    *,
    meta: dict | None = None,  # told beside the sizes in config.json
    card: str = "",  # model_card.md; "": none is written
    overwrite: bool = False,  # False: an existing folder is an error
) -> Path:  # the folder
    """Write a model with its tokenizer, whole or not at all.

    Raises `FileExistsError`. transformers reads the result.
    """
    with new_folder(folder, overwrite=overwrite) as new:
        write_model(new, model, tokenizer, meta=meta, card=card)
    return Path(folder)


def write_model(
    folder: Path,  # exists
    model: "nn.Module",  # any
    tokenizer: "BPETokenizer | None" = None,  # None: none is written
    *,
    meta: dict | None = None,  # told beside the sizes in config.json
    card: str = "",  # model_card.md; "": none is written
) -> None:
    "The files of `save_checkpoint`, into a folder of `new_folder`."
    from safetensors.torch import save_file, save_model

    config = describe(model)
    config[OWN_KEY] = config.get(OWN_KEY, {}) | (meta or {})
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    path, more = folder / "model.safetensors", {"format": "pt"}
    if home := KINDS.get(config["model_type"]):
        module = import_module(f".{home[0]}", __package__)
        save_file(getattr(module, home[2])(model), path, metadata=more)
    else:  # shared tensors are written once
        save_model(model, str(path), metadata=more)
    if tokenizer is not None:
        tokenizer.save(folder / "tokenizer.json")
    if card:
        (folder / "model_card.md").write_text(card, encoding="utf-8")


def describe(
    model: "nn.Module",  # any
) -> dict:  # what `config.json` says of it
    "The model's own configuration, or the name of its class."
    config = getattr(model, "config", None)
    if hasattr(config, "to_dict"):
        return config.to_dict()
    return {"model_type": type(model).__name__}


def load_checkpoint(
    source: str | Path = STORYTELLER,  # a folder, a run, or owner/name
    *,
    device: "torch.device | str" = "cpu",  # where the model shall be
    dtype: "torch.dtype | None" = None,  # None: as stored
    consent: bool | None = None,  # to download; None: ask in a terminal
) -> tuple["nn.Module", "BPETokenizer | None", dict]:
    """Load a model, its tokenizer if it has one, and what is told of it.

    The model is in evaluation mode. Of the folder of a training run the
    best checkpoint is taken. Raises `FileNotFoundError` and `ValueError`
    for files that are missing, broken or of another kind of model.
    """
    from llm_from_scratch.tokenization import BPETokenizer

    folder = find_folder(best_checkpoint(source), consent=consent)
    config = read_config(folder)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise ValueError(
            f"{folder / 'config.json'} has model_type={kind!r}; this "
            f"package loads {', '.join(KINDS)}"
        )
    module, load, _ = KINDS[kind]
    load = getattr(import_module(f".{module}", __package__), load)
    model = load(folder, device=device, dtype=dtype)
    path = folder / "tokenizer.json"
    tokenizer = BPETokenizer.load(path) if path.is_file() else None
    return model, tokenizer, config.get(OWN_KEY, {})


def best_checkpoint(
    source: str | Path,  # perhaps the folder of a training run
) -> str | Path:  # its best checkpoint, or the source itself
    "What a training run found best, else its latest."
    folder = Path(source).expanduser()
    if (folder / "config.json").is_file():
        return source
    for name in ("best", "latest"):
        if (folder / name).is_file():
            found = folder / read_text(folder / name).strip()
            if found.is_dir():
                return found
    return source
