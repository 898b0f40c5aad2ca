"""`llmfs quantize`: the folder it writes, and its mistakes."""

import json

import pytest

from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.cli import main


def test_quantize_writes_a_model_that_others_read(tmp_path, capsys):
    out = tmp_path / "small"
    assert main(["quantize", "--out", str(out), "--table", "int4"]) == 0
    told = capsys.readouterr().out
    assert "2.8 MB" in told and "7.1 times" in told
    model, tokenizer, meta = load_checkpoint(out)
    assert model.quantization.table == "int4" and tokenizer is not None
    data = json.loads((out / "config.json").read_text("utf-8"))
    assert data["quantization"]["scheme"] == "int4"
    assert "scores" not in meta  # they were the float model's
    words = ["generate", "Lily", "--model", str(out), "--max-tokens", "3"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("Lily")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scheme", "int3"], "invalid choice: 'int3'"),
        (["--group-size", "48"], "48 does not divide the 256 inputs"),
        (["--group-size", "x"], "must be a whole number, 2 or greater"),
        (["--model", "nowhere"], "nowhere is no folder here"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, capsys):
    out = tmp_path / "small"
    assert main(["quantize", "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not out.exists()


def test_an_existing_folder_and_a_quantized_model(tmp_path, capsys):
    out = tmp_path / "small"
    assert main(["quantize", "--out", str(out)]) == 0
    assert main(["quantize", "--out", str(out)]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    words = ["--model", str(out), "--out", str(tmp_path / "again")]
    assert main(["quantize", *words]) == 2
    assert "quantized already, to int4" in capsys.readouterr().err
