"From text to a trained model in one call, and back after whatever happens."

import json
import math
import os
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from llm_from_scratch import corpus as corpus_module
from llm_from_scratch import judging, presets
from llm_from_scratch.checkpoint import load_checkpoint, save_checkpoint
from llm_from_scratch.corpus import (
    BUILT_IN,
    HELD_OUT,
    LEAST,
    Corpus,
    growing,
    open_prepared,
    prepare,
)
from llm_from_scratch.data import read_stories, split_by_hash
from llm_from_scratch.devices import DevicePlan, device_plan
from llm_from_scratch.files import END, SEEDS, make_story
from llm_from_scratch.judging import (
    describe_model,
    judge_text,
    judged,
    measure,
    truncated,
)
from llm_from_scratch.modern import ModernGPT
from llm_from_scratch.presets import (
    PRESETS,
    Interrupted,
    Preset,
    Request,
    describe_budget,
    find_preset,
    pretrain,
    read_plan,
    write_plan,
)
from llm_from_scratch.run_folder import LOCK, UNFINISHED, RunFolder
from llm_from_scratch.scoring import Score
from llm_from_scratch.token_files import TokenFile, tokenizer_hash
from llm_from_scratch.tokenization import BPETokenizer
from tests.test_locks import held_by_another

TINY = Preset(
    name="tiny",
    minutes=1.0,
    vocab_size=280,
    window=16,
    batch_size=4,
    context_len=32,
    n_layer=1,
    n_embd=64,
    n_head=1,
    n_kv_head=1,
    mlp_width=64,
    lr_muon=0.02,
    lr_adamw=0.003,
    evaluations=3,
)
PLAN = DevicePlan(device="cpu")
NAMES, THINGS = ("Lily", "Ben", "Zoë", "Mia"), ("ball", "hat", "kite")
CLOCKS = ("seconds", "outside")  # what may differ between two runs


def write_stories(path: Path, n: int) -> Path:
    "A corpus of short documents, no two alike."
    lines = (f"{NAMES[i % 4]} lost {THINGS[i % 3]} {i}." for i in range(n))
    path.write_bytes("".join(f"{x}\n{END}\n" for x in lines).encode())
    return path


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Small models are faster so, and another number would change digits."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_corpus(tmp_path, monkeypatch):
    "No test finds TinyStories, unless it puts them there."
    for name in ("LLMFS_DATA", "LLMFS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    "240 documents."
    return write_stories(tmp_path_factory.mktemp("text") / "own.txt", 240)


def run(folder: Path, text: Path | None, **options) -> dict:
    "A run of three steps, or what the options say."
    usual = {"preset": TINY, "plan": PLAN, "steps": 3}
    if options.get("resume"):
        usual = {}
    if text:
        usual["corpus"] = Corpus([text])
    return pretrain(folder, **usual | {"progress": False} | options)


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory) -> Path:
    "The folder of a finished run; do not change it."
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder, text)
    return folder


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory) -> Path:
    "The folder of an uninterrupted run of nine steps."
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, text, steps=9)
    return folder


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    "A copy of it."
    return Path(shutil.copytree(finished, tmp_path / "copied"))


class Killed(BaseException):
    "Not an Exception, so that nobody catches it by the way."


def stopper(step: int, error: type[BaseException] = Killed):
    "Stop a run after a step."

    def watch(rows):
        if rows[-1]["step"] == step:
            raise error

    return watch


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
    assert a.keys() == b.keys()
    for name, weight in a.items():
        assert torch.equal(weight, b[name]), name
    told_1, told_2 = (
        json.loads((folder / "result.json").read_text())
        for folder in (one, other)
    )
    for name in ("seconds_of_steps", "seconds_in_all"):
        told_1.pop(name), told_2.pop(name)
    assert told_1 == told_2


# ------------------------------------------------------------- presets


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_model(name):
    preset = find_preset(name)
    assert preset.name == name
    with torch.device("meta"):
        model = ModernGPT(preset.model_config(preset.vocab_size))
    n = sum(p.numel() for p in model.parameters())
    if not preset.accelerator:
        assert 2 * n < 10_000_000  # bytes in bfloat16: it can be shipped
    assert preset.train_config().minutes == preset.minutes
    assert preset.train_config(5).steps == 5
    assert preset.train_config(5).minutes is None


@pytest.mark.parametrize("name", PRESETS)
def test_the_built_in_world_is_large_enough(name):
    preset = PRESETS[name]
    bytes_each = sum(len(make_story(i)) for i in range(50)) / 50
    assert preset.stories * bytes_each / 1e6 < preset.megabytes
    first, limit = SEEDS["train"][0], SEEDS["valid"][0]
    assert first + preset.stories <= limit
    # a step a tenth of a second on a processor: read thrice at most
    steps = 600 * preset.minutes
    tokens = preset.stories * bytes_each / 4
    if not preset.accelerator:
        assert steps * preset.batch_size * preset.window < 3 * tokens


