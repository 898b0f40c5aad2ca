"""The contract of `data`: nothing lost, nothing leaked, nothing twice."""

import hashlib
import inspect
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from itertools import chain, combinations, islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from llm_from_scratch import data, token_files
from llm_from_scratch.data import (
    BYTE_OF,
    MOJIBAKE,
    QUOTES,
    STEPS,
    WORDS,
    TokenDataset,
    TokenFile,
    TokenLoader,
    Windows,
    catch_probability,
    choose_bands,
    clean_stories,
    clean_text,
    find_duplicates,
    find_near_duplicates,
    fingerprint,
    jaccard,
    mend_mojibake,
    minhash,
    read_stories,
    shingles,
    split_by_hash,
    split_documents,
    write_tokens,
)
from llm_from_scratch.files import END, make_story
from llm_from_scratch.streams import map_batches, read_documents
from llm_from_scratch.tokenization import BPETokenizer

ROOT = Path(__file__).resolve().parent.parent
SENTENCE = "Lily lost her red ball, so she asked Ben."
STORIES = [make_story(seed) for seed in range(300)]
quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],
)


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(STORIES, 400, special_tokens=[END])


@pytest.fixture(scope="module")
def stories_file(tokenizer, tmp_path_factory) -> TokenFile:
    path = tmp_path_factory.mktemp("tokens") / "stories"
    return write_tokens(path, STORIES, tokenizer)


def tiny(folder: Path, documents: list[str]) -> TokenFile:
    "A token file in which every byte is a token."
    own = BPETokenizer({i: bytes([i]) for i in range(256)}, [], [END])
    name = hashlib.sha256("".join(documents).encode()).hexdigest()[:8]
    return write_tokens(folder / name, documents, own, overwrite=True)


# ---------------------------------------------------------------- reading


def test_stories_stream_from_a_file(tmp_path):
    path, counts = tmp_path / "x.txt", Counter()
    path.write_text(f"One.\n{END}\n{END} \n Two\nlines. {END}Three.", "utf-8")
    found = list(read_stories(path, counts))
    assert found == ["One.", "Two\nlines.", "Three."]
    assert counts == {"read": 3, "empty": 1}


def test_long_files_are_cut_nowhere_else(tmp_path):
    path, counts = tmp_path / "x.txt", Counter()
    stories = [f"{i} " + "word " * (i % 700) + "end" for i in range(3000)]
    text = "".join(f"{story}\n{END}\n" for story in stories)
    assert len(text) > 3 << 20  # several blocks
    path.write_text(text, "utf-8")
    assert list(read_stories(path, counts)) == stories
    assert counts == {"read": 3000}


