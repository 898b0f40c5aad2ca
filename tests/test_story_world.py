"The built-in story world is sound, and the script that says so can fail."

import hashlib
import json
import random
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from llm_from_scratch.files import GRAMMAR
from llm_from_scratch.grammar import Grammar
from llm_from_scratch.parsing import Fault
from llm_from_scratch.stories import StoryWorld
from tools import story_world
from tools.story_world import (
    LONGEST,
    MUTATIONS,
    REDUCED,
    SHORTEST,
    Mutation,
    at_least,
    at_most,
    between,
    code_lines,
    every_telling,
    find_names,
    find_problems,
    judged,
    measure_richness,
    mutated,
    words_by_plot,
)

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "runs" / "story_world.json"


@cache
def world() -> StoryWorld:
    "The built-in world."
    return StoryWorld()


# ---------------------------------------------------------------- the world


@pytest.mark.parametrize("held_out", [False, True])
def test_every_derivation_is_sound(held_out):
    problems = find_problems(StoryWorld(held_out=held_out))
    if held_out:  # it tells fewer plots
        problems = [x for x in problems if "never used" not in x]
    assert problems == []


def test_stories_are_neither_short_nor_long():
    for plot, (least, most) in words_by_plot(world()).items():
        assert least >= SHORTEST, plot
        assert most <= LONGEST, plot


def test_two_thousand_stories_are_told_in_one_way_only():
    found = story_world.check_seeds((0, 2000))
    assert found["stories"] == 2000
    assert found["wrong"] == found["ambiguous"] == 0


def test_two_thousand_stories_look_right():
    for story in world().stream(0, 2000):
        assert re.fullmatch(r"[A-Za-z ,.:!?\"'-]+", story), story
        assert "  " not in story
        assert not re.search(r" [,.:!?]|[,.!?][A-Za-z]|,,|\.\.|,\.", story), (
            story
        )
        assert re.search(r'[.!?]"?$', story), story
        assert story.count('"') % 2 == 0, story
        assert not re.search(r"\b[Aa]n [^aeiouh]|\b[Aa] [aeio]", story), story
        assert not re.search(r'[.!?]"? [a-z]', story.replace('" ', '"')), story
        assert SHORTEST <= len(story.split()) <= LONGEST


def test_sampled_lengths_lie_within_the_bounds():
    bounds = words_by_plot(world())
    for seed in range(500):
        told = world().tell(world().by_chance(random.Random(seed)))
        least, most = bounds[told.plot]
        assert least <= len(told.text.split()) <= most


def test_all_moods_and_endings_occur():
    facts = [world().parse(story) for story in world().stream(0, 500)]
    assert {x.mood for x in facts} == story_world.MOODS
    assert {x.ending for x in facts} == story_world.ENDINGS
    assert {x.plot for x in facts} == set(story_world.plots_of(world()))
    for key in ("mood", "ending"):
        most = Counter(getattr(x, key) for x in facts).most_common(1)[0][1]
        assert most < 0.6 * len(facts), key


def test_the_record_is_of_this_world():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    digest = hashlib.sha256(GRAMMAR.read_bytes()).hexdigest()
    assert digest.startswith(record["corpus"]["sha256"]), (
        "the story world has changed: run python tools/story_world.py"
    )
    missed = [x["what"] for x in record["targets"] if not x["passed"]]
    assert set(missed) <= {"lines of engine and parser"}


# ------------------------------------------------- the script finds faults

GOOD = """
story: {p}
p: {A=k} {A} ran to {A.his} {place}.{#mood=sad}{#ending=lost}
place: den | {red|blue} den
k: Mia ~girl | Ada ~girl
~girl.his: her
"""


def test_a_sound_world_has_no_problems():
    assert find_problems(Grammar(GOOD)) == []
    assert find_problems(Grammar(REDUCED))  # it sets no ending


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("{A} ran", "{A.his} dog and {A} ran", "p: A.his precedes its name"),
        ("{A} ran", "{{A}|She} ran", "p: A.his precedes its name"),
        ("{#mood=sad}", "", "p: 0 tags mood"),
        ("{#mood=sad}", "{#mood=sad}{#mood=sad}", "p: 2 tags mood"),
        ("{#mood=sad}", "{#mood=bad}", "p: tag mood=bad"),
        ("{#ending=lost}", "{#ending=lots}", "p: tag ending=lots"),
        ("{#mood=sad}", "{#mood=sad}{#x=y}", "p: tag x=y"),
        ("{#mood=sad}", "{#mood=sad}{#keeper=B}", "p: tag keeper=B"),
        ("place:", "other: x\nplace:", "rule other is never used"),
        ("den |", "dèn |", "place: 'dèn' has characters other than"),
        ("den |", "big  den |", "place: 'big  den' has two spaces"),
        ("to {A.his}", "to an {A.his}", "' ran to an ' ends in an; write a"),
    ],
)
def test_problems_are_found(old, new, problem):
    found = find_problems(Grammar(GOOD.replace(old, new, 1)))
    assert any(problem in x for x in found), found