def test_unknown_preset():
    with pytest.raises(ValueError, match="preset=tea must be one of") as e:
        pretrain("nowhere", "tea")
    for name in PRESETS:
        assert name in str(e.value)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"window": 64}, ["window=64", "context_len=32"]),
        ({"window": 0}, ["window=0"]),
        ({"batch_size": 0}, ["batch_size=0"]),
        ({"n_layer": 0}, ["n_layer=0"]),
        ({"n_head": 4, "n_kv_head": 3}, ["n_head=4", "n_kv_head=3"]),
        ({"evaluations": 0}, ["evaluations=0"]),
        ({"decay": 2.0}, ["decay=2.0"]),
        ({"stories": 0}, ["stories=0"]),
        ({"megabytes": 0}, ["megabytes=0"]),
        ({"lr_muon": -1.0}, ["lr_muon=-1.0"]),
        ({"lr_adamw": math.nan}, ["lr_adamw=nan"]),
        ({"weight_decay": -0.5}, ["weight_decay=-0.5"]),
    ],
)
def test_presets_that_cannot_be(change, parts):
    with pytest.raises(ValueError, match="must be") as caught:
        replace(TINY, **change)
    for part in parts:
        assert part in str(caught.value)


# ------------------------------------------------------------- requests


def test_a_new_run_is_coffee_with_seed_0():
    facts = Request().facts({})
    assert facts["preset"] == asdict(PRESETS["coffee"])
    assert facts["seed"] == 0
    assert facts["train"]["minutes"] == PRESETS["coffee"].minutes
    assert not {"text", "plan", "tokenizer"} & facts.keys()


def test_minutes_become_part_of_the_preset():
    preset, steps = Request(preset="hour", minutes=2.5).budget({})
    assert preset == replace(PRESETS["hour"], minutes=2.5)
    assert steps is None


def test_what_is_not_asked_for_is_what_was_recorded():
    before = Request(preset=TINY, steps=7, seed=3, plan=PLAN).facts({})
    before["text"] = {"corpus": "x"}
    again = Request().facts(before)
    assert again == {x: before[x] for x in again}
    preset, steps = Request(minutes=2.0).budget(before)
    assert (preset, steps) == (replace(TINY, minutes=2.0), None)
    for name in ("cuda", "cuda:0"):
        told = Request(device=name).facts(before)["plan"]
        assert told == before["plan"] | {"device": "cuda"}
    narrow = Request(dtype=torch.bfloat16).facts(before)["plan"]
    assert narrow == before["plan"] | {"dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda:1", "set CUDA_VISIBLE_DEVICES=1 before Python starts"),
        (torch.device("cuda", 3), "set CUDA_VISIBLE_DEVICES=3 before"),
        ("xpu:2", "set ZE_AFFINITY_MASK=2 before"),
    ],
)
def test_another_device_of_a_kind_is_chosen_outside(device, words):
    "Not silently left for the first one."
    for make in (lambda x: Request(device=x), device_plan):
        with pytest.raises(ValueError, match=f"device={device}: .*{words}"):
            make(device)


def test_minutes_and_steps_are_two_budgets():
    with pytest.raises(ValueError, match=r"minutes=2.0 and steps=5: give one"):
        Request(minutes=2.0, steps=5)


@pytest.mark.parametrize(
    ("asked", "pays"),
    [
        ({"steps": 299}, False),
        ({"steps": 300}, True),
        ({"minutes": 1.9}, False),
        ({"minutes": 2.0}, True),
    ],
)
def test_short_runs_are_not_compiled(asked, pays, monkeypatch):
    can = replace(PLAN, compile=True)
    monkeypatch.setattr(presets, "device_plan", lambda *_: can)
    assert Request(**asked).choose_plan(str).compile is pays
    assert Request(**asked, plan=can).choose_plan(str).compile is pays
    assert not Request(**asked, plan=PLAN).choose_plan(str).compile


def test_the_device_is_measured_for_what_was_asked(monkeypatch):
    asked, said = [], []

    def measured(*given):
        asked.append(given)
        return PLAN

    monkeypatch.setattr(presets, "device_plan", measured)
    Request(device="cpu", dtype=torch.bfloat16).choose_plan(said.append)
    assert asked == [("cpu", torch.bfloat16)]
    assert said == ["measuring what computes fastest"]


@pytest.mark.parametrize("plan", [PLAN, None])
def test_plans_are_written_and_read(plan):
    plan = plan or replace(PLAN, dtype=torch.bfloat16, attention="added")
    data = json.loads(json.dumps(write_plan(plan)))
    assert read_plan(data) == replace(plan, seconds={})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fused": True}, "plan differs in fused from"),
        ({"dtype": "float7"}, "dtype=float7 must be one of"),
        ({"attention": "none"}, "attention=none must be one of"),
    ],
)
def test_plans_of_another_version(change, words):
    with pytest.raises(ValueError, match=words):
        read_plan(write_plan(PLAN) | change)


# ------------------------------------------------------------- corpora


