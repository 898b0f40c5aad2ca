"The command `llmfs`: what it prints, what it writes, how it fails."

import argparse
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import llm_from_scratch
from llm_from_scratch import cli, cli_data, cli_tokenizer
from llm_from_scratch.cli import build_parser, main
from llm_from_scratch.files import SEEDS, make_story
from llm_from_scratch.token_files import TokenFile
from llm_from_scratch.tokenization import GPT2, GPT4, BPETokenizer

ROOT = Path(__file__).resolve().parent.parent
SENTENCE = "Lily lost her red ball, so she asked Ben."
STORIES = "".join(
    f"{name} lost her red ball.\nShe asked Ben {i} times. 红 ☃\n"
    "<|endoftext|>\n"
    for i, name in enumerate(["Lily", "Mia", "Zoë"] * 40)
)
LIGHT = ("torch", "numpy", "tiktoken", "regex", "tqdm", "matplotlib")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    "Every test works in a folder of its own, and finds no corpus."
    for name in ("LLMFS_DATA", "LLMFS_CACHE", "TIKTOKEN_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in ("NO_COLOR", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def stories() -> Path:
    "A small corpus in the working folder."
    Path("stories.txt").write_bytes(STORIES.encode())
    return Path("stories.txt")


@pytest.fixture
def tokenizer() -> BPETokenizer:
    "A tokenizer.json in the working folder."
    trained = BPETokenizer.train(
        STORIES, 300, special_tokens=["<|endoftext|>"]
    )
    trained.save(".")
    return trained


@pytest.fixture
def say(capsys):
    "Run a command that must succeed without a word on stderr; its output."

    def say(line: str, *more: str) -> str:
        code = main([*shlex.split(line), *more])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return say


@pytest.fixture
def complaint(capsys):
    "Run a command that must fail; its line on stderr, without `llmfs: `."

    def complaint(line: str, *more: str, code: int = 2) -> str:
        assert main([*shlex.split(line), *more]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("llmfs: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, "a mistake is one line"
        assert "Traceback" not in err
        return err.removeprefix("llmfs: ").removeprefix("error: ").rstrip()

    return complaint


@pytest.fixture
def quick(tmp_path, monkeypatch) -> None:
    "Training takes a second, and the storyteller is a small model."
    from llm_from_scratch import (
        checkpoint,
        cli_chat,
        corpus,
        finetuning,
        judging,
        presets,
    )
    from llm_from_scratch.devices import DevicePlan
    from llm_from_scratch.modern import ModernGPT

    sizes = {"n_layer": 2, "n_head": 1, "n_kv_head": 1, "n_embd": 64}
    sizes |= {"vocab_size": 300, "context_len": 64, "window": 32}
    small = presets.Preset(minutes=0.001, stories=60, **sizes)
    model = ModernGPT(small.model_config(300))
    own = BPETokenizer.train(STORIES, 300, special_tokens=["<|endoftext|>"])
    folder = tmp_path / "storyteller"
    checkpoint.save_checkpoint(folder, model, own)
    monkeypatch.setattr(corpus, "HELD_OUT", 20)
    monkeypatch.setattr(presets, "PRESETS", {"coffee": small})
    for module in (checkpoint, judging, finetuning):
        monkeypatch.setattr(module, "STORYTELLER", folder)
    monkeypatch.setattr(finetuning, "LEAST", 2)
    rows = [f"Nr {i} was {('mad', 'glad')[i % 2]},{i % 2}" for i in range(60)]
    table = "\n".join(["text,label", *rows])
    Path("labels.csv").write_text(table, encoding="utf-8")
    said = {"user": "Who?", "assistant": "Lily."}
    talk = [{"role": role, "content": text} for role, text in said.items()]
    line = json.dumps({"messages": talk})
    Path("dialogs.jsonl").write_text(line, encoding="utf-8")
    monkeypatch.setattr(cli_chat, "world_dialogs", lambda: [talk] * 8)
    full = cli_chat.tune

    def tune(args, *rest):
        args.steps, args.minutes = 1, None
        return full(args, *rest)

    monkeypatch.setattr(cli_chat, "tune", tune)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who?\n"))
    plan = DevicePlan(device="cpu")
    for module in (presets, judging):
        monkeypatch.setattr(module, "device_plan", lambda *_, **__: plan)


def give(monkeypatch, text: str | bytes) -> None:
    "Let a text come in on standard input."
    data = text.encode() if isinstance(text, str) else text
    stdin = io.TextIOWrapper(io.BytesIO(data), encoding="cp1252")
    monkeypatch.setattr(sys, "stdin", stdin)


def shell(*words: str, **options) -> subprocess.CompletedProcess:
    "Run the command in a process of its own."
    return subprocess.run(
        [sys.executable, "-m", "llm_from_scratch", *words],
        capture_output=True,
        timeout=60,
        **options,
    )


def commands(
    parser: argparse.ArgumentParser | None = None,
) -> dict[str, argparse.ArgumentParser]:
    "All commands and groups, by what one types."
    parser = parser or build_parser()
    found = {parser.prog: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                found |= commands(child)
    return found


def examples() -> list[str]:
    "What the help texts tell the reader to type, in the order of work."
    found = []
    for parser in commands().values():
        _, _, text = parser.epilog.partition("Example:\n")
        found += [line.strip() for line in text.splitlines()]
    first = ("llmfs data stories", "llmfs tokenizer train")
    return sorted(
        dict.fromkeys(found),
        key=lambda line: [not line.startswith(x) for x in first],
    )


# -- help


@pytest.mark.parametrize("name", commands())
def test_every_help_has_an_example_of_its_own(name, say):
    out = say(name.removeprefix("llmfs"), "--help")
    assert out.startswith(f"usage: {name} ")
    example = out.partition("\nExample:\n  ")[2]
    assert example.startswith(name if "--help" not in example else "llmfs")
    assert max(map(len, out.splitlines())) < 80


@pytest.mark.parametrize("name", ["llmfs", "llmfs tokenizer", "llmfs data"])
def test_a_group_alone_shows_its_help(name, say):
    assert say(name.removeprefix("llmfs")).startswith(f"usage: {name} ")


def test_every_option_is_explained():
    for name, parser in commands().items():
        for action in parser._actions:
            group = isinstance(action, argparse._SubParsersAction)
            assert action.help or group, f"{name}: {action.dest}"


def test_version(say):
    assert say("--version") == f"llmfs {llm_from_scratch.__version__}\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["tokenizer", "--help"]])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys; from llm_from_scratch.cli import main\n"
        f"code = main({words!r})\n"
        f"print('heavy:', sorted(set({LIGHT!r}) & set(sys.modules)), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "heavy: [] 0", done.stderr


# -- mistakes


def test_what_is_not_a_command(complaint):
    line = complaint("tokenise")
    assert "'tokenise'" in line
    assert "doctor" in line  # the choices
    assert line.endswith("; see llmfs --help")


def test_unknown_options_name_the_help_to_read(complaint):
    line = complaint("tokenizer", "train", "--vocabulary", "7")
    assert line.startswith("unknown arguments: --vocabulary")
    assert line.endswith("; see llmfs tokenizer train --help")


def test_options_are_not_guessed(complaint):
    line = complaint("tokenizer train --vocab 300")
    assert line.startswith("unknown arguments: --vocab")


@pytest.mark.parametrize("value", ["x", "0", "-4", "1.5", ""])
def test_numbers_that_are_none(value, complaint):
    line = complaint("tokenizer", "train", f"--vocab-size={value}")
    assert f"{value!r} must be a whole number, 1 or greater" in line
    assert "--vocab-size" in line


def test_choices_are_listed(complaint):
    line = complaint("tokenizer", "train", "--pattern", "gpt5")
    assert "'gpt5'" in line
    assert "gpt2" in line
    assert "gpt4" in line


def test_debug_shows_the_traceback(stories):
    words = ("tokenizer", "train", "stories.txt", "--vocab-size", "9")
    with pytest.raises(ValueError, match="vocab_size=9 must be at least 257"):
        main([*words, "--debug"])


def test_a_mistake_that_is_ours(complaint, monkeypatch):
    def fails(*_):
        raise KeyError("lost")

    monkeypatch.setattr(cli_tokenizer, "training_text", fails)
    line = complaint("tokenizer", "train", code=1)
    assert line.startswith("internal error: KeyError: 'lost'")
    assert "--debug" in line


def test_a_library_that_is_missing(complaint, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    line = complaint("tokenizer", "encode", "Lily")
    assert "numpy" in line
    assert "llmfs doctor" in line


def test_ctrl_c(complaint, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_tokenizer, "training_text", interrupted)
    line = complaint("tokenizer", "train", code=130)
    assert line == "interrupted; no file is half-written"
    assert not list(Path().iterdir())


def test_warnings_are_one_line_too(capsys):
    cli.show_warning(UserWarning("two\nlines"), UserWarning, "file.py", 3)
    assert capsys.readouterr().err == "llmfs: warning: two lines\n"


# -- streams


def test_a_closed_pipe_is_silent(stories, tokenizer):
    stories.write_bytes(STORIES.encode() * 200)
    words = ("tokenizer", "encode", "--file", "stories.txt")
    command = [sys.executable, "-m", "llm_from_scratch", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as process:
        assert process.stdout.read(10)
        process.stdout.close()
        err = process.stderr.read()
    assert err == b""
    assert process.returncode == 141


@pytest.mark.skipif(os.name == "nt", reason="a shell's redirection")
def test_closed_streams_break_nothing(tokenizer):
    command = f'"{sys.executable}" -m llm_from_scratch tokenizer encode Lily'
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        done = subprocess.run(
            f"{command} {closed}", shell=True, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
@pytest.mark.parametrize(
    "words",
    [
        ("tokenizer", "show", "Zoë 红 ☃\n\x07", "--ids"),
        ("tokenizer", "decode", *map(str, "红☃".encode())),
        ("data", "info"),
        ("data", "info", "tokenizer.json"),
    ],
)
def test_no_console_is_too_poor(words, encoding, tokenizer):
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = shell(*words, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)


def test_the_doctor_on_a_windows_console():
    env = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = shell("doctor", env=env)
    assert done.stderr == b""
    out = done.stdout.decode("cp1252")
    assert "  + Python      " in out
    assert "  – TinyStories not here" in out


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_pipes_carry_every_byte_whatever_the_locale(utf8, tokenizer):
    data = "Zoë\r\n红 ☃\r\n\n é".encode()
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": utf8}
    env |= {"PYTHONCOERCECLOCALE": "0"}
    ids = shell("tokenizer", "encode", input=data, env=env)
    back = shell("tokenizer", "decode", input=ids.stdout, env=env)
    assert back.stdout == data


def test_the_console_script_is_the_module(tokenizer):
    script = Path(sys.executable).with_name(
        "llmfs.exe" if os.name == "nt" else "llmfs"
    )
    if not script.exists():
        pytest.skip("the package is not installed in this environment")
    words = ("tokenizer", "encode", SENTENCE)
    done = subprocess.run([str(script), *words], capture_output=True)
    assert done.returncode == 0
    assert done.stdout == shell(*words).stdout
    failed = subprocess.run([str(script), "nothing"], capture_output=True)
    assert failed.returncode == 2


# -- tokenizer train


def test_train_is_the_librarys_trainer(stories, say):
    out = say("tokenizer train stories.txt --vocab-size 300")
    assert out.startswith("tokenizer.json: 300 tokens, learned from stories.")
    wanted = BPETokenizer.train(STORIES, 300, special_tokens=["<|endoftext|>"])
    found = BPETokenizer.load("tokenizer.json")
    assert found.merges == wanted.merges
    assert found.vocab == wanted.vocab
    assert found.special_tokens == {"<|endoftext|>": 299}
    assert found.pattern == GPT2


def test_train_on_several_files_and_standard_input(say, monkeypatch):
    texts = ["red balls " * 9, "blue boat " * 9, "Zoë's 红 " * 9]
    for i, text in enumerate(texts[:2]):
        Path(f"{i}.txt").write_text(text, encoding="utf-8")
    give(monkeypatch, texts[2])
    say("tokenizer train 0.txt - 1.txt --vocab-size 265 --out x")
    wanted = BPETokenizer.train(texts, 265, special_tokens=["<|endoftext|>"])
    assert BPETokenizer.load("x").merges == wanted.merges


def test_train_with_all_options(stories, say):
    out = say(
        *("tokenizer", "train", "stories.txt", "--vocab-size", "290"),
        *("--pattern", "gpt4", "--workers", "2", "--out", "deep/my.json"),
        *("--special", "<|user|>", "--special", "<|bot|>"),
    )
    assert str(Path("deep/my.json")) in out
    found = BPETokenizer.load("deep/my.json")
    assert found.pattern == GPT4
    assert found.special_tokens == {"<|user|>": 288, "<|bot|>": 289}


def test_train_without_files_takes_the_built_in_stories(say):
    out = say("tokenizer", "train", "--vocab-size", "300")
    assert "learned from the built-in stories" in out


def test_train_without_files_takes_tinystories(tmp_path, say):
    folder = tmp_path / "llmfs_data" / "tinystories"
    folder.mkdir(parents=True)
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_bytes(STORIES.encode())
    out = say("tokenizer", "train", "--vocab-size", "300")
    assert f"learned from {folder / 'train.txt'}" in out


def test_train_says_when_the_text_gives_fewer_tokens(capsys):
    Path("tiny.txt").write_text("red red", encoding="utf-8")
    assert main(["tokenizer", "train", "tiny.txt"]) == 0
    out, err = capsys.readouterr()
    assert "260 tokens" in out
    assert err.count("\n") == 1
    assert "4,096 were asked for" in err


def test_train_never_replaces_unless_told(stories, complaint, say):
    Path("tokenizer.json").write_text("precious", encoding="utf-8")
    words = "tokenizer train stories.txt --vocab-size 270"
    line = complaint(words)
    assert line == (
        "tokenizer.json exists already; add --overwrite to replace it"
    )
    assert Path("tokenizer.json").read_text(encoding="utf-8") == "precious"
    say(words, "--overwrite")
    assert len(BPETokenizer.load("tokenizer.json")) == 270


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("lost.txt", ["lost.txt does not exist"]),
        (".", [". is a folder", "name files"]),
        ("stories.txt --vocab-size 256", ["vocab_size=256", "least 257"]),
        ("stories.txt --special=", ["empty string"]),
        ("stories.txt --special a --special a", ["repeats 'a'"]),
        ("empty.txt", ["the corpus is empty"]),
        ("latin.txt", ["latin.txt is not UTF-8", "0xe9", "offset 2", "iconv"]),
        ("stories.txt --out folder.json", ["folder.json is a folder"]),
        ("stories.txt --out stories.txt/x", ["stories.txt"]),
    ],
)
def test_train_on_what_is_no_text(words, parts, stories, complaint):
    Path("empty.txt").touch()
    Path("latin.txt").write_bytes(b"Zo\xe9")
    Path("folder.json").mkdir()
    before = {path.name for path in Path().iterdir()}
    line = complaint(f"tokenizer train {words}")
    for part in parts:
        assert part in line
    assert {path.name for path in Path().iterdir()} == before


# -- tokenizer encode, decode


def test_encode_and_decode(tokenizer, say):
    out = say("tokenizer", "encode", SENTENCE)
    assert list(map(int, out.split())) == tokenizer.encode(SENTENCE)
    assert out.count("\n") == 1
    assert say("tokenizer", "decode", *out.split()) == SENTENCE


def test_a_line_of_text_is_a_line_of_ids(tokenizer, say):
    out = say("tokenizer", "encode", "red\nball\n\nhat")
    lines = [list(map(int, line.split())) for line in out.splitlines()]
    assert [i for line in lines for i in line] == tokenizer.encode(
        "red\nball\n\nhat"
    )
    assert tokenizer.decode(lines[0]) == "red\n"


def test_encode_a_file(stories, tokenizer, say):
    out = say("tokenizer", "encode", "--file", "stories.txt")
    assert list(map(int, out.split())) == tokenizer.encode(STORIES)


def test_encode_standard_input_exactly(tokenizer, say, monkeypatch):
    text = "\r\n Zoë 红\r\n\n"
    give(monkeypatch, text)
    out = say("tokenizer", "encode")
    assert list(map(int, out.split())) == tokenizer.encode(text)
    give(monkeypatch, out)
    assert say("tokenizer", "decode") == text


def test_special_tokens_are_text_unless_allowed(tokenizer, say):
    words = ("tokenizer", "encode", "<|endoftext|>")
    assert say(*words, "--allow-special") == "299\n"
    assert len(say(*words).split()) > 1


def test_the_name_of_a_file_given_as_text(stories, tokenizer, capsys):
    assert main(["tokenizer", "encode", "stories.txt"]) == 0
    out, err = capsys.readouterr()
    assert tokenizer.decode(map(int, out.split())) == "stories.txt"
    assert "--file stories.txt" in err


@pytest.mark.parametrize("text", ["76,105", "[76, 105]", " 76\n105\n"])
def test_ids_as_people_write_them(text, tokenizer, say, monkeypatch):
    assert say("tokenizer", "decode", *text.split()) == "Li"
    give(monkeypatch, text)
    assert say("tokenizer", "decode") == "Li"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["decode", "7x"], ["'7x' is no token id"]),
        (["decode", "70", "999"], ["ids[1]=999", "0 to 299"]),
        (["decode", "1" * 30], ["ids[0]=111"]),
        (["encode", "a", "--file", "b"], ["'a'", "--file b", "one of them"]),
        (["encode", "--file", "no.txt"], ["no.txt"]),
        (["encode", "a\udcff"], [r"'\udcff'", "surrogate"]),
        (["encode", "a", "--tokenizer", "no/where"], ["no/where"]),
        (["encode", "a", "--tokenizer", "lost.json"], ["lost.json"]),
        (["show", "a", "--tokenizer", "stories.json"], ["stories.json"]),
    ],
)
def test_mistakes_with_text_and_ids(words, parts, tokenizer, complaint):
    Path("stories.json").write_text('{"a": 1}', encoding="utf-8")
    line = complaint("tokenizer", *words)
    for part in parts:
        assert part.replace("/", os.sep) in line or part in line


def test_standard_input_that_is_not_text(tokenizer, complaint, monkeypatch):
    give(monkeypatch, b"Zo\xe9 ")
    line = complaint("tokenizer", "encode")
    assert "standard input is not UTF-8: it holds the byte 0xe9" in line


def test_no_tokenizer_here(complaint):
    line = complaint("tokenizer", "encode", "Lily")
    assert "there is no tokenizer.json in this folder" in line
    assert "llmfs tokenizer train" in line


# -- tokenizers of tiktoken


def test_a_published_tokenizer(say, monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    small = BPETokenizer.train(STORIES, 300).to_tiktoken("gpt2")
    monkeypatch.setattr(tiktoken, "get_encoding", {"gpt2": small}.get)
    out = say("tokenizer", "encode", SENTENCE, "--tokenizer", "gpt2")
    assert list(map(int, out.split())) == small.encode(SENTENCE)


def test_a_name_that_tiktoken_does_not_know(complaint):
    pytest.importorskip("tiktoken")
    line = complaint("tokenizer", "encode", "a", "--tokenizer", "gpt9")
    assert "--tokenizer gpt9: there is no such file or folder" in line
    assert "cl100k_base" in line


def test_a_published_tokenizer_without_network(complaint, monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")

    def fails(name):
        raise ConnectionError("[Errno -3] name resolution")

    monkeypatch.setattr(tiktoken, "get_encoding", fails)
    line = complaint("tokenizer", "encode", "a", "--tokenizer", "gpt2")
    assert "has no copy of it here and cannot download" in line
    assert "ConnectionError" in line
    assert "TIKTOKEN_CACHE_DIR" in line


def test_a_published_tokenizer_without_tiktoken(complaint, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    line = complaint("tokenizer", "encode", "a", "--tokenizer", "gpt2")
    assert "python -m pip install tiktoken" in line
    assert "gpt2" in line


# -- tokenizer show


def test_show_marks_boundaries(tokenizer, say):
    out = say("tokenizer", "show", SENTENCE)
    shown, summary = out.splitlines()
    pieces = shown.split("|")
    ids = tokenizer.encode(SENTENCE)
    assert pieces == [tokenizer.decode([i]).replace(" ", "␣") for i in ids]
    rate = len(SENTENCE) / len(ids)
    assert summary == (
        f"{len(ids)} tokens, {len(SENTENCE)} bytes, {rate:.2f} bytes per token"
    )


def test_show_with_colour_and_ids(tokenizer, say):
    words = ("tokenizer", "show", "red ball", "--color", "always", "--ids")
    out = say(*words)
    assert "\x1b[48;5;" in out
    plain = re.sub(r"\x1b\[[\d;]*m", "", out)
    ids = tokenizer.encode("red ball")
    assert plain.splitlines()[1].split() == list(map(str, ids))


@pytest.mark.parametrize(
    ("choice", "env", "color"),
    [("auto", {}, True), ("auto", {"NO_COLOR": "1"}, False)],
)
def test_show_obeys_no_color(choice, env, color, tokenizer, say, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = say("tokenizer", "show", "red ball", "--color", choice)
    assert ("\x1b[" in out) is color


def test_show_without_text_in_a_terminal(tokenizer, say, monkeypatch):
    give(monkeypatch, "")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    out = say("tokenizer", "show")
    assert out.splitlines()[0].replace("|", "").replace("␣", " ") == SENTENCE


def test_show_nothing(tokenizer, say):
    assert say("tokenizer", "show", "") == "0 tokens, 0 bytes\n"


def test_reading_what_is_typed_is_announced(tokenizer, capsys, monkeypatch):
    give(monkeypatch, "red")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert main(["tokenizer", "encode"]) == 0
    assert "reading what you type" in capsys.readouterr().err


# -- data tinystories


@pytest.fixture
def hub(monkeypatch):
    "A hub of our own; what was asked of it."
    downloads = pytest.importorskip("llm_from_scratch.downloads")
    asked = []

    def fetch(repo, name, target, *, consent, **_):
        asked.append((name, consent))
        if consent is None:
            raise PermissionError("this would download; in a shell: --yes")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x" * 1500)
        return target

    monkeypatch.setattr(downloads, "download", fetch)
    return asked


def test_tinystories_are_fetched_and_then_found(hub, say, tmp_path):
    out = say("data tinystories --yes")
    folder = tmp_path / "llmfs_cache" / "tinystories"
    assert out == (
        f"train: {folder / 'train.txt'}, 1.5 KB\n"
        f"valid: {folder / 'valid.txt'}, 1.5 KB\n"
    )
    assert [consent for _, consent in hub] == [True, True]
    assert say("data tinystories") == out  # nothing is asked again
    assert len(hub) == 2


def test_one_split_of_tinystories(hub, say):
    assert say("data tinystories --split valid --yes").startswith("valid: ")
    assert len(hub) == 1


def test_tinystories_need_consent(hub, complaint):
    assert "--yes" in complaint("data tinystories")


def test_tinystories_without_network(complaint, monkeypatch):
    downloads = pytest.importorskip("llm_from_scratch.downloads")

    def offline(*_, **__):
        raise ConnectionError("could not download: check the network")

    monkeypatch.setattr(downloads, "download", offline)
    assert complaint("data tinystories --yes") == (
        "could not download: check the network"
    )


def test_no_answer_is_no_consent(complaint, monkeypatch):
    downloads = pytest.importorskip("llm_from_scratch.downloads")

    def no_answer(*_, **__):
        raise EOFError

    monkeypatch.setattr(downloads, "download", no_answer)
    line = complaint("data tinystories")
    assert "nothing was downloaded" in line
    assert "--yes" in line


# -- data stories


@pytest.mark.parametrize("split", SEEDS)
def test_stories_are_those_of_the_library(split, say):
    first = SEEDS[split][0]
    out = say(f"data stories --count 2 --seed 5 --split {split}")
    told = (f"{make_story(first + i)}\n<|endoftext|>\n" for i in (5, 6))
    assert out == "".join(told)


def test_stories_in_a_file(say, complaint):
    out = say("data stories --count 30 --out deep/s.txt")
    data = Path("deep/s.txt").read_bytes()
    assert data.decode() == say("data stories --count 30")
    size = f"{len(data) / 1000:.1f} KB"
    assert out == f"{Path('deep/s.txt')}: 30 stories, {size}\n"
    line = complaint("data stories --out deep/s.txt")
    assert "exists already; add --overwrite" in line
    assert Path("deep/s.txt").read_bytes() == data
    say("data stories --count 1 --out deep/s.txt --overwrite")
    assert Path("deep/s.txt").read_bytes().count(b"<|endoftext|>") == 1


def test_a_file_that_fails_half_way_is_not_there(complaint, monkeypatch):
    Path("old.txt").write_text("old", encoding="utf-8")
    made = []

    def fails(seed):
        made.append(seed)
        if len(made) > 20:
            raise KeyboardInterrupt
        return "story " * 10_000

    monkeypatch.setattr(cli_data, "make_story", fails)
    complaint("data stories --count 99 --out new.txt", code=130)
    made.clear()
    words = "data stories --count 99 --out old.txt --overwrite"
    complaint(words, code=130)
    assert [path.name for path in Path().iterdir()] == ["old.txt"]
    assert Path("old.txt").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--count 0", ["'0'", "1 or greater"]),
        ("--seed -1", ["'-1'", "0 or greater"]),
        ("--split test", ["'test'", "train", "valid"]),
        ("--seed 9999999 --count 2", ["9999999", "10000000", "valid"]),
        ("--out .", [". is a folder"]),
    ],
)
def test_mistakes_with_stories(words, parts, complaint):
    line = complaint(f"data stories {words}")
    for part in parts:
        assert part in line


# -- data tokenize


def documents(text: str) -> list[str]:
    "The documents of a corpus."
    return [x.strip() for x in text.split("<|endoftext|>") if x.strip()]


def test_tokenize_loses_nothing(stories, tokenizer, say):
    out = say("data tokenize stories.txt")
    file = TokenFile("stories", tokenizer)
    told = [tokenizer.decode(file[i].tolist()) for i in range(len(file))]
    assert told == documents(STORIES)
    assert out.startswith(f"stories.json: {len(file.tokens):,} tokens, 120 ")
    text = sum(len(x.encode()) for x in told)
    rate = text / sum(len(tokenizer.encode(x)) for x in told)
    assert out.endswith(f"documents, {rate:.2f} bytes per token\n")


def test_tokenize_several_files_with_two_workers(stories, tokenizer, say):
    Path("more.txt").write_text("no marker here", encoding="utf-8")
    say("data tokenize stories.txt more.txt --out x/y.json --workers 2")
    file = TokenFile("x/y.json", tokenizer)
    assert len(file) == 121
    assert tokenizer.decode(file[120].tolist()) == "no marker here"


def test_tokenize_never_replaces_unless_told(
    stories, tokenizer, complaint, say
):
    Path("stories.json").write_text("precious", encoding="utf-8")
    line = complaint("data tokenize stories.txt")
    assert "stories.json exists already; add --overwrite" in line
    assert Path("stories.json").read_text(encoding="utf-8") == "precious"
    say("data tokenize stories.txt --overwrite")
    assert len(TokenFile("stories.json")) == 120


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("lost.txt", ["there is no file lost.txt"]),
        (".", [". is a folder"]),
        ("latin.txt", ["latin.txt is not UTF-8", "0xe9"]),
        ("empty.txt", ["document"]),
        ("stories.txt --tokenizer bare.json", ["<|endoftext|>"]),
        ("stories.txt --tokenizer lost.json", ["lost.json"]),
        ("stories.txt --workers 0", ["'0'", "1 or greater"]),
        ("stories.txt --out latin.txt/x", ["latin.txt"]),
    ],
)
def test_mistakes_with_tokenize(words, parts, stories, tokenizer, complaint):
    Path("latin.txt").write_bytes(b"Zo\xe9")
    Path("empty.txt").touch()
    BPETokenizer.train("red", 256).save("bare.json")
    before = {path.name for path in Path().iterdir()}
    line = complaint(f"data tokenize {words}")
    for part in parts:
        assert part in line
    assert {path.name for path in Path().iterdir()} == before


# -- data info


def rows(out: str) -> dict[str, str]:
    "The two columns that `info` prints."
    lines = [
        re.split(r"\s{2,}", x.strip(), maxsplit=1) for x in out.split("\n")
    ]
    return dict(line for line in lines if len(line) == 2)


def test_info_on_this_machine(say, tmp_path):
    found = rows(say("data info"))
    assert "llmfs data tinystories" in found["TinyStories, train"]
    assert found["the notebooks use"] == "the built-in stories"
    folder = tmp_path / "llmfs_data" / "tinystories"
    folder.mkdir(parents=True)
    for split in SEEDS:
        (folder / f"{split}.txt").write_bytes(b"x" * 2000)
    found = rows(say("data info"))
    path = folder / "valid.txt"
    assert found["TinyStories, valid"] == f"2.0 KB, {path}"
    assert found["the notebooks use"] == "TinyStories"


def test_info_on_text(stories, say):
    text = STORIES + "\n<|endoftext|>\n"
    stories.write_bytes(text.encode())
    out = say("data info stories.txt")
    assert out.startswith("stories.txt: text\n")
    found, told = rows(out), documents(STORIES)
    sizes = sorted(len(x.encode()) for x in told)
    assert found["documents"].startswith("120, ")
    assert found["empty"] == "1 document"
    assert found["characters"] == f"{sum(map(len, told)):,}"
    words = Counter(word for x in told for word in x.split())
    assert found["words"].startswith(f"{words.total():,}, ")
    assert found["bytes each"].startswith(f"{sizes[0]} to {sizes[-1]}, median")


def test_info_on_an_empty_text(say):
    Path("empty.txt").touch()
    found = rows(say("data info empty.txt"))
    assert found == {
        "size": "0 bytes",
        "documents": "0, separated by <|endoftext|>",
    }


def test_info_on_a_token_file(stories, tokenizer, say):
    say("data tokenize stories.txt")
    out = say("data info stories.json")
    assert out.startswith("stories.json: token file\n")
    assert say("data info stories") == out
    found = rows(out)
    file = TokenFile("stories")
    lengths = sorted(len(file[i]) for i in range(len(file)))
    assert found["tokens"] == f"{len(file.tokens):,}, uint16"
    assert found["documents"] == "120"
    assert found["tokens each"].startswith(f"{lengths[0]} to {lengths[-1]},")
    assert found["checksum"] == "not checked; add --verify"
    shown = rows(say("data info tokenizer.json"))["hash"]
    assert found["tokenizer"] == f"300 tokens, hash {shown}"
    verified = rows(say("data info stories.json --verify"))
    assert verified["checksum"] == "correct"


def test_info_on_a_token_file_that_was_changed(
    stories, tokenizer, say, complaint
):
    say("data tokenize stories.txt")
    path = next(Path().glob("stories-*.bin"))
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    line = complaint("data info stories.json --verify")
    assert path.name in line
    assert "sha256" in line
    path.write_bytes(data[:-2])
    assert path.name in complaint("data info stories.json")


@pytest.mark.parametrize("name", ["tokenizer.json", "."])
def test_info_on_a_tokenizer(name, tokenizer, say):
    found = rows(say(f"data info {name}"))
    assert found["tokens"] == "300, 1 of them special"
    assert found["special"] == "<|endoftext|> = 299"
    assert found["merges"] == str(len(tokenizer.merges))
    assert found["words"] == "GPT-2's"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("lost.txt", ["there is no file lost.txt"]),
        ("folder", ["there is no file", "tokenizer.json"]),
        ("x.bin", ["x.bin is a part of a token file", ".json"]),
        ("list.json", ["list.json", "tokenizer"]),
        ("latin.json", ["latin.json", "UTF-8"]),
        ("latin.txt", ["latin.txt is not UTF-8"]),
    ],
)
def test_info_on_what_cannot_be_described(name, parts, complaint):
    Path("folder").mkdir()
    Path("list.json").write_text("[]", encoding="utf-8")
    for latin in ("latin.json", "latin.txt"):
        Path(latin).write_bytes(b"Zo\xe9")
    line = complaint(f"data info {name}")
    for part in parts:
        assert part in line


