"A run's folder after kills, damage and wrong settings."

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from llm_from_scratch import run_folder
from llm_from_scratch.data import TokenLoader, write_tokens
from llm_from_scratch.devices import DevicePlan
from llm_from_scratch.files import END
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.pretraining import TrainConfig, train
from llm_from_scratch.run_folder import (
    KEPT,
    LOCK,
    RunFolder,
    describe_run,
    differences,
    find_fault,
    step_name,
)
from llm_from_scratch.tokenization import BPETokenizer
from tests.test_locks import held_by_another

TEXT = "Lily lost her red ball, so she asked Ben. Ben had it in his bag. "
STEPS, EVALUATIONS = 12, 4  # a checkpoint after every third step
CLOCKS = ("seconds", "outside")  # what may differ between two runs


class Killed(BaseException):
    "Not an Exception, so that nobody catches it by the way."


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Small models are faster so, and another number would change digits."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    "A token file of small stories, and its tokenizer."
    stories = [f"{TEXT[: 40 + i]} {TEXT * (i % 3)}".strip() for i in range(24)]
    tokenizer = BPETokenizer.train(TEXT * 20, 280, special_tokens=[END])
    path = tmp_path_factory.mktemp("tokens") / "text"
    return write_tokens(path, stories, tokenizer, workers=1), tokenizer


def made(dropout: float = 0.2, n_embd: int = 16) -> GPT:
    "A new model, always the same."
    sizes = {"vocab_size": 280, "context_len": 16, "n_layer": 2, "n_head": 2}
    config = GPTConfig(**sizes, n_embd=n_embd, dropout=dropout)
    return GPT(config, generator=torch.Generator().manual_seed(0))


def run(text, folder, *, model=None, bf16=False, mode="packed", **options):
    "A short run with all that has a state: dropout, loader, averages."
    file, tokenizer = text
    torch.manual_seed(0)
    model = model or made()
    plan = DevicePlan(device="cpu", dtype=torch.bfloat16) if bf16 else None
    loader = TokenLoader(file, 4, 16, mode=mode, seed=3)
    x, y = TokenLoader(file, 8, 16, seed=4).batch(range(8))

    def validate(model):
        with torch.no_grad():
            return nn.functional.cross_entropy(
                model(x).float().flatten(0, 1), y.flatten(), ignore_index=-100
            ).item()

    config = {"steps": STEPS, "evaluations": EVALUATIONS, "warmup": 3}
    config |= options.pop("config", {})
    usual = {"validate": validate, "plan": plan, "tokenizer": tokenizer}
    rows = train(
        model,
        options.pop("batches", loader),
        TrainConfig(**config),
        folder=folder,
        progress=False,
        **(usual | options),
    )
    return told(rows), weights(model)


def told(rows):
    "Rows without what a clock says."
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


def weights(model):
    return {name: x.clone() for name, x in model.state_dict().items()}


def assert_same(one, other):
    "Bit for bit."
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, tensor in one[1].items():
        assert torch.equal(tensor, other[1][name]), name


def killer(step):
    "Stop a run after a step, as Ctrl+C would."

    def watch(rows):
        if rows[-1]["step"] == step:
            raise Killed

    return watch


def content(folder: Path) -> dict[str, bytes]:
    files = (x for x in folder.rglob("*") if x.is_file())
    return {str(x.relative_to(folder)): x.read_bytes() for x in files}


# ------------------------------------------------------------ killed, resumed

ARMS = {
    "plain": {},
    "accumulate": {"config": {"accumulate": 3}, "mode": "documents"},
    "bf16": {"bf16": True},
    "cosine": {"config": {"schedule": "cosine", "clip": 0}},
}


@pytest.mark.parametrize("arm", ARMS)
def test_killed_after_any_step(arm, text, tmp_path):
    wanted = run(text, tmp_path / "whole", **ARMS[arm])
    assert len(wanted[0]) == STEPS
    steps = range(1, STEPS + 1) if arm == "plain" else (1, 4, 6, STEPS)
    for step in steps:
        folder = tmp_path / f"killed-{step}"
        with pytest.raises(Killed):
            run(text, folder, watch=killer(step), **ARMS[arm])
        torch.rand(5)  # another state of chance
        assert_same(run(text, folder, resume=True, **ARMS[arm]), wanted)
        assert told(RunFolder(folder).rows()) == wanted[0]