def test_a_file_is_split_by_its_documents(text):
    documents = list(read_stories(text))
    train, valid = map(list, Corpus([text]).documents())
    places = split_by_hash(documents, valid_share=0.05)[1]
    assert valid == [documents[i] for i in places]
    assert sorted(train + valid) == sorted(documents)
    assert 2 <= len(valid) < len(documents) / 8


def test_files_and_a_file_held_out(text, tmp_path):
    more = write_stories(tmp_path / "more.txt", 7)
    held = write_stories(tmp_path / "held.txt", 5)
    corpus = Corpus([text, more], held)
    train, valid = map(list, corpus.documents())
    assert train == [*read_stories(text), *read_stories(more)]
    assert valid == list(read_stories(held))
    assert corpus.name == "own.txt, more.txt"


def test_a_limit_of_megabytes(text):
    every = list(read_stories(text))
    size = sum(len(x.encode()) for x in every[:210])
    train, valid = map(list, Corpus([text]).documents(size / 1e6))
    assert sorted(train + valid) == sorted(every[:210])


def test_tinystories_where_they_are(tmp_path, monkeypatch):
    folder = tmp_path / "llmfs_data" / "tinystories"
    folder.mkdir(parents=True)
    write_stories(folder / "train.txt", 210)
    assert Corpus().name == BUILT_IN
    write_stories(folder / "valid.txt", 9)
    corpus = Corpus()
    assert (corpus.name, corpus.licence) == ("TinyStories", "CDLA-Sharing-1.0")
    assert [len(list(x)) for x in corpus.documents()] == [210, 9]


def test_the_built_in_world():
    corpus = Corpus(stories=30)
    assert corpus.name == BUILT_IN
    train, valid = map(list, corpus.documents())
    assert train == [make_story(i) for i in range(30)]
    assert len(valid) == HELD_OUT
    assert valid[0] == make_story(SEEDS["valid"][0])
    assert corpus.facts()["stories"] == 30


def test_facts_know_the_content_of_files(text, tmp_path):
    same = Path(shutil.copy(text, tmp_path / "own.txt"))
    assert Corpus([same]).facts() == Corpus([text]).facts()
    same.write_bytes(same.read_bytes().replace(b"Lily", b"Lila", 1))
    assert Corpus([same]).facts() != Corpus([text]).facts()
    assert Corpus([text], same).facts() != Corpus([text]).facts()


def test_files_that_are_not_there(text, tmp_path):
    for paths, valid in (([text, "lost.txt"], None), ([text], "lost.txt")):
        with pytest.raises(FileNotFoundError, match=r"no file lost\.txt"):
            Corpus(paths, valid)
    with pytest.raises(ValueError, match=r"valid=x\.txt needs paths"):
        Corpus(valid="x.txt")


def test_text_that_is_trained_on_is_not_held_out(text):
    detour = text.parent / ".." / text.parent.name / text.name
    with pytest.raises(ValueError, match="is trained on, too") as caught:
        Corpus([text], detour)
    assert f"valid={detour}" in str(caught.value)


@pytest.mark.parametrize("n", [0, 1, LEAST - 1])
def test_too_few_documents(n, tmp_path):
    path = write_stories(tmp_path / "few.txt", n)
    words = f"few.txt: {n} documents, at least {LEAST} are needed"
    with pytest.raises(ValueError, match=words) as caught:
        Corpus([path]).documents()
    assert END in str(caught.value)


def test_too_few_documents_held_out(text, tmp_path):
    path = write_stories(tmp_path / "one.txt", 1)
    with pytest.raises(ValueError, match=r"one.txt: 1 documents, at least 2"):
        Corpus([text], path).documents()


def test_only_copies_cannot_be_split(tmp_path):
    path = tmp_path / "copies.txt"
    path.write_text(f"The same.\n{END}\n" * 300)
    with pytest.raises(ValueError, match="documents=300 in groups=1"):
        Corpus([path]).documents()


# ------------------------------------------------------- token files


def test_what_was_prepared_is_opened(text, tmp_path):
    said = []
    prepare(Corpus([text]), tmp_path, vocab_size=280, say=said.append)
    tokenizer, train, valid = open_prepared(tmp_path)
    assert len(tokenizer) == 280
    found = [tokenizer.decode(train[i].tolist()) for i in range(len(train))]
    wanted, held = map(list, Corpus([text]).documents())
    assert found == wanted
    assert len(valid) == len(held)
    assert said == [
        "reading own.txt",
        "training the tokenizer",
        "writing tokens",
    ]


def test_a_tokenizer_of_ones_own(text, tmp_path):
    own = BPETokenizer.train(
        "Lily lost her hat. " * 9, 270, special_tokens=[END]
    )
    prepare(Corpus([text]), tmp_path, tokenizer=own)
    found = open_prepared(tmp_path)[0]
    assert tokenizer_hash(found) == tokenizer_hash(own)


