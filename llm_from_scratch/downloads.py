"""Downloads: a file from the Hugging Face hub, whole and checked, or nothing.

Knows how to ask for consent, resume, and check a file before it gets its
name. Knows nothing of what is in the file. `huggingface_hub` does the
talking and is imported when a function is called.
"""

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from llm_from_scratch.files import cache_dir

TINYSTORIES = "roneneldan/TinyStories"
LICENCE = "CDLA-Sharing-1.0"  # as the dataset's card says; read it there
TINYSTORIES_FILES = {  # split → name on the hub, bytes
    "train": ("TinyStoriesV2-GPT4-train.txt", 2_227_753_162),
    "valid": ("TinyStoriesV2-GPT4-valid.txt", 22_502_601),
}


def download_tinystories(
    splits: str | Sequence[str] = ("train", "valid"),  # which files
    *,
    folder: str | Path | None = None,  # None: where the library looks
    consent: bool | None = None,  # True: yes; None: ask in a terminal
) -> list[Path]:  # the files, one a split
    """Fetch TinyStories V2, 2.2 GB, so that `find_tinystories` finds it.

    Files that are there already are kept. Raises what `download` raises.
    """
    splits = [splits] if isinstance(splits, str) else list(splits)
    for split in splits:
        if split not in TINYSTORIES_FILES:
            raise ValueError(
                f"splits={splits} names {split!r}; there are "
                f"{list(TINYSTORIES_FILES)}"
            )
    folder = Path(folder) if folder else cache_dir() / "tinystories"
    return [
        download(
            TINYSTORIES,
            TINYSTORIES_FILES[split][0],
            folder / f"{split}.txt",
            size=TINYSTORIES_FILES[split][1],
            consent=consent,
            licence=LICENCE,
        )
        for split in splits
    ]


def download(
    repo_id: str,  # owner/name on the hub
    filename: str,  # a file's path in there
    target: str | Path,  # where it shall stand
    *,
    revision: str | None = None,  # a commit, tag or branch; None: the newest
    sha256: str | None = None,  # what it must be; None: the hub's own word
    size: int | None = None,  # bytes it must have; None: the hub's own word
    consent: bool | None = None,  # True: yes; None: ask in a terminal
    repo_type: str = "dataset",  # or "model", "space"
    licence: str | None = None,  # told to whoever is asked
) -> Path:  # the target
    """Fetch a file; it appears under its name complete, checked, or never.

    What a broken connection left is kept beside the target and continued
    by the next call. Raises `PermissionError` without consent,
    `ValueError` for a file that is not what it should be, and `OSError`
    when the hub cannot be reached, has no such file, or the disk is full.
    """
    target = Path(target)
    if target.exists():
        return _keep(target, size, sha256)
    source = f"{repo_id}/{filename}"
    _ask(source, target, size, licence, consent)
    try:
        url, digest, total = _look_up(repo_id, filename, revision, repo_type)
    except Exception as error:  # of whatever client the hub's library uses
        raise _explain(error, source, target) from error
    digest = _compare(source, (sha256, digest), (size, total))
    total = size if total is None else total
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{digest[:12]}.part")
    return _fetch_locked(url, part, target, digest, total, source)


def _keep(target: Path, size: int | None, sha256: str | None) -> Path:
    "The file that is there, if it is the one that was asked for."
    found = target.stat().st_size
    if size is not None and found != size:
        raise FileExistsError(
            f"{target} exists and has {found} bytes, not {size}; move it "
            "away or choose another target"
        )
    if sha256 and (own := _digest(target, sha256)) != sha256:
        raise FileExistsError(
            f"{target} exists and has sha256 {own}, not {sha256}; move it "
            "away or choose another target"
        )
    return target


def agree_to_model(
    repo_id: str,  # owner/name on the hub
    folder: Path,  # where its files shall stand
    *,
    consent: bool | None,  # True: yes; None: ask in a terminal
    why: str = "",  # what is told first, with "; " at its end
) -> None:
    """Ask once for all files of a model, `PermissionError` without consent.

    Only where a person is asked, the hub is, too: for the size.
    """
    asking = consent is None and _is_terminal()
    size = _model_size(repo_id) if asking else None
    _ask(repo_id, folder, size, None, consent, why)


def _model_size(repo_id: str) -> int | None:
    "The bytes of a model's weights, if the hub tells."
    with suppress(Exception):  # the download will say what is wrong
        from huggingface_hub import HfApi

        hub = HfApi(endpoint=os.getenv("HF_ENDPOINT"))
        info = hub.model_info(repo_id, files_metadata=True, timeout=10)
        sizes = {file.rfilename: file.size for file in info.siblings}
        one = sizes.get("model.safetensors")
        part = r"model-\d+-of-\d+\.safetensors"
        return one or sum(
            size for name, size in sizes.items() if re.fullmatch(part, name)
        )
    return None


def _is_terminal() -> bool:
    "Is there somebody to ask?"
    return bool(sys.stdin and sys.stdin.isatty())


def _ask(
    source: str,
    target: Path,
    size: int | None,
    licence: str | None,
    consent: bool | None,
    why: str = "",
) -> None:
    "Go on only with the user's consent."
    amount = f"{size / 1e6:,.0f} MB" if size else "data of unknown size"
    terms = licence or "see its page there"
    what = (
        f"{amount} from the Hugging Face hub, {source} (licence: {terms}), "
        f"to {target}"
    )
    if consent is None and _is_terminal():
        question = f"{why}download {what}? [y/N] "
        answer = ""
        with suppress(EOFError):  # Ctrl-D is no consent
            answer = input(question[0].upper() + question[1:])
        consent = answer.strip().lower() in ("y", "yes")
    elif consent is None:
        raise PermissionError(
            f"{why}this would download {what}; pass consent=True (in a "
            "shell: --yes) to agree"
        )
    if not consent:
        raise PermissionError(
            f"{why}nothing was downloaded: there was no consent to {what}; "
            "pass consent=True (in a shell: --yes) to agree"
        )


