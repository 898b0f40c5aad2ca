"What a terminal can show, and what becomes of what it cannot."

import errno
import io
import os
import sys
from itertools import pairwise

import pytest

from llm_from_scratch import terminal

SENTENCE = [b"Lily", b" lost", b" her", b" red", b" ball", b".\n", b"She"]


def stream(encoding: str, tty: bool = False) -> io.TextIOWrapper:
    "An output with an encoding, as a console or a pipe has it."
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    out.isatty = lambda: tty
    return out


@pytest.mark.parametrize(
    ("encoding", "sign"),
    [("utf-8", "✓"), ("cp1252", "·"), ("ascii", "+"), ("cp437", "·")],
)
def test_pick_takes_the_first_sign_that_fits(encoding, sign, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream(encoding))
    assert terminal.pick("✓", "·", "+") == sign


@pytest.mark.parametrize("out", [None, io.StringIO()])
def test_pick_without_a_known_encoding(out, monkeypatch):
    monkeypatch.setattr(sys, "stdout", out)
    assert terminal.pick("✓", "+") == "+"


def test_a_pipe_becomes_utf8_with_its_line_ends(monkeypatch):
    source, out = stream("cp1252"), stream("cp1252")
    source.buffer.write("ä\r\nb\r\n".encode())
    source.buffer.seek(0)
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    monkeypatch.setattr(sys, "stdin", source)
    monkeypatch.setattr(sys, "stdout", out)
    terminal.set_up_streams()
    text = sys.stdin.read()
    assert text == "ä\r\nb\r\n"
    print(text, end="", flush=True)
    assert out.buffer.getvalue() == "ä\r\nb\r\n".encode()


@pytest.mark.parametrize("chosen", [False, True])
def test_a_console_keeps_its_encoding(chosen, monkeypatch):
    out = stream("cp1252", tty=not chosen)
    if chosen:
        monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    else:
        monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", out)
    terminal.set_up_streams()
    print("é ✓", end="", flush=True)
    assert out.buffer.getvalue() == b"\xe9 \\u2713"


def test_a_message_is_one_line_on_stderr(capsys):
    assert terminal.tell("two\n lines", 2) == 2
    assert capsys.readouterr() == ("", "llmfs: two lines\n")


def test_messages_without_stderr_are_dropped(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert terminal.tell("nobody hears", 2) == 2


def test_closed_pipes_are_known_on_every_system(monkeypatch):
    invalid = OSError(errno.EINVAL, "Invalid argument")
    assert terminal.is_closed_pipe(BrokenPipeError())
    assert not terminal.is_closed_pipe(invalid)
    monkeypatch.setattr(os, "name", "nt")
    assert terminal.is_closed_pipe(invalid)
    assert not terminal.is_closed_pipe(OSError(errno.EINVAL, "bad", "x?"))
    assert not terminal.is_closed_pipe(ValueError())


def test_words_for_numbers():
    assert terminal.plural(1, "token") == "1 token"
    assert terminal.plural(4096, "token") == "4,096 tokens"
    assert terminal.plural(0, "story", "stories") == "0 stories"
    sizes = [0, 1, 999, 1000, 11_013_874, 2_200_000_000]
    assert [terminal.size_in_words(x) for x in sizes] == [
        "0 bytes",
        "1 byte",
        "999 bytes",
        "1.0 KB",
        "11.0 MB",
        "2.2 GB",
    ]


def test_wrapping_leaves_paths_whole():
    path = "/a-folder/with-a-very/long-name/that-is/whole.txt"
    assert terminal.wrap(f"see {path} here", 20) == ["see", path, "here"]


@pytest.mark.parametrize(
    ("choice", "tty", "env", "color"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"NO_COLOR": ""}, True),  # as no-color.org has it
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_who_wants_colour(choice, tty, env, color, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stream("utf-8", tty))
    assert terminal.wants_color(choice) is color


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (b" red", "␣red"),
        (b"\n\n", "⏎⏎"),
        ("红é😊".encode(), "红é😊"),
        ("😊".encode()[:2], r"\xf0\x9f"),  # half a character
        (b"\x1b[2J\x07", r"\x1b[2J\x07"),  # never obeyed by the terminal
        (b"\t\r\0", r"\t\r\x00"),
        ("\u200d\xa0\u202e".encode(), r"\u200d\xa0\u202e"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(token, shown, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream("utf-8"))
    assert terminal.visible(token) == shown


def test_a_poor_console_sees_every_token_too(monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream("cp1252"))
    assert terminal.visible(" é红\n".encode()) == r"·é\u7ea2¶"
    monkeypatch.setattr(sys, "stdout", stream("ascii"))
    assert terminal.visible(" é\n".encode()) == r"_\xe9\n"


def test_widths_are_those_of_a_terminal():
    assert terminal.width_of("ab") == 2
    assert terminal.width_of("红😊") == 4
    assert terminal.width_of("e\u0301") == 1


def test_tokens_without_colour(capsys):
    terminal.show_tokens(SENTENCE, list(range(7)), set())
    assert capsys.readouterr().out == ("Lily|␣lost|␣her|␣red|␣ball|.⏎\nShe\n")


def test_neighbours_differ_in_colour(capsys):
    terminal.show_tokens(SENTENCE, list(range(7)), {6}, color=True)
    out = capsys.readouterr().out
    first, second = out.splitlines()
    shades = [x.partition("m")[0] for x in first.split("48;5;")[1:]]
    assert len(shades) == 6
    assert all(a != b for a, b in pairwise(shades))
    assert first.endswith(terminal.PLAIN)  # nothing leaks into the next line
    assert second == f"{terminal.SPECIAL}She{terminal.PLAIN}"


@pytest.mark.parametrize("color", [False, True])
def test_ids_stand_below_their_tokens(color, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    tokens = [*SENTENCE[:5], "红".encode()] * 4
    ids = [7, 1234567, 300, 4, 50000, 6] * 4
    terminal.show_tokens(tokens, ids, set(), color=color, with_ids=True)
    out = capsys.readouterr().out
    for code in (*terminal.BACKGROUNDS,):
        out = out.replace(f"{terminal.BLACK}\x1b[48;5;{code}m", "")
    rows = out.replace(terminal.PLAIN, "").split("\n\n")
    shown = []
    for row in rows[:-1]:
        above, below = row.splitlines()
        # a wide sign takes two columns, so give it two
        above = above.replace("红", "红 ")
        assert max(len(above), len(below)) <= 60
        starts = [
            i
            for i, sign in enumerate(below)
            if sign != " " and (i == 0 or below[i - 1] == " ")
        ]
        for start, end in zip(starts, [*starts[1:], 99], strict=True):
            shown.append((above[start:end].strip(), below[start:end].strip()))
    wanted = [terminal.visible(token) for token in tokens]
    assert shown == list(zip(wanted, map(str, ids), strict=True))


def test_nothing_to_show(capsys):
    terminal.show_tokens([], [], set(), with_ids=True)
    assert capsys.readouterr().out == ""