def test_killed_again_and_again(text, tmp_path):
    wanted = run(text, None)
    folder, first = tmp_path / "run", {"resume": False}
    for step in (4, 5, 7, 8, 11):
        with pytest.raises(Killed):
            run(text, folder, watch=killer(step), **first)
        first = {"resume": True}
    assert_same(run(text, folder, resume=True), wanted)


def test_a_finished_run_is_resumed_to_nothing(text, tmp_path):
    wanted = run(text, tmp_path)
    before = content(tmp_path)
    assert_same(run(text, tmp_path, resume=True), wanted)
    assert content(tmp_path) == before


def test_batches_without_a_state_are_drawn_again(text, tmp_path):
    x, y = TokenLoader(text[0], 20, 16, seed=1).batch(range(20))
    batches = list(zip(x.split(4), y.split(4), strict=True))
    wanted = run(text, None, batches=batches)
    with pytest.raises(Killed):
        run(text, tmp_path, batches=batches, watch=killer(8))
    assert_same(run(text, tmp_path, batches=batches, resume=True), wanted)


PLACES = {  # where in `RunFolder.save` the program ends
    "before the weights": ("write_model", 0),
    "before the state": ("torch.save", 0),
    "before the sums": ("checksum", 0),
    "before the name": ("write_atomic", 0),
    "before the best": ("write_atomic", 1),
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_while_saving(place, text, tmp_path, monkeypatch):
    "At every stage of a write, from the second checkpoint on."
    wanted = run(text, None)
    name, more = PLACES[place]
    owner = run_folder.torch if "." in name else run_folder
    name = name.rpartition(".")[2]
    real, armed = getattr(owner, name), [False, more]

    def deadly(*args, **options):
        if armed[0]:
            armed[1] -= 1
            if armed[1] < 0:
                raise Killed
        return real(*args, **options)

    def arm(rows):
        armed[0] = rows[-1]["step"] >= 4

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, deadly)
        with pytest.raises(Killed):
            run(text, tmp_path, watch=arm)
    assert_same(run(text, tmp_path, resume=True), wanted)


SCRIPT = """
import sys, torch
sys.path.insert(0, {root!r})
from tests.test_run_folder import *
torch.set_num_threads(1)
tokenizer = BPETokenizer.load({tokenizer!r})
from llm_from_scratch.token_files import TokenFile
text = TokenFile({file!r}, tokenizer), tokenizer
print("begun", flush=True)
config = dict(steps={steps}, evaluations={steps})
run(text, {folder!r}, resume={resume}, config=config)
"""


def script(text, folder, resume, steps):
    "A run of its own process, with a checkpoint after every step."
    file, tokenizer = text
    root = Path(__file__).resolve().parent.parent
    saved = folder.parent / "tokenizer.json"
    if not saved.exists():
        tokenizer.save(saved)
    code = SCRIPT.format(
        root=str(root),
        tokenizer=str(saved),
        file=str(file.path),
        folder=str(folder),
        resume=resume,
        steps=steps,
    )
    return [sys.executable, "-W", "ignore", "-c", code]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize(
    "kills", [2, pytest.param(25, marks=pytest.mark.slow)]
)
def test_sigkill(kills, text, tmp_path):
    """Killed by the system at random moments, most of them in a write.

    The run saves all the time; what it left must be whole, or older.
    """
    folder, chance, steps = tmp_path / "run", random.Random(kills), 16 * kills
    for _ in range(kills):
        started = (folder / "run.json").exists()
        process = subprocess.Popen(
            script(text, folder, started, steps), stdout=subprocess.PIPE
        )
        process.stdout.readline()
        before = [step.name for step in RunFolder(folder).steps()]
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            if [s.name for s in RunFolder(folder).steps()] != before:
                break
            time.sleep(0.002)
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert RunFolder(folder).steps()
    config = {"steps": steps, "evaluations": steps}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is broken, only missing
        done = run(text, folder, resume=True, config=config)
    assert_same(done, run(text, None, config=config))
    assert not list(folder.glob(".*"))


