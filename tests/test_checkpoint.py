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


@pytest.mark.parametrize("step", ["old", "model"])
def test_ctrl_c_between_the_steps(old, monkeypatch, step):
    "It arrives just after a renaming: a whole folder stands all the same."
    replace, pressed = os.replace, []

    def then_ctrl_c(source, target):
        replace(source, target)
        if Path(target).name == step and not pressed:
            pressed.append(step)
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", then_ctrl_c)
    with (
        pytest.raises(KeyboardInterrupt),
        new_folder(old, overwrite=True) as x,
    ):
        fill(x)
    wanted = {"old": b"old", "model": b"new"}
    assert content(old)["part/weights"] == wanted[step]
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


# --------------------------------------------------------------- the hub


class Hub:
    "A model on the hub, as far as `download` shows it."

    def __init__(self, files: dict[str, bytes]):
        self.files, self.asked, self.questions = files, [], []
        self.fails = None  # the file at which the network does
        self.answer = False  # of who is asked

    def agree(self, repo_id, folder, *, consent, why):
        if consent is None:
            self.questions.append((repo_id, why))
        if not (self.answer if consent is None else consent):
            raise PermissionError(f"{why}pass consent=True")

    def download(self, repo_id, name, target, *, repo_type, consent):
        assert (repo_id, repo_type, consent) == ("owner/name", "model", True)
        self.asked.append(name)
        if name == self.fails:
            raise ConnectionError("gone")
        if name not in self.files:
            raise FileNotFoundError(f"the hub has no {repo_id}/{name} (404)")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.files[name])
        return target


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    "A hub whose files a test decides on, and an empty cache."
    made = Hub({"config.json": b"{}", "model.safetensors": b"weights"})
    monkeypatch.setattr(checkpoint, "download", made.download)
    monkeypatch.setattr(checkpoint, "agree_to_model", made.agree)
    monkeypatch.setenv("LLMFS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return made


def in_cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "models" / "owner--name"


def test_from_the_hub(hub, tmp_path):
    "Consent is asked for once, and what is there is kept."
    hub.answer = True
    folder = find_folder("owner/name")
    assert folder == in_cache(tmp_path)
    assert content(folder) == hub.files
    no_folder = "there is no folder owner/name here; "
    assert hub.questions == [("owner/name", no_folder)]
    hub.asked.clear()
    assert find_folder("owner/name") == folder
    assert not hub.asked
    assert len(hub.questions) == 1


def test_without_consent_nothing_is_fetched(hub):
    for consent in (None, False):
        with pytest.raises(PermissionError, match="consent=True") as caught:
            find_folder("owner/name", consent=consent)
        text = str(caught.value)
        assert text.startswith("there is no folder owner/name here; ")
    assert not hub.asked


def test_interrupted_fetch_is_continued(hub):
    hub.fails = "config.json"
    for _ in range(2):
        with pytest.raises(ConnectionError, match="gone"):
            find_folder("owner/name", consent=True)
    assert hub.asked.count("model.safetensors") == 1
    hub.fails = None
    find_folder("owner/name", consent=True)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_name_that_the_hub_does_not_know_either(name, hub):
    "Perhaps a folder was meant: that it is not here is said first."
    del hub.files[name]
    with pytest.raises(FileNotFoundError) as caught:
        find_folder("owner/name", consent=True)
    text = str(caught.value)
    assert text.startswith("there is no folder owner/name here; the hub has")
    assert name in text


def shards(hub: Hub, names: list[str]) -> dict[str, bytes]:
    "Give the hub a model in several files, those that the index names."
    del hub.files["model.safetensors"]
    index = {f"tensor {i}": name for i, name in enumerate(names)}
    index = json.dumps({"metadata": {}, "weight_map": index}).encode()
    hub.files["model.safetensors.index.json"] = index
    hub.files |= {name: name.encode() for name in names}
    return hub.files


def test_several_files_of_weights(hub):
    parts = ["model-00001-of-00002.safetensors", "model-2.safetensors"]
    files = shards(hub, [*parts, parts[0]])
    hub.fails = parts[1]
    with pytest.raises(ConnectionError):
        find_folder("owner/name", consent=True)
    hub.fails = None
    folder = find_folder("owner/name", consent=True)  # goes on
    assert content(folder) == files
    assert hub.asked.count(parts[0]) == 1
    hub.asked.clear()
    (folder / parts[0]).unlink()
    assert content(find_folder("owner/name", consent=True)) == files
    assert hub.asked == [parts[0]]
    assert find_folder("owner/name", consent=False) == folder  # all is there


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/tmp/model.safetensors",
        "part/model.safetensors",
        "C:model.safetensors",
        "..\\model.safetensors",
        ".safetensors",
        "model.safetensors\n",
        "config.json",
        "model.bin",
    ],
)
def test_an_index_leads_nowhere_else(name, hub, tmp_path):
    shards(hub, ["model-1.safetensors", name])
    with pytest.raises(ValueError, match="not trust") as caught:
        find_folder("owner/name", consent=True)
    assert repr(name) in str(caught.value)
    assert "model.safetensors.index.json" in str(caught.value)
    assert hub.asked[-1] == "model.safetensors.index.json"
    assert {x.name for x in in_cache(tmp_path).iterdir()} == {
        "model.safetensors.index.json"
    }