def _look_up(
    repo_id: str, filename: str, revision: str | None, repo_type: str
) -> tuple[str, str | None, int | None]:
    "Where the file is, at one commit, its hash, and its size in bytes."
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    where = {"repo_id": repo_id, "filename": filename}
    where |= {"repo_type": repo_type, "endpoint": os.getenv("HF_ENDPOINT")}
    first = hf_hub_url(**where, revision=revision)
    found = get_hf_file_metadata(first, token=None)
    # from here on the same version, even if a newer one appears meanwhile
    url = hf_hub_url(**where, revision=found.commit_hash or revision)
    return url, found.etag, found.size


def _compare(
    source: str,
    digests: tuple[str | None, str | None],
    sizes: tuple[int | None, int | None],
) -> str:
    "The hash to check against; `ValueError` if the hub has another file."
    wanted, told = digests
    told = told or ""
    if sizes[0] is not None and sizes[1] not in (None, sizes[0]):
        raise ValueError(
            f"{source} has {sizes[1]} bytes on the hub, not size={sizes[0]}; "
            "it was changed there: look at its page and pass the new size"
        )
    is_sha256 = re.fullmatch("[0-9a-f]{64}", told)
    if wanted and is_sha256 and wanted != told:
        raise ValueError(
            f"{source} has sha256 {told} on the hub, not sha256={wanted}; "
            "it was changed there: look at its page"
        )
    if not wanted and not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", told):
        raise ValueError(
            f"the hub tells no checksum of {source}, only {told!r}; pass "
            "sha256=… to say what the file must be"
        )
    return wanted or told


def _fetch_locked(
    url: str,
    part: Path,
    target: Path,
    digest: str,
    total: int | None,
    source: str,
) -> Path:
    "Fetch while no other process fetches the same file."
    from huggingface_hub.utils import WeakFileLock

    lock = target.with_name(f".{target.name}.lock")
    try:
        with WeakFileLock(lock):
            if not target.exists():  # else another process has fetched it
                _check_space(part, total)
                _fetch(url, part, target, total, source)
                _check_content(part, digest, total, source)
                os.replace(part, target)
                for old in target.parent.glob(f".{target.name}.*.part"):
                    old.unlink(missing_ok=True)  # of an earlier version
    finally:
        lock.unlink(missing_ok=True)
    return target


def _check_space(part: Path, total: int | None) -> None:
    "Raise `OSError` when the rest of the file does not fit on the disk."
    have = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise OSError(
            errno.ENOSPC,
            f"the disk has {free} bytes free, the download needs "
            f"{total - have}; free some space or choose another folder",
            str(part.parent),
        )


def _fetch(
    url: str, part: Path, target: Path, total: int | None, source: str
) -> None:
    "Append what is missing to `part`; it stays when the network fails."
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    if total is not None and part.exists() and part.stat().st_size > total:
        part.unlink()
    try:
        with part.open("ab") as file:
            options = {"headers": build_hf_headers(), "expected_size": total}
            http_get(url, file, resume_size=file.tell(), **options)
            file.flush()
            os.fsync(file.fileno())
    except Exception as error:
        have = part.stat().st_size
        if _status(error) == 416 or (total is not None and have >= total):
            part.unlink()  # it cannot be continued
            have = 0
        kept = f"; {have} bytes are kept and will be continued" if have else ""
        raise _explain(error, source, target, kept) from error


def _check_content(
    part: Path, digest: str, total: int | None, source: str
) -> None:
    "Raise `ValueError`, and drop the file, if it is not what it should be."
    have = part.stat().st_size
    if total is not None and have != total:
        part.unlink()
        raise ValueError(
            f"{source}: {have} bytes came, not {total}; they were deleted, "
            "try again"
        )
    if (found := _digest(part, digest)) != digest:
        part.unlink()
        raise ValueError(
            f"{source}: what came has the hash {found}, not {digest}: it was "
            "damaged or tampered with, and was deleted; try again, and if "
            "it happens twice, trust neither this network nor the file"
        )


def _digest(path: Path, like: str) -> str:
    "The file's sha256, or git's sha1 if `like` is as short as that."
    short = len(like) == 40
    found = hashlib.sha1() if short else hashlib.sha256()
    if short:
        found.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _status(error: Exception) -> int | None:
    "The hub's answer, if it gave one."
    return getattr(getattr(error, "response", None), "status_code", None)


def _explain(
    error: Exception, source: str, target: Path, kept: str = ""
) -> Exception:
    "The same error, saying in one sentence what happened and what to do."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return OSError(
            errno.ENOSPC, f"the disk is full{kept}; free space", str(target)
        )
    code = _status(error)
    name = source.rsplit("/", 1)[1]
    by_hand = (
        f"or download {name} by hand where there is a network and place it "
        f"at {target}"
    )
    if code in (401, 403):
        return PermissionError(
            f"the hub refuses {source} ({code}): the repository does not "
            "exist, is private, or asks you to accept its terms: open its "
            "page, then log in with `hf auth login`"
        )
    if code == 404:
        return FileNotFoundError(
            f"the hub has no {source} ({code}); check the repository, the "
            "file's name and the revision"
        )
    if code:
        return OSError(
            f"the hub answered {code} for {source}{kept}; try again later, "
            + by_hand
        )
    if isinstance(error, ValueError):  # of hub names that cannot be
        return ValueError(f"{source} is no file on the hub: {error}")
    return ConnectionError(
        f"could not download {source}: {type(error).__name__}{kept}; check "
        "the network and try again, " + by_hand
    )