def test_a_tokenizer_learns_from_a_sample(text, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "SAMPLE", 500)
    prepare(Corpus([text]), tmp_path, vocab_size=270)
    train = list(Corpus([text]).documents()[0])
    wanted, size = [], 0
    while size < 500:
        wanted.append(train[len(wanted)])
        size += len(wanted[-1].encode())
    learned = BPETokenizer.train(wanted, 270, special_tokens=[END])
    tokenizer, file, _ = open_prepared(tmp_path)
    assert tokenizer.merges == learned.merges
    assert len(file) == len(train)  # what was sampled is not lost


def test_more_text_than_the_budget_reads_is_told(text, tmp_path):
    said = []
    prepare(Corpus([text]), tmp_path, megabytes=0.004, say=said.append)
    assert "took 0.004 MB of text, enough for this budget" in said
    sizes = [x.header["text_bytes"] for x in open_prepared(tmp_path)[1:]]
    assert 4000 <= sum(sizes) < 4030
    size = sum(len(x.encode()) for x in read_stories(text))
    whole = Corpus([text])
    list(whole.documents(size / 1e6, said.append)[0])
    assert len([x for x in said if x.startswith("took")]) == 1
    assert not whole.cut
    list(whole.documents(size / 2e6)[0])
    assert whole.cut


