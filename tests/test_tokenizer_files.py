"Files of tokenizers: Hugging Face reads ours, we read theirs and GPT-2's."

import errno
import json
import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_from_scratch.files import END, make_story
from llm_from_scratch.tokenization import GPT2, GPT4, BPETokenizer
from llm_from_scratch.tokenizer_files import (
    SYMBOLS,
    byte_symbols,
    from_symbols,
    merges_from_ranks,
    to_symbols,
)

HERE = Path(__file__).resolve().parent
LANGUAGES = (HERE / "reference" / "languages.txt").read_text("utf-8")
OTHER = r"[^\W\d_]+|\d|\s+|[^\w\s]|_"
PATTERNS = {"gpt2": GPT2, "gpt4": GPT4, "other": OTHER}
SPECIALS = [END, "<|user|>", "<|us"]
TEXTS = [
    "",
    " ",
    "Lily lost her red ball, so she asked Ben.",
    f"one{END} two <|user|>\n\n<|us three<|endof",
    "It's 12345 o'clock, they'LL say \t \r\n  x",
    *LANGUAGES.splitlines(keepends=True),
    LANGUAGES,
]
patterns = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)


@cache
def trained(pattern: str = GPT2) -> BPETokenizer:
    "A small tokenizer of stories and languages."
    corpus = [*map(make_story, range(80)), LANGUAGES * 2]
    return BPETokenizer.train(
        corpus, 600, special_tokens=SPECIALS, pattern=pattern
    )


# ----------------------------------------------------- symbols, ranks


def test_symbols_are_those_of_the_bytelevel_alphabet():
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    assert sorted(byte_symbols().values()) == sorted(alphabet)
    assert to_symbols(b" red\n\xf0\x9f") == "ĠredĊðŁ"
    assert to_symbols(bytes([0, 32, 127, 173])) == "ĀĠġŃ"
    assert byte_symbols() == SYMBOLS


@settings(deadline=None, derandomize=True)
@given(st.binary())
def test_symbols_there_and_back(raw):
    assert from_symbols(to_symbols(raw)) == raw


def test_a_character_that_is_no_symbol():
    with pytest.raises(ValueError, match=r"'a b' holds ' ', which stands"):
        from_symbols("a b")


def test_merges_from_ranks_are_all_ways():
    ranks = {b"a": 0, b"b": 1, b"ab": 3, b"ba": 2, b"aba": 4}
    assert merges_from_ranks(ranks) == [
        (b"b", b"a"),
        (b"a", b"b"),
        (b"a", b"ba"),
        (b"ab", b"a"),
    ]


# --------------------------------------------------- our own round trip


