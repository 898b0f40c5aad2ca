"Streams: cuts only where they are safe, in order, over processes."

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_from_scratch import streams
from llm_from_scratch.streams import (
    find_special,
    map_batches,
    read_documents,
    safe_blocks,
)
from llm_from_scratch.tokenization import GPT2, GPT4, PreTokenizer

ROOT = Path(__file__).resolve().parent.parent
SPECIALS = ["<e>", "<a b>", "<e><a b>", " \n ", "|x|"]
quick = settings(deadline=None, derandomize=True, max_examples=300)
texts = st.lists(
    st.one_of(
        st.sampled_from([*SPECIALS, " ", "\n", "\r\n", "  ", "it's", "\t"]),
        st.text("ab 1.\n<>|xé\u2003\x1c\x85", max_size=6),
    ),
    max_size=20,
).map("".join)
sizes = st.lists(st.integers(0, 12), max_size=40)


def cut_up(text: str, sizes: list[int]) -> Iterator[str]:
    "Pieces of these sizes, the rest last."
    at = 0
    for size in sizes:
        yield text[at : at + size]
        at += size
    yield text[at:]


def parts(text: str, special: list[str]) -> list[str]:
    "Special tokens and what is between them, in order."
    out, at = [], 0
    for found in find_special(special).finditer(text):
        out += [("plain", text[at : found.start()]), found[0]]
        at = found.end()
    return [*out, ("plain", text[at:])]


# ------------------------------------------------------------- specials


def test_the_longer_special_is_found():
    found = find_special(["<a>", "<a><b>", "<b>"]).findall("<a><a><b><b>")
    assert found == ["<a>", "<a><b>", "<b>"]
    assert find_special(["a.b", "(c|d)"]).findall("axb a.b c (c|d)") == [
        "a.b",
        "(c|d)",
    ]


def test_without_specials_nothing_is_found():
    assert find_special([]).findall("any \n text") == []
    assert find_special([]).split("any \n text") == ["any \n text"]


# --------------------------------------------------------------- blocks


@pytest.mark.parametrize("pattern", [GPT2, GPT4], ids=["gpt2", "gpt4"])
@pytest.mark.parametrize("special", [[], ["<e>"], SPECIALS])
def test_blocks_have_the_words_of_the_whole(pattern, special):
    split = PreTokenizer(pattern)

    def words(text):
        return [
            word
            for part in parts(text, special)
            for word in ([part] if isinstance(part, str) else split(part[1]))
        ]

    @quick
    @given(texts, sizes, st.integers(1, 30))
    def check(text, sizes, size):
        blocks = list(safe_blocks(cut_up(text, sizes), special, size=size))
        assert "".join(blocks) == text
        assert all(blocks)
        found = [word for block in blocks for word in words(block)]
        assert found == words(text)

    check()


@quick
@given(texts, sizes, st.integers(1, 30))
def test_cuts_at_specials_only(text, sizes, size):
    pieces = cut_up(text, sizes)
    blocks = safe_blocks(pieces, SPECIALS, at_spaces=False, size=size)
    *blocks, last = [*blocks] or [""]
    assert "".join(blocks) + last == text
    for block in blocks:
        *_, found, rest = ["", *parts(block, SPECIALS)]
        assert found in SPECIALS
        assert rest == ("plain", "")
    whole = [part for part in parts(text, SPECIALS) if part in SPECIALS]
    cut = [p for b in [*blocks, last] for p in parts(b, SPECIALS)]
    assert [part for part in cut if part in SPECIALS] == whole


def test_blocks_are_about_as_large_as_asked():
    text = "Lily lost her red ball. " * 1000
    pieces = [text[i : i + 50] for i in range(0, len(text), 50)]
    blocks = list(safe_blocks(pieces, size=500))
    assert len(blocks) > 40
    assert max(map(len, blocks)) < 600


def test_text_that_cannot_be_cut_comes_whole_and_soon():
    "Without lone spaces; the work must not grow with the square."
    pieces = ["中文"] * 200_000
    assert list(safe_blocks(pieces, size=64)) == ["".join(pieces)]
    spaces = ["  "] * 10_000
    assert list(safe_blocks(spaces, size=64)) == ["".join(spaces)]


def test_many_specials_with_spaces_inside():
    text = "[x y]" * 20_000 + "[x"
    blocks = list(safe_blocks([text, " y]"], ["[x y]"], size=10))
    assert "".join(blocks) == text + " y]"
    assert all(len(block) % 5 == 0 for block in blocks)


# ------------------------------------------------------------ documents