DAMAGE = {
    "no tokenizer": lambda x: (x / "tokenizer.json").unlink(),
    "no header": lambda x: (x / "valid.json").unlink(),
    "no ids": lambda x: next(x.glob("train-*.bin")).unlink(),
    "cut": lambda x: cut(next(x.glob("train-*.bin"))),
    "a bit": lambda x: flip(next(x.glob("train-*.bin"))),
    "other tokenizer": lambda x: BPETokenizer.train(
        "aa", 258, special_tokens=[END]
    ).save(x / "tokenizer.json", overwrite=True),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", DAMAGE)
def test_resume_with_damaged_text(how, copied):
    (copied / "result.json").unlink()
    DAMAGE[how](copied / "data")
    before = content(copied)
    with pytest.raises(ValueError, match="is gone or damaged: ") as caught:
        run(copied, None, resume=True)
    assert str(copied / "data") in str(caught.value)
    assert "overwrite" in str(caught.value)
    assert content(copied) == before


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_grows_where_it_can_be_renamed(exists, tmp_path):
    target = tmp_path / "a" / "run" / "data"
    if exists:
        target.parent.mkdir(parents=True)
    place = target.parent if exists else tmp_path
    before = content(tmp_path)
    with pytest.raises(Killed), growing(target) as new:
        assert new.parent.parent == place
        assert new.parent.name.startswith(UNFINISHED)
        raise Killed
    assert content(tmp_path) == before
    with growing(target) as new:
        (new / "file").write_text("x")
        target.parent.mkdir(parents=True, exist_ok=True)
        new.rename(target)
    assert (target / "file").read_text() == "x"
    assert list(target.parent.iterdir()) == [target]


# ------------------------------------------------------- a whole run


def test_a_run_leaves_all_that_is_needed(finished, text):
    result = json.loads((finished / "result.json").read_text())
    model, tokenizer, meta = load_checkpoint(finished)
    files = [TokenFile(finished / "data" / x) for x in ("train", "valid")]
    assert result["corpus"] == "own.txt"
    assert result["preset"] == "tiny"
    assert (result["steps"], result["best_step"]) == (3, meta["step"])
    assert result["targets"] == 3 * TINY.batch_size * TINY.window
    assert result["epochs"] == pytest.approx(
        result["targets"] / len(files[0].tokens), abs=1e-3
    )
    assert result["megabytes"] == files[0].header["text_bytes"] / 1e6
    assert result["vocab_size"] == len(tokenizer) == 280
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    assert result["seconds_in_all"] >= result["seconds_of_steps"]
    facts = RunFolder(finished).facts()
    assert facts["text"] == Corpus([text]).facts()
    assert facts["preset"] == asdict(TINY)
    assert facts["plan"] == write_plan(PLAN)
    assert facts["tokenizer"] == tokenizer_hash(tokenizer)


def test_scores_are_those_of_the_stored_model(finished):
    result = json.loads((finished / "result.json").read_text())
    model, tokenizer, _ = load_checkpoint(finished)
    for side in ("train", "valid"):
        file = TokenFile(finished / "data" / side, tokenizer)
        score = measure(model, file)
        assert asdict(score) == pytest.approx(result[side])
        assert score.documents == len(file)
    rows = RunFolder(finished).rows()
    best = min(row["valid"] for row in rows)
    assert result["valid"]["bits_per_byte"] == pytest.approx(best)


def test_the_model_learned(text, tmp_path):
    result = run(tmp_path / "run", text, steps=40)
    rows = RunFolder(tmp_path / "run").rows()
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert len([row for row in rows if "valid" in row]) == 3
    assert result["steps"] == 40


def test_the_card_says_what_it_is(finished):
    card = (finished / "model_card.md").read_text(encoding="utf-8")
    result = json.loads((finished / "result.json").read_text())
    assert max(map(len, card.splitlines())) < 80
    card = " ".join(card.split())
    valid = result["valid"]
    for part in (
        f"{result['parameters']:,} parameters",
        "preset tiny",
        "280 tokens",
        "own.txt",
        "what its owner allows",
        "3 steps, 192 tokens",
        "1 thread.",
        f"{valid['bits_per_byte']:.3f} ± {valid['margin']:.3f}",
        f"on {valid['documents']} documents",
        f"{result['truncated']} of those held out were cut",
    ):
        assert part in card, part


def test_the_card_of_the_built_in_text(finished):
    result = json.loads((finished / "result.json").read_text())
    facts = Corpus().facts()
    told = {name: facts[name] for name in ("corpus", "licence")}
    card = " ".join(describe_model(result | told).split())
    assert "the built-in story world, " in card
    assert "Apache-2.0" in card


def test_text_that_is_left_is_recorded(finished, text, tmp_path):
    "Also where nobody reads what is said."
    whole = json.loads((finished / "result.json").read_text())
    assert whole["text_left"] is False
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        small = replace(TINY, megabytes=0.004)
        run(folder, text, preset=small, watch=stopper(1))
    assert run(folder, None, resume=True)["text_left"] is True
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "; more was left. " in " ".join(card.split())


@pytest.mark.parametrize(
    ("epochs", "words"),
    [(0.43, "; training text, read 0.43 times: "), (1.0, "; seen: ")],
)
def test_what_was_not_read_is_not_called_seen(epochs, words, finished):
    result = json.loads((finished / "result.json").read_text())
    card = " ".join(describe_model(result | {"epochs": epochs}).split())
    assert f"{words}{result['train']['bits_per_byte']:.3f} ± " in card


def test_weights_are_stored_as_they_are_used(text, tmp_path):
    plan = replace(PLAN, dtype=torch.bfloat16)
    result = run(tmp_path / "run", text, plan=plan)
    model, _, _ = load_checkpoint(tmp_path / "run")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    folder = tmp_path / "run" / f"step-{result['best_step']:07d}"
    size = (folder / "model.safetensors").stat().st_size
    assert 2 * result["parameters"] <= size < 3 * result["parameters"]


def test_a_run_is_that_of_its_seed(finished, text, tmp_path):
    run(tmp_path / "same", text)
    assert_same(finished, tmp_path / "same")
    run(tmp_path / "other", text, seed=1)
    assert told(tmp_path / "other")[0] != told(finished)[0]


def test_a_run_with_a_tokenizer_and_the_built_in_world(finished, tmp_path):
    own = load_checkpoint(finished)[1]
    preset = replace(TINY, stories=30)
    monkey = {"preset": preset, "tokenizer": own, "plan": PLAN, "steps": 1}
    result = pretrain(tmp_path / "run", **monkey, progress=False)
    assert result["corpus"] == BUILT_IN
    assert result["train"]["documents"] == 30
    assert result["truncated"] > 0
    facts = RunFolder(tmp_path / "run").facts()
    assert facts["tokenizer"] == tokenizer_hash(own)


def test_what_begins_is_said(text, tmp_path):
    said = []
    run(tmp_path / "run", text, say=said.append)
    assert said == [
        "reading own.txt",
        "training the tokenizer",
        "writing tokens",
        "training, 3 steps in all",
        "judging the best checkpoint",
    ]


def test_the_budget_is_told():
    plan, config = replace(PLAN, compile=True), PRESETS["coffee"]
    told = describe_budget(config.train_config(), plan)
    assert told == f"compiling, then training for {config.minutes:g} minutes"


def test_overwriting_leaves_nothing_of_the_old(copied, text):
    (copied / "extra.txt").write_text("x")
    (copied / f"{UNFINISHED}left" / "data").mkdir(parents=True)
    old = content(copied / "data")
    with pytest.raises(Killed):
        run(copied, text, steps=9, overwrite=True, watch=stopper(4), seed=5)
    names = {path.name for path in copied.iterdir()}
    assert names == {
        *("run.json", "log.jsonl", "data", "latest", "best"),
        *("step-0000003", "extra.txt"),
    }
    assert content(copied / "data").keys() == old.keys()
    assert RunFolder(copied).facts()["seed"] == 5
    assert run(copied, None, resume=True)["steps"] == 9


def test_what_a_kill_left_in_an_empty_folder_does_not_count(text, tmp_path):
    folder = tmp_path / "run"
    (folder / f"{UNFINISHED}abc" / "data").mkdir(parents=True)
    run(folder, text)
    assert not list(folder.glob(f"{UNFINISHED}*"))


# --------------------------------------- before anything is written


def bad(text: Path, folder: Path) -> dict[str, tuple[dict, str]]:
    "What cannot be, and what is said of it."
    few = write_stories(folder / "few.txt", 7)
    latin = folder / "latin.txt"
    latin.write_bytes(text.read_bytes() + b"Zo\xe9")
    no_end = BPETokenizer.train("Lily lost her hat. " * 9, 260)
    own = {"preset": TINY, "corpus": Corpus([text]), "plan": PLAN}
    large = replace(TINY, batch_size=4096)
    gpu = replace(TINY, accelerator=True, name="gpu")
    return {
        "few": (own | {"corpus": Corpus([few])}, "7 documents, at least 200"),
        "latin": (own | {"corpus": Corpus([latin])}, "0xe9 at offset"),
        "marker": (own | {"tokenizer": no_end}, r"no special token '<\|end"),
        "batch": (
            own | {"preset": large},
            "less than one batch of 4096 windows of 16 tokens",
        ),
        "gpu": (
            own | {"preset": gpu},
            "preset=gpu needs an accelerator; device=cpu .* preset=coffee or",
        ),
        "device": (
            own | {"plan": None, "device": "abacus"},
            "device=abacus must be one of: .*cpu",
        ),
        "dtype": (
            own | {"plan": None, "dtype": torch.float16},
            "dtype=torch.float16 must be one of",
        ),
        "steps": (own | {"steps": 0}, "steps=0 must be"),
        "minutes": (own | {"minutes": -1.0}, r"minutes=-1.0 must be above 0"),
        "both": (own | {"minutes": 1.0, "steps": 2}, "give one"),
        "seed": (own | {"seed": -1, "steps": 1}, "seed=-1 must be"),
    }


BAD = ("few", "latin", "marker", "batch", "gpu", "device", "dtype")
BAD += ("steps", "minutes", "both", "seed")


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("what", BAD)
def test_mistakes_change_nothing(what, old, text, copied, tmp_path):
    options, words = bad(text, tmp_path)[what]
    folder = copied if old else tmp_path / "new" / "deep"
    before = content(tmp_path)
    with pytest.raises(ValueError, match=words):
        pretrain(folder, **options, overwrite=old, progress=False)
    assert content(tmp_path) == before


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("kind", ["file", "folder", "data"])
def test_what_is_no_run_is_never_touched(kind, overwrite, text, tmp_path):
    folder = tmp_path / "thesis"
    if kind == "file":
        folder.write_text("years of work")
    else:
        deep = folder / ("data" if kind == "data" else "part")
        deep.mkdir(parents=True)
        (deep / "tokenizer.json").write_text("years of work")
    before = content(tmp_path)
    with pytest.raises(FileExistsError, match="thesis"):
        run(folder, text, overwrite=overwrite)
    assert content(tmp_path) == before


def test_an_existing_run_stays(copied, text):
    before = content(copied)
    with pytest.raises(FileExistsError, match="holds a training run already"):
        run(copied, text)
    assert content(copied) == before


@pytest.mark.parametrize("name", ["data", "result.json", "step-0000003"])
def test_what_is_in_use_is_not_overwritten(name, text, copied, monkeypatch):
    "As on Windows, where a text that is open cannot be renamed."
    before, replacing = content(copied), os.replace

    def refuse(source, target):
        if Path(source).name == name and Path(source).parent == copied:
            raise PermissionError(13, "is in use", str(source))
        replacing(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match=name):
        run(copied, text, overwrite=True, seed=5)
    assert content(copied) == before


@pytest.mark.parametrize("old", [True, False])
def test_what_cannot_be_put_in_place(old, text, copied, tmp_path, monkeypatch):
    "After run.json was written: all is as before."

    def failing(*_):
        raise OSError(5, "no rename")

    folder = copied if old else tmp_path / "new"
    before = content(tmp_path)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no rename"):
        run(folder, text, overwrite=old)
    assert content(tmp_path) == before


# -------------------------------------------------- other processes


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_live_run_is_let_alone(how, text, copied):
    (copied / "result.json").unlink()
    with held_by_another(copied, LOCK) as other:
        before = content(copied)
        with pytest.raises(BlockingIOError, match=f"process {other.pid}: "):
            run(copied, text if how == "overwrite" else None, **{how: True})
        assert content(copied) == before
    options = {"text": None, "resume": True}
    if how == "overwrite":
        options = {"text": text, "overwrite": True}
    assert run(copied, **options)["steps"] == 3
    assert not list(copied.glob(".*"))


def test_two_that_begin_at_once(text, tmp_path):
    "The second is told so at once, not when its text is prepared."
    said = []
    with held_by_another(tmp_path / "run", LOCK) as other:
        with pytest.raises(BlockingIOError, match=f"process {other.pid}: "):
            run(tmp_path / "run", text, say=said.append)
        assert [x.name for x in (tmp_path / "run").iterdir()] == [LOCK]
    assert said == []


def test_one_that_was_first(finished, text, tmp_path, monkeypatch):
    "A run that came between the look and the lock stays."
    folder, real = tmp_path / "run", presets.hold

    def late(place, name):
        shutil.copytree(finished, place)
        return real(place, name)

    monkeypatch.setattr(presets, "hold", late)
    with pytest.raises(FileExistsError, match="holds a training run already"):
        run(folder, text)
    assert content(folder) == content(finished)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "full")])
