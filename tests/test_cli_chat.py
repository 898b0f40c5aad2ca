"`llmfs finetune instruct` and `llmfs chat`: results, pipes, mistakes."

import io
import json
import sys
from pathlib import Path

import pytest
import torch

from llm_from_scratch import cli_chat
from llm_from_scratch.chat_files import save_chat_model
from llm_from_scratch.checkpoint import load_checkpoint, save_checkpoint
from llm_from_scratch.cli_options import Parser, UserError
from llm_from_scratch.files import END, read_text
from llm_from_scratch.generation import Sampling
from llm_from_scratch.instructions import answers, grow
from llm_from_scratch.modern import ModernConfig, ModernGPT
from llm_from_scratch.quantization import quantize
from llm_from_scratch.quantized_files import save_quantized
from llm_from_scratch.tokenization import BPETokenizer

TEXT = "Lily lost her red ball, so she asked Ben. Who lost the ball? "


def make() -> tuple:
    tokenizer = BPETokenizer.train(TEXT * 5, 280, special_tokens=[END])
    config = ModernConfig(
        vocab_size=len(tokenizer), context_len=64, n_layer=1, n_head=2,
        n_embd=32,
    )  # fmt: skip
    options = {"zero_init": False, "std": 0.3}
    generator = torch.Generator().manual_seed(0)
    return ModernGPT(config, generator=generator, **options), tokenizer


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    "A plain model, one with markers, and some dialogs."
    monkeypatch.chdir(tmp_path)
    model, tokenizer = make()
    save_checkpoint("plain", model, tokenizer)
    save_chat_model("tuned", *grow(model, tokenizer))
    pair = {"instruction": "Who lost the ball?", "output": "Lily."}
    (tmp_path / "d.jsonl").write_text((json.dumps(pair) + "\n") * 4, "utf-8")


def run(*words: str) -> None:
    "Parse and run, without the rest of the command line."
    parser = Parser()
    commands = parser.add_subparsers()
    cli_chat.add_instruct(commands)
    cli_chat.add_chat(commands)
    args = parser.parse_args(words)
    args.run(args)


def talk(monkeypatch, capsys, typed: str, *words: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    run("chat", "--model", "tuned", "--greedy", *words)
    return capsys.readouterr().out


def expected(*contents: str, system: str = "", **options) -> str:
    model, tokenizer, _ = load_checkpoint("tuned", dtype=torch.float32)
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}] if system else []
    messages += [
        {"role": roles[i % 2], "content": x} for i, x in enumerate(contents)
    ]
    options = {"max_tokens": 5, "sampling": Sampling(greedy=True)} | options
    return answers(model, tokenizer, [messages], **options)[0]


def test_chat_answers_lines_of_a_pipe(monkeypatch, capsys):
    typed = "Who lost?\n\nAnd Ben?\n/exit\nnever read\n"
    out = talk(monkeypatch, capsys, typed, "--max-tokens", "5")
    first = expected("Who lost?")
    second = expected("Who lost?", first, "And Ben?")
    assert [x.strip() for x in out.split("\n")] == [first, second, ""]


def test_chat_ends_with_the_input(monkeypatch, capsys):
    out = talk(monkeypatch, capsys, "Who?", "--max-tokens", "5")
    assert out.strip() == expected("Who?")
    assert talk(monkeypatch, capsys, "") == ""


def test_system_message_is_read(monkeypatch, capsys):
    options = ("--system", "Ask Ben.", "--max-tokens", "5")
    out = talk(monkeypatch, capsys, "Who?\n", *options)
    assert out.strip() == expected("Who?", system="Ask Ben.")
    with pytest.raises(UserError, match="--system is empty"):
        talk(monkeypatch, capsys, "Who?\n", "--system", " ")


def test_oldest_turns_are_forgotten():
    model, tokenizer = grow(*make())
    turns = [
        {"role": ("user", "assistant")[i % 2], "content": f"{i} Lily lost"}
        for i in range(9)
    ]
    system = {"role": "system", "content": "Hi"}
    kept = cli_chat.shorten(tokenizer, [system, *turns], 64, 20)
    assert kept[0] == system and kept[-1] == turns[-1]
    assert kept[1:] == turns[-len(kept) + 1 :]
    assert 1 < len(kept) < 10
    assert cli_chat.shorten(tokenizer, turns[:1], 64, 20) == turns[:1]
    long = [{"role": "user", "content": "ball " * 80}]
    with pytest.raises(ValueError, match="leaves no room for an answer"):
        cli_chat.shorten(tokenizer, long, 64, 20)


def test_too_long_a_message_is_told_and_forgotten(monkeypatch, capsys):
    typed = "ball " * 80 + "\nWho?\n"
    out = talk(monkeypatch, capsys, typed, "--max-tokens", "5")
    assert out.strip() == expected("Who?")


def test_model_that_was_never_taught_is_told(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi\n"))
    with pytest.raises(UserError, match="plain was never taught to answer"):
        run("chat", "--model", "plain")


def test_a_quantized_model_is_not_tuned(capsys):
    "Its codes have no slope; nothing is written."
    small, tokenizer = quantize(make()[0]), make()[1]
    save_quantized("small", small, tokenizer)
    words = ("--model", "small", "--data", "d.jsonl", "--out", "new")
    with pytest.raises(ValueError, match=r"small is quantized, .* made from"):
        run("instruct", *words, "--steps", "1")
    assert not Path("new").exists()


def test_instruct_saves_what_chat_reads(monkeypatch, capsys):
    words = ("--model", "plain", "--data", "d.jsonl", "--out", "new")
    run("instruct", *words, "--steps", "40", "--rate", "3e-3", "--batch", "1")
    out = capsys.readouterr().out
    assert out.startswith("40 steps on 4 examples, loss 0.")
    assert "llmfs chat --model new" in out
    meta = load_checkpoint("new")[2]["instructed"]
    assert meta["dialogs"] == "d.jsonl" and meta["steps"] == 40
    card = read_text("new/model_card.md")
    assert "40 steps on 4 examples\nfrom d.jsonl" in card
    assert "Base: plain" in card
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who lost the ball?\n"))
    run("chat", "--model", "new", "--greedy")
    assert capsys.readouterr().out.strip() == "Lily."
    with pytest.raises(UserError, match="new exists already"):
        run("instruct", *words, "--steps", "1")


def test_instruct_replays_text_and_tells_what_it_drops(capsys, tmp_path):
    long = {"instruction": "ball " * 80, "output": "Lily."}
    with open("d.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(long))
    (tmp_path / "t.txt").write_text(f"{TEXT}{END}\n" * 3, "utf-8")
    words = ("--model", "plain", "--data", "d.jsonl", "--out", "new")
    run("instruct", *words, "--steps", "1", "--replay", "t.txt")
    told = capsys.readouterr()
    assert "1 step on 7 examples" in told.out
    assert "1 example longer than context_len=64 tokens left out" in told.err


def test_instruct_reads_bad_files_before_it_works():
    with open("d.jsonl", "a", encoding="utf-8") as file:
        file.write('{"instruction": "Hi", "output": " "}')
    with pytest.raises(ValueError, match=r"d.jsonl, line 5: message 1 of"):
        run("instruct", "--data", "d.jsonl")


def test_tasks_of_the_world(monkeypatch):
    monkeypatch.setattr(cli_chat, "TASKS", 4)
    dialogs = cli_chat.world_dialogs()
    assert [len(x) for x in dialogs] == [4, 6, 6, 6]
