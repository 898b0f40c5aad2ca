"""The chain by commands: its words are known, its bills are right.

The chapter's page runs the chain itself, with small numbers.
"""

import json
import math
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from bench import capstone
from llm_from_scratch.checkpoint import load_checkpoint, save_checkpoint
from llm_from_scratch.cli import build_parser
from llm_from_scratch.instructions import EndingJudge
from llm_from_scratch.judging import judge_text
from llm_from_scratch.quantization import quantize
from llm_from_scratch.quantized_files import save_quantized
from llm_from_scratch.stories import StoryWorld

ROOT = Path(__file__).resolve().parent.parent
CHAINS = [(name, x) for name, y in capstone.CHAINS.items() for x in y]


@pytest.mark.parametrize(("name", "words"), CHAINS)
def test_every_command_of_the_chains_is_known(name, words):
    more = capstone.QUICK.get(words.split()[0], "")
    args = build_parser().parse_args(shlex.split(words + more))
    assert args.run


def test_what_one_command_makes_the_next_takes():
    for words in capstone.CHAINS.values():
        made = set()
        for line in words:
            parts = shlex.split(line)
            options = {"--model", "--data", "--valid", "--tokenizer"}
            for option, value in pairwise(parts):
                assert option not in options or value in made, line
            made.add(parts[-1])


def test_the_same_is_asked_as_in_the_record_of_instructions():
    "So that the baselines there hold here."
    text = (ROOT / "bench" / "instructions.py").read_text(encoding="utf-8")
    first = re.search(r"^LEARNED, ASKED = \S+, (\S+)", text, re.M)[1]
    assert int(first) == capstone.ASKED
    counts = re.search(r"^STORIES, QUESTIONS = (\d+), (\d+)", text, re.M)
    assert {*counts.groups()} == {str(capstone.TASKS)}
    record = ROOT / "runs" / "instructions.json"
    kept = json.loads(record.read_text(encoding="utf-8"))["arms"]["tuned_0"]
    asked = capstone.asked(3)["wishes"]
    for task, sample in zip(asked, kept["samples"], strict=False):
        assert task.messages[-1]["content"] == sample["asked"]


def test_shares_count_what_was_asked_for():
    rows = [{"words": True, "end": False}, {"words": True}, {"words": False}]
    found = capstone.count_up(rows)
    assert found["words"]["share"] == 2 / 3
    assert found["words"]["n"] == 3
    assert found["end"]["share"] == 0
    assert found["end"]["n"] == 1
    assert found["words"]["low"] < 2 / 3 < found["words"]["high"]


def test_right_answers_get_full_marks(monkeypatch):
    "And the grader sees which answer belongs to which task."
    tasks = capstone.asked(3)
    right = {
        str(x.messages): x.answer for some in tasks.values() for x in some
    }

    def say(model, tokenizer, dialogs, **_):
        return [right[str(messages)] for messages in dialogs]

    monkeypatch.setattr(capstone, "answers", say)
    judge = EndingJudge.of(StoryWorld(), 60)
    found = capstone.judged(None, None, tasks, judge)
    for kind in ("given", "told"):
        assert found[kind]["shares"]["right"]["share"] == 1
        assert found[kind]["samples"][0]["met"] == {"right": True}
    assert found["wishes"]["shares"]["words"]["share"] == 1
    assert found["wishes"]["shares"]["each word"]["share"] == 1


def test_the_floor_is_the_grammars():
    world = StoryWorld()
    stories = [world.sample(i) for i in range(40)]
    rate, error = world.entropy(40)
    assert abs(capstone.floor(stories) - rate) < 6 * error
    twice = capstone.floor(stories[:5] * 2)
    assert math.isclose(twice, capstone.floor(stories[:5]))


def test_what_bits_add_is_the_difference_of_two_scores(tmp_path):
    "Against the scores of the command, on the same stories."
    world = StoryWorld()
    stories = [world.sample(10_000_000 + i) for i in range(6)]
    model, tokenizer, _ = load_checkpoint(dtype=torch.float32)
    save_checkpoint(tmp_path / "assistant", model, tokenizer)
    save_quantized(tmp_path / "small", quantize(model), tokenizer)
    text = "".join(f"{x}\n<|endoftext|>\n" for x in stories)
    (tmp_path / "valid.txt").write_text(text, encoding="utf-8")
    found = capstone.added(tmp_path, stories)
    scores = [
        judge_text(tmp_path / name, tmp_path / "valid.txt")[0]
        for name in ("assistant", "small")
    ]
    more = scores[1].bits_per_byte - scores[0].bits_per_byte
    assert math.isclose(found["bits_per_byte"], more, abs_tol=2e-4)
    share = scores[1].bits_per_byte / scores[0].bits_per_byte - 1
    assert math.isclose(found["share"], share, abs_tol=1e-3)
    assert 0 < found["margin"] < scores[0].margin
    assert not list(tmp_path.glob("judged*"))


def test_a_command_is_run_and_measured(tmp_path):
    done = capstone.llmfs(tmp_path, "data stories --count 2 --out s.txt")
    assert done["told"][0].startswith("s.txt: 2 stories")
    assert done["seconds"] > 0
    assert done["memory"] is None or 1e6 < done["memory"] < 1e9
    assert [x.name for x in tmp_path.iterdir()] == ["s.txt"]


def test_a_command_that_fails_ends_the_chain(tmp_path):
    with pytest.raises(SystemExit, match="no-such-folder is no folder here"):
        capstone.llmfs(tmp_path, "evaluate --model no-such-folder")


def test_a_talk_goes_through(monkeypatch, tmp_path):
    "What is typed arrives, letters beyond ASCII too."
    words = "tokenizer train - --vocab-size 260 --out t.json"
    done = capstone.llmfs(tmp_path, words, "Zoë ran. Zoë ran. Zoë ran.\n")
    assert done["told"][-1].startswith("t.json: 260 tokens")
