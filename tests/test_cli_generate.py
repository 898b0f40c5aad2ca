"`llmfs generate`: what it prints, and how it fails."

import io
import shutil
import sys
from pathlib import Path

import pytest
import torch

from llm_from_scratch import checkpoint, cli_generate, decoding
from llm_from_scratch.checkpoint import load_checkpoint, save_checkpoint
from llm_from_scratch.cli import main
from llm_from_scratch.decoding import Decoder
from llm_from_scratch.files import END
from llm_from_scratch.generation import Sampling, generate, stream
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.lora import (
    LoRAConfig,
    adapters,
    add_adapters,
    merge_adapters,
    save_adapter,
)
from llm_from_scratch.quantization import QuantConfig, quantize
from llm_from_scratch.quantized_files import save_quantized
from llm_from_scratch.tokenization import BPETokenizer

SENTENCE = "Lily lost her red ball, so she asked Ben."


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch) -> Path:
    "A small model, in a folder of its own."
    monkeypatch.chdir(tmp_path)
    tokenizer = BPETokenizer.train(SENTENCE, 270, special_tokens=[END])
    config = GPTConfig(
        vocab_size=len(tokenizer), context_len=40, n_layer=2, n_head=2,
        n_embd=16,
    )  # fmt: skip
    made = GPT(config, generator=torch.Generator().manual_seed(0))
    save_checkpoint("model", made, tokenizer)
    return tmp_path / "model"


def run(capsys, *words: str) -> tuple[int, str, str]:
    "The exit code, the output, the messages."
    code = main(["generate", "--model", "model", *words])
    out, err = capsys.readouterr()
    return code, out, err


def expected(prompt: str, seed: int, **options) -> str:
    model, tokenizer, _ = load_checkpoint("model", dtype=torch.float32)
    sampling = {"temperature": 0.8} | options.pop("sampling", {})
    return prompt + "".join(
        stream(
            Decoder(model),
            tokenizer,
            prompt,
            max_tokens=options.pop("max_tokens", 40),
            sampling=Sampling(**sampling),
            generator=torch.Generator().manual_seed(seed),
            **options,
        )
    )


def test_prompt_is_continued(capsys):
    code, out, err = run(capsys, "Lily lost", "--seed", "3")
    assert (code, err) == (0, "")
    assert out == expected("Lily lost", 3) + "\n"
    assert run(capsys, "Lily lost", "--seed", "3")[1] == out
    assert run(capsys, "Lily lost", "--seed", "4")[1] != out


def test_options_reach_the_sampler(capsys):
    options = ["--temperature", "2", "--top-k", "9", "--top-p", "0.9"]
    options += ["--repetition-penalty", "1.5", "--max-tokens", "5"]
    sampling = {
        "temperature": 2.0, "top_k": 9, "top_p": 0.9,
        "repetition_penalty": 1.5,
    }  # fmt: skip
    _, out, _ = run(capsys, "Ben", "--seed", "1", *options)
    wanted = expected("Ben", 1, max_tokens=5, sampling=sampling)
    assert out == wanted + "\n"
    _, out, _ = run(capsys, "Ben", "--greedy", "--max-tokens", "9")
    greedy = {"greedy": True}
    assert out == expected("Ben", 0, max_tokens=9, sampling=greedy) + "\n"


def test_several_texts_are_told_apart(capsys):
    _, out, _ = run(capsys, "Lily", "--seed", "5", "--count", "3")
    texts = [expected("Lily", seed) for seed in (5, 6, 7)]
    assert out == "".join(f"{text}\n{END}\n" for text in texts)


def test_without_a_prompt_the_model_begins(capsys):
    code, out, _ = run(capsys, "--seed", "2", "--max-tokens", "8")
    assert code == 0
    assert out == expected("", 2, max_tokens=8) + "\n"


def test_without_a_seed_each_text_is_another(capsys):
    assert len({run(capsys, "Lily")[1] for _ in range(3)}) == 3