@patterns
def test_saved_and_loaded(pattern, tmp_path):
    tokenizer = trained(pattern)
    path = tokenizer.save(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "tokenizer.json"
    again = BPETokenizer.load(tmp_path / "new" / "folder")
    assert BPETokenizer.load(str(path)).vocab == tokenizer.vocab
    for name in ("vocab", "merges", "special_tokens", "pattern"):
        assert getattr(again, name) == getattr(tokenizer, name)
    for text in TEXTS:
        for specials in ("none", "all"):
            ids = tokenizer.encode(text, specials)
            assert again.encode(text, specials) == ids
            assert again.decode(ids) == text
    other = again.save(tmp_path / "named.json")
    assert other.name == "named.json"
    assert other.read_bytes() == path.read_bytes()


def test_the_file_is_stable_text(tmp_path):
    path = trained().save(tmp_path)
    raw = path.read_bytes()
    assert raw.endswith(b"}\n")
    assert b"\r" not in raw
    assert "Ġthe".encode() in raw
    assert json.loads(raw)["version"] == "1.0"


# ------------------------------------------------- Hugging Face reads it


@patterns
def test_tokenizers_loads_what_we_save(pattern, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    ours = trained(pattern)
    theirs = tokenizers.Tokenizer.from_file(str(ours.save(tmp_path)))
    assert theirs.get_vocab_size() == ours.vocab_size
    for text in TEXTS:
        ids = ours.encode(text, "all")
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text


@patterns
def test_autotokenizer_loads_what_we_save(pattern, tmp_path):
    "A folder with `tokenizer.json` and nothing else."
    pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    ours = trained(pattern)
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == ours.vocab_size
    for text in TEXTS:
        ids = ours.encode(text, "all")
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs(text)["input_ids"] == ids
        plain = theirs.decode(ids, clean_up_tokenization_spaces=False)
        assert plain == text
    for name, token in ours.special_tokens.items():
        assert theirs.convert_tokens_to_ids(name) == token


@pytest.mark.data("tiktoken_cache")
@pytest.mark.parametrize("name", ["gpt2", "cl100k_base"])
def test_tokenizers_loads_published_encodings(
    name, tmp_path, data_dir, monkeypatch
):
    tokenizers = pytest.importorskip("tokenizers")
    tiktoken = pytest.importorskip("tiktoken")
    folder = str(data_dir / "tiktoken_cache")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", folder)
    encoding = tiktoken.get_encoding(name)
    ours = BPETokenizer.from_tiktoken(encoding)
    path = ours.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(path))
    again = BPETokenizer.load(path)
    for text in TEXTS:
        ids = encoding.encode(text, allowed_special="all")
        assert again.encode(text, "all") == ids
        assert theirs.encode(text).ids == ids


# --------------------------------------------------- we read other files


def their_tokenizer(words=None, special=(END,)):
    "Trained and put together by Hugging Face."
    tokenizers = pytest.importorskip("tokenizers")
    level = tokenizers.pre_tokenizers.ByteLevel
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    steps = [level(add_prefix_space=False)]
    if words:
        split = tokenizers.pre_tokenizers.Split
        by = tokenizers.Regex(words)
        steps = [
            split(by, "isolated"),
            level(add_prefix_space=False, use_regex=False),
        ]
    sequence = tokenizers.pre_tokenizers.Sequence
    theirs.pre_tokenizer = steps[0] if not words else sequence(steps)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=list(special),
        initial_alphabet=level.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(map(make_story, range(60)), trainer)
    return theirs


@pytest.mark.parametrize("words", [None, GPT4, OTHER])
def test_we_load_what_tokenizers_saves(words, tmp_path):
    theirs = their_tokenizer(words)
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = BPETokenizer.load(tmp_path)
    assert ours.pattern == (words or GPT2)
    assert ours.special_tokens == {END: 0}
    for text in TEXTS:
        ids = theirs.encode(text).ids
        assert ours.encode(text, "all") == ids
        assert ours.decode(ids) == text


def test_merges_in_the_older_form(tmp_path):
    path = trained().save(tmp_path)
    content = json.loads(path.read_text("utf-8"))
    model = content["model"]
    model["merges"] = [" ".join(pair) for pair in model["merges"]]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert BPETokenizer.load(path).merges == trained().merges


def gpt2_files(tokenizer: BPETokenizer, folder: Path) -> tuple[Path, Path]:
    "Write the two files of GPT-2 for a tokenizer."
    names = {to_symbols(b): i for i, b in tokenizer.vocab.items()}
    for name, token in tokenizer.special_tokens.items():
        names.pop(to_symbols(name.encode()))
        names[name] = token
    lines = [f"{to_symbols(a)} {to_symbols(b)}" for a, b in tokenizer.merges]
    encoder, bpe = folder / "encoder.json", folder / "vocab.bpe"
    encoder.write_text(json.dumps(names), encoding="utf-8")
    text = "\n".join(["#version: 0.2", *lines, ""])
    bpe.write_text(text, encoding="utf-8")
    return encoder, bpe


def test_gpt2_files(tmp_path):
    corpus = [*map(make_story, range(80)), "#version: #version: # " * 9]
    ours = BPETokenizer.train(corpus, 600, special_tokens=[END])
    again = BPETokenizer.from_gpt2_files(*gpt2_files(ours, tmp_path))
    assert (again.vocab, again.merges) == (ours.vocab, ours.merges)
    assert again.special_tokens == {END: 599}
    assert again.pattern == GPT2
    for text in TEXTS:
        assert again.encode(text, "all") == ours.encode(text, "all")


def test_gpt2_files_that_are_broken(tmp_path):
    encoder, bpe = gpt2_files(trained(), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file .*gone"):
        BPETokenizer.from_gpt2_files(tmp_path / "gone", bpe)
    whole = encoder.read_text("utf-8")
    for text in ("{", "[]", "", '{"a": "b"}'):
        encoder.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"encoder\.json"):
            BPETokenizer.from_gpt2_files(encoder, bpe)
    encoder.write_text(whole, encoding="utf-8")
    bpe.write_text("#version: 0.2\nĠ t x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"'Ġ', 't', 'x'\] is not a pair"):
        BPETokenizer.from_gpt2_files(encoder, bpe)


# ------------------------------------------------------------ bad files


def set_in(*path_and_value):
    "A change to the content of a file: a path of keys, and a value."
    *path, last, value = path_and_value

    def change(content: dict) -> None:
        for key in path:
            content = content[key]
        content[last] = value

    return change


def drop(*path):
    "A change that takes a key away."
    *path, last = path

    def change(content: dict) -> None:
        for key in path:
            content = content[key]
        del content[last]

    return change


PREFIXED = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
BAD = {
    "no model": (drop("model"), "holds no model with a vocabulary"),
    "null model": (set_in("model", None), "holds no model"),
    "no vocabulary": (drop("model", "vocab"), "holds no model"),
    "no merges": (drop("model", "merges"), "holds no merges"),
    "newer": (set_in("version", "2.0"), r"version is '2\.0', .* '1\.0'"),
    "no version": (drop("version"), "version is None"),
    "WordPiece": (
        set_in("model", "type", "WordPiece"),
        "model is 'WordPiece', and must be 'BPE'",
    ),
    "three": (
        set_in("model", "merges", 0, ["a", "b", "c"]),
        r"merge \['a', 'b', 'c'\] is not a pair",
    ),
    "three in a string": (
        set_in("model", "merges", 0, "a b c"),
        r"merge \['a', 'b', 'c'\] is not a pair",
    ),
    "no bytes": (
        set_in("model", "vocab", "a b", 3),
        "'a b' holds ' ', which stands for no byte",
    ),
    "Chinese symbol": (
        set_in("model", "merges", 0, ["中", "a"]),
        "'中' holds '中', which stands for no byte",
    ),
    "unknown": (
        set_in("model", "merges", 0, ["QQ", "QQ"]),
        r"merge 0, b'QQ' \+ b'QQ', names bytes that are no token",
    ),
    "a byte is lost": (drop("model", "vocab", "A"), "for the byte 65"),
    "dropout": (set_in("model", "dropout", 0.1), "BPE: dropout is set"),
    "unk": (set_in("model", "unk_token", "<unk>"), "unk_token is set"),
    "suffix": (
        set_in("model", "end_of_word_suffix", "</w>"),
        "end_of_word_suffix is set",
    ),
    "normalizer": (
        set_in("normalizer", {"type": "NFC"}),
        "normalizer is set",
    ),
    "no words": (set_in("pre_tokenizer", None), "pre_tokenizer is set"),
    "prefix": (set_in("pre_tokenizer", PREFIXED), "pre_tokenizer is set"),
    "ids": (
        set_in("model", "vocab", "A", "x"),
        "the token 'A' has the id 'x'",
    ),
    "negative": (set_in("model", "vocab", "A", -1), "'A' has the id -1"),
    "merges text": (set_in("model", "merges", 0, 5), "5|int"),
    "vocab list": (set_in("model", "vocab", []), "vocab"),
    "bad pattern": (
        set_in(
            "pre_tokenizer",
            {
                "type": "Sequence",
                "pretokenizers": [
                    {
                        "type": "Split",
                        "pattern": {"Regex": "(a"},
                        "behavior": "Isolated",
                        "invert": False,
                    },
                    {
                        "type": "ByteLevel",
                        "add_prefix_space": False,
                        "use_regex": False,
                    },
                ],
            },
        ),
        r"pattern='\(a' is no regular expression",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_files_we_cannot_use(change, message, tmp_path):
    path = trained().save(tmp_path)
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        BPETokenizer.load(path)
    assert f"cannot use {path} as a tokenizer: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ('{"version": "1.0", "mod', "Unterminated string"),
        ("[]", "holds no model"),
        ("null", "holds no model"),
        ("3", "holds no model"),
    ],
)
def test_files_that_are_broken(text, message, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        BPETokenizer.load(tmp_path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b'{"version": "\xff"}')
    with pytest.raises(ValueError, match="byte 0xff at offset 13"):
        BPETokenizer.load(path)


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "WordLevel"])
def test_models_of_another_kind(kind, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    model = {
        "WordPiece": lambda m: m.WordPiece({"[UNK]": 0}, unk_token="[UNK]"),
        "WordLevel": lambda m: m.WordLevel({"[UNK]": 0}, unk_token="[UNK]"),
        "Unigram": lambda m: m.Unigram([("<unk>", 0.0)], unk_id=0),
    }[kind](tokenizers.models)
    tokenizers.Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=f"model is '{kind}', and must be"):
        BPETokenizer.load(tmp_path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*tokenizer\.json"):
        BPETokenizer.load(tmp_path)


# -------------------------------------------------------------- writing


def test_an_existing_file_is_kept(tmp_path):
    path = trained().save(tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="pass overwrite=True") as error:
        trained(GPT4).save(tmp_path)
    assert str(path) in str(error.value)
    assert path.read_bytes() == before
    trained(GPT4).save(tmp_path, overwrite=True)
    assert BPETokenizer.load(path).pattern == GPT4


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(where, tmp_path, monkeypatch):
    path = trained().save(tmp_path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(OSError, match="No space left on device; nothing"):
        trained(GPT4).save(tmp_path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