def test_reading_is_lazy_and_honest(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.txt"):
        next(read_stories(tmp_path / "no.txt"))
    (tmp_path / "bad").write_bytes(b"fine\xff")
    with pytest.raises(ValueError, match="0xff at offset 4"):
        next(read_stories(tmp_path / "bad"))


# --------------------------------------------------------------- cleaning

# what a text may hold; none of these pairs up to look like mojibake
HONEST = "abz ABZ.,!?\"'\n éèüñößåøçâæ“”‘’–—…€™œ ÉÀÑ 小红Лили😊"
LOST = (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # bytes that cp1252 does not have


def spoil(text: str, how: str = "cp1252") -> str:
    "Read the UTF-8 of a text as something else, as browsers do."
    data = text.encode()
    if how == "latin-1":
        return data.decode("latin-1")
    return "".join(
        chr(b) if b in LOST else bytes([b]).decode(how) for b in data
    )


SPOILABLE = ["“Hi”", "it’s", "a–b—c…", "café", "ñandú", "à", "😊👍🏽", "€5"]


@pytest.mark.parametrize("how", ["cp1252", "latin-1"])
@pytest.mark.parametrize("good", SPOILABLE)
def test_what_was_spoilt_is_mended(good, how):
    bad = spoil(good, how)
    signs = sum(ord(sign) > 127 for sign in good)
    assert bad != good
    assert mend_mojibake(bad) == (good, signs)
    assert mend_mojibake(f"so {bad} she") == (f"so {good} she", signs)
    twice = spoil(bad, how)
    assert mend_mojibake(twice)[0] == good


def test_a_quote_that_lost_its_third_byte():
    assert mend_mojibake("â€œHi!â€ she said") == ("“Hi!” she said", 2)
    assert mend_mojibake("â€œHi!â€") == ("“Hi!”", 2)
    assert mend_mojibake("\ufeffï»¿x") == ("\ufeff\ufeffx", 1)


@pytest.mark.parametrize(
    "text",
    [
        "château, âge, crème brûlée, naïve", "Ângela, São João, não, Ã", "€ 5",
        "«CAFÉ» «IRMû À", "“Ça va?” – “Oui…”", "ð ï Ð Þ", "â é â",
        "é", "â", "€", "“", "ÂÃâ", SENTENCE,
    ],
)  # fmt: skip
def test_honest_text_stays(text):
    assert mend_mojibake(text) == (text, 0)


@given(st.text(st.sampled_from(HONEST), max_size=60))
@quick
def test_mending_is_the_way_back(text):
    bad = spoil(text)
    if MOJIBAKE.search(text) or re.search("[A-ZÀ-Þ][ÂÃ]", bad):
        return  # a text that only looks spoilt, or a capital that protects
    mended, n = mend_mojibake(bad)
    known = [s for s in text if s in "“”‘’–—…€™😊" or "\xa0" <= s <= "ÿ"]
    if all(ord(s) < 128 or s in known for s in text):
        assert mended == text
        assert n == len(known)


@pytest.mark.parametrize("text", ["Żółć", "Лили", "小红"])
def test_other_scripts_are_left_as_they_were_spoilt(text):
    bad = spoil(text)
    mended, _ = mend_mojibake(bad)
    assert mended != text
    assert mend_mojibake(f"{bad} “é»…”")[0].endswith("“é»…”")


@given(st.text(st.characters(codec="utf-8"), max_size=40))
@quick
def test_mending_twice_changes_nothing(text):
    for start in (text, spoil(text), spoil(spoil(text))):
        once, _ = mend_mojibake(start)
        assert mend_mojibake(once) == (once, 0)


def test_the_table_of_signs():
    assert BYTE_OF["€"] == 0x80
    assert BYTE_OF["\x80"] == 0x80
    assert BYTE_OF["é"] == 0xE9
    assert len({*BYTE_OF.values()}) == 128


@pytest.mark.data("tinystories/v1_first1000_with_mojibake.json")
def test_all_of_the_real_mojibake_is_mended(data_dir):
    path = data_dir / "tinystories/v1_first1000_with_mojibake.json"
    rows = json.loads(path.read_text("utf-8"))
    runs = sum(len(re.findall(r"â€[œ™“”]?", row)) for row in rows)
    mended = [mend_mojibake(row) for row in rows]
    assert sum(n for _, n in mended) == runs == 449
    odd = Counter(s for text, _ in mended for s in text if ord(s) > 127)
    assert odd == {"“": 155, "”": 152, "’": 127, "–": 8, "—": 7}


def test_cleaning_counts_each_step():
    bad = "\ufeffâ€œHi!\u200bâ€ \xa0said  Ben.  \r\n\r\n\n\nIt’s\tme. "
    text, counts = clean_text(bad)
    assert text == '"Hi!" said Ben.\n\nIt\'s me.'
    assert counts == {
        "mojibake": 2, "line ends": 2, "invisible": 2, "quotes": 3,
        "spaces": 4, "line breaks": 2,
    }  # fmt: skip
    assert clean_text(text) == (text, Counter())
    assert set(counts) == {"mojibake", *STEPS}


def test_steps_can_be_left_out():
    assert clean_text("“a”\tb", skip=["quotes"])[0] == "“a” b"
    assert clean_text("â€œ", skip=["mojibake", "quotes"])[0] == "â€œ"
    with pytest.raises(ValueError, match=r"nonsense.*mojibake.*quotes"):
        clean_text("x", skip=["nonsense"])
    assert "a‘b".translate(QUOTES) == "a'b"


@given(st.text(st.characters(codec="utf-8"), max_size=80))
@quick
def test_cleaning_twice_changes_nothing(text):
    once, _ = clean_text(text)
    assert clean_text(once) == (once, Counter())


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("One.\n \n \n \nTwo.", "One.\n\nTwo."),
        ("cafÃ\u200b©", "café"),  # mojibake once the invisible sign is gone
        ("â\u200b€œHi!", '"Hi!'),
        ("a\n\n \r \u2028 b", "a\n\nb"),
    ],
)
def test_a_step_that_uncovers_work_for_an_earlier_one(text, good):
    assert clean_text(text)[0] == good
    assert clean_text(good) == (good, Counter())


HOSTILE = "ab \t\n\r\x0b\x85\xa0\xad\u200b\u2028\ufeffÃÂâ€œ™“‘©°ð\x9fÅ¬ï»¿A"


@given(
    st.text(st.sampled_from(HOSTILE), max_size=12),
    st.sets(st.sampled_from(["mojibake", *STEPS])),
)
@settings(quick, max_examples=2000)
def test_cleaning_hostile_text_twice_changes_nothing(text, skip):
    once, _ = clean_text(text, skip)
    assert clean_text(once, skip) == (once, Counter())


def test_indentation_stays_when_two_steps_are_left_out():
    code = "def f():\n    return 1"
    assert clean_text(code, skip=["spaces"])[0] == "def f():\nreturn 1"
    assert clean_text(code, skip=["spaces", "line breaks"])[0] == code


def test_a_stream_is_cleaned_and_counted():
    counts = Counter()
    found = list(clean_stories(["“a”", " ", "b", "\u200b"], counts))
    assert found == ['"a"', "b"]
    assert counts["kept"] == 2
    assert counts["empty"] == 2
    assert counts["changed"] == 2
    assert counts["quotes"] == 2


# -------------------------------------------------------------- duplicates


def test_fingerprints_see_words_only():
    assert fingerprint("The  CAT, sat!\n") == fingerprint("the cat sat")
    assert fingerprint("the cat sat") != fingerprint("the sat cat")
    assert fingerprint("\ud800") >= 0  # half a surrogate pair is no crash
    assert WORDS.findall("It's 2 o'clock") == ["It", "s", "2", "o", "clock"]


def test_texts_without_a_word_are_compared_as_they_are():
    signs = ["😊", "!!!", "…", "", "😊", "\ud800"]
    assert find_duplicates(signs) == [[0, 4]]
    assert find_near_duplicates(signs) == [[0, 4]]
    assert find_near_duplicates(["a b c d", "A, b; c d!", "!!!"]) == [[0, 1]]


