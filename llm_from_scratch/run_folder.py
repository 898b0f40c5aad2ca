"""The folder of a training run: its facts, its log, its checkpoints.

Knows how to write so that a kill at any moment loses at most what came
after the last checkpoint. Knows nothing of what is trained, or how.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from .checkpoint import describe, new_folder, write_model
from .files import read_text, write_atomic
from .locks import hold
from .token_files import tokenizer_hash

STATE = "trainer.pt"  # what is needed to go on, beside the model's files
SUMS = "checksums.json"  # of the other files, so written last
KEPT = 2  # checkpoints besides the best
BROKEN, DAMAGED = "broken-", "log-damaged.jsonl"  # of a run, but unused
UNFINISHED = ".llmfs-"  # how names of what a kill may leave begin
LOCK = f"{UNFINISHED}lock"
KNOWN = (LOCK, ".DS_Store")  # files that do not count, but are let alone
STEP = re.compile(r"step-(\d{7,})")  # a checkpoint
REST = re.compile(  # what a kill leaves of a write: its name, then tempfile's
    r"\.(step-\d{7,}|latest|best|log\.jsonl|(run|result)\.json|model_card\.md)"
    r"\.[a-z0-9_]{8}"
)
FULL = (  # how torch and safetensors tell of a full disk
    *("No space left", "StorageFull", "os error 112"),
    *("file write failed", "unexpected pos"),
)


class RunFolder:
    """One training run on the disk.

    `run.json` holds the facts of the run, `log.jsonl` a row for each
    step, `step-NNNNNNN/` a checkpoint each, `latest` and `best` their
    names.
    """

    def __init__(
        self,
        path: str | Path,  # need not exist
    ):
        self.path = Path(path).expanduser()
        self.log_path = self.path / "log.jsonl"
        self._log = None

    def start(
        self,
        facts: dict,  # what the run depends on; JSON can hold it
        *,
        overwrite: bool = False,  # False: an existing run is an error
    ) -> None:
        """Begin a run here; what an old one left is deleted at last.

        Raises what `check_new` raises, and `TypeError` for facts that
        JSON cannot hold.
        """
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        self.check_new(overwrite=overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        with self.replacing():
            write_atomic(self.path / "run.json", text)

    @contextmanager
    def replacing(
        self,
        *more: str,  # names of what belongs to the run, besides
    ) -> Iterator[None]:
        """Set an old run aside: back after an error, else it is deleted.

        What cannot be moved, since a program on Windows has it open,
        fails before anything is lost. `run.json` stays until it is
        replaced, so that the folder is always that of a run.
        """
        about = self.path / "run.json"
        before = about.read_bytes() if about.is_file() else None
        steps = [folder.name for folder in self.steps()]
        broken = (x.name for x in self.path.glob(f"{BROKEN}step-*"))
        logs = ("log.jsonl", DAMAGED)
        names = (*more, "latest", "best", *steps, *broken, *logs)
        options = {"prefix": UNFINISHED, "ignore_cleanup_errors": True}
        with TemporaryDirectory(dir=self.path, **options) as old:
            try:
                for name in names:
                    if (self.path / name).exists():
                        os.replace(self.path / name, Path(old, name))
                yield
            except BaseException:
                for path in Path(old).iterdir():
                    os.replace(path, self.path / path.name)
                if before is None:
                    about.unlink(missing_ok=True)
                elif about.read_bytes() != before:
                    write_atomic(about, before)
                raise

    def clean(self) -> None:
        "Remove what a kill left; call it while nobody else writes here."
        for rest in filter(is_rest, self.path.glob(".*")):
            if rest.is_dir():
                shutil.rmtree(rest, ignore_errors=True)
            elif rest.name not in KNOWN:
                rest.unlink()

    def check_new(
        self,
        *,
        overwrite: bool = False,  # False: an existing run is an error
    ) -> None:
        """Raise `FileExistsError` unless a run may begin here.

        It may in a folder that is new or empty, and, with `overwrite`,
        in place of another run; what is no run is never deleted. What
        a kill left half-written does not count, nor does `.DS_Store`.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file, not a folder")
        names = {x.name for x in self.path.glob("*") if not is_rest(x)}
        if names and "run.json" not in names:
            raise FileExistsError(
                f"{self.path} exists and is no training run, so nothing "
                "is written there; choose another name"
            )
        if names and not overwrite:
            raise FileExistsError(
                f"{self.path} holds a training run already; resume it, "
                "overwrite it, or choose another name"
            )

    def facts(self) -> dict:
        """What the run was started with.

        Raises `FileNotFoundError`, and `ValueError` for a broken file.
        """
        path = self.path / "run.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.path} holds no training run, since it has no "
                "run.json; check the name"
            )
        try:
            return dict(json.loads(read_text(path)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is broken: {error}") from error

    def check(
        self,
        facts: dict,  # of the run that shall go on, or some of them
    ) -> None:
        """Raise `ValueError` unless the run was started with these facts.

        `FileNotFoundError` if there is no run.
        """
        before = self.facts()
        facts = json.loads(json.dumps(facts))
        faults = differences({key: before.get(key) for key in facts}, facts)
        if faults:
            raise ValueError(
                f"{self.path} was started with other settings: "
                + "; ".join(faults[:5])
                + "; resume it with its own, or start a new run"
            )

    def steps(self) -> list[Path]:
        "Checkpoints, the newest first, whole or not."
        found = (x for x in self.path.glob("step-*") if x.is_dir())
        known = (folder for folder in found if STEP.fullmatch(folder.name))
        return sorted(known, key=step_of, reverse=True)

    def log(
        self,
        row: dict,  # of one step
    ) -> None:
        "Add a line to the log."
        if self._log is None:
            self._log = open(  # noqa: SIM115 - closed in `close`
                self.log_path, "a", encoding="utf-8"
            )
        with space_for(self.log_path):
            self._log.write(json.dumps(row) + "\n")
            self._log.flush()

    def close(self) -> None:
        "Close the log."
        if self._log is not None:
            with suppress(OSError):  # told when it was written
                self._log.close()
            self._log = None

    def rows(
        self,
        until: int | None = None,  # the last step; None: all
    ) -> list[dict]:  # of the log
        "What was logged; a line that is cut off or damaged is left out."
        if not self.log_path.is_file():
            return []
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        found = [row for line in text.splitlines() if (row := read_row(line))]
        last = math.inf if until is None else until
        return [row for row in found if row["step"] <= last]

    def save(
        self,
        step: int,  # steps done
        state: dict,  # for `torch.save`: tensors and plain values
        write: Callable[[Path], None],  # puts the model's files there
        *,
        best: bool = False,  # the best so far, too
    ) -> Path:  # the checkpoint
        """Write a checkpoint whole, then point to it, then drop old ones.

        Raises `OSError` that says so if the disk is full.
        """
        folder = self.path / step_name(step)
        with space_for(folder), new_folder(folder, overwrite=True) as new:
            if self._log is not None:
                os.fsync(self._log.fileno())
            write(new)
            torch.save(state, new / STATE)
            sums = {f.name: checksum(f) for f in sorted(new.iterdir())}
            text = json.dumps(sums, indent=2) + "\n"
            (new / SUMS).write_text(text, encoding="utf-8")
        for name in ("latest", "best") if best else ("latest",):
            write_atomic(self.path / name, folder.name + "\n")
        self._drop_old()
        return folder

    def _drop_old(self) -> None:
        kept = {self.pointer("best")}
        for folder in self.steps()[KEPT:]:
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def pointer(
        self,
        name: str,  # "latest" or "best"
    ) -> str | None:  # a checkpoint's name
        "What `latest` or `best` names."
        path = self.path / name
        return read_text(path).strip() if path.is_file() else None

    def newest(self) -> tuple[Path, dict] | None:
        """The newest whole checkpoint and its state; None if there is none.

        What is broken is passed over with a warning. Raises `ValueError`
        if nothing else is there.
        """
        faults = []
        for folder in self.steps():
            fault = find_fault(folder)
            if fault is None:
                for told in faults:
                    text = f"{told}; {folder.name} is taken"
                    warnings.warn(text, stacklevel=2)
                data = BytesIO((folder / STATE).read_bytes())
                options = {"map_location": "cpu", "weights_only": True}
                return folder, torch.load(data, **options)
            faults.append(f"{folder} is broken ({fault})")
        if faults:
            raise ValueError(
                f"{self.path} has no whole checkpoint: {'; '.join(faults)}. "
                "Put back what is missing, or start again and overwrite the "
                "run; nothing was deleted"
            )
        return None

    def best_of(
        self,
        rows: list[dict],  # of the log
    ) -> tuple[float, int | None]:  # score and step; infinity and None
        "The best by validation of the checkpoints that are there and whole."
        scored = [row for row in rows if "valid" in row]
        for valid, step in sorted((x["valid"], x["step"]) for x in scored):
            if find_fault(self.path / step_name(step)) is None:
                return valid, step
        return math.inf, None

    def rewind(
        self,
        step: int,  # of the checkpoint that training goes on from
        best: int | None = None,  # of the best one; None: there is none
    ) -> list[dict]:  # the rows up to it
        """Cut back the log and the names.

        Later checkpoints, which are broken, are set aside. Warns if rows
        are missing, and keeps the log as it was beside the new one.
        """
        self.close()
        rows = self.rows(step)
        if len(rows) != step:
            self._keep_log(len(rows), step)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomic(self.log_path, lines)
        for folder in self.steps():
            if step_of(folder) > step:
                aside = self.path / f"{BROKEN}{folder.name}"
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(folder, aside)
        for name, which in {"latest": step or None, "best": best}.items():
            if which is None:
                (self.path / name).unlink(missing_ok=True)
            else:
                write_atomic(self.path / name, f"{step_name(which)}\n")
        return rows

    def _keep_log(self, found: int, step: int) -> None:
        kept = self.path / DAMAGED
        told = "it is gone"
        if self.log_path.is_file():
            told = f"as it is, it is kept as {kept.name}"
            if not kept.exists():  # else that of an earlier time
                shutil.copyfile(self.log_path, kept)
        warnings.warn(
            f"{self.log_path} has {found} rows, not {step}: {told}. Training "
            "goes on as it would have, but curves will have gaps",
            stacklevel=4,
        )


def is_rest(
    path: Path,  # a file or folder
) -> bool:
    "Whether its name is that of something nobody will miss."
    own = path.name.startswith(UNFINISHED) or path.name in KNOWN
    return own or REST.fullmatch(path.name) is not None


def read_row(
    line: str,  # of a log
) -> dict | None:  # None: it is damaged
    "A line is a row if it knows its step."
    try:
        row = json.loads(line)
    except ValueError:
        return None
    known = isinstance(row, dict) and isinstance(row.get("step"), int)
    return row if known else None


@contextmanager
def space_for(
    path: Path,  # what is written
) -> Iterator[None]:
    "Make of all that tells of a full disk an `OSError` with a remedy."
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        known = number in (errno.ENOSPC, errno.EDQUOT)
        if not known and not any(words in str(error) for words in FULL):
            raise
        raise OSError(
            errno.ENOSPC,
            "the disk is full; free some space, then go on with the run "
            "(--resume): checkpoints written before are whole",
            str(path),
        ) from error


def step_of(
    folder: Path,  # a checkpoint
) -> int:  # steps done
    "What its name says."
    return int(folder.name.partition("-")[2])


def step_name(
    step: int,  # steps done
) -> str:  # of its checkpoint's folder
    "Such as `step-0000500`."
    return f"step-{step:07d}"


def find_fault(
    folder: Path,  # a checkpoint
) -> str | None:  # what is wrong; None: nothing
    "Compare every file with its checksum."
    try:
        sums = json.loads(read_text(folder / SUMS))
    except (OSError, ValueError):
        return f"{SUMS} is missing or cut off"
    for name, wanted in sums.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if checksum(path) != wanted:
            return f"{name} is not what was written"
    return None if STATE in sums else f"{STATE} is missing"


def checksum(
    path: Path,  # a file
) -> str:  # sha256, 64 characters
    "Of its content."
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(
    before: object,  # of JSON
    now: object,  # the same, or not
    name: str = "",  # what is compared
) -> list[str]:  # such as `config.lr was 0.1, is 0.2`
    "Where two trees of facts differ."
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        pairs = (
            (before.get(key), now.get(key), f"{name}.{key}".lstrip("."))
            for key in keys
        )
        return [fault for pair in pairs for fault in differences(*pair)]
    return [] if before == now else [f"{name} was {before!r}, is {now!r}"]


class Log:
    "The rows of a run, and its folder if it has one."

    def __init__(
        self,
        run: object,  # `pretraining.Resumable`
        folder: RunFolder | None,  # None: rows are only kept
        tokenizer: object,  # saved beside the model; None: none
    ):
        self.run, self.folder, self.tokenizer = run, folder, tokenizer
        self.rows, self.held = [], ExitStack()  # what ends with the log

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        with self.held:
            if self.folder:
                self.folder.close()

    def add(
        self,
        row: dict,  # of one step
    ) -> None:
        "Keep it, and write it down."
        self.rows.append(row)
        if self.folder:
            self.folder.log(row)

    def save(self) -> None:
        "Write a checkpoint."
        run, row = self.run, self.rows[-1]
        if not self.folder:
            return
        meta = {"step": run.step, "valid": row.get("valid")}
        options = {"tokenizer": self.tokenizer, "meta": meta}
        write = partial(write_model, model=run.model, **options)
        best = run.best_step == run.step
        self.folder.save(run.step, run.state_dict(), write, best=best)


def open_log(
    run: object,  # `pretraining.Resumable`; set to the newest checkpoint
    folder: str | Path | None,  # of the run; None: it is not stored
    *,
    resume: bool = False,  # go on, or begin
    overwrite: bool = False,  # replace what is there
    tokenizer: object = None,  # saved beside the model
    facts: dict | None = None,  # more that a resumed run must share
) -> Log:
    """Begin a run or go on with it; see `pretraining.train` for errors.

    Until the log ends, other processes are kept out of the folder.
    """
    if folder is None:
        if resume:
            raise ValueError("resume=True needs the folder of the run")
        return Log(run, None, tokenizer)
    store = RunFolder(folder)
    facts = describe_run(run, tokenizer) | (facts or {})
    if resume:
        store.check(facts)
    else:
        store.check_new(overwrite=overwrite)
    with ExitStack() as stack:
        stack.enter_context(hold(store.path, LOCK))
        store.clean()
        log = Log(run, store, tokenizer)
        if resume:
            log.rows = go_on(run, store)
        else:
            store.start(facts, overwrite=overwrite)
        log.held = stack.pop_all()
    return log


def go_on(
    run: object,  # `pretraining.Resumable`; set to the newest checkpoint
    store: RunFolder,  # of the same run
) -> list[dict]:  # the rows up to there
    "Find the place where a run stopped. Raises what `newest` raises."
    if found := store.newest():
        run.load_state_dict(found[1])
    best = run.best_step
    if best is not None and find_fault(store.path / step_name(best)):
        run.best, run.best_step = store.best_of(store.rows(run.step))
    return store.rewind(run.step, run.best_step)


def describe_run(
    run: object,  # `pretraining.Training`
    tokenizer: object,  # None: not known
) -> dict:  # JSON can hold it
    "What a resumed run must have in common with the one before."
    facts = {"train": asdict(run.config), "model": describe(run.model)}
    facts["data"] = getattr(run.batches, "settings", None)
    facts["tokenizer"] = tokenizer and tokenizer_hash(tokenizer)
    return facts


def progress_bar(
    run: object,  # `pretraining.Training`, whose budget it shows
    shown: bool,  # False: show nothing
) -> tqdm:
    "Steps, or seconds of the budget."
    by_steps = run.config.steps is not None
    total = run.steps if by_steps else round(60 * run.config.minutes)
    unit = "step" if by_steps else "s"
    return tqdm(total=total, unit=unit, disable=not shown, leave=False)


def show(
    bar: tqdm,  # of `progress_bar`
    run: object,  # after a step
    row: dict,  # what is told of it
) -> None:
    "Loss, the best evaluation, and targets a second."
    if bar.disable:
        return
    done = run.step if run.config.steps is not None else int(run.seconds)
    bar.update(min(done, bar.total) - bar.n)
    best = "" if run.best_step is None else f", best {run.best:.3f}"
    rate = run.targets / max(run.seconds, 1e-9)
    text = f"loss {row['loss']:.3f}{best}, {rate:,.0f} targets/s"
    bar.set_postfix_str(text, refresh=False)
