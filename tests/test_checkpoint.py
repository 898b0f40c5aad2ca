"Folders of models appear whole or not at all, wherever a program stops."

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from llm_from_scratch import checkpoint
from llm_from_scratch.checkpoint import (
    best_checkpoint,
    find_folder,
    load_checkpoint,
    new_folder,
    read_config,
    save_checkpoint,
)
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.tokenization import BPETokenizer


def fill(folder: Path, text: str = "new") -> None:
    "What a model's folder holds, in small."
    (folder / "config.json").write_text(json.dumps({"says": text}))
    (folder / "part").mkdir()
    (folder / "part" / "weights").write_bytes(text.encode())


def content(folder: Path) -> dict[str, bytes]:
    files = (x for x in folder.rglob("*") if x.is_file())
    return {str(x.relative_to(folder)): x.read_bytes() for x in files}


@pytest.fixture
def old(tmp_path) -> Path:
    "A model's folder, alone in its own."
    path = tmp_path / "place" / "model"
    path.mkdir(parents=True)
    fill(path, "old")
    return path


# ----------------------------------------------------------- new_folder


@pytest.mark.parametrize("overwrite", [False, True])
def test_appears_at_the_end(tmp_path, overwrite):
    path = tmp_path / "a" / "b"
    with new_folder(path, overwrite=overwrite) as new:
        assert new.parent.parent == path.parent  # on the same disk
        fill(new)
        assert not path.exists()
    assert content(path)["part/weights"] == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_existing_one_stays(old):
    with (
        pytest.raises(FileExistsError, match="overwrite=True") as caught,
        new_folder(old),
    ):
        pytest.fail("nothing should be written")
    assert str(old) in str(caught.value)
    assert content(old)["part/weights"] == b"old"


def test_overwrite_leaves_nothing_of_the_old(old):
    (old / "extra").write_text("of the old")
    with new_folder(str(old), overwrite=True) as new:
        fill(new)
        assert content(old)["part/weights"] == b"old"  # until the end
    assert set(content(old)) == {"config.json", "part/weights"}
    assert content(old)["part/weights"] == b"new"
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_inside(old, error):
    with pytest.raises(error), new_folder(old, overwrite=True) as new:
        fill(new)
        raise error
    assert content(old)["part/weights"] == b"old"
    assert list(old.parent.iterdir()) == [old]


def test_error_at_the_last_step(old, monkeypatch):
    "The new folder cannot get its name: the old one gets it back."
    replace = os.replace

    def failing(source, target):
        if Path(source).name == "new":
            raise PermissionError(13, "in use by another process")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with (
        pytest.raises(PermissionError, match="in use"),
        new_folder(old, overwrite=True) as new,
    ):
        fill(new)
    assert content(old)["part/weights"] == b"old"
    assert list(old.parent.iterdir()) == [old]


KILLED = """
import os, sys
from llm_from_scratch.checkpoint import new_folder
with new_folder(sys.argv[1], overwrite=True) as new:
    (new / "config.json").write_text("half of it")
    os._exit(9)
"""


def test_killed_inside(old):
    done = subprocess.run([sys.executable, "-c", KILLED, str(old)])
    assert done.returncode == 9
    assert content(old)["part/weights"] == b"old"
    with new_folder(old, overwrite=True) as new:  # its rest does not disturb
        fill(new)
    assert content(old)["part/weights"] == b"new"


def test_somebody_else_was_faster(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(FileExistsError, match="exists already"):  # noqa: SIM117
        with new_folder(path) as new:
            fill(new)
            path.mkdir()
            fill(path, "theirs")
    assert content(path)["part/weights"] == b"theirs"


@pytest.mark.parametrize("kind", ["file", "other folder", "home"])
def test_what_is_no_model_is_never_deleted(kind, tmp_path, monkeypatch):
    path = tmp_path / "thesis"
    if kind == "file":
        path.write_text("years of work")
    else:
        path.mkdir()
        (path / "chapter").write_text("years of work")
    monkeypatch.chdir(path if kind == "home" else tmp_path)
    target = "." if kind == "home" else path
    before = content(tmp_path)
    with (
        pytest.raises(FileExistsError, match="not deleted") as caught,
        new_folder(target, overwrite=True),
    ):
        pytest.fail("nothing should be written")
    assert str(path) in str(caught.value)
    assert content(tmp_path) == before


def test_empty_folder_may_be_filled(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    with pytest.raises(FileExistsError), new_folder(path):
        pass
    with new_folder(path, overwrite=True) as new:
        fill(new)
    assert set(content(path)) == {"config.json", "part/weights"}


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_others_may_read_what_the_umask_allows(tmp_path):
    mask = os.umask(0o027)
    try:
        with new_folder(tmp_path / "model") as new:
            fill(new)
            (new / "config.json").chmod(0o600)  # as safetensors does
    finally:
        os.umask(mask)
    found = [tmp_path / "model", tmp_path / "model" / "config.json"]
    modes = [stat.S_IMODE(x.stat().st_mode) for x in found]
    assert modes == [0o750, 0o640]


def test_place_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OSError, match="file"),
        new_folder(tmp_path / "file" / "model"),
    ):
        pytest.fail("nothing should be written")
    assert content(tmp_path) == {"file": b"x"}