def test_fingerprints_are_the_same_in_every_process():
    program = (
        "from llm_from_scratch.data import fingerprint, shingles, minhash\n"
        f"print(fingerprint({SENTENCE!r}),"
        f" minhash(shingles({SENTENCE!r}), 4).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, text=True,
        capture_output=True, env=os.environ | {"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    here = minhash(shingles(SENTENCE), 4).tolist()
    assert done.stdout == f"{fingerprint(SENTENCE)} {here}\n"


def test_exact_duplicates():
    texts = ["a b", "c", "A, b!", "d", "c."]
    assert find_duplicates(texts) == [[0, 2], [1, 4]]


def test_shingles_and_jaccard_by_hand():
    a, b = shingles("a b c d"), shingles("a b c e")  # {abc,bcd}, {abc,bce}
    assert len(a) == 2
    assert jaccard(a, b) == pytest.approx(1 / 3)
    assert jaccard(a, a) == 1
    assert len(shingles("")) == len(shingles("one")) == 1


def perturb(text: str, share: float, rng: random.Random) -> str:
    "Replace a share of the words by new ones."
    words = text.split()
    for i in rng.sample(range(len(words)), round(share * len(words))):
        words[i] = f"w{rng.randrange(10**9)}"
    return " ".join(words)


def test_minhash_estimates_jaccard():
    rng = random.Random(0)
    for share in (0.02, 0.1, 0.3):
        gaps = []
        for text in STORIES[:40]:
            a, b = shingles(text), shingles(perturb(text, share, rng))
            guess = float((minhash(a, 512) == minhash(b, 512)).mean())
            gaps.append(guess - jaccard(a, b))
        # standard error √(s(1−s)/512) ≤ 0.022 a pair, 0.0035 for the mean
        assert abs(float(np.mean(gaps))) < 0.015
        assert float(np.std(gaps)) < 0.04


def test_banding_catches_as_predicted():
    rng, bands, rows = random.Random(1), 16, 4
    expected, caught = 0.0, 0
    for text in STORIES:
        a = shingles(text)
        b = shingles(perturb(text, rng.choice([0.05, 0.15, 0.25]), rng))
        signatures = [minhash(x, bands * rows) for x in (a, b)]
        left, right = (x.reshape(bands, rows) for x in signatures)
        caught += bool((left == right).all(1).any())
        expected += catch_probability(jaccard(a, b), bands, rows)
    assert 100 < expected < 280  # neither all nor none
    assert abs(caught - expected) < 4 * np.sqrt(len(STORIES) / 4)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7, 0.9, 1.0])
def test_bands_fit_the_threshold(threshold):
    bands, rows = choose_bands(threshold)
    assert bands * rows == 128
    assert catch_probability(threshold, bands, rows) > 0.99
    if rows < 128:  # twice as many rows would miss too many
        assert catch_probability(threshold, bands // 2, rows * 2) <= 0.99


def slow_groups(texts: list[str], threshold: float) -> list[list[int]]:
    "The same by comparing all pairs."
    sets = [shingles(text) for text in texts]
    groups = [{i} for i in range(len(texts))]
    for i, j in combinations(range(len(texts)), 2):
        if jaccard(sets[i], sets[j]) >= threshold:
            both = groups[i] | groups[j]
            for k in both:
                groups[k] = both
    unique = {tuple(sorted(g)) for g in groups if len(g) > 1}
    return sorted(map(list, unique))


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_near_duplicates_equal_all_pairs(threshold):
    rng, texts = random.Random(2), list(STORIES[:60])
    for i in range(30):
        texts.append(perturb(STORIES[i], rng.choice([0.02, 0.05]), rng))
    texts += [STORIES[0], STORIES[0].upper()]
    rng.shuffle(texts)
    found = find_near_duplicates(texts, threshold=threshold)
    assert found == slow_groups(texts, threshold)
    assert max(map(len, found)) >= 3


def test_near_duplicates_of_nothing():
    assert find_near_duplicates([]) == []
    assert find_near_duplicates(["", "a b c d"]) == []
    assert find_near_duplicates(["", ""]) == [[0, 1]]


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_thresholds_that_cannot_be(threshold):
    with pytest.raises(ValueError, match=f"threshold={threshold} must"):
        find_near_duplicates(["a"], threshold=threshold)


# --------------------------------------------------------------- splitting


def test_a_split_loses_nothing_and_keeps_groups_together():
    rng, texts = random.Random(3), list(STORIES)
    copies = {i: perturb(STORIES[i], 0.03, rng) for i in range(0, 300, 3)}
    texts += copies.values()
    train, valid = split_documents(texts, valid_share=0.3)
    assert Counter(train + valid) == Counter(texts)
    for i, copy in copies.items():
        assert (STORIES[i] in train) == (copy in train)
    assert 0.15 < len(valid) / len(texts) < 0.45


def test_a_split_depends_on_content_alone():
    train, valid = split_by_hash(STORIES, valid_share=0.2)
    held = {STORIES[i] for i in valid}
    order = list(STORIES)
    random.Random(4).shuffle(order)
    _, again = split_by_hash([s.upper() for s in order], valid_share=0.2)
    assert {order[i] for i in again} == held
    more = [make_story(seed) for seed in range(300, 900)] + STORIES
    _, later = split_by_hash(more, valid_share=0.2)
    assert {more[i] for i in later} & set(STORIES) == held
    assert 0.15 < len(later) / len(more) < 0.25
    _, wider = split_by_hash(STORIES, valid_share=0.4)
    assert set(valid) < set(wider)


def test_large_groups_are_not_favoured():
    texts = [f"text {i}" for i in range(3000)]
    groups = [list(range(i, i + 10)) for i in range(0, 3000, 10)]
    _, valid = split_by_hash(texts, groups, valid_share=0.2)
    assert len(valid) % 10 == 0
    assert 0.12 < len(valid) / 3000 < 0.28


@pytest.mark.parametrize("share", [0, 1, -0.5, 2])
def test_shares_that_cannot_be(share):
    with pytest.raises(ValueError, match=f"valid_share={share} must"):
        split_by_hash(["a", "b"], valid_share=share)


@pytest.mark.parametrize(
    ("texts", "groups"), [([], 0), (["one"], 1), (["one", "ONE!"], 1)]
)
def test_a_corpus_that_cannot_be_split(texts, groups):
    with pytest.raises(ValueError) as found:
        split_documents(texts)
    words = f"documents={len(texts)} in groups={groups} with"
    assert words in str(found.value)
    assert "valid_share=0.1" in str(found.value)


# ------------------------------------------------------- windows in memory


def test_windows_and_their_targets():
    dataset = TokenDataset(range(10), context_len=3, stride=2)
    pairs = [(x.tolist(), y.tolist()) for x, y in dataset]
    assert pairs == [
        ([0, 1, 2], [1, 2, 3]), ([2, 3, 4], [3, 4, 5]),
        ([4, 5, 6], [5, 6, 7]), ([6, 7, 8], [7, 8, 9]),
    ]  # fmt: skip
    assert len(dataset) == 4
    for same in (dataset.ids, np.arange(10, dtype="<u2")):
        assert torch.equal(TokenDataset(same, 3).ids, dataset.ids)
    with pytest.raises(IndexError, match="window 4 of 4"):
        dataset[4]


@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 25))
@quick
def test_windows_cover_what_they_can(n, context_len, stride):
    if n <= context_len:
        with pytest.raises(ValueError, match=f"{n} ids.*={context_len}"):
            TokenDataset(range(n), context_len, stride)
        return
    dataset = TokenDataset(range(n), context_len, stride)
    starts = [int(x[0]) for x, _ in dataset]
    assert starts == list(range(0, n - context_len, stride))
    for x, y in dataset:
        assert torch.equal(x + 1, y)
        assert len(x) == context_len