# ------------------------------------------------------------ damage


def spoil(path: Path, how: str) -> None:
    "Cut a file, turn a bit, or remove it."
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return
    if how == "cut":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    else:
        data[len(data) // 3] ^= 1 << 6
    path.write_bytes(data)


FILES = ["trainer.pt", "model.safetensors", "config.json", "tokenizer.json"]


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "gone"])
@pytest.mark.parametrize("name", [*FILES, "checksums.json"])
def test_a_broken_checkpoint_is_passed_over(name, how, text, tmp_path):
    wanted = run(text, None)
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(8))
    newest = tmp_path / step_name(6)
    assert RunFolder(tmp_path).steps()[0] == newest
    assert find_fault(newest) is None
    spoil(newest / name, how)
    with pytest.warns(UserWarning, match="is broken") as caught:
        done = run(text, tmp_path, resume=True)
    assert str(newest) in str(caught[0].message)
    if (name, how) != ("checksums.json", "flipped"):  # accuses another
        assert name in str(caught[0].message)
    assert_same(done, wanted)


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_what_a_kill_left_half_written_is_removed(how, text, tmp_path):
    "Temporary files of every write, and nobody else's."
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(8))
    leave_rests(tmp_path)
    for name in (".notes", ".best.txt"):
        (tmp_path / name).write_text("the reader's")
    run(text, tmp_path, **{how: True})
    names = {path.name for path in tmp_path.glob(".*")}
    assert names == {".notes", ".best.txt", ".DS_Store"}


def leave_rests(folder: Path) -> None:
    "What kills in the middle of writes leave, and a file manager."
    for name in ("run.json", "latest", "best", "log.jsonl", "result.json"):
        (folder / f".{name}.abcd_123").write_text("half")
    (folder / ".step-0000009.x4x4x4x4" / "new").mkdir(parents=True)
    (folder / ".llmfs-x4x4x4x4" / "data").mkdir(parents=True)
    (folder / ".DS_Store").touch()


def test_what_was_left_does_not_make_a_folder_another_ones(text, tmp_path):
    leave_rests(tmp_path)
    run(text, tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".DS_Store"]


def test_killed_while_it_began(text, tmp_path, monkeypatch):
    "Nothing of a new run, or all of the old one, is there."

    def killed(*_, **__):
        raise Killed

    run(text, tmp_path / "old")
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_atomic", killed)
        for name in ("old", "new"):
            with pytest.raises(Killed):
                run(text, tmp_path / name, overwrite=True)
    assert content(tmp_path) == before
    run(text, tmp_path / "new")


@pytest.mark.parametrize("how", ["cut", "gone"])
def test_all_broken_is_an_error(how, text, tmp_path):
    "Nobody's days of training are deleted for a file that was not copied."
    wanted = run(text, None)
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(8))
    states = [step / "trainer.pt" for step in RunFolder(tmp_path).steps()]
    good = [path.read_bytes() for path in states]
    for path in states:
        spoil(path, how)
    before = content(tmp_path)
    with pytest.raises(ValueError, match="has no whole checkpoint") as caught:
        run(text, tmp_path, resume=True)
    for part in (str(tmp_path), step_name(6), "trainer.pt is", "overwrite"):
        assert part in str(caught.value)
    assert content(tmp_path) == before
    for path, data in zip(states, good, strict=True):  # the remedy
        path.write_bytes(data)
    assert_same(run(text, tmp_path, resume=True), wanted)


def test_a_broken_checkpoint_is_set_aside(text, tmp_path):
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(8))
    newest = tmp_path / step_name(6)
    (newest / "trainer.pt").unlink()
    kept = content(newest)
    with pytest.warns(UserWarning, match=f"; {step_name(3)} is taken"):
        run(text, tmp_path, resume=True)
    assert content(tmp_path / f"broken-{step_name(6)}") == kept
    run(text, tmp_path, overwrite=True)
    assert not list(tmp_path.glob("broken-*"))


