"`llmfs pretrain` and `llmfs evaluate`: what they print, how they fail."

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from llm_from_scratch import corpus, judging, presets
from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.cli import main
from llm_from_scratch.cli_pretrain import describe
from llm_from_scratch.devices import DevicePlan
from llm_from_scratch.files import END
from llm_from_scratch.presets import Preset
from llm_from_scratch.pretraining import NotFinite
from llm_from_scratch.run_folder import LOCK, RunFolder
from llm_from_scratch.tokenization import BPETokenizer
from tests.test_locks import held_by_another

ROOT = Path(__file__).resolve().parent.parent
SIZES = {
    "vocab_size": 280,
    "window": 16,
    "batch_size": 4,
    "context_len": 32,
    "n_layer": 1,
    "n_embd": 64,
    "n_head": 1,
    "n_kv_head": 1,
    "mlp_width": 64,
    "evaluations": 3,
    "stories": 30,
}
SMALL = {
    "coffee": Preset(name="coffee", minutes=1.0, **SIZES),
    "gpu": Preset(name="gpu", minutes=1.0, accelerator=True, **SIZES),
}
CLOCKS = ("seconds", "outside")  # what may differ between two runs


def no_measuring(device=None, dtype=None, **_) -> DevicePlan:
    "What `device_plan` would find, at once."
    if device not in (None, "cpu"):
        raise ValueError(f"device={device} must be one of: cpu")
    return DevicePlan(device="cpu", dtype=dtype or torch.float32)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Small models are faster so, and another number would change digits."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")
def small():
    "Presets that take no time, on a machine without an accelerator."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "PRESETS", SMALL)
        patch.setattr(presets, "devices", lambda: ["cpu"])
        for module in (presets, judging):
            patch.setattr(module, "device_plan", no_measuring)
        for name in ("LLMFS_DATA", "LLMFS_CACHE"):
            patch.setenv(name, "nowhere")
        yield


def write_text(path: Path, n: int) -> Path:
    "A corpus of short documents, no two alike."
    names = ("Lily", "Ben", "Zoë", "Mia")
    lines = (f"{names[i % 4]} lost the ball {i}." for i in range(n))
    path.write_bytes("".join(f"{x}\n{END}\n" for x in lines).encode())
    return path


@pytest.fixture(scope="module")
def finished(small, one_thread, tmp_path_factory) -> Path:
    "A folder with a text and a finished run of it; do not change it."
    folder = tmp_path_factory.mktemp("finished")
    text = write_text(folder / "own.txt", 230)
    words = f"pretrain --data {text} --out {folder / 'run'} --steps 3"
    assert main(shlex.split(words)) == 0
    return folder