@pytest.mark.parametrize("bad", [0, -3, 2.5, True])
@pytest.mark.parametrize("name", ["context_len", "stride"])
def test_sizes_of_windows(name, bad):
    options = {"context_len": 2, "stride": 1, name: bad}
    with pytest.raises(ValueError, match=f"{name}={bad} must"):
        TokenDataset(range(9), **options)


# ------------------------------------------------------------ token files


def test_a_token_file_gives_back_every_document(stories_file, tokenizer):
    file = stories_file
    assert len(file) == file.documents == 300
    assert [tokenizer.decode(ids) for ids in file] == STORIES
    assert tokenizer.decode(file[-1]) == STORIES[-1]
    with pytest.raises(IndexError):
        file[300]
    marker = tokenizer.special_tokens[END]
    expected = [marker]
    for story in STORIES:
        expected += [*tokenizer.encode(story), marker]
    assert file.tokens.tolist() == expected
    size = sum(len(story.encode()) for story in STORIES)
    assert file.header["text_bytes"] == file.text_bytes() == size
    assert file.text_bytes(2) == sum(len(s.encode()) for s in STORIES[:2])
    assert file.text_bytes(0) == 0
    assert file[0].dtype == np.int64
    assert repr(file) == f"TokenFile(300 documents, {len(expected):,} tokens)"
    file.verify()


def test_what_lies_on_the_disk(stories_file, tokenizer):
    folder, header = stories_file.path.parent, stories_file.header
    stem = f"stories-{header['sha256'][:8]}"
    assert sorted(x.name for x in folder.iterdir()) == [
        f"{stem}.bin", f"{stem}.idx", "stories.json"
    ]  # fmt: skip
    raw = (folder / f"{stem}.bin").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == header["sha256"]
    assert np.frombuffer(raw, "<u2").tolist() == stories_file.tokens.tolist()
    assert stories_file.path.stat().st_size < 1000
    assert header["n_empty"] == 0
    assert header["vocab_size"] == len(tokenizer) == 400


def test_wide_vocabularies_take_four_bytes(tmp_path):
    vocab = {i: bytes([i]) for i in range(256)} | {70_000: b"Lily"}
    own = BPETokenizer(vocab, [], {END: 70_001})
    file = write_tokens(tmp_path / "x", ["Ben", "Tom"], own)
    assert file.header["dtype"] == "uint32"
    assert file.tokens.dtype == np.dtype("<u4")
    assert file.tokens.tolist()[4] == 70_001
    assert own.decode(file[1]) == "Tom"
    assert token_files.token_dtype(65_536) == np.dtype("<u2")
    assert token_files.token_dtype(65_537) == np.dtype("<u4")


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30)))
@quick
def test_any_text_comes_back(tmp_path, documents):
    kept = [text for text in documents if text]
    if not kept:
        with pytest.raises(ValueError, match=f"none of {len(documents)}"):
            tiny(tmp_path, documents)
        return
    file = tiny(tmp_path, documents)
    assert [bytes(ids.tolist()).decode() for ids in file] == kept
    assert file.header["n_empty"] == len(documents) - len(kept)