@pytest.mark.parametrize(
    ("index", "word"),
    [
        (b"{}", "no files"),
        (b'{"weight_map": []}', "no files"),
        (b'{"weight_map": {"a": 1}}', "'1'"),
        (b"[]", "list"),
        (b"{", "broken"),
    ],
)
def test_an_index_of_no_use(index, word, hub):
    shards(hub, [])["model.safetensors.index.json"] = index
    with pytest.raises(ValueError, match=word) as caught:
        find_folder("owner/name", consent=True)
    assert "model.safetensors.index.json" in str(caught.value)


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


def on_hub(hub: Hub, path: Path) -> None:
    "Put a folder there."
    hub.files = content(path)


def test_checkpoint_from_the_hub(hub, tmp_path):
    "With its tokenizer; what is small comes first."
    words = tokenizer()
    on_hub(hub, save_checkpoint(tmp_path / "m", gpt(), words))
    hub.answer = True
    model, again, _ = load_checkpoint("owner/name")
    assert torch.equal(model(IDS), gpt().eval()(IDS))
    assert again.encode("a ball") == words.encode("a ball")
    assert hub.asked == ["config.json", "tokenizer.json", "model.safetensors"]
    assert len(hub.questions) == 1
    load_checkpoint("owner/name", consent=False)  # all is there
    assert len(hub.asked) == 3


def test_checkpoint_of_several_files_from_the_hub(hub, tmp_path):
    from safetensors.torch import load_file, save_file

    path = save_checkpoint(tmp_path / "m", modern(), tokenizer())
    whole, parts = load_file(path / "model.safetensors"), {}
    (path / "model.safetensors").unlink()
    for i, name in enumerate(whole):
        parts[name] = f"model-{i % 2 + 1}.safetensors"
    for part in set(parts.values()):
        some = {x: whole[x] for x, file in parts.items() if file == part}
        save_file(some, path / part)
    text = json.dumps({"weight_map": parts})
    (path / "model.safetensors.index.json").write_text(text)
    on_hub(hub, path)
    hub.answer = True
    found = load_checkpoint("owner/name")[0].state_dict()
    wanted = load_checkpoint(path)[0].state_dict()
    assert all(torch.equal(found[x], wanted[x]) for x in wanted)
    assert len(hub.questions) == 1


def test_weights_that_came_before_the_tokenizer(hub, tmp_path):
    "As `load_gpt2` leaves them: the tokenizer is fetched, after asking."
    on_hub(hub, save_checkpoint(tmp_path / "m", gpt(), tokenizer()))
    find_folder("owner/name", consent=True)
    with pytest.raises(PermissionError):
        load_checkpoint("owner/name")
    assert load_checkpoint("owner/name", consent=True)[1] is not None
    assert hub.asked.count("model.safetensors") == 1


def test_what_is_small_does_not_stand_for_consent(hub, tmp_path):
    "The weights are asked for, even if all else is here."
    on_hub(hub, save_checkpoint(tmp_path / "m", gpt(), tokenizer()))
    hub.fails = "model.safetensors"
    with pytest.raises(ConnectionError):
        load_checkpoint("owner/name", consent=True)
    hub.fails = None
    with pytest.raises(PermissionError):
        load_checkpoint("owner/name")
    load_checkpoint("owner/name", consent=True)


def test_no_tokenizer_on_the_hub(hub, tmp_path):
    "It is looked for once."
    on_hub(hub, save_checkpoint(tmp_path / "m", gpt()))
    assert load_checkpoint("owner/name", consent=True)[1] is None
    hub.asked.clear()
    assert load_checkpoint("owner/name")[1] is None
    assert not hub.asked


@pytest.mark.parametrize("what", ["kind", "tokenizer"])
def test_what_cannot_be_read_is_told_before_the_weights_come(
    what, hub, tmp_path
):
    on_hub(hub, save_checkpoint(tmp_path / "m", gpt(), tokenizer()))
    if what == "kind":
        hub.files["config.json"] = b'{"model_type": "mamba"}'
    else:
        hub.files["tokenizer.json"] = b"{}"
    with pytest.raises(ValueError, match=r"mamba|no model with a vocabulary"):
        load_checkpoint("owner/name", consent=True)
    assert "model.safetensors" not in hub.asked


@pytest.mark.parametrize(
    ("make", "load"),
    [(gpt, "gpt.load_gpt2"), (modern, "modern.load_modern")],
)
def test_tokenizer_of_another_kind(make, load, tmp_path):
    "Published ones normalise: the error says how to go on without."
    path = save_checkpoint(tmp_path / "m", make(), tokenizer())
    data = json.loads((path / "tokenizer.json").read_text())
    data["normalizer"] = {"type": "NFC"}
    (path / "tokenizer.json").write_text(json.dumps(data))
    (path / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ValueError, match="normalizer") as caught:
        load_checkpoint(path)
    assert f"{load}({str(path)!r})" in str(caught.value)
    assert "weights alone" in str(caught.value)


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