@pytest.fixture(autouse=True)
def here(finished, tmp_path, monkeypatch) -> Path:
    "Every test works in a copy."
    folder = Path(shutil.copytree(finished, tmp_path / "here"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def say(capsys):
    "Run a command that must succeed; its output and its messages."

    def say(line: str) -> tuple[str, str]:
        code = main(shlex.split(line))
        out, err = capsys.readouterr()
        assert code == 0, err
        return out, err

    capsys.readouterr()
    return say


@pytest.fixture
def complaint(capsys):
    "Run a command that must fail, and leave all as it is; its message."

    def complaint(line: str, code: int = 2) -> str:
        capsys.readouterr()
        before = content(Path())
        assert main(shlex.split(line)) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("llmfs: ")
        assert err.count("\n") == 1, "a mistake is one line"
        assert content(Path()) == before
        return err.removeprefix("llmfs: ").removeprefix("error: ").rstrip()

    return complaint


def content(folder: Path) -> dict[str, bytes | None]:
    "All files and folders below."
    return {
        str(path.relative_to(folder)): path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def told(folder: Path) -> list[dict]:
    "The log without clocks."
    rows = RunFolder(folder).rows()
    return [{k: x for k, x in r.items() if k not in CLOCKS} for r in rows]


def assert_same(one: Path, other: Path) -> None:
    "Two runs gave the same numbers."
    assert told(one) == told(other)
    a, b = (load_checkpoint(folder)[0].state_dict() for folder in (one, other))
    for name, weight in a.items():
        assert torch.equal(weight, b[name]), name


# ------------------------------------------------------------ pretrain


def test_what_pretrain_prints(say):
    out, err = say("pretrain --data own.txt --out new --steps 3 --seed 0")
    result = json.loads(Path("new/result.json").read_text(encoding="utf-8"))
    assert err == ""
    lines = out.splitlines()
    assert lines[:-1] == describe(result)
    assert lines[0].startswith(f"{result['parameters']:,} parameters, own.txt")
    valid = result["valid"]
    assert lines[1] == (
        f"held out: {valid['bits_per_byte']:.3f} ± {valid['margin']:.3f} bits "
        f"per byte on {valid['documents']} documents (0 cut at the context)"
    )
    assert lines[-1] == (
        'try it: llmfs generate --model new "Once upon a time"'
    )
    assert_same(Path("new"), Path("run"))


def test_a_gap_is_told():
    score = {"margin": 0.01, "documents": 9}
    result = json.loads(
        Path("run/result.json").read_text(encoding="utf-8")
    ) | {
        "train": score | {"bits_per_byte": 0.5},
        "valid": score | {"bits_per_byte": 0.75},
    }
    assert "memorises" not in " ".join(describe(result | {"memorising": 0}))
    last = describe(result | {"memorising": True})[-1]
    assert last.startswith("the gap of 0.250 says that it memorises")


def test_what_was_read_is_told():
    "Not once: it is not called seen. And whether it was all there is."
    result = json.loads(Path("run/result.json").read_text(encoding="utf-8"))
    score = f"{result['train']['bits_per_byte']:.3f} bits per byte"
    lines = describe(result | {"epochs": 0.43, "text_left": True})
    assert lines[2] == f"training text, read 0.43 times: {score}"
    assert ", own.txt, the first " in lines[0]
    lines = describe(result | {"epochs": 1.0})
    assert lines[2] == f"seen:     {score}"
    assert "the first" not in lines[0]
    del result["text_left"]  # of an older version
    describe(result)


def test_options_reach_the_run(say):
    own = BPETokenizer.train("Lily hat " * 9, 262, special_tokens=[END])
    own.save("mine")
    write_text(Path("held.txt"), 5)
    say(
        "pretrain --data own.txt --valid held.txt --tokenizer mine --seed 4 "
        "--minutes 0.002 --dtype bfloat16 --device cpu --out 'my run'"
    )
    facts = RunFolder("my run").facts()
    assert facts["preset"]["name"] == "coffee"
    assert facts["preset"]["minutes"] == facts["train"]["minutes"] == 0.002
    assert facts["seed"] == 4
    assert facts["plan"]["dtype"] == "bfloat16"
    assert len(facts["text"]["sha256"]) == 2
    assert load_checkpoint("my run")[1].merges == own.merges
    result = json.loads(Path("my run/result.json").read_text(encoding="utf-8"))
    assert result["valid"]["documents"] == 5


def test_without_data_the_built_in_world_is_told(say):
    out, _ = say("pretrain --steps 1 --out built-in")
    assert ", the built-in story world, " in out
    assert Path("built-in/model_card.md").is_file()


def test_the_default_folder_is_run(say):
    shutil.rmtree("run")
    out, _ = say("pretrain --data own.txt --steps 1")
    assert "--model run " in out
    assert Path("run/best").is_file()


def test_a_run_is_a_model(say):
    out, _ = say("generate --model run Lily --max-tokens 3 --seed 1")
    assert out.startswith("Lily")


def test_overwrite(say):
    say("pretrain --data own.txt --steps 1 --out run --overwrite")
    assert [row["step"] for row in RunFolder("run").rows()] == [1]


def test_in_a_terminal_it_says_what_it_does(say, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, err = say("pretrain --data own.txt --steps 1 --out new")
    for words in (
        "measuring what computes fastest",
        "reading own.txt",
        "training the tokenizer",
        "writing tokens",
        "training, 1 step in all",
        "judging the best checkpoint",
    ):
        assert f"llmfs: {words}\n" in err


MISTAKES = [
    ("--preset tea", ["preset=tea must be one of", "coffee", "gpu"]),
    ("--preset gpu", ["preset=gpu needs an accelerator", "here are: cpu"]),
    ("--preset gpu", ["Choose preset=coffee"]),
    ("--minutes 1 --steps 2", ["--steps", "not allowed", "--minutes"]),
    ("--minutes 0", ["--minutes", "'0' must be above 0"]),
    ("--minutes -3", ["--minutes"]),
    ("--minutes nan", ["'nan' must be above 0"]),
    ("--minutes soon", ["'soon' must be above 0"]),
    ("--steps 0", ["'0' must be a whole number, 1 or greater"]),
    ("--seed -1", ["--seed"]),
    ("--seed=-1", ["'-1' must be a whole number, 0 or greater"]),
    ("--device abacus", ["device=abacus must be one of: cpu"]),
    ("--device cuda:1", ["device=cuda:1", "CUDA_VISIBLE_DEVICES=1"]),
    ("--dtype float16", ["'float16'", "float32", "bfloat16"]),
    ("--data lost.txt", ["there is no file lost.txt"]),
    ("--data run", ["run is a folder; name files in it"]),
    ("--data", ["--data", "at least one"]),
    ("--data few.txt", ["few.txt: 7 documents, at least 200"]),
    ("--data empty.txt", ["empty.txt: 0 documents, at least 200"]),
    ("--data latin.txt", ["latin.txt is not UTF-8", "0xe9", "iconv"]),
    ("--data own.txt --valid latin.txt", ["latin.txt is not UTF-8"]),
    ("--data own.txt --valid empty.txt", ["empty.txt: 0 documents"]),
    ("--data own.txt --valid own.txt", ["valid=own.txt is trained on"]),
    ("--data own.txt --valid lost.txt", ["there is no file lost.txt"]),
    ("--valid own.txt", ["--valid own.txt needs --data"]),
    ("--tokenizer lost", ["there is no file", "lost", "tokenizer.json"]),
    ("--tokenizer own.json", ["own.json"]),
    (
        "--tokenizer bare",
        ["--tokenizer", "bare", f"no special token '{END}', only ['<|x"],
    ),
]
MISTAKEN_PLACES = [
    ("--resume --overwrite", ["--overwrite", "not allowed", "--resume"]),
    ("--resume --out new", ["new holds no training run"]),
    ("--out own.txt", ["own.txt is a file, not a folder"]),
    ("--out own.txt/x", ["own.txt"]),
    ("--out thesis --overwrite", ["thesis exists and is no training run"]),
    ("--out run", ["run holds a training run already", "overwrite"]),
]


def make_mistakes() -> None:
    "Files and folders that are of no use."
    write_text(Path("few.txt"), 7)
    Path("empty.txt").touch()
    Path("latin.txt").write_bytes(Path("own.txt").read_bytes() + b"Zo\xe9")
    Path("own.json").write_text("{}", encoding="utf-8")
    Path("thesis").mkdir()
    Path("thesis/chapter").write_text("years of work", encoding="utf-8")
    BPETokenizer.train("aa", 258, special_tokens=["<|x|>"]).save("bare")


@pytest.mark.parametrize(("words", "parts"), MISTAKES)
@pytest.mark.parametrize("where", ["--out new", "--out run --overwrite"])
def test_mistakes(words, parts, where, complaint):
    "In a new folder, and where a run would be overwritten."
    make_mistakes()
    line = complaint(f"pretrain {where} {words}")
    for part in parts:
        assert part in line


@pytest.mark.parametrize(("words", "parts"), MISTAKEN_PLACES)
def test_mistakes_with_folders(words, parts, complaint):
    make_mistakes()
    line = complaint(f"pretrain {words}")
    for part in parts:
        assert part in line


def test_a_model_that_explodes(capsys, monkeypatch):
    "Only options that the command has are advised."
    fault = "step 3, batch 4: the loss is nan; it began in the weight norm.x"

    def explodes(*_, **__):
        raise NotFinite(f"{fault}. A lower lr, or a longer warmup")

    monkeypatch.setattr(presets, "train", explodes)
    capsys.readouterr()
    assert main(shlex.split("pretrain --data own.txt --out new")) == 2
    assert capsys.readouterr().err == (
        f"llmfs: error: {fault}. The run is kept in new, but --resume would "
        "come to this again: begin a new one with another --seed, with "
        "--dtype float32, or with other --data\n"
    )


def fail(capsys, monkeypatch, error: BaseException) -> tuple[int, str]:
    "The exit code and the message of a training that ends in an error."

    def failing(*_, **__):
        raise error

    monkeypatch.setattr(presets, "train", failing)
    capsys.readouterr()
    code = main(shlex.split("pretrain --data own.txt --out new"))
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 12 bytes"),
        MemoryError("Unable to allocate 3 GiB"),
    ],
)
def test_no_memory(error, capsys, monkeypatch):
    code, told = fail(capsys, monkeypatch, error)
    assert code == 2
    assert told.startswith("llmfs: error: not enough memory; take a smaller ")
    for part in ("--preset", "--device", str(error)):
        assert part in told


def test_what_torch_cannot_compile(capsys, monkeypatch):
    "As after a run that was killed while it compiled."

    def broken(graph, inputs):
        raise ImportError("cnuwb.main.so: file too short")

    with pytest.raises(Exception, match="file too short") as caught:
        torch.compile(torch.sin, backend=broken)(torch.zeros(1))
    code, told = fail(capsys, monkeypatch, caught.value)
    assert code == 2
    for part in ("torch.compile failed", "delete", "torchinductor_"):
        assert part in told
    assert "TORCH_COMPILE_DISABLE=1" in told and "file too short" in told


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("division"), RuntimeError("no such thing")]
)
def test_a_defect_is_not_the_users_mistake(error, capsys, monkeypatch):
    code, told = fail(capsys, monkeypatch, error)
    assert code == 1
    assert told.startswith(f"llmfs: internal error: {type(error).__name__}: ")