def test_several_processes_write_the_same(tokenizer, tmp_path, stories_file):
    corpus = STORIES * 25  # several batches
    one = write_tokens(tmp_path / "one", corpus, tokenizer, workers=1)
    two = write_tokens(tmp_path / "two", iter(corpus), tokenizer, workers=2)
    assert one.header["text_bytes"] > 2 << 20
    assert one.header["sha256"] == two.header["sha256"]
    assert np.array_equal(one.index, two.index)
    first = one.tokens[: len(stories_file.tokens)]
    assert np.array_equal(first, stories_file.tokens)


def test_a_corpus_file_is_streamed(tokenizer, tmp_path, stories_file, capsys):
    path = tmp_path / "corpus.txt"
    text = "".join(f"{story}\n{END}\n" for story in STORIES)
    path.write_text(f"{END}\n{text}", "utf-8")
    file = write_tokens(tmp_path / "x", path, tokenizer, progress=True)
    assert file.header["sha256"] == stories_file.header["sha256"]
    assert file.header["source"] == "corpus.txt"
    assert file.header["n_empty"] == 1
    assert "B/s" in capsys.readouterr().err
    write_tokens(tmp_path / "y", path, tokenizer, source="mine", workers=1)
    assert TokenFile(tmp_path / "y.json").header["source"] == "mine"
    assert "B/s" not in capsys.readouterr().err


def test_nothing_is_half_written(tokenizer, tmp_path):
    def break_off():
        yield from STORIES
        raise KeyError("the source is gone")

    with pytest.raises(KeyError):
        write_tokens(tmp_path / "x", break_off(), tokenizer)
    assert list(tmp_path.iterdir()) == []
    old = write_tokens(tmp_path / "x", STORIES[:5], tokenizer)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_tokens(tmp_path / "x", STORIES, tokenizer)
    with pytest.raises(KeyError):
        write_tokens(tmp_path / "x", break_off(), tokenizer, overwrite=True)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    new = write_tokens(tmp_path / "x", STORIES, tokenizer, overwrite=True)
    assert len(new) == 300
    assert len(old) == 5  # still open, still readable
    assert len(list(tmp_path.iterdir())) == 3


def test_a_crash_between_the_renames_keeps_the_old(
    tokenizer, tmp_path, monkeypatch
):
    write_tokens(tmp_path / "x", STORIES[:5], tokenizer)

    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(token_files, "write_atomic", crash)
    with pytest.raises(KeyboardInterrupt):
        write_tokens(tmp_path / "x", STORIES, tokenizer, overwrite=True)
    assert len(TokenFile(tmp_path / "x", tokenizer)) == 5


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_or_the_new(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    write_tokens(tmp_path / "x", STORIES[:5], tokenizer)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from llm_from_scratch.data import write_tokens\n"
        "from llm_from_scratch.files import make_story\n"
        "from llm_from_scratch.tokenization import BPETokenizer\n"
        "own = BPETokenizer.load('.')\n"
        "texts = [make_story(i) for i in range(100)]\n"
        "print('ready', flush=True)\n"
        "for n in range(10**6):\n"
        "    part = texts[n % 80 : n % 80 + 20]\n"
        "    write_tokens('x', part, own, overwrite=True, workers=1)\n"
    )
    sizes = []
    for turn in range(8):
        running = subprocess.Popen(
            [sys.executable, "-c", program, str(ROOT)],
            cwd=tmp_path, stdout=subprocess.PIPE,
        )  # fmt: skip
        with running:
            assert running.stdout.readline() == b"ready\n"
            time.sleep(0.2 + 0.037 * turn)
            running.kill()
        file = TokenFile(tmp_path / "x", tokenizer)
        file.verify()
        sizes.append(len(file))
    assert set(sizes) <= {5, 20}
    assert 20 in sizes