def test_stopped_while_text_is_prepared(
    error, text, copied, tmp_path, monkeypatch
):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(corpus_module, "write_tokens", failing)
    before = content(tmp_path)
    kind = error if isinstance(error, type) else type(error)
    for folder in (copied, tmp_path / "new" / "deep"):
        with pytest.raises(kind) as caught:
            run(folder, text, overwrite=True)
        assert not isinstance(caught.value, Interrupted)
    assert content(tmp_path) == before


# ------------------------------------------------------------- resume


@pytest.mark.parametrize("step", [1, 2, 4, 7])
def test_killed_and_resumed(step, text, whole, tmp_path):
    "Checkpoints come after steps 3, 6 and 9; before 3 all begins again."
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        run(folder, text, steps=9, watch=stopper(step))
    assert not (folder / "result.json").exists()
    result = run(folder, None, resume=True)
    assert result["steps"] == 9
    assert_same(folder, whole)


def test_killed_before_the_first_step(text, finished, tmp_path, monkeypatch):
    "After the text was prepared, before training recorded anything."

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(presets, "train", killed)
        with pytest.raises(Killed):
            run(tmp_path / "killed", text)
    run(tmp_path / "killed", None, resume=True)
    assert_same(tmp_path / "killed", finished)


def test_killed_while_it_was_judged(text, finished, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(presets, "conclude", killed)
        with pytest.raises(Killed):
            run(tmp_path / "killed", text)
    run(tmp_path / "killed", None, resume=True)
    assert_same(tmp_path / "killed", finished)


def test_killed_while_judged_and_the_log_lost(
    text, finished, tmp_path, monkeypatch
):
    "What was saved knows what the result needs."

    def killed(*_, **__):
        raise Killed

    folder = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(presets, "conclude", killed)
        with pytest.raises(Killed):
            run(folder, text)
    (folder / "log.jsonl").unlink()
    with pytest.warns(UserWarning, match="has 0 rows, not 3: it is gone"):
        result = run(folder, None, resume=True)
    wanted = json.loads((finished / "result.json").read_text())
    for name in ("seconds_of_steps", "seconds_in_all"):
        assert result.pop(name) > 0
        wanted.pop(name)
    assert result == wanted


def test_ctrl_c_while_the_text_is_opened(text, tmp_path, monkeypatch):
    "The run was begun, so it can go on."

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(presets, "open_prepared", interrupted)
        with pytest.raises(Interrupted, match="run"):
            run(tmp_path / "run", text)
    assert run(tmp_path / "run", None, resume=True)["steps"] == 3


def test_ctrl_c_names_the_folder(text, tmp_path):
    with pytest.raises(Interrupted, match="run") as caught:
        run(tmp_path / "run", text, watch=stopper(2, KeyboardInterrupt))
    assert str(caught.value) == str(tmp_path / "run")


def test_a_finished_run_is_not_done_again(copied, text, monkeypatch):
    before = content(copied)
    monkeypatch.setattr(presets, "train", None)
    result = run(copied, None, resume=True)
    assert result == json.loads((copied / "result.json").read_text())
    assert content(copied) == before
    asked = {"preset": TINY, "steps": 3, "seed": 0, "plan": PLAN}
    assert run(copied, text, resume=True, **asked) == result


OTHER = {
    "preset": (
        {"preset": replace(TINY, n_layer=2)},
        "preset.n_layer was 1, is 2",
    ),
    "rate": ({"preset": replace(TINY, lr_muon=0.5)}, "lr_muon was 0.02, is 0"),
    "steps": ({"steps": 4}, "train.steps was 3, is 4"),
    "minutes": ({"minutes": 2.0}, "preset.minutes was 1.0, is 2.0"),
    "seed": ({"seed": 7}, "seed was 0, is 7"),
    "device": ({"device": "cuda"}, "plan.device was 'cpu', is 'cuda'"),
    "dtype": (
        {"dtype": torch.bfloat16},
        "plan.dtype was 'float32', is 'bfloat16'",
    ),
    "plan": (
        {"plan": replace(PLAN, attention="fused")},
        "plan.attention was 'plain', is 'fused'",
    ),
    "tokenizer": (
        {"tokenizer": BPETokenizer.train("a a a", 258, special_tokens=[END])},
        "tokenizer was '[0-9a-f]{64}', is '[0-9a-f]{64}'",
    ),
}


@pytest.mark.parametrize("what", OTHER)
@pytest.mark.parametrize("done", [True, False])
def test_resume_with_other_settings(what, done, copied):
    if not done:
        (copied / "result.json").unlink()
    options, words = OTHER[what]
    before = content(copied)
    with pytest.raises(ValueError, match=words) as caught:
        run(copied, None, resume=True, **options)
    assert str(copied) in str(caught.value)
    assert content(copied) == before


def test_resume_with_other_text(copied, text, tmp_path):
    (copied / "result.json").unlink()
    before = content(copied)
    changed = write_stories(tmp_path / "own.txt", 241)
    with pytest.raises(ValueError, match=r"text\.sha256 was") as caught:
        run(copied, changed, resume=True)
    for path in (text, changed):
        assert Corpus([path]).facts()["sha256"][0] in str(caught.value)
    built_in = Corpus()
    with pytest.raises(ValueError, match=r"text.corpus was 'own.txt', is"):
        run(copied, None, resume=True, corpus=built_in)
    assert content(copied) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.pop("preset"), "was not begun by pretrain: .* preset"),
        (lambda x: x["preset"].pop("decay"), "preset differs in decay"),
        (lambda x: x["preset"].update(new=1), "preset differs in new from"),
        (
            lambda x: x["plan"].update(device="abacus"),
            "was begun on device=abacus, here are: .*cpu",
        ),
        (lambda x: x["plan"].update(new=1), "plan differs in new from"),
        (
            lambda x: x["plan"].update(compile=True),
            "was begun compiled, here is no compiler: llmfs doctor says",
        ),
    ],
)
def test_runs_that_are_not_ours(change, words, copied, monkeypatch):
    monkeypatch.setattr(presets, "can_compile", lambda _: False)
    (copied / "result.json").unlink()
    facts = RunFolder(copied).facts()
    change(facts)
    (copied / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=words):
        run(copied, None, resume=True)