def test_a_full_disk(capsys, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("PytorchStreamWriter: file write failed")

    monkeypatch.setattr(torch, "save", full)
    assert main(shlex.split("pretrain --data own.txt --out new")) == 2
    told = capsys.readouterr().err
    assert told.startswith("llmfs: error: new")
    assert "the disk is full; free some space, then go on" in told
    assert "--resume" in told


# -------------------------------------------------------------- resume


def interrupt_after(monkeypatch, step: int, error=KeyboardInterrupt) -> None:
    "Stop whatever is trained after a step."
    log = RunFolder.log

    def stopping(self, row):
        log(self, row)
        if row["step"] == step:
            raise error

    monkeypatch.setattr(RunFolder, "log", stopping)


@pytest.mark.parametrize("step", [1, 5])
def test_ctrl_c_and_on(step, say, capsys, monkeypatch):
    say("pretrain --data own.txt --out whole --steps 9")
    words = "pretrain --data own.txt --out 'my run' --steps 9"
    with monkeypatch.context() as patch:
        interrupt_after(patch, step)
        assert main(shlex.split(words)) == 130
    out, err = capsys.readouterr()
    assert out == ""
    again = 'llmfs pretrain --out "my run" --resume'
    assert err == f"llmfs: interrupted; to go on: {again}\n"
    _, err = say(again.removeprefix("llmfs "))
    assert err == ""
    assert_same(Path("my run"), Path("whole"))


def test_ctrl_c_while_the_text_is_opened(say, capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(presets, "open_prepared", interrupted)
        words = "pretrain --data own.txt --out new --steps 3"
        assert main(shlex.split(words)) == 130
    again = "llmfs pretrain --out new --resume"
    assert capsys.readouterr().err.endswith(f"to go on: {again}\n")
    say(again.removeprefix("llmfs "))


def test_two_at_once(complaint):
    with held_by_another(Path("run"), LOCK) as other:
        line = complaint("pretrain --data own.txt --out run --overwrite")
    assert line.startswith(f"run is in use by process {other.pid}: wait")


def test_ctrl_c_before_the_text_is_ready(complaint, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus, "write_tokens", interrupted)
    for where in ("new", "run --overwrite"):
        line = complaint(f"pretrain --data own.txt --out {where}", code=130)
        assert line == "interrupted; no file is half-written"


def test_resume_of_a_finished_run_shows_it_again(say):
    before = content(Path())
    out, err = say("pretrain --out run --resume")
    result = json.loads(Path("run/result.json").read_text(encoding="utf-8"))
    assert out.splitlines()[:-1] == describe(result)
    assert err == (
        "llmfs: run is finished; to train longer, begin a new run\n"
    )
    assert content(Path()) == before
    say("pretrain --out run --resume --preset coffee --data own.txt --seed 0")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--seed 5", ["seed was 0, is 5"]),
        ("--steps 4", ["train.steps was 3, is 4"]),
        ("--minutes 2", ["preset.minutes was 1.0, is 2.0"]),
        ("--preset gpu", ["preset.name was 'coffee', is 'gpu'"]),
        ("--device cuda", ["plan.device was 'cpu', is 'cuda'"]),
        ("--dtype bfloat16", ["plan.dtype was 'float32', is 'bfloat16'"]),
        ("--tokenizer other", ["tokenizer was '", "', is '"]),
        ("--data more.txt", ["text.corpus was 'own.txt', is 'more.txt'"]),
        ("--data more.txt", ["text.sha256 was ['"]),
        ("--data own.txt --valid few.txt", ["text.sha256 was ['", ", '"]),
    ],
)
@pytest.mark.parametrize("done", [True, False])
def test_resume_with_other_options(words, parts, done, complaint):
    if not done:
        Path("run/result.json").unlink()
    write_text(Path("more.txt"), 231)
    write_text(Path("few.txt"), 7)
    BPETokenizer.train("aa", 258, special_tokens=[END]).save("other")
    line = complaint(f"pretrain --out run --resume {words}")
    assert line.startswith("run was started with other settings: ")
    for part in parts:
        assert part in line