def test_a_full_disk_is_told(tokenizer, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_files.TokenWriter, "_write", full)
    with pytest.raises(OSError, match="nothing was changed") as found:
        write_tokens(tmp_path / "x", STORIES, tokenizer)
    assert found.value.filename == str(tmp_path / "x.json")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tokenizer, tmp_path):
    bare = BPETokenizer.train(STORIES, 300)
    with pytest.raises(ValueError, match=r"no special token.*train it with"):
        write_tokens(tmp_path / "x", STORIES, bare)
    with pytest.raises(TypeError, match="is one string"):
        write_tokens(tmp_path / "x", SENTENCE, tokenizer)
    with pytest.raises(TypeError, match=r"7 of type int"):
        write_tokens(tmp_path / "x", ["a", 7], tokenizer)
    with pytest.raises(ValueError, match="workers=-2 must"):
        write_tokens(tmp_path / "x", STORIES, tokenizer, workers=-2)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_tokens(tmp_path / "x", tmp_path / "nowhere", tokenizer)
    with pytest.raises(ValueError, match="none of 2 documents"):
        write_tokens(tmp_path / "x", ["", ""], tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_another_tokenizer_is_refused(stories_file, tokenizer, tmp_path):
    other = BPETokenizer.train(STORIES, 401, special_tokens=[END])
    hashes = [token_files.tokenizer_hash(t)[:12] for t in (tokenizer, other)]
    with pytest.raises(ValueError) as found:
        TokenFile(stories_file.path, other)
    assert all(own in str(found.value) for own in hashes)
    tokenizer.save(tmp_path)
    same = BPETokenizer.load(tmp_path)
    assert len(TokenFile(stories_file.path, same)) == 300


def copy(file: TokenFile, folder: Path, **changes) -> Path:
    "The same three files elsewhere, with another header."
    for path in file.path.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    path = folder / file.path.name
    path.write_text(json.dumps(file.header | changes), "utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "no format="),
        ({"version": 2}, "version=2 must be 1"),
        ({"dtype": "uint32"}, "dtype='uint32' must be 'uint16'"),
        ({"dtype": "object"}, "dtype='object' must be 'uint16'"),
        ({"vocab_size": 70_000}, "dtype='uint16' must be 'uint32'"),
        ({"n_tokens": -1}, "n_tokens=-1 must be a whole number"),
        ({"n_documents": "3"}, "n_documents='3' must be a whole"),
        ({"n_documents": True}, "n_documents=True must be a whole"),
        ({"sha256": None}, "sha256=None must be a string"),
        ({"tokens_file": "../x.bin"}, r"tokens_file='\.\./x\.bin' must be"),
        ({"n_documents": 299}, r"has 4816 bytes, its header demands 4800"),
        ({"text_bytes": 12}, r"its header demands \[\d+, 12\]"),
    ],
)
def test_headers_that_lie(stories_file, tmp_path, changes, words):
    path = copy(stories_file, tmp_path, **changes)
    with pytest.raises(ValueError, match=words) as found:
        TokenFile(path)
    assert str(tmp_path) in str(found.value)


def test_files_that_were_cut_or_lost(stories_file, tmp_path):
    path = copy(stories_file, tmp_path)
    tokens = tmp_path / stories_file.header["tokens_file"]
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:-2])
    words = f"has {len(whole) - 2} bytes, its header demands {len(whole)}"
    with pytest.raises(ValueError, match=words):
        TokenFile(path)
    tokens.write_bytes(whole[:-4] + b"\0\0" + whole[-2:])
    with pytest.raises(ValueError, match=stories_file.header["sha256"]):
        TokenFile(path).verify()
    tokens.write_bytes(whole)
    index = tmp_path / stories_file.header["index_file"]
    good = index.read_bytes()
    index.write_bytes(good[:16] * 2 + good[32:])
    with pytest.raises(ValueError, match=f"{index.name} does not rise"):
        TokenFile(path).verify()
    tokens.unlink()
    with pytest.raises(FileNotFoundError, match=tokens.name):
        TokenFile(path)
    for text in ("[]", "{", "null", ""):
        path.write_text(text, "utf-8")
        with pytest.raises(ValueError, match="is no token file"):
            TokenFile(path)
    with pytest.raises(FileNotFoundError, match=r"none\.json.*write_tokens"):
        TokenFile(tmp_path / "none")


def test_bytes_for_bits_per_byte(stories_file, tokenizer):
    file = TokenFile(stories_file.path, tokenizer)
    whole = file.text_bytes(50)
    assert file.text_bytes(50, 10_000) == whole
    cut = 20
    expected = sum(
        len(tokenizer.decode_bytes(file[i][:cut].tolist())) for i in range(50)
    )
    assert file.text_bytes(50, cut) == expected < whole
    assert stories_file.text_bytes(50, 10_000) == whole
    bare = TokenFile(stories_file.path)
    with pytest.raises(ValueError, match=f"document 0 .*context_len={cut}"):
        bare.text_bytes(50, cut)
    for bad in (-1, 301):
        with pytest.raises(ValueError, match=f"n_documents={bad} must"):
            file.text_bytes(bad)
    with pytest.raises(ValueError, match="context_len=0 must"):
        file.text_bytes(5, 0)


# ---------------------------------------------------------------- windows


def pairs_of(x: torch.Tensor, y: torch.Tensor) -> list[tuple[int, int]]:
    "Every token with its target, padding left out."
    seen = y != -100
    return list(zip(x[seen].tolist(), y[seen].tolist(), strict=True))


documents = st.lists(
    st.text("abcdefgh", min_size=1, max_size=25), min_size=1, max_size=12
)


@given(documents, st.integers(1, 30))
@quick
def test_packed_windows_lose_nothing(tmp_path, texts, context_len):
    file = tiny(tmp_path, texts)
    windows = Windows(file, context_len)
    x, y = windows.batch(range(windows.n_windows))
    assert x.dtype == y.dtype == torch.int64
    tokens = file.tokens.tolist()
    every = list(pairwise(tokens))
    assert pairs_of(x, y) == every
    waste = windows.waste()
    assert waste["lost"] == waste["truncated"] == 0
    places = windows.n_windows * context_len
    assert waste["padding"] == pytest.approx(1 - len(every) / places)
    assert places - len(every) < context_len  # only the last is padded


