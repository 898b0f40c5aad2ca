"`llmfs finetune classify`: what it writes and prints, how it fails."

import csv
import json
import random
import shlex

import pytest
import torch

from llm_from_scratch.checkpoint import load_checkpoint, save_checkpoint
from llm_from_scratch.classification import (
    LabelLoader,
    load_classifier,
    predict,
)
from llm_from_scratch.cli import main
from llm_from_scratch.files import END
from llm_from_scratch.finetuning import Wish, baselines, split
from llm_from_scratch.modern import ModernConfig, ModernGPT, save_modern
from llm_from_scratch.quantization import quantize
from llm_from_scratch.quantized_files import save_quantized
from llm_from_scratch.tokenization import BPETokenizer

WORDS = {"good": ("glad", "merry", "jolly"), "bad": ("sad", "cross", "mad")}


def make_rows(n: int) -> list[tuple[str, str]]:
    "Sentences, no two alike, whose last word tells the label."
    rng, rows = random.Random(0), []
    for i in range(n):
        label = ("good", "bad")[i % 2]
        rows.append((f"Nr {i} was {rng.choice(WORDS[label])}", label))
    return rows


def write(path, rows, header=("text", "label")):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Small models are faster so, and another number would change digits."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "The folder of a small model with random weights."
    folder = tmp_path_factory.mktemp("model") / "small"
    text = " ".join(text for text, _ in make_rows(60))
    tokenizer = BPETokenizer.train(text, 300, special_tokens=[END])
    config = ModernConfig(
        vocab_size=len(tokenizer),
        context_len=16,
        n_layer=2,
        n_head=2,
        n_embd=32,
    )
    random = torch.Generator().manual_seed(0)
    save_checkpoint(folder, ModernGPT(config, generator=random), tokenizer)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, model):
    "Every test works in a folder with a table and a model's name."
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "labels.csv", make_rows(120))
    return tmp_path


def classify(model, more: str = "", data: str = "labels.csv") -> int:
    base = f"finetune classify --data {data} --model {shlex.quote(str(model))}"
    return main(shlex.split(f"{base} {more}"))


def test_it_learns_and_writes(model, here, capsys):
    code = classify(model, "--blocks all --lr 0.01 --epochs 12 --json")
    out, err = capsys.readouterr()
    assert code == 0, err
    result = json.loads(out)
    assert result["names"] == ["bad", "good"]
    assert result["texts"] == {"train": 84, "tune": 12, "test": 24}
    assert result["classifier"]["right"] > 0.9
    assert 0.2 < result["baselines"]["majority"]["right"] < 0.8
    assert sum(map(sum, result["confusion"])) == 24
    classifier, tokenizer, told = load_classifier("classifier")
    assert told["temperature"] == result["temperature"]
    texts, labels = split(Wish(data="labels.csv"))["test"]
    loader = LabelLoader(texts, labels, tokenizer, classifier.names,
                         context_len=16, shuffle=False, epochs=1)  # fmt: skip
    scores, targets = predict(classifier, loader)
    right = (scores.argmax(1) == targets).double().mean().item()
    assert right == pytest.approx(result["classifier"]["right"])
    data = json.loads((here / "classifier/config.json").read_text("utf-8"))
    assert data["llm_from_scratch"]["finetuned"] == result


def test_it_tells_what_came_of_it(model, capsys):
    assert classify(model, "--out a --context 8 --keep start") == 0
    out = capsys.readouterr().out
    for words in ("2 labels: bad, good", "84 texts to learn from", "majority:",
                  "words alone:", "% right", "cut at 8 tokens",
                  "written to a;"):  # fmt: skip
        assert words in out
    assert load_classifier("a")[2]["keep"] == "start"


def test_the_same_seed_gives_the_same(model, capsys):
    for name in ("a", "b"):
        assert classify(model, f"--out {name} --seed 4 --json") == 0
    outs = capsys.readouterr().out.replace("}\n{", "}\0{").split("\0")
    assert outs[0].strip() == outs[1].strip()


