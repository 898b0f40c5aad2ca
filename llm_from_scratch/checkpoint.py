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

from llm_from_scratch.downloads import agree_to_model, download
from llm_from_scratch.files import cache_dir, read_text

if TYPE_CHECKING:
    import torch
    from torch import nn

    from llm_from_scratch.tokenization import BPETokenizer

ON_HUB = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"  # owner/name
OWN_KEY = "llm_from_scratch"  # of what we write beside others' keys
CONFIGS = ("config.json", "adapter_config.json")  # of a model's folder
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights in several files
PART = r"[A-Za-z0-9][\w.-]*\.safetensors"  # the name of one: no path
STORYTELLER = Path(__file__).parent / "models" / "storyteller"
KINDS = {  # model_type: our module, what reads it, what it is stored as
    "gpt2": ("gpt", "load_gpt2", "gpt2_tensors"),
    "llama": ("modern", "load_modern", "modern_tensors"),
    "qwen3": ("modern", "load_modern", "modern_tensors"),
    OWN_KEY: ("modern", "load_modern", "modern_tensors"),  # with relu2
    f"{OWN_KEY}_quantized": (
        "quantized_files",
        "load_quantized",
        "quantized_tensors",
    ),
}


def find_folder(
    source: str | Path,  # a folder, or owner/name on the hub
    *,
    weights: bool = True,  # False: fetch what is small, and the tokenizer
    consent: bool | None = None,  # to download; None: ask in a terminal
) -> Path:  # a folder that holds `config.json`
    """Find a model's folder, or fetch one from the hub into the cache.

    What is a folder here is never looked up there. Consent is asked for
    once, for the whole model. Raises `FileNotFoundError` for a folder
    without `config.json` and for a source that is neither, `ValueError`
    for an index that cannot be followed, and what `download` raises.
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


def _fetch(repo_id: str, weights: bool, consent: bool | None) -> Path:
    "The model's folder in the cache; what is there already is kept."
    folder = cache_dir() / "models" / repo_id.replace("/", "--")
    small = ["config.json"] + ["tokenizer.json"] * (not weights)
    small = [name for name in small if not _is_known(folder, name)]
    large = [x for x in _weight_files(folder) if not (folder / x).exists()]
    if not small and not large:
        return folder
    no_folder = f"there is no folder {repo_id} here; "
    agree_to_model(repo_id, folder, consent=consent, why=no_folder)
    try:
        if weights and large:
            _fetch_weights(repo_id, folder)
        for name in small:
            _fetch_small(repo_id, folder, name)
    except (ConnectionError, FileNotFoundError, PermissionError) as error:
        raise type(error)(f"{no_folder}{error}") from error
    return folder


def _is_known(folder: Path, name: str) -> bool:
    "Is the file here, or was the hub found to have none?"
    return (folder / name).exists() or (folder / f".no-{name}").exists()


def _fetch_small(repo_id: str, folder: Path, name: str) -> None:
    "A file beside the weights; only `config.json` must be there."
    try:
        _get(repo_id, folder, name)
    except FileNotFoundError:
        if name == "config.json":
            raise
        (folder / f".no-{name}").touch()  # the next call needs no network


def _fetch_weights(repo_id: str, folder: Path) -> None:
    "One file or, where the hub has an index instead, those it names."
    if not (folder / INDEX).exists():
        for name in (WEIGHTS, INDEX):
            with contextlib.suppress(FileNotFoundError):
                _get(repo_id, folder, name)
                break
        else:
            raise FileNotFoundError(
                f"the hub has no {WEIGHTS} of {repo_id} and no {INDEX}; "
                "pickled weights (.bin, .pt) are not read: choose another "
                "repository of the same model"
            )
    for name in _weight_files(folder):
        _get(repo_id, folder, name)


def _get(repo_id: str, folder: Path, name: str) -> None:
    "Fetch one file of a model, unless it is there; consent was given."
    path = folder / name
    if not path.exists():
        download(repo_id, name, path, repo_type="model", consent=True)


def _weight_files(folder: Path) -> list[str]:
    "The names of the files with weights, as far as is known by now."
    path = folder / INDEX
    if (folder / WEIGHTS).exists() or not path.exists():
        return [WEIGHTS]
    parts = _read_object(path).get("weight_map")
    names = set(map(str, parts.values())) if isinstance(parts, dict) else set()
    odd = sorted(x for x in names if not re.fullmatch(PART, x, re.ASCII))
    if odd or not names:
        raise ValueError(
            f"{path} names {odd or 'no files'} as weights; it must name files "
            "like model-00001-of-00002.safetensors, in no other folder: do "
            "not trust this repository, and delete the file"
        )
    return sorted(names)


def read_config(
    folder: Path,  # of `find_folder`
    name: str = "config.json",  # of the file; adapters have another
) -> dict:  # its content
    "Raises `ValueError`, naming the file, unless it holds a JSON object."
    return _read_object(folder / name)


def _read_object(path: Path) -> dict:
    "The object in a JSON file; `ValueError` for anything else."
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
    Replacing takes two steps, each a renaming. A program that is killed
    between them, or a machine that stops, leaves no `path`, and the old
    folder as `old` in a hidden one beside it, `.name.xxxxxxxx`.
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
        try:
            if path.exists():
                os.replace(path, old)
            os.replace(new, path)
        except BaseException:  # Ctrl-C too, after either step
            if old.exists() and not path.exists():
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
        not any(path.iterdir())
        or any((path / name).is_file() for name in CONFIGS)
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
    if getattr(model, "quantization", None) is not None:
        from .quantized_files import describe_quantized

        return describe_quantized(model)
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
    best checkpoint is taken. What is small is read first, so that a model
    or a tokenizer of another kind is told before weights are fetched.
    Raises `FileNotFoundError` and `ValueError` for files that are missing,
    broken or of another kind, and what `find_folder` raises.
    """
    from llm_from_scratch.tokenization import BPETokenizer

    source = best_checkpoint(source)
    folder = find_folder(source, weights=False, consent=consent)
    config = read_config(folder)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise ValueError(
            f"{folder / 'config.json'} has model_type={kind!r}; this "
            f"package loads {', '.join(KINDS)}"
        )
    module, load, _ = KINDS[kind]
    path = folder / "tokenizer.json"
    try:
        tokenizer = BPETokenizer.load(path) if path.is_file() else None
    except ValueError as error:
        raise ValueError(
            f"{error}; {module}.{load}({str(source)!r}) loads the weights "
            "alone"
        ) from error
    load = getattr(import_module(f".{module}", __package__), load)
    model = load(source, device=device, dtype=dtype, consent=True)  # asked
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