# -- what help texts and README tell the reader to type


MAKES = {
    "my_assistant": ["finetune", "instruct", "--out", "my_assistant"],
    "small": ["quantize", "--out", "small"],
}


@pytest.mark.parametrize("line", examples())
def test_examples_of_the_help_texts_work(
    line, stories, tokenizer, hub, quick, capsys
):
    name, *words = shlex.split(line)
    assert name == "llmfs"
    # what the example makes is not there yet
    made = {"train": "tokenizer.json", "stories": "stories.txt"}
    for word in set(words) & made.keys():
        Path(made[word]).unlink(missing_ok=True)
    if words[:2] != ["data", "stories"]:
        stories.write_bytes(STORIES.encode())
    if words[-2:-1] == ["--model"] and words[-1] in MAKES:
        assert main(MAKES[words[-1]]) == 0
        capsys.readouterr()
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out
    fewer = "the text holds no more" in err  # of so small a corpus
    assert err == "" or fewer


def shown_in(name: str) -> list[tuple[str, str]]:
    "The commands in a page's console blocks, each with its output."
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    found = []
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, out = part.partition("\n")
            found.append((command, out))
    return found


def test_the_readme_shows_what_the_commands_print(capsys):
    shown = shown_in("README.md")
    assert shown
    for command, wanted in shown:
        name, *words = shlex.split(command)
        assert name == "llmfs"
        assert main(words) == 0, command
        assert capsys.readouterr() == (wanted, ""), command


def test_the_readme_trains_a_model(quick, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).splitlines()
    lines = [line for line in lines if line.startswith("llmfs ")]
    names = [line.split()[1] for line in lines]
    assert {"pretrain", "generate", "evaluate"} <= set(names)
    for line in lines:
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
        out, err = capsys.readouterr()
        assert out, line
        assert err == "", line