def test_a_finished_run_is_told_wherever_it_was_trained(copied):
    facts = RunFolder(copied).facts()
    facts["plan"]["device"] = "abacus"
    (copied / "run.json").write_text(json.dumps(facts))
    assert run(copied, None, resume=True)["steps"] == 3


@pytest.mark.parametrize("record", ["", "{", "7", "[]7"])
def test_a_broken_record(record, copied):
    (copied / "run.json").write_text(record)
    with pytest.raises(ValueError, match=r"run\.json is broken") as caught:
        run(copied, None, resume=True)
    assert str(copied) in str(caught.value)


def test_resume_of_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no training run"):
        run(tmp_path / "nothing", None, resume=True)
    assert not list(tmp_path.iterdir())


def test_resume_and_overwrite(copied):
    with pytest.raises(ValueError, match="resume=True and overwrite=True"):
        run(copied, None, resume=True, overwrite=True)


# ------------------------------------------------------------- judging


@pytest.mark.parametrize(
    ("gap", "epochs", "told"),
    [(0.09, 2.0, False), (0.11, 1.0, True), (0.11, 0.99, False)],
)
def test_a_gap_is_called_memorising(gap, epochs, told, finished):
    "But what was not yet read as a whole cannot be known by heart."
    model, tokenizer, _ = load_checkpoint(finished)
    file = TokenFile(finished / "data" / "valid", tokenizer)
    one, other = (Score(x, 0.1, 1.0, 5, 50) for x in (1.0, 1.0 + gap))
    assert judged(model, one, other, file, epochs)["memorising"] is told