@given(documents, st.integers(1, 30))
@quick
def test_a_document_a_window(tmp_path, texts, context_len):
    file = tiny(tmp_path, texts)
    windows = Windows(file, context_len, "documents")
    assert windows.n_windows == len(texts)
    x, y = windows.batch(range(len(texts)))
    end, lost, cut = file.header["end_id"], 0, 0
    for row, text in enumerate(texts):
        line = [end, *text.encode(), end]
        n = min(len(line) - 1, context_len)
        assert x[row].tolist() == line[:n] + [end] * (context_len - n)
        assert y[row].tolist() == line[1 : n + 1] + [-100] * (context_len - n)
        lost += len(line) - 1 - n
        cut += n < len(line) - 1
    waste = windows.waste()
    assert (waste["truncated"], waste["lost"]) == (cut, lost)
    share = float((y == -100).float().mean())
    assert waste["padding"] == pytest.approx(share, abs=1e-6)
    reached = sum(min(len(text), context_len) for text in texts)
    own = BPETokenizer({i: bytes([i]) for i in range(256)}, [], [END])
    assert TokenFile(file.path, own).text_bytes(None, context_len) == reached


def test_the_first_documents_only(stories_file):
    for mode in ("packed", "documents"):
        windows = Windows(stories_file, 64, mode, n_documents=3)
        x, y = windows.batch(range(windows.n_windows))
        end = int(stories_file.index[3, 0])
        last = stories_file.tokens[end - 1 : end + 1].tolist()
        if mode == "packed":
            assert list(pairs_of(x, y)[-1]) == last
        assert windows.settings["n_documents"] == 3


def test_the_same_batches_as_in_memory(stories_file):
    T, B = 32, 8
    dataset = TokenDataset(stories_file.tokens, T)
    loader = TokenLoader(stories_file, B, T, shuffle=False, epochs=1)
    theirs = DataLoader(dataset, batch_size=B, drop_last=True)
    whole = 0
    for (x, y), (a, b) in zip(loader, theirs, strict=False):
        assert torch.equal(x, a)
        assert torch.equal(y, b)
        whole += 1
    assert whole == len(theirs) > 50
    # we have besides what makes no whole window
    assert loader.n_windows - len(dataset) in (0, 1)


# ----------------------------------------------------------------- loading


def seen_by(loader: TokenLoader, n: int) -> list:
    return [(x.tolist(), y.tolist()) for x, y in islice(loader, n)]


@given(
    st.integers(1, 40), st.integers(1, 4), st.integers(1, 5), st.booleans(),
    st.integers(1, 3), st.integers(0, 2**40),
)  # fmt: skip
@quick
def test_ranks_share_without_overlap_or_loss(
    stories_file, n, world_size, batch_size, shuffle, epochs, seed
):
    options = {"mode": "documents", "shuffle": shuffle, "seed": seed}
    options |= {"n_documents": n, "epochs": epochs}
    rows = {}
    for rank in range(world_size):
        place = {"rank": rank, "world_size": world_size}
        loader = TokenLoader(stories_file, batch_size, 8, **options, **place)
        loader.batch = lambda windows: windows
        for windows in loader:
            rows[loader.position // loader.step, rank] = windows
    everything = [i for key in sorted(rows) for i in rows[key]]
    assert Counter(everything) == Counter(dict.fromkeys(range(n), epochs))
    alone = TokenLoader(stories_file, 1, 8, **options)
    assert everything == [alone.window_at(i) for i in range(n * epochs)]
    for epoch in range(epochs):
        part = everything[epoch * n : (epoch + 1) * n]
        assert sorted(part) == list(range(n))


def test_the_sampler_of_torch_gives_the_same_windows(stories_file):
    n, ranks = 120, 3
    ours, theirs = [], []
    for rank in range(ranks):
        loader = TokenLoader(
            stories_file, 10, 8, mode="documents", n_documents=n,
            rank=rank, world_size=ranks, epochs=1,
        )  # fmt: skip
        loader.batch = lambda windows: windows
        ours += chain(*loader)
        theirs += DistributedSampler(range(n), ranks, rank)
    assert sorted(ours) == sorted(theirs) == list(range(n))
    assert ours != theirs  # in another order


def test_each_epoch_has_an_order_of_its_own(stories_file):
    loader = TokenLoader(stories_file, 4, 16, seed=1)
    n = loader.n_windows
    epochs = [
        [loader.window_at(e * n + i) for i in range(n)] for e in range(3)
    ]
    assert len({tuple(order) for order in epochs}) == 3
    other = TokenLoader(stories_file, 4, 16, seed=2)
    assert [other.window_at(i) for i in range(n)] not in epochs
    same = TokenLoader(stories_file, 4, 16, seed=1)
    assert [same.window_at(i) for i in range(n)] == epochs[0]


def test_the_order_never_changes(stories_file):
    "What is saved today must be continued tomorrow: a frozen order."
    loader = TokenLoader(
        stories_file, 1, 8, mode="documents", n_documents=10, seed=0
    )
    order = [loader.window_at(i) for i in range(20)]
    assert order[:10] == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert order[10:] == [7, 4, 5, 1, 9, 8, 6, 2, 0, 3]


def test_no_global_seed_is_touched(stories_file):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    states = torch.get_rng_state(), random.getstate()
    legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
    next(iter(TokenLoader(stories_file, 2, 8)))
    find_near_duplicates(STORIES[:10])
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.random.get_state()[1].tolist() == legacy  # noqa: NPY002


@given(st.integers(0, 90), st.integers(1, 3), st.integers(1, 7))
@quick
def test_a_resumed_run_equals_an_uninterrupted_one(
    stories_file, stop, world_size, batch_size
):
    for rank in range(world_size):
        options = {"rank": rank, "world_size": world_size, "seed": 3}
        options |= {"mode": "documents", "n_documents": 50}
        whole = TokenLoader(stories_file, batch_size, 16, **options)
        expected = seen_by(whole, stop + 10)  # over the ends of epochs
        first = TokenLoader(stories_file, batch_size, 16, **options)
        assert seen_by(first, stop) == expected[:stop]
        saved = json.loads(json.dumps(first.state_dict()))
        second = TokenLoader(stories_file, batch_size, 16, **options)
        second.load_state_dict(saved)
        assert seen_by(second, 10) == expected[stop:]
        assert second.state_dict() == whole.state_dict()


def test_a_new_iterator_goes_on(stories_file):
    loader = TokenLoader(stories_file, 2, 8)
    first, second = next(iter(loader)), next(iter(loader))
    again = seen_by(TokenLoader(stories_file, 2, 8), 2)
    assert [first[0].tolist(), second[0].tolist()] == [x for x, _ in again]


def test_an_evaluation_goes_once_through_and_can_be_repeated(stories_file):
    loader = TokenLoader(
        stories_file, 7, 1000, mode="documents", shuffle=False, epochs=1,
        n_documents=50,
    )  # fmt: skip
    first = seen_by(loader, 1000)
    assert len(first) == len(loader) == 8
    assert [len(x) for x, _ in first] == [7] * 7 + [1]
    assert seen_by(loader, 1000) == first
    targets = sum(t != -100 for _, y in first for t in chain(*y))
    assert targets == int(stories_file.index[50, 0])


def test_a_corpus_of_one_document(tmp_path):
    file = tiny(tmp_path, [SENTENCE])
    loader = TokenLoader(file, 3, 100, seed=1)
    assert loader.n_windows == 1
    x, y = next(iter(loader))
    assert x.shape == (3, 100)  # the same window thrice
    assert torch.equal(x[0], x[2])
    line = [256, *SENTENCE.encode()]
    assert x[0].tolist()[: len(line)] == line
    assert y[0].tolist()[: len(line)] == [*line[1:], 256]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"batch_size": 8}, "batch_size=4, this loader batch_size=8"),
        ({"context_len": 9}, "context_len=8, this loader context_len=9"),
        ({"world_size": 2}, "world_size=1, this loader world_size=2"),
        ({"seed": 1}, "seed=0, this loader seed=1"),
        ({"shuffle": False}, "shuffle=True, this loader shuffle=False"),
        ({"mode": "documents"}, "mode='packed', this loader mode='docum"),
        ({"n_documents": 7}, "n_documents=300, this loader n_documents=7"),
    ],
)
def test_a_position_in_another_run_is_refused(stories_file, other, word):
    options = {"batch_size": 4, "context_len": 8}
    state = TokenLoader(stories_file, **options).state_dict()
    loader = TokenLoader(stories_file, **(options | other))
    with pytest.raises(ValueError, match=word):
        loader.load_state_dict(state)
    assert loader.position == 0