def test_documents_without_the_specials(tmp_path):
    text = "one<e>two<e><e>three"
    wanted = ["one", "two", "", "three"]
    assert list(read_documents(text, ["<e>"])) == [wanted]
    assert list(read_documents([text], ["<e>"])) == [wanted]
    path = tmp_path / "file.txt"
    path.write_text(text, encoding="utf-8")
    assert list(read_documents(path, ["<e>"])) == [wanted]
    assert list(read_documents(text)) == [[text]]
    assert list(read_documents([])) == []
    assert list(read_documents("")) == []


@quick
@given(texts, st.integers(1, 20))
def test_batches_of_a_text_are_the_text(text, size):
    batches = list(read_documents([text, text], ["<e>"], size=size))
    documents = [doc for batch in batches for doc in batch]
    assert documents == text.split("<e>") * 2


def test_batches_are_read_when_needed():
    taken = []

    def documents():
        for i in range(100):
            taken.append(i)
            yield "x" * 10

    batches = read_documents(documents(), size=30)
    assert next(batches) == ["x" * 10] * 3
    assert len(taken) == 3
    assert len(list(batches)) == 33


@pytest.mark.parametrize(
    ("document", "kind"), [(b"raw", "bytes"), (7, "int"), (None, "NoneType")]
)
def test_documents_must_be_text(document, kind):
    message = f"a document is {document!r} of type {kind}; give str"
    with pytest.raises(TypeError, match=message):
        list(read_documents(["fine", document]))


# ------------------------------------------------------------ processes


BATCHES = [[str(i)] * i for i in range(11)]


@pytest.mark.parametrize("workers", [1, 2, None])
def test_results_come_in_order(workers):
    assert list(map_batches(len, BATCHES, workers)) == list(range(11))
    assert list(map_batches(len, iter(BATCHES[:3]), workers)) == [0, 1, 2]
    assert list(map_batches(len, [], workers)) == []


def test_errors_come_through():
    with pytest.raises(TypeError):
        list(map_batches(abs, BATCHES, 2))
    with pytest.raises(TypeError):
        list(map_batches(abs, BATCHES, 1))


def test_few_batches_are_held(monkeypatch):
    taken = []

    def batches():
        for i in range(30):
            taken.append(i)
            yield [str(i)]

    for workers, most in ((1, 1), (2, 8), (None, 1)):
        taken.clear()
        results = map_batches(len, batches(), workers)
        assert next(results) == 1
        assert len(taken) <= most
        results.close()


SCRIPT = """
import warnings
from llm_from_scratch.streams import map_batches
{guard}    print(list(map_batches(len, [["a"], ["b", "c"]] * 4, 2)))
"""


@pytest.mark.parametrize(
    ("guard", "warned"),
    [("if __name__ == '__main__':\n", False), ("if True:\n", True)],
)
def test_a_script_with_and_without_guard(guard, warned, tmp_path):
    "Without it no process can start: one warning, and the right result."
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(guard=guard), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == str([1, 2] * 4)
    assert ("round its main call" in done.stderr) == warned


def test_a_broken_pool_is_left_with_a_warning(monkeypatch):
    class Pool:
        def __init__(self, *_):
            pass

        def map(self, function, group):
            raise streams.BrokenProcessPool("no process")

        def shutdown(self):
            pass

    monkeypatch.setattr(streams, "ProcessPoolExecutor", Pool)
    with pytest.warns(UserWarning, match="if __name__ == '__main__'"):
        results = list(map_batches(len, BATCHES, 2))
    assert results == list(range(11))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(map_batches(len, BATCHES, 1)) == list(range(11))


@pytest.mark.skipif(os.name == "nt", reason="a signal to a group of processes")
@pytest.mark.parametrize("started", [False, True])
def test_ctrl_c_reaches_the_first_process_only(started, tmp_path):
    "A terminal sends Ctrl-C to all; workers may be just being started."
    code = (
        "import sys, time\n"
        "from llm_from_scratch.streams import map_batches\n"
        "def slow(batch):\n"
        "    time.sleep(0.3)\n"
        "    return 0\n"
        "if __name__ == '__main__':\n"
        "    print('go', flush=True)\n"
        "    try:\n"
        "        for _ in map_batches(slow, [['a']] * 40, 2):\n"
        "            print('done', flush=True)\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    script = tmp_path / "slow.py"
    script.write_text(code, encoding="utf-8")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == b"go\n"
        if started:
            process.stdout.readline()
        else:
            time.sleep(0.05)  # the workers are importing
        os.killpg(process.pid, signal.SIGINT)
        try:
            _, err = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert (process.returncode, err) == (130, b"")