def test_cut_documents_are_counted(finished):
    file = TokenFile(finished / "data" / "train")
    lengths = [len(file[i]) + 1 for i in range(len(file))]
    length = sorted(lengths)[len(file) // 2]
    assert truncated(file, length) == sum(n > length for n in lengths)
    first = sum(n > length for n in lengths[:9])
    assert truncated(file, length, 9) == first


def test_text_of_ones_own_is_judged(finished, text, monkeypatch):
    monkeypatch.setattr(judging, "device_plan", lambda **_: PLAN)
    score, facts = judge_text(finished, text)
    assert score.documents == 240
    assert facts == {"text": "own.txt", "truncated": 0, "context_len": 32}
    assert judge_text(finished, text, 12)[0].documents == 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_is_measured_for_few_bits_only(
    dtype, finished, text, tmp_path, monkeypatch
):
    asked = []

    def measured(dtype):
        asked.append(dtype)
        return PLAN

    monkeypatch.setattr(judging, "device_plan", measured)
    model, tokenizer, _ = load_checkpoint(finished, dtype=dtype)
    save_checkpoint(tmp_path / "model", model, tokenizer)
    judge_text(tmp_path / "model", text, 3)
    assert asked == [torch.float32 if dtype == torch.float32 else None]


def test_stories_of_this_machine_are_judged(finished, monkeypatch):
    monkeypatch.setattr(judging, "device_plan", lambda **_: PLAN)
    monkeypatch.setattr(judging, "STORYTELLER", finished)
    score, facts = judge_text(n_documents=3)
    assert score.documents == facts["truncated"] == 3
    assert facts["text"] == f"{BUILT_IN}, held out"


def test_what_cannot_be_judged(finished, text, tmp_path):
    model, _, _ = load_checkpoint(finished)
    save_checkpoint(tmp_path / "mute", model)
    with pytest.raises(ValueError, match=r"mute holds no tokenizer\.json"):
        judge_text(tmp_path / "mute", text)
    one = write_stories(tmp_path / "one.txt", 1)
    with pytest.raises(ValueError, match=r"one.txt holds 1 documents"):
        judge_text(finished, one)
    with pytest.raises(FileNotFoundError, match=re.escape("lost.txt")):
        judge_text(finished, tmp_path / "lost.txt")