def test_the_best_is_one_that_is_there(text, tmp_path):
    "The best, 3, was dropped for a better one, 9, which then broke."
    values = iter([2.0, 3.0, 1.0])
    options = {"validate": lambda _: next(values)}
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(10), **options)
    store = RunFolder(tmp_path)
    assert store.pointer("best") == step_name(9)
    assert store.steps() == [tmp_path / step_name(n) for n in (9, 6)]
    spoil(tmp_path / step_name(9) / "model.safetensors", "cut")
    with (
        pytest.warns(UserWarning, match="is broken"),
        pytest.raises(Killed),
    ):
        run(text, tmp_path, resume=True, watch=killer(7), **options)
    assert store.pointer("best") == step_name(6)
    values = iter([1.0, 2.5])
    run(text, tmp_path, resume=True, **options)
    assert store.pointer("best") == step_name(9)
    assert store.steps() == [tmp_path / step_name(n) for n in (12, 9)]


@pytest.mark.parametrize("end", ["", '{"step": 9, "lo', "\0\0\0\n", "\n"])
def test_log_that_was_cut(end, text, tmp_path):
    wanted = run(text, None)
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(8))
    with open(tmp_path / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(end)
    assert_same(run(text, tmp_path, resume=True), wanted)


BAD_LINES = {
    "gone": None,
    "no UTF-8": b"\xff\xfe\n",
    "no JSON": b'{"step": 5, "lo\n',
    "no row": b"7\n",
}


@pytest.mark.parametrize("how", BAD_LINES)
def test_lost_rows_are_told(how, text, tmp_path):
    "Training goes on as it would have; what is left of the log is kept."
    wanted = run(text, None)
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(8))
    log, kept = tmp_path / "log.jsonl", tmp_path / "log-damaged.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    if how == "gone":
        log.unlink()
    else:
        lines[4] = BAD_LINES[how]
        log.write_bytes(b"".join(lines))
    n = 0 if how == "gone" else 5
    with pytest.warns(UserWarning, match=f"has {n} rows, not 6") as caught:
        rows, model = run(text, tmp_path, resume=True)
    assert str(log) in str(caught[0].message)
    lost = range(1, 7) if how == "gone" else [5]
    assert rows == [row for row in wanted[0] if row["step"] not in lost]
    assert_same((rows, model), (rows, wanted[1]))
    assert kept.is_file() is (how != "gone")
    if how != "gone":
        assert kept.read_bytes() == b"".join(lines)
        assert kept.name in str(caught[0].message)
        with pytest.warns(UserWarning, match="has 11 rows, not 12"):
            run(text, tmp_path, resume=True)
        assert kept.read_bytes() == b"".join(lines)


FULL = {  # of Python, torch and safetensors
    "os": OSError(errno.ENOSPC, "No space left on device"),
    "torch": RuntimeError(
        "[enforce fail at inline_container.cc:603] . PytorchStreamWriter "
        "failed writing file data/5: file write failed"
    ),
    "torch, at the end": RuntimeError("unexpected pos 4096 vs 3982"),
    "safetensors": SafetensorError(
        "Error while serializing: I/O error: No space left on device (os "
        "error 28)"
    ),
}


@pytest.mark.parametrize("how", FULL)
def test_a_full_disk(how, text, tmp_path, monkeypatch):
    "Told as what it is; with more space, the run goes on."

    def full(*_, **__):
        raise FULL[how]

    def fill(rows):
        if rows[-1]["step"] == 4:
            patch.setattr(run_folder.torch, "save", full)

    wanted = run(text, None)
    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match="the disk is full") as caught,
    ):
        run(text, tmp_path, watch=fill)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / step_name(6))
    assert "--resume" in caught.value.strerror
    assert_same(run(text, tmp_path, resume=True), wanted)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_disk_too_full_for_a_row(tmp_path):
    store = RunFolder(tmp_path)
    store.log_path = Path("/dev/full")
    with pytest.raises(OSError, match="the disk is full") as caught:
        store.log({"step": 1})
    assert caught.value.filename == "/dev/full"
    store.close()  # does not complain again