# ---------------------------------------------------------- find_folder


def test_finds_a_folder(old, monkeypatch):
    assert find_folder(old) == old
    assert find_folder(str(old)) == old
    monkeypatch.chdir(old.parent)
    assert find_folder("model") == Path("model")
    monkeypatch.setenv("HOME", str(old.parent))
    monkeypatch.setenv("USERPROFILE", str(old.parent))
    assert find_folder("~/model") == old


def test_folder_here_before_the_hub(old, monkeypatch):
    "A name that could be on the hub is not asked for when it is here."
    monkeypatch.setattr(checkpoint, "download", None)
    monkeypatch.chdir(old.parent.parent)
    assert find_folder("place/model") == Path("place/model")


@pytest.mark.parametrize("source", ["nowhere", "../a/b", "a/b/c", "a b/c"])
def test_neither_here_nor_a_name(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "download", None)
    with pytest.raises(FileNotFoundError, match="owner/name") as caught:
        find_folder(source)
    assert source in str(caught.value)


def test_folder_without_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json") as caught:
        find_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_from_the_hub(tmp_path, monkeypatch):
    "The second file needs no second consent; what is there is kept."
    calls = []

    def fake(repo_id, name, target, *, repo_type, consent):
        calls.append((name, consent))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("{}")

    monkeypatch.setattr(checkpoint, "download", fake)
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path))
    folder = find_folder("owner/a-model", weights="w.bin", consent=None)
    assert folder == tmp_path / "models" / "owner--a-model"
    assert calls == [("w.bin", None), ("config.json", True)]
    assert find_folder("owner/a-model", weights="w.bin") == folder
    assert len(calls) == 2


def test_interrupted_fetch_is_continued(tmp_path, monkeypatch):
    def fake(repo_id, name, target, **options):
        if name == "config.json":
            raise ConnectionError("gone")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("weights")

    monkeypatch.setattr(checkpoint, "download", fake)
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path))
    for _ in range(2):
        with pytest.raises(ConnectionError, match="gone"):
            find_folder("owner/name", consent=True)


# ---------------------------------------------------------- read_config


def test_reads_a_config(old):
    assert read_config(old) == {"says": "old"}


@pytest.mark.parametrize(
    "raw, word",
    [
        (b"", "broken"),
        (b'{"a": 1', "line 1"),
        (b"[1, 2]", "list"),
        (b'"gpt2"', "str"),
        (b"\xff\xfe{", "offset 0"),
    ],
)
def test_broken_config(old, raw, word):
    (old / "config.json").write_bytes(raw)
    with pytest.raises(ValueError, match=word) as caught:
        read_config(old)
    assert str(old / "config.json") in str(caught.value)


# ------------------------------------------------------ whole checkpoints


def tokenizer() -> BPETokenizer:
    "A small one."
    return BPETokenizer.train("a story of a ball " * 9, 270)


def gpt(seed: int = 0, **changes) -> GPT:
    sizes = {"vocab_size": 270, "context_len": 8, "n_layer": 2}
    sizes |= {"n_head": 2, "n_embd": 16} | changes
    start = torch.Generator().manual_seed(seed)
    return GPT(GPTConfig(**sizes), generator=start)


def modern() -> nn.Module:
    "The other family."
    kind = pytest.importorskip("llm_from_scratch.modern")
    config = kind.ModernConfig(
        vocab_size=270, context_len=8, n_layer=2, n_head=2, n_embd=64
    )
    return kind.ModernGPT(config)


IDS = torch.arange(8)[None]