def test_resume_without_its_text(complaint):
    Path("run/result.json").unlink()
    shutil.rmtree("run/data")
    line = complaint("pretrain --out run --resume")
    assert f"the text of the run, in {Path('run/data')}, is gone" in line
    assert "overwrite" in line


DRIVER = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
import test_cli_pretrain as own
from llm_from_scratch import presets
from llm_from_scratch.cli import main
from llm_from_scratch.run_folder import RunFolder
presets.PRESETS, presets.device_plan = own.SMALL, own.no_measuring
step, log = int(sys.argv.pop(1)), RunFolder.log
def killed(self, row):
    log(self, row)
    if row["step"] == step:
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.log = killed
raise SystemExit(main(sys.argv[1:]))
"""


def in_a_process(step: int, words: str, **options) -> subprocess.Popen:
    "Run a command that kills itself after a step, if that comes."
    code = DRIVER.format(tests=str(ROOT / "tests"))
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(step), *shlex.split(words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        **options,
    )


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_sigkill_and_resume(say):
    say("pretrain --data own.txt --out whole --steps 9")
    killed = in_a_process(5, "pretrain --data own.txt --out on --steps 9")
    assert killed.communicate()[0] == ""
    assert killed.returncode == -signal.SIGKILL
    assert not Path("on/result.json").exists()
    resumed = in_a_process(0, "pretrain --out on --resume")
    out, err = resumed.communicate()
    assert (resumed.returncode, err) == (0, "")
    assert out.splitlines()[1].startswith("held out: ")
    assert_same(Path("on"), Path("whole"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_sigkill_at_any_time(say):
    "Again and again, wherever the clock finds the command."
    say("pretrain --data own.txt --out whole --steps 90")
    begin = "pretrain --data own.txt --out on --steps 90"
    start = time.perf_counter()
    timed = in_a_process(0, begin.replace("--out on", "--out timed"))
    timed.communicate()
    seconds = time.perf_counter() - start
    for i in range(12):
        on = Path("on/run.json").is_file()
        words = "pretrain --out on --resume" if on else begin
        process = in_a_process(0, words)
        try:
            process.communicate(timeout=seconds * (0.3 + 0.06 * i))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        else:
            assert process.returncode == 0
            break
    say("pretrain --out on --resume")
    assert_same(Path("on"), Path("whole"))


# ------------------------------------------------------------ evaluate


def test_what_evaluate_prints(say):
    out, err = say("evaluate --model run --data own.txt --documents 20")
    data = json.loads(
        say("evaluate --model run --data own.txt --documents 20 --json")[0]
    )
    assert err == ""
    assert data["documents"] == 20
    assert (data["text"], data["context_len"]) == ("own.txt", 32)
    assert out == (
        f"{data['bits_per_byte']:.3f} ± {data['margin']:.3f} bits per byte "
        f"({data['loss']:.3f} nats a token) on 20 documents of own.txt, "
        "0 cut at 32 tokens\n"
    )


def test_evaluate_takes_stories_of_this_machine(say):
    data = json.loads(say("evaluate --model run --documents 4 --json")[0])
    assert data["documents"] == data["truncated"] == 4
    assert data["text"] == "the built-in story world, held out"


def test_evaluate_judges_the_storyteller(say, monkeypatch):
    monkeypatch.setattr(judging, "STORYTELLER", Path("run"))
    assert say("evaluate --data own.txt") == say(
        "evaluate --data own.txt --model run"
    )


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--model lost", ["lost is no folder here"]),
        ("--model .", ["config.json"]),
        ("--model run/data", ["run/data holds no config.json"]),
        ("--model mute --data own.txt", ["mute holds no tokenizer.json"]),
        ("--model run --data lost.txt", ["there is no file lost.txt"]),
        ("--model run --data run", ["run is a folder"]),
        ("--model run --data one.txt", ["one.txt holds 1 documents", "two"]),
        ("--model run --data empty.txt", ["empty.txt holds 0 documents"]),
        ("--model run --data latin.txt", ["latin.txt is not UTF-8", "0xe9"]),
        ("--documents 1", ["'1' must be a whole number, 2 or greater"]),
        ("--model cut --data own.txt", ["model.safetensors"]),
    ],
)
def test_mistakes_in_judging(words, parts, complaint):
    write_text(Path("one.txt"), 1)
    Path("empty.txt").touch()
    Path("latin.txt").write_bytes(b"Zo\xe9")
    best = Path("run") / Path("run/best").read_text(encoding="utf-8").strip()
    shutil.copytree(best, "mute")
    Path("mute/tokenizer.json").unlink()
    shutil.copytree(best, "cut")
    weights = Path("cut/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:500])
    line = complaint(f"evaluate {words}")
    for part in parts:
        assert part.replace("/", os.sep) in line


@pytest.mark.parametrize("words", [[], ["--yes"]])
def test_evaluate_asks_before_it_downloads(words, monkeypatch, tmp_path):
    asked = []

    def load(source, *, consent):
        asked.append((source, consent))
        raise PermissionError("no consent")

    monkeypatch.setattr("llm_from_scratch.judging.load_checkpoint", load)
    assert main(["evaluate", "--model", "owner/name", *words]) == 2
    assert asked == [("owner/name", True if words else None)]