@pytest.mark.parametrize(
    ("rows", "header", "more", "message"),
    [
        (make_rows(20), ("body", "label"), "", "0 columns 'text'"),
        (make_rows(20), None, "--label mood", "0 columns 'mood'"),
        ([(f"a {i}", "x") for i in range(20)], None, "", "labels=['x']"),
        (make_rows(6), None, "", "has 6 examples; at least 10"),
        ([(" ", "x")] * 20, None, "", "no row with a text and a label"),
        (make_rows(20), None, "--blocks 3", "blocks=3 must lie from 0 to 2"),
        (make_rows(20), None, "--test no.csv", "there is no file no.csv"),
        (make_rows(20), None, "--test other.csv", "labels=['ugly'] stand"),
        (make_rows(20), None, "--out full", "full exists already"),
        (make_rows(20), None, "--blocks some", "'some' must be a whole"),
    ],
)
def test_mistakes_are_told(model, here, capsys, rows, header, more, message):
    write(here / "bad.csv", rows, header or ("text", "label"))
    write(here / "other.csv", [("He ran", "ugly")])
    (here / "full").mkdir()
    code = classify(model, more, data="bad.csv")
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert message in err
    assert not (here / "classifier").exists()


def test_a_model_without_a_marker_is_refused(here, model, capsys):
    save_modern(load_checkpoint(model)[0], here / "bare")
    assert classify("bare") == 2
    assert "has no tokenizer with the marker" in capsys.readouterr().err


def test_a_quantized_model_is_refused(here, model, capsys):
    plain, tokenizer, _ = load_checkpoint(model)
    save_quantized(here / "small", quantize(plain), tokenizer)
    assert classify("small") == 2
    assert "model=small is quantized, and codes" in capsys.readouterr().err
    assert not (here / "out").exists()


@pytest.mark.filterwarnings("default::UserWarning")
def test_empty_rows_are_a_warning(model, here, capsys):
    write(here / "labels.csv", [*make_rows(30), ("", "good")])
    assert classify(model) == 0
    assert "left out 1 of 31 rows" in capsys.readouterr().err


def test_a_text_is_on_one_side_only(here):
    rows = make_rows(40)
    write(here / "twice.csv", rows + rows[::-1])
    parts = split(Wish(data="twice.csv"))
    sides = [{*texts} for texts, _ in parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 40


def test_a_label_that_is_only_judged_by_is_refused(here):
    rows = [*make_rows(40), ("One of a kind", "odd")]
    write(here / "odd.csv", rows)
    with pytest.raises(ValueError, match=r"labels=\['odd'\] stand among"):
        for seed in range(30):  # in some split it is not learned from
            split(Wish(data="odd.csv", seed=seed))


def test_words_alone_read_what_the_model_reads(model, here, capsys):
    "The label stands first; who reads the end alone cannot know it."
    tail = " and then it went on and on for quite a while, as they say here"
    rows = [(text + tail, label) for text, label in make_rows(120)]
    write(here / "long.csv", rows)
    right = {}
    for keep in ("start", "end"):
        more = f"--context 12 --keep {keep} --out {keep} --json"
        assert classify(model, more, "long.csv") == 0
        result = json.loads(capsys.readouterr().out)["baselines"]
        right[keep] = {name: row["right"] for name, row in result.items()}
    assert right["start"]["words alone"] > 0.9
    assert right["end"]["words alone"] == right["end"]["majority"]


def test_texts_without_words_have_no_baseline_of_words():
    parts = {"train": (["!", "?"], ["a", "b"]), "test": (["!"], ["a"])}
    assert list(baselines(parts, ("a", "b"))) == ["majority"]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"epochs": 0}, "epochs=0 must be"),
        ({"batch_size": True}, "batch_size=True must be"),
        ({"lr": 2.0}, r"lr=2\.0 must"),
    ],
)
def test_a_wish_is_checked(wish, message):
    with pytest.raises(ValueError, match=message):
        Wish(data="labels.csv", **wish)


def test_adapters_learn_in_place_of_blocks(capsys, model):
    assert classify(model, "--lora 2 --json --epochs 1 --out some") == 0
    result = json.loads(capsys.readouterr().out)
    # seven maps of two blocks, rank 2: inputs and outputs; and the head
    config = ModernConfig(
        vocab_size=300, context_len=16, n_layer=2, n_head=2, n_embd=32
    )
    C, M, kv = 32, config.mlp_width, config.n_kv_head * config.head_size
    sides = 2 * (C + C) + 2 * (C + kv) + 3 * (C + M)
    assert result["trained"] == 2 * 2 * sides + 2 * C
    classifier, _, _ = load_classifier("some")
    assert not any("lora" in name for name, _ in classifier.named_modules())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--lora 0", "--lora"),
        ("--lora 99", "rank=99 is above 32"),
        ("--lora 2 --blocks 1", "not allowed with"),
    ],
)
def test_bad_adapters(capsys, here, model, more, words):
    assert classify(model, more) != 0
    assert words in capsys.readouterr().err
    assert not (here / "classifier").exists()


def test_a_bad_rank_of_a_wish():
    for value in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"lora={value!r}"):
            Wish(data="labels.csv", lora=value)