@pytest.mark.parametrize("make", [gpt, modern])
def test_model_tokenizer_and_what_is_told(make, tmp_path):
    model, words = make().eval(), tokenizer()
    path = save_checkpoint(
        tmp_path / "a" / "model",
        model,
        words,
        meta={"bits_per_byte": 0.9},
        card="# A model\n",
    )
    assert path == tmp_path / "a" / "model"
    found, again, told = load_checkpoint(path)
    assert not found.training
    assert found.config == model.config
    assert torch.equal(found(IDS), model(IDS))
    assert again.encode("a ball") == words.encode("a ball")
    assert told["bits_per_byte"] == 0.9
    assert (path / "model_card.md").read_text() == "# A model\n"
    files = {file.name for file in path.iterdir()}
    assert files == {
        "config.json",
        "model.safetensors",
        "model_card.md",
        "tokenizer.json",
    }


def test_in_half_precision(tmp_path):
    model = gpt().eval()
    path = save_checkpoint(tmp_path / "m", model.to(torch.bfloat16))
    found, words, _ = load_checkpoint(path)
    assert words is None
    assert found.token_embedding.weight.dtype == torch.bfloat16
    wide = load_checkpoint(path, dtype=torch.float32)[0]
    assert torch.equal(wide(IDS), gpt_of(model)(IDS))


def gpt_of(model: GPT) -> GPT:
    "The same weights in float32."
    copy = gpt().eval()
    copy.load_state_dict(model.float().state_dict())
    return copy


def test_transformers_reads_what_we_write(tmp_path):
    transformers = pytest.importorskip("transformers")
    path = save_checkpoint(tmp_path / "m", gpt().eval(), tokenizer())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    wanted = gpt().eval()(IDS)
    torch.testing.assert_close(theirs(IDS).logits, wanted)


def test_checkpoint_is_not_overwritten(tmp_path):
    path = save_checkpoint(tmp_path / "m", gpt())
    before = content(path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_checkpoint(path, gpt(1))
    assert content(path) == before
    save_checkpoint(path, gpt(1), overwrite=True)
    assert content(path) != before


def test_a_save_that_fails_leaves_the_old(tmp_path):
    path = save_checkpoint(tmp_path / "m", gpt())
    before = content(path)

    class Breaks:
        def save(self, path):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, gpt(1), Breaks(), overwrite=True)
    assert content(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_any_module_can_be_written_but_is_not_loaded(tmp_path):
    "A tied weight is written once; who reads it knows its class."
    tied = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    tied[1].weight = tied[0].weight
    path = save_checkpoint(tmp_path / "m", tied)
    with pytest.raises(ValueError) as caught:
        load_checkpoint(path)
    assert "model_type='Sequential'" in str(caught.value)
    assert "gpt2" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("config.json", FileNotFoundError),
        ("model.safetensors", FileNotFoundError),
        ("tokenizer.json", None),
    ],
)
def test_checkpoint_with_a_file_missing(name, error, tmp_path):
    path = save_checkpoint(tmp_path / "m", gpt(), tokenizer())
    (path / name).unlink()
    if error is None:  # a model is a model without words
        assert load_checkpoint(path)[1] is None
        return
    with pytest.raises(error, match=str(path)):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_checkpoint_with_a_file_cut(name, tmp_path):
    path = save_checkpoint(tmp_path / "m", gpt(), tokenizer())
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=name):
        load_checkpoint(path)


def test_newer_format(tmp_path):
    path = save_checkpoint(tmp_path / "m", gpt(), meta={"format_version": 99})
    with pytest.raises(ValueError, match="99"):
        load_checkpoint(path)


# a run's folder: the best, else the latest


@pytest.fixture
def trained(tmp_path) -> Path:
    "A run whose second checkpoint was the best of three."
    folder = tmp_path / "run"
    for step in (1, 2, 3):
        save_checkpoint(folder / f"step-{step:07d}", gpt(step))
    (folder / "latest").write_text("step-0000003\n")
    (folder / "best").write_text("step-0000002\n")
    return folder


def test_best_of_a_run(trained):
    assert best_checkpoint(trained) == trained / "step-0000002"
    found = load_checkpoint(str(trained))[0]
    assert torch.equal(found(IDS), gpt(2).eval()(IDS))


@pytest.mark.parametrize("how", ["no name", "no folder"])
def test_latest_where_there_is_no_best(how, trained):
    if how == "no name":
        (trained / "best").unlink()
    else:
        (trained / "best").write_text("step-0000009\n")
    assert best_checkpoint(trained) == trained / "step-0000003"


def test_what_is_no_run_is_taken_as_it_is(trained, tmp_path):
    model = trained / "step-0000001"
    (model / "best").write_text("step-0000002\n")  # a model all the same
    for source in (model, tmp_path, "owner/name"):
        assert best_checkpoint(source) == source