@pytest.mark.parametrize(
    "text", [GOOD, REDUCED.replace("old |", "a bit old |")]
)
def test_lengths_over_all_derivations_are_exact(text):
    text = text.replace("story: {lost} | 2* {found}", "story: {lost}|{found}")
    found: dict[str, set[int]] = {}
    for told in every_telling(Grammar(text)):
        found.setdefault(told.plot, set()).add(len(told.text.split()))
    assert words_by_plot(Grammar(text)) == {
        plot: (min(sizes), max(sizes)) for plot, sizes in found.items()
    }


def test_lengths_know_that_a_role_keeps_its_entity():
    text = "story: {p}\np: {A=k}{B=k} {A}, {A} and {B}.\nk: x | y y y"
    assert words_by_plot(Grammar(text)) == {"p": (6, 8)}
    text = (
        "story: {p}\np: {A=k}{A}, {{B=l}{B}|no {A.his}}.\nk: x ~c | y z ~d\n"
    )
    text += "l: b | b b\n~c.his: h\n~d.his: {h|h h h}"
    assert words_by_plot(Grammar(text)) == {"p": (2, 6)}


def test_derivations_are_enumerated_once():
    told = [x.text for x in every_telling(Grammar("story: {x|b{c|d}} {e|f}"))]
    assert told == ["X e", "X f", "Bc e", "Bc f", "Bd e", "Bd f"]


def test_richness():
    stories = [
        "Mia ran. She ran.",
        "Ben ran. He ran.",
        "one two three four five six seven eight nine.",
        "zero one two three four five six seven eight.",
        "a she he",
    ]
    found = measure_richness(stories)
    assert found["stories"] == 5
    assert found["words"] == 4 + 1 + 10 + 1
    assert found["words_least"] == 3
    assert found["words_most"] == 9
    assert found["words_mean"] == 5.8
    assert found["sentences"] == 7
    assert found["skeletons_distinct"] == 6 / 7  # X ran. is there twice
    assert found["skeletons_top_ten"] == 1
    assert found["grams_repeated"] == 0
    again = measure_richness([*stories, stories[2]])
    assert again["grams_repeated"] == 4 / 6
    assert find_names(stories) == {"Mia", "Ben"}


def test_lines_of_code():
    source = '"Doc."\n\n# why\ndef f():\n    "Doc."\n    return [\n  1]\n'
    assert code_lines(source) == 3


def test_targets_can_be_missed():
    assert at_least("x", 3, 3).passed
    assert not at_least("x", 2.999, 3).passed
    assert at_most("x", 3, 3).passed
    assert not at_most("x", 3.001, 3).passed
    assert between("x", 2, 1, 3).passed
    assert not between("x", 0, 1, 3).passed
    assert not between("x", 4, 1, 3).passed


def test_judging():
    mutation = Mutation("…", {"name"}, {2})
    name = Fault("name", 2, "Mia", "Ada")
    assert judged([name], mutation) == (True, True)
    assert judged([name._replace(sentence=3)], mutation) == (True, False)
    assert judged([name._replace(kind="extra")], mutation) == (False, False)
    assert judged([], mutation) == (False, False)


@pytest.mark.parametrize("kind", MUTATIONS)
def test_mutations_are_not_stories_of_the_world(kind):
    if kind not in story_world.possible(world()):
        pytest.skip("no such role")
    for seed in range(5):
        mutation, _ = mutated(world(), kind, seed)
        assert mutation == mutated(world(), kind, seed)[0]
        assert not story_world.is_told(world(), mutation.story)
        assert mutation.sentences
        assert len(mutation.kinds) == 1


def test_what_cannot_be_mutated_is_an_error():
    with pytest.raises(ValueError, match="can have a wrong pronoun"):
        mutated(Grammar("story: {p}\np: a. b. c."), "pronoun", 0)


def test_reduced_worlds_are_exact():
    found = story_world.measure_reduced()
    assert found["off_from_1"] < 1e-12
    assert found["in_both"] == 0
    for name in ("world", "held_out"):
        assert found[name]["texts"] > 100
        assert found[name]["log_prob_error"] < 1e-9


def test_numbers_are_rounded_for_the_record():
    found = story_world.rounded({"a": [1 / 3, 7], "b": {"c": "x"}})
    assert found == {"a": [0.333333, 7], "b": {"c": "x"}}