def test_other_faults_are_not_a_full_disk(text, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("cannot pickle this")

    monkeypatch.setattr(run_folder.torch, "save", broken)
    with pytest.raises(RuntimeError, match="cannot pickle this"):
        run(text, tmp_path)


# ------------------------------------------------------- other processes


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_live_run_is_let_alone(how, text, tmp_path):
    wanted = run(text, None)
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(8))
    with held_by_another(tmp_path, LOCK) as other:
        before = content(tmp_path)
        with pytest.raises(BlockingIOError, match=f"process {other.pid}"):
            run(text, tmp_path, **{how: True})
        assert content(tmp_path) == before
    assert (tmp_path / LOCK).exists()  # killed, and no hand is needed
    assert_same(run(text, tmp_path, **{how: True}), wanted)
    assert not (tmp_path / LOCK).exists()


def test_a_run_holds_its_folder(text, tmp_path):
    seen = []

    def watch(_):
        seen.append((tmp_path / "run" / LOCK).read_text())

    run(text, tmp_path / "run", watch=watch)
    assert set(seen) == {str(os.getpid())}
    assert not (tmp_path / "run" / LOCK).exists()


# ------------------------------------------------------------ other settings

OTHERS = {
    "lr": ({"config": {"lr": 0.5}}, "train.lr was 0.003, is 0.5"),
    "steps": ({"config": {"steps": 13}}, "train.steps was 12, is 13"),
    "model": ({"model": made(n_embd=32)}, "model.n_embd was 16, is 32"),
    "data": ({"mode": "documents"}, "data.mode was 'packed', is 'documents'"),
    "facts": ({"facts": {"corpus": "b"}}, "corpus was 'a', is 'b'"),
    "tokenizer": ({"tokenizer": None}, "is None"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_resume_with_other_settings(name, text, tmp_path):
    facts = {"facts": {"corpus": "a"}}
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(7), **facts)
    before = content(tmp_path)
    options, words = OTHERS[name]
    with pytest.raises(ValueError) as caught:
        run(text, tmp_path, resume=True, **(facts | options))
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert content(tmp_path) == before
    run(text, tmp_path, resume=True, **facts)  # nothing was lost


def test_differences():
    before = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert differences(before, before) == []
    now = {"a": {"b": 2, "c": [1, 2], "e": 0}, "d": None}
    assert differences(before, now) == [
        "a.b was 1, is 2",
        "a.e was None, is 0",
    ]


def test_other_threads_are_told(text, tmp_path):
    with pytest.raises(Killed):
        run(text, tmp_path, watch=killer(7))
    torch.set_num_threads(2)
    try:
        with pytest.warns(UserWarning, match="1 threads.*on cpu, .*2 threads"):
            run(text, tmp_path, resume=True)
    finally:
        torch.set_num_threads(1)


def test_resume_of_nothing(text, tmp_path):
    with pytest.raises(FileNotFoundError, match="no training run") as caught:
        run(text, tmp_path / "a", resume=True)
    assert str(tmp_path / "a") in str(caught.value)
    with pytest.raises(ValueError, match="needs the folder"):
        run(text, None, resume=True)


def test_existing_run_stays(text, tmp_path):
    run(text, tmp_path)
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="overwrite") as caught:
        run(text, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert content(tmp_path) == before


def test_facts_that_cannot_be_written(text, tmp_path):
    run(text, tmp_path)
    before = content(tmp_path)
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        run(text, tmp_path, overwrite=True, facts={"x": object()})
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [step_name(12), step_name(9), "log.jsonl"])
def test_what_is_in_use_is_not_overwritten(name, text, tmp_path, monkeypatch):
    "On Windows, what a program has open cannot be renamed."
    run(text, tmp_path)
    before, replace = content(tmp_path), os.replace

    def refuse(source, target):
        if Path(source).name == name:
            raise PermissionError(errno.EACCES, "is in use", str(source))
        replace(source, target)

    monkeypatch.setattr(run_folder.os, "replace", refuse)
    with pytest.raises(PermissionError, match=name):
        run(text, tmp_path, overwrite=True)
    assert content(tmp_path) == before


