"""The contract of `tokenization`, against tiktoken, Hugging Face's
tokenizers, rustbpe and a trainer so slow that one can see it is right.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tracemalloc
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache, partial
from itertools import islice, pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llm_from_scratch import files, streams, tokenization
from llm_from_scratch.files import END, make_story
from llm_from_scratch.tokenization import (
    GPT2,
    GPT4,
    BPETokenizer,
    ChunkIds,
    Encoder,
    PreTokenizer,
    Vocabulary,
    WordIds,
    WordPairs,
    count_corpus,
    count_words,
    learn_merges,
    tie_key,
    train_bpe,
)
from llm_from_scratch.tokenizer_files import from_symbols, to_symbols

HERE = Path(__file__).resolve().parent
LANGUAGES = (HERE / "reference" / "languages.txt").read_text("utf-8")
PATTERNS = {"gpt2": GPT2, "gpt4": GPT4}
OTHER = r"[^\W\d_]+|\d|\s+|[^\w\s]|_"  # a pattern of one's own
ALL = {**PATTERNS, "other": OTHER}
ENCODINGS = {"gpt2": GPT2, "cl100k_base": GPT4}
data = pytest.mark.data
slow = pytest.mark.slow
quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
many = settings(quick, max_examples=1000)
long = settings(quick, derandomize=False, max_examples=4000)

# ---------------------------------------------------------------- texts

SPACES = " \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2003\u2028\u202f\u3000"
PIECES = [
    *(" ", "  ", "\n", "\n\n", "\r\n", " \n", "\n ", "\t", "\xa0"),
    *("'s", "'S", "'ll", "'LL", "'ſ", "'", "’t", "'re", "'veto", "n't"),
    *("1", "12345", "²", "٣", "Ⅷ", "3.14", "_", "...", "!?", "—"),
    *(" the", "The", " red ball", "def f(x):\n    return x", "é", "ß"),
    *("😊", "中文", "語", "ไทย", "ा", "\u0301", "\u200d", "\ufeff", "\0"),
    *(END, "<|endof", "text|>", "<|", "|>"),
]


def known(char: str) -> bool:
    "Whether every Unicode version in use agrees on this code point."
    return unicodedata.category(char) not in ("Cn", "Cs", "Co")


any_char = st.characters(exclude_categories=("Cn", "Cs"))
texts = st.lists(
    st.one_of(
        st.sampled_from(PIECES),
        st.text(any_char, max_size=5),
        st.text("abcdefgABCDEFGlstmvr", min_size=1, max_size=6),
        st.text("0123456789", min_size=1, max_size=5),
        st.text(SPACES, min_size=1, max_size=4),
    ),
    max_size=14,
).map("".join)
small_corpora = st.lists(
    st.one_of(
        st.text("ab", max_size=12),
        st.text("ab ", max_size=12),
        st.text("aab é\n", max_size=10),
        st.sampled_from(["aaaa", "aaaaaaa", " aaaa aaa aa", "abababab"]),
    ),
    min_size=1,
    max_size=8,
).filter(any)


def source_code(limit: int = 300_000) -> str:
    "Python code: the head of the standard library."
    folder = Path(sysconfig.get_paths()["stdlib"])
    parts, size = [], 0
    for path in sorted(folder.glob("*.py")):
        parts.append(path.read_text("utf-8", errors="replace"))
        size += len(parts[-1])
        if size > limit:
            break
    return "".join(parts)[:limit]


@cache
def stories(n: int = 400, first: int = 0) -> tuple[str, ...]:
    "Built-in stories."
    return tuple(make_story(seed) for seed in range(first, first + n))


@cache
def trained(pattern: str = GPT2, size: int = 700) -> BPETokenizer:
    "A tokenizer of stories and a few other texts, with two specials."
    corpus = [*stories(150), LANGUAGES * 3, source_code(40_000)]
    special = [END, "<|user|>"]
    return BPETokenizer.train(
        corpus, size, special_tokens=special, pattern=pattern
    )


@cache
def twin(pattern: str = GPT2):
    "The same tokenizer in tiktoken's hands."
    return trained(pattern).to_tiktoken()


# ------------------------------------------------- parity with tiktoken


@pytest.fixture(scope="module", params=ENCODINGS)
def published(request, data_dir):
    "Our reading of a published encoding, and tiktoken's own."
    folder = data_dir / "tiktoken_cache"
    if not folder.is_dir():
        pytest.skip("LLMFS_DATA has no tiktoken_cache")
    tiktoken = pytest.importorskip("tiktoken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        theirs = tiktoken.get_encoding(request.param)
    ours = BPETokenizer.from_tiktoken(theirs)
    assert ours.pattern == ENCODINGS[request.param]
    return ours, theirs


@data("tiktoken_cache", "tinystories/valid.txt")
def test_published_stories(published, data_dir):
    ours, theirs = published
    text = files.read_text(data_dir / "tinystories/valid.txt")
    ids = theirs.encode_ordinary(text)
    assert len(ids) > 500_000
    assert ours.encode(text) == ids
    documents = text.split(END)[:500]
    wanted = theirs.encode_ordinary_batch(documents)
    assert ours.encode_batch(documents) == wanted
    assert ours.decode(ids) == text
    assert ours.encode(text, "all") == theirs.encode(
        text, allowed_special="all"
    )


@data("tiktoken_cache")
@pytest.mark.parametrize("what", ["code", "languages"])
def test_published_other_texts(published, what):
    ours, theirs = published
    text = {"code": source_code(), "languages": LANGUAGES}[what]
    assert ours.encode(text) == theirs.encode_ordinary(text)
    for line in text.splitlines(keepends=True):
        assert ours.encode(line) == theirs.encode_ordinary(line)
    assert ours.decode(ours.encode(text)) == text


@data("tiktoken_cache")
def test_published_fuzz(published):
    ours, theirs = published

    @quick
    @given(texts)
    def check(text):
        ids = theirs.encode_ordinary(text)
        assert ours.encode(text) == ids
        assert ours.decode(ids) == text
        assert ours.encode(text, {END}) == theirs.encode(
            text, allowed_special={END}, disallowed_special=()
        )

    check()


@slow
@data("tiktoken_cache")
@pytest.mark.parametrize(
    "name",
    [
        *("gpt2", "r50k_base", "p50k_base"),
        *("p50k_edit", "cl100k_base", "o200k_base"),
    ],
)
def test_every_published_encoding(name, data_dir, monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    folder = str(data_dir / "tiktoken_cache")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", folder)
    theirs = tiktoken.get_encoding(name)
    ours = BPETokenizer.from_tiktoken(theirs)
    for text in (LANGUAGES, source_code()):
        assert ours.encode(text) == theirs.encode_ordinary(text)

    @long
    @given(texts)
    def check(text):
        ids = theirs.encode_ordinary(text)
        assert ours.encode(text) == ids
        assert ours.decode(ids) == text

    check()


@data("tiktoken_cache")
def test_published_arbitrary_ids(published):
    ours, theirs = published
    ids = [*theirs._mergeable_ranks.values()]
    ids += theirs._special_tokens.values()

    @quick
    @given(st.lists(st.sampled_from(ids), max_size=30))
    def check(some):
        assert ours.decode_bytes(some) == theirs.decode_bytes(some)
        assert ours.decode(some) == theirs.decode(some)

    check()
    assert ours.decode_bytes(ids) == theirs.decode_bytes(ids)


@data("tiktoken_cache")
def test_published_round_trip(published):
    "Through our object and back, tiktoken is what it was."
    ours, theirs = published
    back = ours.to_tiktoken("again")
    assert back.name == "again"
    assert back.n_vocab == theirs.n_vocab == len(ours) == ours.vocab_size
    assert back._mergeable_ranks == theirs._mergeable_ranks
    assert back._special_tokens == theirs._special_tokens
    text = LANGUAGES + END + source_code(20_000)
    options = {"allowed_special": "all"}
    assert back.encode(text, **options) == theirs.encode(text, **options)


@pytest.mark.parametrize("pattern", ALL.values(), ids=ALL)
def test_own_tokenizer_in_tiktoken(pattern):
    "No data needed: what we train, tiktoken encodes alike."
    pytest.importorskip("tiktoken")
    ours, theirs = trained(pattern), twin(pattern)
    for text in [*stories(40, 900), LANGUAGES, source_code(60_000)]:
        assert ours.encode(text) == theirs.encode_ordinary(text)
    for line in LANGUAGES.splitlines(keepends=True):
        assert ours.encode(line) == theirs.encode_ordinary(line)


@pytest.mark.parametrize("pattern", ALL.values(), ids=ALL)
def test_own_tokenizer_fuzz(pattern):
    pytest.importorskip("tiktoken")
    ours, theirs = trained(pattern), twin(pattern)

    @quick
    @given(texts)
    def check(text):
        assert ours.encode(text) == theirs.encode_ordinary(text)

    check()


@quick
@given(st.data())
def test_any_ranks_in_tiktoken(draw):
    "Ranks that nobody trained, where several pairs give one token."
    tiktoken = pytest.importorskip("tiktoken")
    made = [b"a", b"b"]
    for _ in range(draw.draw(st.integers(1, 8))):
        left, right = draw.draw(st.tuples(*[st.sampled_from(made)] * 2))
        made += [left + right] * (left + right not in made)
    ranks = {bytes([i]): i for i in range(256)}
    for token in made:
        ranks.setdefault(token, len(ranks))
    theirs = tiktoken.Encoding(
        "odd", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={}
    )
    ours = BPETokenizer.from_tiktoken(theirs)
    # tiktoken looks a whole word up before it merges: no training gives
    # a token that its own merges do not make
    assume(all(ours.encode(t.decode()) == [ranks[t]] for t in made))
    text = draw.draw(st.text("ab", max_size=24))
    assert ours.encode(text) == theirs.encode_ordinary(text)


# --------------------------------------------------- encode and decode


@quick
@given(texts, st.sampled_from([GPT2, GPT4]))
def test_decode_of_encode_is_the_text(text, pattern):
    tokenizer = trained(pattern)
    for specials in ("none", "all"):
        ids = tokenizer.encode(text, specials)
        assert tokenizer.decode(ids, "strict") == text
        assert tokenizer.decode_bytes(ids) == text.encode()


@quick
@given(st.binary(max_size=60))
def test_any_bytes_can_be_decoded(raw):
    tokenizer = trained()
    assert tokenizer.decode_bytes(list(raw)) == raw
    assert tokenizer.decode(list(raw)) == raw.decode("utf-8", "replace")
    for ids in (raw, bytearray(raw)):  # their elements are integers too
        assert tokenizer.decode_bytes(ids) == raw


@quick
@given(st.lists(st.integers(0, 699), max_size=30))
def test_any_ids_can_be_decoded(ids):
    pytest.importorskip("tiktoken")
    tokenizer = trained()
    wanted = b"".join(tokenizer.vocab[i] for i in ids)
    for form in (ids, tuple(ids), iter(ids), (i for i in ids)):
        assert tokenizer.decode_bytes(form) == wanted
    assert tokenizer.decode(ids) == twin().decode(ids)


def test_decode_takes_arrays():
    import numpy as np

    ids = trained().encode("Lily lost her red ball.")
    for kind in (np.int64, np.int32, np.uint16):
        array = np.array(ids, dtype=kind)
        assert trained().decode(array) == "Lily lost her red ball."
    assert trained().decode([]) == ""


def test_long_tokens_and_zero_bytes_are_decoded():
    corpus = ["donaudampfschifffahrtsgesellschaft " * 9, "\0\0\0 \0\0 \0\0\0"]
    tokenizer = BPETokenizer.train(corpus, 320)
    assert max(map(len, tokenizer.vocab.values())) > 16
    for text in corpus:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_half_a_character_is_replaced_unless_strict():
    tokenizer = trained()
    smile = "😊".encode()
    assert smile.hex(" ") == "f0 9f 98 8a"
    assert tokenizer.decode(list(smile)) == "😊"
    assert tokenizer.decode(list(smile[:2])) == "\ufffd"
    with pytest.raises(UnicodeDecodeError, match="bytes in position 1-2"):
        tokenizer.decode([97, *smile[:2]], errors="strict")


@pytest.mark.parametrize("pattern", ALL.values(), ids=ALL)
def test_batch_is_one_by_one(pattern):
    tokenizer, some = trained(pattern), ["", " ", END, *stories(20)]
    for specials in ("none", "all"):
        wanted = [tokenizer.encode(text, specials) for text in some]
        assert tokenizer.encode_batch(some, specials) == wanted
        assert tokenizer.encode_batch(iter(some), specials) == wanted


def test_many_words_do_not_fill_the_memory():
    "The caches start again; the ids stay right."
    tokenizer = BPETokenizer.train("Lily lost her red ball.", 262)
    wanted = list(b" 123")
    words, chunks = tokenizer._words, tokenizer._chunks
    for table in (words, chunks):
        for i in range(1_000_000 - len(table)):
            dict.__setitem__(table, i, b"")
    assert tokenizer.encode("x 123 123 123")[1:5] == wanted
    assert len(words) < 10
    assert len(chunks) < 10


@pytest.mark.parametrize("pattern", [GPT2, GPT4], ids=["gpt2", "gpt4"])
def test_white_space_at_every_edge(pattern):
    "Tokens of white space only, so that a wrong cut changes the ids."
    pairs = [(a, b) for a in " \n\t" for b in " \n\ta."]
    merges = [(a.encode(), b.encode()) for a, b in pairs]
    alphabet = [bytes([b]) for b in range(256)]
    vocab = dict(enumerate([*alphabet, *(a + b for a, b in merges)]))
    tokenizer = BPETokenizer(vocab, merges, pattern=pattern)

    @many
    @given(st.text(" \n\ta.", max_size=12))
    def check(text):
        words = regex.findall(pattern, text)
        assert tokenizer.encode(text) == [
            i for word in words for i in tokenizer.encode(word)
        ]

    check()


# ----------------------------------------------------- special tokens


def test_specials_are_ordinary_text_unless_asked_for():
    tokenizer = trained()
    end, user = tokenizer.special_tokens[END], 699
    assert (end, user) == (698, tokenizer.special_tokens["<|user|>"])
    text = f"red{END}ball<|user|>"
    plain = tokenizer.encode(text)
    assert not {end, user} & set(plain)
    assert tokenizer.decode(plain) == text
    assert tokenizer.encode(text, specials="none") == plain
    red, ball = tokenizer.encode("red"), tokenizer.encode("ball")
    assert tokenizer.encode(text, "all") == [*red, end, *ball, user]
    some = tokenizer.encode(text, {END})
    assert some == [*red, end, *tokenizer.encode("ball<|user|>")]
    assert tokenizer.encode(text, [END]) == some
    assert tokenizer.encode(text, set()) == plain


def test_of_overlapping_specials_the_longer_wins():
    names = ["<a>", "<a><b>", "<b>", "a>"]
    tokenizer = BPETokenizer.train("some text", 270, special_tokens=names)
    ids = tokenizer.special_tokens
    one, two, three, four = (ids[name] for name in names)
    assert tokenizer.encode("<a><b>", "all") == [two]
    assert tokenizer.encode("<a><a><b><b>", "all") == [one, two, three]
    assert tokenizer.encode("a><b>", "all") == [four, three]
    assert tokenizer.encode("<a><b>", {"<a>", "<b>"}) == [one, three]
    assert tokenizer.encode("<a>", {"a>"}) == [ord("<"), four]


@quick
@given(st.text("ab<>. ", max_size=30))
def test_specials_as_tiktoken_finds_them(text):
    tiktoken = pytest.importorskip("tiktoken")
    names = ["<a>", "<a><b>", "b <", ".", "(a|b)"]
    ours = BPETokenizer.train("a b <a> ab", 270, special_tokens=names)
    theirs = ours.to_tiktoken()
    ours_all = ours.encode(text, "all")
    # tiktoken takes specials that overlap in no fixed order
    if not regex.search(r"<a><b>|b <", text):
        wanted = theirs.encode(text, allowed_special="all")
        assert ours_all == wanted
    assert ours.decode(ours_all) == text
    assert tiktoken.Encoding is type(theirs)


def test_a_special_that_is_also_a_word():
    tokenizer = BPETokenizer.train(
        ["the the the the"] * 9, 262, special_tokens=["the"]
    )
    assert tokenizer.special_tokens == {"the": tokenizer.vocab_size - 1}
    assert tokenizer.encode("the", "all") == [tokenizer.vocab_size - 1]
    assert tokenizer.vocab_size - 1 not in tokenizer.encode("the the")
    assert tokenizer.decode(tokenizer.encode("the the", "all")) == "the the"


# ------------------------------------------------------------- streams


def cut_up(text: str, sizes: Iterable[int]) -> Iterator[str]:
    "Pieces of `text` of these sizes, the rest last."
    at = 0
    for size in sizes:
        yield text[at : at + size]
        at += size
    yield text[at:]


@pytest.mark.parametrize("pattern", ALL.values(), ids=ALL)
@pytest.mark.parametrize("block", [1, 40])
def test_stream_gives_the_ids_of_the_whole(pattern, block, monkeypatch):
    monkeypatch.setitem(streams.safe_blocks.__kwdefaults__, "size", block)
    tokenizer = trained(pattern)

    @quick
    @given(texts, st.lists(st.integers(0, 9), max_size=30), st.booleans())
    def check(text, sizes, marked):
        specials = "all" if marked else "none"
        text += " " + END + text[::-1] + "\n<|user|> "
        pieces = cut_up(text, sizes)
        ids = tokenizer.encode_iterable(pieces, specials)
        assert list(ids) == tokenizer.encode(text, specials)

    check()


def test_stream_with_specials_across_pieces(monkeypatch):
    monkeypatch.setitem(streams.safe_blocks.__kwdefaults__, "size", 1)
    text = f"Ben.{END} Lily {END}{END}\n"
    wanted = trained().encode(text, "all")
    assert wanted.count(trained().special_tokens[END]) == 3
    for pieces in (text, *(cut_up(text, [n]) for n in range(len(text)))):
        assert list(trained().encode_iterable(pieces, "all")) == wanted


def test_stream_is_lazy():
    "Ids come out before the text has ended."
    forever = (make_story(seed % 50) for seed in iter(int, 1))
    ids = list(islice(trained().encode_iterable(forever), 5000))
    assert len(ids) == 5000
    assert trained().decode(ids).startswith(make_story(0)[:100])


def peak(function, *args) -> int:
    "The most memory that a call held, in bytes."
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("pattern", "specials"),
    [(GPT2, "none"), (GPT2, "all"), (GPT4, "none"), (OTHER, "all")],
    ids=["gpt2", "gpt2-all", "gpt4", "other-all"],
)
def test_stream_takes_constant_memory(pattern, specials):
    tokenizer = trained(pattern)

    def run(n: int) -> None:
        pieces = (f"{story} {END}" for story in stories() for _ in range(n))
        for _ in tokenizer.encode_iterable(pieces, specials):
            pass

    run(1)  # fills the caches
    short, long = peak(run, 1), peak(run, 4)
    assert long < 1.3 * short + 100_000


# ------------------------------------------------------------ training


def symbol_order(byte: int) -> tuple[bool, int]:
    "Bytes one can see first: the order of Hugging Face's alphabet."
    hidden = byte <= 32 or 127 <= byte <= 160 or byte == 173
    return hidden, byte


def slow_merges(
    words: Counter, n_tokens: int, tie: str
) -> list[tuple[bytes, bytes]]:
    "Count all pairs, merge the best everywhere, and begin again."
    made = [bytes([b]) for b in sorted(range(256), key=symbol_order)]
    corpus = [([bytes([b]) for b in w.encode()], n) for w, n in words.items()]
    merges = []
    while len(made) < 256 + n_tokens:
        count = Counter()
        for word, n in corpus:
            for pair in pairwise(word):
                count[pair] += n
        if not count:
            break
        most = max(count.values())
        ties = [pair for pair, n in count.items() if n == most]
        if tie == "greater":
            best = max(ties)
        else:
            best = min(
                ties, key=lambda p: (made.index(p[0]), made.index(p[1]))
            )
        merges.append(best)
        if best[0] + best[1] not in made:
            made.append(best[0] + best[1])
        corpus = [(apply(word, best), n) for word, n in corpus]
    return merges


def apply(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    "The word with the pair merged, from left to right."
    out, i = [], 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def word_counts(corpus: Iterable[str], pattern: str) -> Counter:
    "The words of every document, counted."
    return Counter(w for text in corpus for w in regex.findall(pattern, text))


@pytest.mark.parametrize("tie", ["first", "greater"])
@pytest.mark.parametrize("pattern", ALL.values(), ids=ALL)
def test_merges_are_the_slow_trainers(tie, pattern):
    @quick
    @given(small_corpora, st.integers(1, 30))
    def check(corpus, n_tokens):
        counts = word_counts(corpus, pattern)
        wanted = slow_merges(counts, n_tokens, tie)
        vocab, merges = train_bpe(
            corpus, 256 + n_tokens, tie=tie, pattern=pattern
        )
        assert merges == wanted
        made = dict.fromkeys(a + b for a, b in merges)
        alphabet = [bytes([b]) for b in range(256)]
        assert vocab == dict(enumerate([*alphabet, *made]))

    check()


@pytest.mark.parametrize("tie", ["first", "greater"])
@pytest.mark.parametrize(
    ("words", "n_tokens"),
    [
        ({"a" * n: 1 for n in range(1, 20)}, 12),
        ({"ab" * n: 3 for n in range(1, 9)}, 10),
        ({"abab": 5, "aba": 4, "bab": 4, "abaab": 2}, 9),
        ({"aaab": 1, "baaa": 1, "aabaa": 1, "abaaaba": 1}, 14),
        ({"\xe9\xe9\xe9": 2, "\u4e2d\u6587\u4e2d": 2}, 9),
    ],
)
def test_runs_and_repeats(tie, words, n_tokens):
    wanted = slow_merges(Counter(words), n_tokens, tie)
    assert learn_merges(words, n_tokens, tie) == wanted


@quick
@given(st.data())
def test_any_merges_as_hugging_face(draw):
    "Merges that nobody trained, several of them to the same token."
    tokenizers = pytest.importorskip("tokenizers")
    made, merges = [b"a", b"b"], []
    for _ in range(draw.draw(st.integers(1, 8))):
        pair = draw.draw(st.tuples(*[st.sampled_from(made)] * 2))
        merges += [pair] * (pair not in merges)
        made += [b"".join(pair)] * (b"".join(pair) not in made)
    names = [t.decode() for t in made]
    bpe = tokenizers.models.BPE(
        {t: i for i, t in enumerate(names)},
        [(a.decode(), b.decode()) for a, b in merges],
    )
    rest = [bytes([b]) for b in range(256) if bytes([b]) not in made]
    ours = BPETokenizer(dict(enumerate([*made, *rest])), merges)
    text = draw.draw(st.text("ab", min_size=1, max_size=24))
    wanted = [token.id for token in bpe.tokenize(text)]
    assert ours.encode(text) == wanted


def hugging_face(docs: Iterable[str], size: int, special: list[str]):
    "Train Hugging Face's byte-level BPE; its tokenizer."
    tokenizers = pytest.importorskip("tokenizers")
    level = tokenizers.pre_tokenizers.ByteLevel
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = level(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=level.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(docs, trainer)
    return theirs


def merges_of(theirs) -> list[tuple[bytes, bytes]]:
    "The merges of a tokenizer of theirs, as bytes."
    pairs = json.loads(theirs.to_str())["model"]["merges"]
    return [tuple(map(from_symbols, pair)) for pair in pairs]


@data("tinystories/train.txt")
def test_merges_are_hugging_faces_on_tinystories(data_dir):
    path = data_dir / "tinystories/train.txt"
    text = files.read_text(path)[:2_000_000]
    theirs = hugging_face(text.split(END), 3000, [END])
    vocab, merges = train_bpe(text, 3000, special_tokens=[END])
    assert len(vocab) == 3000
    assert merges == merges_of(theirs)
    assert len(merges) == 3000 - 257


def test_merges_are_hugging_faces_on_built_in_stories():
    docs = [*stories(300), LANGUAGES, source_code(30_000)]
    theirs = hugging_face(docs, 1500, [END, "<|user|>"])
    tokenizer = BPETokenizer.train(
        docs, 1500, special_tokens=[END, "<|user|>"]
    )
    assert tokenizer.merges == merges_of(theirs)
    for text in (*stories(20, 800), LANGUAGES):
        tokens = [
            to_symbols(tokenizer.vocab[i]) for i in tokenizer.encode(text)
        ]
        assert tokens == theirs.encode(text).tokens


@quick
@given(small_corpora, st.integers(0, 30))
def test_merges_are_hugging_faces_on_small_corpora(corpus, n_tokens):
    theirs = hugging_face(corpus, 256 + n_tokens, [])
    assert train_bpe(corpus, 256 + n_tokens)[1] == merges_of(theirs)


def test_merges_are_rustbpes_in_its_order(monkeypatch):
    "rustbpe prefers the smaller byte where we prefer the first symbol."
    rustbpe = pytest.importorskip("rustbpe")
    docs = [*stories(300), LANGUAGES, source_code(30_000)]
    theirs = rustbpe.Tokenizer()
    theirs.train_from_iterator(iter(docs), 1500, pattern=GPT2)
    monkeypatch.setattr(tokenization, "tie_key", lambda tie, i, raw: i)
    vocab, _ = train_bpe(docs, 1500)
    ranks = {bytes(token): i for token, i in theirs.get_mergeable_ranks()}
    assert {token: i for i, token in vocab.items()} == ranks


@pytest.mark.parametrize("pattern", ALL.values(), ids=ALL)
def test_words_are_counted_as_if_one_by_one(pattern):
    @settings(quick, max_examples=400)
    @given(st.lists(texts, max_size=5))
    def check(corpus):
        assert count_words(corpus, pattern) == word_counts(corpus, pattern)

    check()


@slow
@pytest.mark.parametrize("pattern", ALL.values(), ids=ALL)
def test_words_are_counted_long(pattern):
    @long
    @given(st.lists(texts, max_size=5))
    def check(corpus):
        assert count_words(corpus, pattern) == word_counts(corpus, pattern)
        for text in corpus:
            assert PreTokenizer(pattern)(text) == regex.findall(pattern, text)

    check()


def test_words_of_real_shapes():
    for text in (LANGUAGES, source_code(), "\n".join(stories())):
        for pattern in ALL.values():
            wanted = Counter(regex.findall(pattern, text))
            assert count_words([text], pattern) == wanted
            assert "".join(PreTokenizer(pattern)(text)) == text


def test_pair_counts_stay_right_after_every_merge():
    counts = word_counts(stories(30), GPT2)
    pairs, known_tokens = WordPairs(counts), 256
    for left, right in learn_merges(counts, 60):
        ids = {data: chr(i) for i, data in enumerate_tokens(counts, 60)}
        pairs.merge(ids[left] + ids[right], ids[left + right])
        fresh = Counter()
        for word, n in zip(pairs.words, pairs.freqs, strict=True):
            for pair in pairwise(word):
                fresh["".join(pair)] += n
        assert +Counter(pairs.count) == fresh
        for pair in fresh:
            held = {i for i, w in enumerate(pairs.words) if pair in w}
            assert held <= set(pairs.where[pair])
        known_tokens += 1
    assert known_tokens == 316


@cache
def enumerate_tokens_cached(words: frozenset, n: int) -> list:
    merges = learn_merges(dict(words), n)
    return [*((i, bytes([i])) for i in range(256))] + [
        (256 + i, a + b) for i, (a, b) in enumerate(merges)
    ]


def enumerate_tokens(counts: Counter, n: int) -> list[tuple[int, bytes]]:
    "The ids that training gives to tokens."
    return enumerate_tokens_cached(frozenset(counts.items()), n)


# ---------------------------------------------- the corpus and its forms


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory) -> Path:
    "Stories in several scripts, each followed by the special token."
    path = tmp_path_factory.mktemp("corpus") / "stories.txt"
    docs = [*stories(300), LANGUAGES, source_code(20_000)]
    text = "".join(f"{doc}\n{END}\n" for doc in docs)
    path.write_text(text, encoding="utf-8", newline="")
    return path


train = partial(train_bpe, vocab_size=500, special_tokens=[END])


def test_every_form_of_the_corpus_gives_the_same(corpus_file):
    text = corpus_file.read_text(encoding="utf-8")
    wanted = train(corpus_file)
    assert train(text) == wanted
    documents = text.split(END)
    assert train(documents) == wanted
    assert train(iter(documents)) == wanted
    assert train(doc for doc in documents) == wanted
    assert train([text]) == wanted
    assert train(dict.fromkeys(documents)) == wanted
    counts = word_counts(documents, GPT2)
    assert wanted[1] == learn_merges(counts, 500 - 257)


@pytest.mark.parametrize("pattern", ALL.values(), ids=ALL)
@pytest.mark.parametrize(("piece", "block"), [(1, 50), (7, 200), (997, 5000)])
def test_small_blocks_give_the_same(
    pattern, piece, block, corpus_file, monkeypatch
):
    wanted = train(corpus_file, pattern=pattern)
    if piece == 1:
        text = corpus_file.read_text(encoding="utf-8")
        corpus_file = corpus_file.with_name("short.txt")
        short = text[:6000] + LANGUAGES
        corpus_file.write_text(short, encoding="utf-8", newline="")
        wanted = train(short, pattern=pattern)
    monkeypatch.setattr(files.read_pieces, "__defaults__", (piece,))
    limits = streams.read_documents.__kwdefaults__
    monkeypatch.setitem(limits, "size", block)
    assert len(list(streams.read_documents(corpus_file, [END]))) > 5
    assert train(corpus_file, pattern=pattern) == wanted


def test_line_ends_are_kept(tmp_path):
    path = tmp_path / "crlf.txt"
    path.write_bytes(b"one\r\ntwo\r\nsix\r\n" * 20)
    assert (b"\r", b"\n") in train_bpe(path, 260, pattern=GPT4)[1]
    path.write_bytes(b"one\ntwo\nsix\n" * 20)
    assert (b"\r", b"\n") not in train_bpe(path, 260, pattern=GPT4)[1]


@pytest.mark.parametrize("pattern", [GPT2, OTHER], ids=["gpt2", "other"])
def test_processes_give_the_same(pattern, corpus_file, monkeypatch):
    limits = streams.read_documents.__kwdefaults__
    monkeypatch.setitem(limits, "size", 10_000)
    serial = train(corpus_file, pattern=pattern, workers=1)
    assert train(corpus_file, pattern=pattern, workers=2) == serial


@pytest.mark.parametrize(("batches", "parallel"), [(20, False), (21, True)])
def test_processes_above_twenty_megabytes(batches, parallel, monkeypatch):
    "Twenty batches of a million characters are worked on in this process."
    assert (streams.BATCH, streams.FEW) == (2**20, 20)
    limits = streams.read_documents.__kwdefaults__
    assert limits["size"] == streams.BATCH
    monkeypatch.setitem(limits, "size", 100)
    started = []

    class Pool:
        def __init__(self, workers, context, _):
            assert context.get_start_method() == "spawn"
            started.append(workers)

        map = staticmethod(map)

        def shutdown(self):
            started.append("shut")

    monkeypatch.setattr(streams, "ProcessPoolExecutor", Pool)
    docs = ["Lily lost her red ball. " * 4 + "So sad."] * batches
    merges = train_bpe(docs, 270)[1]
    assert started == ([None, "shut"] if parallel else [])
    assert merges == train_bpe(docs, 270, workers=1)[1]


def test_training_takes_memory_for_a_batch_only(tmp_path, monkeypatch):
    path = tmp_path / "long.txt"
    story = "".join(f"{text}\n{END}\n" for text in stories())
    path.write_text(story * 16, encoding="utf-8")
    monkeypatch.setattr(files.read_pieces, "__defaults__", (1 << 15,))
    limits = streams.read_documents.__kwdefaults__
    monkeypatch.setitem(limits, "size", 1 << 16)
    monkeypatch.setattr(streams, "FEW", 1 << 20)  # in this process
    train(path)  # what is imported late
    long = peak(train, path)
    path.write_text(story * 4, encoding="utf-8")
    assert long < 1.6 * peak(train, path)  # four times the text
    assert long < len(story) * 16


def test_the_vocabulary_is_as_large_as_asked():
    for size in (256, 257, 300, 500):
        vocab, merges = train_bpe(stories(50), size)
        assert list(vocab) == list(range(size))
        assert len(set(vocab.values())) == size
        assert len(merges) == size - 256
    vocab, merges = train_bpe("ab", 300, special_tokens=["<x>", "<y>"])
    assert merges == [(b"a", b"b")]
    assert list(vocab.values())[256:] == [b"ab", b"<x>", b"<y>"]


def test_specials_are_no_text_to_learn_from():
    docs = f"one{END}two{END}" * 50
    vocab, merges = train_bpe(docs, 300, special_tokens=[END])
    assert not any(b"<" in a + b or b"|" in a + b for a, b in merges)
    assert vocab[max(vocab)] == END.encode()
    assert any(b"|" in a + b for a, b in train_bpe(docs, 300)[1])


def test_progress_is_shown_only_when_asked(capsys):
    train_bpe(stories(5), 300)
    train_bpe(stories(5), 300, progress=False)
    assert capsys.readouterr() == ("", "")
    train_bpe(stories(5), 300, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "merges" in err


def test_equal_input_gives_equal_output_in_every_process():
    "No set or hash order leaks into merges or ids."
    code = (
        "from llm_from_scratch.tokenization import *\n"
        "from llm_from_scratch.files import make_story\n"
        "t = BPETokenizer.train([make_story(i) for i in range(40)], 400)\n"
        "print(t.merges, t.encode(make_story(50)))"
    )
    told = set()
    for seed in "12":
        env = {**os.environ, "PYTHONHASHSEED": seed}
        told.add(run_python(code, env=env))
    assert len(told) == 1


def run_python(code: str, **options) -> str:
    "What a fresh Python prints."
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        timeout=60,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_is_not_imported():
    code = (
        "import sys, llm_from_scratch.tokenization as t\n"
        "t.BPETokenizer.train('Lily lost her red ball.', 260)\n"
        "print([m for m in sys.modules if m.split('.')[0] in "
        "('torch', 'tiktoken', 'tokenizers', 'transformers', "
        "'matplotlib', 'IPython')])"
    )
    assert run_python(code).strip() == "[]"


def test_the_example_of_the_package():
    import llm_from_scratch

    tokenizer = llm_from_scratch.BPETokenizer.train(
        "Lily lost her red ball.", 260
    )
    ids = tokenizer.encode("red ball")
    assert tokenizer.decode(ids) == "red ball"
    assert llm_from_scratch.train_bpe is train_bpe


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "corpus", ["", [], [""], ["", ""], iter([])], ids=repr
)
def test_an_empty_corpus(corpus):
    with pytest.raises(ValueError, match=r"corpus is empty.*used-up"):
        train_bpe(corpus, 300)


def test_an_empty_file_and_a_used_up_generator(tmp_path):
    path = tmp_path / "empty.txt"
    path.touch()
    with pytest.raises(ValueError, match="corpus is empty"):
        train_bpe(path, 300)
    path.write_text(END, encoding="utf-8")
    with pytest.raises(ValueError, match="corpus is empty"):
        train_bpe(path, 300, special_tokens=[END])
    generator = (text for text in stories(3))
    train_bpe(generator, 300)
    with pytest.raises(ValueError, match="corpus is empty"):
        train_bpe(generator, 300)


@pytest.mark.parametrize(
    ("size", "special", "least"),
    [(255, [], 256), (-1, [], 256), (256, [END], 257), (258, "abc", 259)],
)
def test_a_vocabulary_that_is_too_small(size, special, least):
    with pytest.raises(
        ValueError, match=rf"vocab_size={size} must be at least {least}: 256"
    ):
        train_bpe("ab", size, special_tokens=list(special))


BAD_SPECIALS = [
    (["<a>", "<b>", "<a>"], "repeats '<a>'"),
    (["<a>", ""], r"special_tokens=\['<a>', ''\] holds an empty"),
    ("<a>", r"special_tokens='<a>' is one string; give a list"),
]


@pytest.mark.parametrize(("special", "message"), BAD_SPECIALS)
def test_bad_specials(special, message):
    with pytest.raises(ValueError, match=message):
        train_bpe("ab", 300, special_tokens=special)
    with pytest.raises(ValueError, match=message):
        BPETokenizer.train("ab", 300, special_tokens=special)
    with pytest.raises(ValueError, match=message):
        BPETokenizer({i: bytes([i]) for i in range(256)}, [], special)


@pytest.mark.parametrize("tie", ["last", "", None])
def test_an_unknown_tie(tie):
    with pytest.raises(
        ValueError, match=f"tie={tie!r} must be 'first' or 'greater'"
    ):
        train_bpe("ab", 300, tie=tie)


def test_a_bad_pattern():
    message = r"pattern='\(a' is no regular expression: missing \)"
    with pytest.raises(ValueError, match=message):
        train_bpe("ab", 300, pattern="(a")
    with pytest.raises(ValueError, match=message):
        BPETokenizer({i: bytes([i]) for i in range(256)}, [], pattern="(a")


@pytest.mark.parametrize(
    ("corpus", "kind"), [([b"bytes"], "bytes"), (["a", 3], "int")]
)
def test_documents_that_are_not_text(corpus, kind):
    with pytest.raises(TypeError, match=rf"{corpus[-1]!r} of type {kind}"):
        train_bpe(corpus, 300)


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 22])
@pytest.mark.parametrize(
    ("raw", "byte", "offset"),
    [
        (b"good \xff bad", "ff", 5),
        ("é".encode() + b"\xe2\x82", "e2", 2),
        (b"\x80 at once", "80", 0),
        (b"ab\xe2\x82c", "e2", 2),
        (b"abc\xf0\x9f\x98", "f0", 3),
    ],
)
def test_a_corpus_that_is_not_utf8(
    block, raw, byte, offset, tmp_path, monkeypatch
):
    monkeypatch.setattr(files.read_pieces, "__defaults__", (block,))
    path = tmp_path / "bad.txt"
    path.write_bytes(raw)
    message = rf"bad\.txt is not UTF-8: byte 0x{byte} at offset {offset};"
    with pytest.raises(ValueError, match=message):
        train_bpe(path, 300)


def test_a_corpus_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.txt"):
        train_bpe(tmp_path / "nowhere.txt", 300)
    with pytest.raises(OSError, match=str(tmp_path)):
        train_bpe(tmp_path, 300)


def test_lone_surrogates():
    message = r"text holds '\\udc80', half of a surrogate pair"
    for text in ("a\udc80b", "x y a\udc80b z", "  \udc80"):
        for tokenizer in (trained(), trained(GPT4), trained(OTHER)):
            with pytest.raises(ValueError, match=message):
                tokenizer.encode(text)
            with pytest.raises(ValueError, match=message):
                list(tokenizer.encode_iterable([text]))
    with pytest.raises(ValueError, match=r"surrogate"):
        train_bpe("a\udc80b", 300)


@pytest.mark.parametrize(
    ("ids", "at", "bad"),
    [
        ([700], 0, 700),
        ([1, 2, -1], 2, -1),
        ([5, 2**32], 1, 2**32),
        ([5, 10**30], 1, 10**30),
        ([5, -(2**70)], 1, -(2**70)),
    ],
)
def test_ids_that_no_token_has(ids, at, bad):
    message = rf"ids\[{at}\]={bad} is no token: ids go from 0 to 699"
    for form in (ids, iter(ids), tuple(ids)):
        with pytest.raises(ValueError, match=message):
            trained().decode(form)
    with pytest.raises(ValueError, match=message):
        trained().decode_bytes(ids)


@pytest.mark.parametrize("ids", [["a"], [1.5], "12", [None]])
def test_ids_that_are_no_integers(ids):
    with pytest.raises((TypeError, ValueError)):
        trained().decode(ids)


def test_ids_in_a_hole():
    vocab = {i: bytes([i]) for i in range(256)} | {300: b"ab"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b")])
    assert tokenizer.vocab_size == len(tokenizer) == 301
    assert tokenizer.decode(tokenizer.encode("cab")) == "cab"
    with pytest.raises(ValueError, match=r"ids\[1\]=280 is no token"):
        tokenizer.decode([300, 280])


def test_specials_asked_for_that_are_none():
    tokenizer = trained()
    message = r"specials names \['<x>'\], but the tokenizer has \['<\|endof"
    for ask in ({"<x>"}, ["<x>", END]):
        with pytest.raises(ValueError, match=message):
            tokenizer.encode("text", ask)
        with pytest.raises(ValueError, match=message):
            list(tokenizer.encode_iterable(["text"], ask))
    with pytest.raises(ValueError, match=r"specials='some' must be 'none'"):
        tokenizer.encode("text", "some")
    with pytest.raises(ValueError, match=r"specials='<\|endoftext\|>' must"):
        tokenizer.encode_batch(["text"], END)


def test_vocabularies_that_do_not_fit():
    vocab = {i: bytes([i]) for i in range(256)}
    with pytest.raises(ValueError, match="no token for the byte 7"):
        BPETokenizer({i: b for i, b in vocab.items() if i != 7}, [])
    message = "merge 1, b'ab' \\+ b'c', names bytes that are no token"
    with pytest.raises(ValueError, match=message):
        merges = [(b"a", b"b"), (b"ab", b"c")]
        BPETokenizer(vocab | {256: b"ab"}, merges)


def test_ids_out_of_order_have_no_place_in_tiktoken():
    vocab = {i: bytes([i]) for i in range(256)}
    vocab |= {256: b"cd", 257: b"ab"}
    tokenizer = BPETokenizer(vocab, [(b"a", b"b"), (b"c", b"d")])
    with pytest.raises(ValueError, match="not in the order of the merges"):
        tokenizer.to_tiktoken()


# ----------------------------------------------------- the parts by themselves


def test_tie_keys_order_tokens():
    space, letter = (tie_key("first", b, bytes([b])) for b in (32, 97))
    assert letter < space < tie_key("first", 256, b"ab")
    assert tie_key("greater", 0, b"ab") < tie_key("greater", 0, b"a")
    assert tie_key("greater", 0, b"b") < tie_key("greater", 0, b"ab")


def test_count_corpus_is_count_words_of_its_documents():
    texts = [make_story(seed) for seed in range(20)]
    whole = END.join(texts)
    assert count_corpus(whole, [END]) == count_words(texts)
    assert count_corpus(texts, workers=1) == count_words(texts)


def test_word_ids_and_chunk_ids_agree_with_the_encoder():
    vocab, merges = train_bpe("red bell, red ball, red bed", 270)
    words, split = WordIds(vocab, merges), PreTokenizer()
    text = "red ball  and\n red bed"
    plain = [i for word in split(text) for i in words[word]]
    assert ChunkIds(words, split).encode(text) == plain
    assert ChunkIds(words, split).encode(text, size=1) == plain
    assert Encoder(vocab, merges).encode(text) == plain
    assert Vocabulary(vocab).decode(plain) == text


def test_word_ids_need_every_byte_and_every_product():
    vocab = {b: bytes([b]) for b in range(256)}
    with pytest.raises(ValueError, match="byte 7"):
        WordIds({b: t for b, t in vocab.items() if b != 7}, [])
    with pytest.raises(ValueError, match=r"merge 0.*b'a' \+ b'b'"):
        WordIds(vocab, [(b"a", b"b")])


def test_a_pattern_with_a_group():
    with pytest.raises(ValueError, match=r"\(a\|b\)\+"):
        train_bpe("ab", 300, pattern="(a|b)+")


def test_bytes_are_no_text():
    with pytest.raises(TypeError, match="b'red'"):
        BPETokenizer.train("red", 257).encode(b"red")


def test_a_special_token_spelled_like_a_plain_one(tmp_path):
    tokenizer = BPETokenizer.train("red", 257, special_tokens=["r"])
    with pytest.raises(ValueError, match=r"\['r'\]"):
        tokenizer.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_says_what_it_is():
    tokenizer = BPETokenizer.train("red bed", 259, special_tokens=["<x>"])
    assert repr(tokenizer) == "BPETokenizer(259 tokens, 1 special)"
    assert len(tokenizer) == tokenizer.vocab_size == 259