def test_a_position_in_other_data_is_refused(stories_file, tmp_path):
    state = TokenLoader(stories_file, 4, 8).state_dict()
    mine = TokenLoader(tiny(tmp_path, STORIES), 4, 8)
    with pytest.raises(ValueError) as found:
        mine.load_state_dict(state)
    assert state["tokens"] in str(found.value)
    assert mine.state_dict()["tokens"] in str(found.value)
    for bad in (-4, 3, "0", None, 4.0, True):
        loader = TokenLoader(stories_file, 4, 8)
        with pytest.raises(ValueError, match=f"position={bad!r} must"):
            loader.load_state_dict(state | {"position": bad})
    del state["seed"]
    with pytest.raises(ValueError, match="seed=None"):
        loader.load_state_dict(state)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"batch_size": 0}, "batch_size=0 must"),
        ({"batch_size": -4}, "batch_size=-4 must"),
        ({"context_len": -1}, "context_len=-1 must"),
        ({"context_len": 2.0}, r"context_len=2\.0 must"),
        ({"world_size": 0}, "world_size=0 must"),
        ({"epochs": 0}, "epochs=0 must"),
        ({"n_documents": 0}, "n_documents=0 must"),
        ({"n_documents": 301}, "n_documents=301, but there are 300"),
        ({"seed": -1}, "seed=-1 must"),
        ({"rank": 2, "world_size": 2}, "rank=2 must lie between 0 and 1"),
        ({"rank": -1}, "rank=-1 must lie between 0 and 0"),
        ({"mode": "padded"}, "mode='padded' must be 'packed' or"),
    ],
)
def test_loaders_that_cannot_be(stories_file, bad, word):
    options = {"batch_size": 4, "context_len": 8} | bad
    with pytest.raises(ValueError, match=word):
        TokenLoader(stories_file, **options)


def test_encoding_needs_no_torch():
    program = (
        "import sys, llm_from_scratch.token_files as t;"
        "print('torch' in sys.modules, t.encode_documents.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "False llm_from_scratch.token_files\n"
    assert "out.encoder(" in inspect.getsource(data.write_tokens)
    tokenizer = BPETokenizer.train(STORIES, 300, special_tokens=[END])
    writer = token_files.TokenWriter("unused", tokenizer)
    with writer.encoder(1) as encode:
        ((ids, sizes),) = map_batches(encode, read_documents(["Ben", ""]), 1)
    assert ids.dtype == np.dtype("<u2")
    assert sizes.tolist() == [[len(ids), 3], [0, 0]]