def test_stop_text(capsys):
    whole = expected("Ben", 8)
    stop = whole[len("Ben") :][6:9]
    assert stop
    _, out, _ = run(capsys, "Ben", "--seed", "8", "--stop", stop)
    assert out == expected("Ben", 8, stop=stop) + "\n"
    assert len(out) < len(whole)


def test_last_space_is_left_out(capsys):
    code, out, err = run(capsys, "Lily ", "--seed", "1")
    assert code == 0
    assert out == expected("Lily", 1) + "\n"
    assert "last space" in err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([""], ["prompt is empty", "leave it out"]),
        (["  "], ["prompt is empty"]),
        (["x", "--temperature", "0"], ["--temperature", "'0'", "--greedy"]),
        (["x", "--temperature", "inf"], ["'inf'", "above 0"]),
        (["x", "--temperature", "nan"], ["'nan'", "above 0"]),
        (["x", "--temperature", "warm"], ["'warm'", "number"]),
        (["x", "--top-k", "0"], ["--top-k", "'0'", "1 or greater"]),
        (["x", "--top-p", "0"], ["--top-p", "'0'", "at most 1"]),
        (["x", "--top-p", "1.1"], ["--top-p", "'1.1'", "at most 1"]),
        (["x", "--repetition-penalty", "-1"], ["'-1'", "above 0"]),
        (["x", "--max-tokens", "0"], ["--max-tokens", "'0'"]),
        (["x", "--count", "0"], ["--count", "'0'"]),
        (["x", "--stop", ""], ["--stop", "empty"]),
        (["x" * 99], ["100 tokens", "39", "context_len=40"]),
        (["x", "--model", "nowhere"], ["nowhere"]),
    ],
)
def test_mistakes(capsys, words, parts):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("llmfs: error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_a_compiled_model(capsys, monkeypatch):
    told = run(capsys, "x", "--greedy", "--max-tokens", "9")
    asked = []
    monkeypatch.setattr(torch, "compile", lambda f, **o: asked.append(o) or f)
    monkeypatch.setattr(decoding, "can_compile", lambda device: True)
    again = run(capsys, "x", "--greedy", "--max-tokens", "9", "--compile")
    assert again == told
    assert len(asked) == 1
    monkeypatch.setattr(decoding, "can_compile", lambda device: False)
    code, out, err = run(capsys, "x", "--compile")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--compile" in err
    assert "llmfs doctor" in err


@pytest.fixture
def computed(monkeypatch) -> list[torch.dtype]:
    "How precisely texts were computed."
    seen = []

    def noting(model, *, compiled):
        seen.append({x.dtype for x in model.parameters()})
        assert not compiled  # unless it is asked for
        return Decoder(model)

    monkeypatch.setattr(decoding, "Decoder", noting)
    return seen


@pytest.mark.parametrize(
    ("stored", "option", "small", "used"),
    [
        ("bfloat16", None, True, "float32"),
        ("bfloat16", None, False, "bfloat16"),
        ("bfloat16", "stored", True, "bfloat16"),
        ("bfloat16", "float32", False, "float32"),
        ("float32", None, False, "float32"),
        ("float32", "bfloat16", True, "bfloat16"),
        ("float32", "stored", True, "float32"),
    ],
)
def test_precision(capsys, monkeypatch, computed, stored, option, small, used):
    made, tokenizer, _ = load_checkpoint("model")
    made = made.to(getattr(torch, stored))
    save_checkpoint("model", made, tokenizer, overwrite=True)
    bytes_each = made.token_embedding.weight.element_size()
    size = bytes_each * sum(x.numel() for x in made.parameters())
    monkeypatch.setattr(cli_generate, "SMALL", size if small else size - 1)
    words = ["--dtype", option] if option else []
    code, out, err = run(capsys, "Lily", "--seed", "1", *words)
    assert (code, err) == (0, "")
    assert computed == [{getattr(torch, used)}]
    if used == "float32":
        assert out == expected("Lily", 1) + "\n"


def test_help_says_how_precisely(capsys):
    assert main(["generate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "default: float32 up to 200 MB of weights, stored above" in text


def test_model_of_the_hub(capsys, monkeypatch, tmp_path, model):
    def fake(repo_id, name, target, **_):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(model / name, target)

    monkeypatch.setattr(checkpoint, "download", fake)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path / "cache"))
    words = ["Lily", "--seed", "1", "--model", "runs/tny"]
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("llmfs: error: there is no folder runs/tny here; ")
    assert "--yes" in err
    code, out, err = run(capsys, *words, "--yes")
    assert (code, out, err) == (0, expected("Lily", 1) + "\n", "")
    assert run(capsys, *words)[1] == out  # from now on it is here


def test_model_without_tokenizer(capsys, model):
    (model / "tokenizer.json").unlink()
    code, _, err = run(capsys, "x")
    assert code == 2
    assert "model holds no tokenizer.json" in err


def test_an_adapter(capsys, tmp_path):
    model = load_checkpoint("model", dtype=torch.float32)[0]
    config = LoRAConfig(rank=2, targets=("q_proj", "up"))
    random = torch.Generator().manual_seed(0)
    add_adapters(model, config, generator=random)
    for _, part in adapters(model):
        part.lora_B.data.normal_(generator=random)
    save_adapter("adapter", model)
    plain = run(capsys, "Lily lost", "--seed", "3")[1]
    code, out, err = run(capsys, "Lily lost", "--seed", "3", "--adapter",
                         "adapter")  # fmt: skip
    assert (code, err) == (0, "")
    assert out != plain
    save_checkpoint("merged", merge_adapters(model),
                    BPETokenizer.load("model/tokenizer.json"))  # fmt: skip
    assert main(["generate", "--model", "merged", "Lily lost", "--seed",
                 "3"]) == 0  # fmt: skip
    assert capsys.readouterr().out == out


def test_an_adapter_of_few_bits(capsys):
    "It stays beside the codes, which it learned with."
    plain, tokenizer, _ = load_checkpoint("model", dtype=torch.float32)
    small = quantize(plain, QuantConfig(scheme="nf4", group_size=16))
    save_quantized("small", small, tokenizer)
    random = torch.Generator().manual_seed(0)
    targets = ("q_proj", "up")
    config = LoRAConfig(rank=2, targets=targets)
    add_adapters(small, config, generator=random)
    for _, part in adapters(small):
        part.lora_B.data.normal_(generator=random)
    save_adapter("adapter", small)
    ids = [tokenizer.special_tokens[END], *tokenizer.encode("Lily lost")]
    how = {"max_tokens": 8, "sampling": Sampling(greedy=True)}
    wanted = tokenizer.decode(generate(small, [ids], **how)[0])
    words = ("generate", "--model", "small", "Lily lost", "--greedy")
    words += ("--max-tokens", "8")
    assert main([*words]) == 0
    without = capsys.readouterr().out
    assert main([*words, "--adapter", "adapter"]) == 0
    told = capsys.readouterr().out
    assert told.strip() == ("Lily lost" + wanted).strip() != without.strip()


def test_mistakes_with_adapters(capsys):
    code, out, err = run(capsys, "Lily", "--adapter", "nowhere")
    assert (code, out) == (2, "")
    assert "nowhere holds no adapter_config.json" in err
    other = load_checkpoint("model", dtype=torch.float32)[0]
    other.position_embedding.weight.data += 1
    save_adapter(
        "other", add_adapters(other, LoRAConfig(rank=1, targets=("up",)))
    )
    code, out, err = run(capsys, "Lily", "--adapter", "other")
    assert (code, out) == (2, "")
    assert "was trained on another base" in err