def test_what_only_looks_like_a_checkpoint(text, tmp_path):
    "Copies and notes of the reader's are no checkpoints, and stay."
    own = tmp_path / "own"
    for name in ("step-0000003-good", "step-notes", "step-3"):
        (own / name).mkdir(parents=True)
        (own / name / "notes").write_text("the reader's")
    (own / "step-0000004").write_text("a file")
    (own / "step-loss.png").write_bytes(b"PNG")
    kept, folder = content(own), tmp_path / "run"
    with pytest.raises(Killed):
        run(text, folder, watch=killer(8))
    shutil.copytree(own, folder, dirs_exist_ok=True)
    for how in ("resume", "overwrite"):
        run(text, folder, **{how: True})
        assert kept.items() <= content(folder).items()
    shown = [folder / step_name(n) for n in (12, 9)]
    assert RunFolder(folder).steps()[:2] == shown


def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (9_999_999, 10_000_000, 300):
        (tmp_path / step_name(step)).mkdir()
    names = [folder.name for folder in RunFolder(tmp_path).steps()]
    assert names == ["step-10000000", "step-9999999", "step-0000300"]


def test_overwrite_leaves_nothing_of_the_old(text, tmp_path):
    run(text, tmp_path, config={"steps": 40, "evaluations": 20})
    run(text, tmp_path, overwrite=True)
    names = {folder.name for folder in RunFolder(tmp_path).steps()}
    assert max(names) == step_name(STEPS)
    assert len(RunFolder(tmp_path).rows()) == STEPS


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_run_is_never_touched(kind, overwrite, text, tmp_path):
    path = tmp_path / "thesis"
    if kind == "file":
        path.write_text("years")
    else:
        path.mkdir()
        (path / "step-0000001").mkdir()
        (path / "step-0000001" / "chapter").write_text("years")
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="thesis") as caught:
        run(text, path, overwrite=overwrite)
    words = "is a file" if kind == "file" else "no training run"
    assert words in str(caught.value)
    with pytest.raises(FileNotFoundError):
        run(text, path, resume=True)
    assert content(tmp_path) == before


# ------------------------------------------------------------ what is kept


def test_newest_and_best_are_kept(text, tmp_path):
    values = iter([3.0, 1.0, 2.0, 2.5, 2.6, 2.7])
    config = {"config": {"evaluations": 6}}
    run(text, tmp_path, validate=lambda _: next(values), **config)
    store = RunFolder(tmp_path)
    names = [folder.name for folder in store.steps()]
    assert names == [step_name(12), step_name(10), step_name(4)]
    assert len(names) == KEPT + 1
    assert store.pointer("latest") == step_name(12)
    assert store.pointer("best") == step_name(4)
    assert store.newest()[0].name == step_name(12)


def test_without_validation_there_is_no_best(text, tmp_path):
    rows, _ = run(text, tmp_path, validate=None)
    assert not any("valid" in row for row in rows)
    assert RunFolder(tmp_path).pointer("best") is None


def test_what_a_run_says_of_itself(text, tmp_path):
    run(text, tmp_path, facts={"corpus": "small"})
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["corpus"] == "small"
    assert facts["train"]["steps"] == STEPS
    assert facts["model"]["n_embd"] == 16
    assert facts["data"]["seed"] == 3
    assert len(facts["tokenizer"]) == 64


def test_a_model_without_config_and_batches_without_settings(tmp_path):
    class Told:
        config, batches, model = TrainConfig(steps=1), [1], nn.Linear(1, 1)

    facts = describe_run(Told, None)
    assert facts["model"] == {"model_type": "Linear"}
    assert facts["data"] is None
    assert facts["tokenizer"] is None


# ------------------------------------------------------------ what is shown


def test_progress_bar(text, capsys, monkeypatch):
    "Drawn at every step here, however fast they are."
    often = partial(run_folder.tqdm, mininterval=0, miniters=1)
    monkeypatch.setattr(run_folder, "tqdm", often)
    file, _ = text
    config = TrainConfig(steps=5, evaluations=2)
    loader = TokenLoader(file, 4, 16)
    train(made(), loader, config, validate=lambda _: 1.25)
    shown = capsys.readouterr().err
    assert "5/5" in shown or "4/5" in shown
    assert "best 1.250" in shown
    assert "targets/s" in shown
    train(made(), loader, config, progress=False)
    assert capsys.readouterr() == ("", "")
