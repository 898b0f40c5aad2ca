"The contract of `grammar`: what is told, how likely it is, what is refused."

import json
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llm_from_scratch.files import GRAMMAR, make_story, read_text
from llm_from_scratch.grammar import (
    GAP,
    SENTENCE,
    Grammar,
    flatten,
    read_rules,
    realise,
)
from llm_from_scratch.parsing import find_faults, find_tellings
from llm_from_scratch.stories import LN2, StoryWorld, story_bits
from tools.story_world import REDUCED, every_telling

quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
)
LISTS = """
kid: Mia ~girl | Ben ~boy | Noor ~girl | Ida ~girl | Tom ~boy
toy: ball | old kite | acorn
~girl.he: she
~girl.his: her
~boy.he: he
~boy.his: his
"""


def tell(text: str, seed: int = 0, **options):
    "A telling of a small grammar."
    grammar = Grammar(text, **options)
    return grammar.tell(grammar.by_chance(random.Random(seed)))


def chances(text: str, **options) -> dict[str, float]:
    "Text → probability, by enumeration."
    found: Counter = Counter()
    for told in every_telling(Grammar(text, **options)):
        found[told.text] += math.exp(told.log_prob)
    return dict(found)


# ---------------------------------------------------------------- format


def test_rules_options_and_choices():
    rules = read_rules("a: x | {b|c d} y\n  | z\n# no\n\nb: {a}")
    assert rules == {
        "a": [["x"], [[["b"], ["c d"]], " y"], ["z"]],
        "b": [[[["a"]]]],
    }


def test_silent_braces_eat_the_space_behind_or_before_them():
    text = "story: {A=k} {A} ran. {#mood=sad} {#end=lost}\nk: Mia"
    assert tell(text).text == "Mia ran."
    assert tell(text).tags == {"mood": "sad", "end": "lost"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("story: a owl sat. it ate a egg.", "An owl sat. It ate an egg."),
        ("story: a unicorn, a user, a uncle", "A unicorn, a user, an uncle"),
        ("story: a one-eyed owl ate a onion", "A one-eyed owl ate an onion"),
        ("story: a once red one, a eel", "A once red one, an eel"),
        ("story: a ewe, a euro, a usual urn", "A ewe, a euro, a usual urn"),
        ("story: a {x} man\nx: old", "An old man"),
        ("story: banana owl", "Banana owl"),
        ('story: "no!" he said. "yes."', '"No!" he said. "Yes."'),
        ('story: he said, "a ant!" and ran', 'He said, "An ant!" and ran'),
        ("story: wait! who? me.", "Wait! Who? Me."),
        ("story: {|}", ""),
    ],
)
def test_capitals_and_articles(text, told):
    assert tell(text).text == told


@quick
@given(st.text("aAnN eiouxb.!?\"'", max_size=30))
def test_realised_text_is_realised_and_flattens_to_the_same(text):
    told = realise(text)
    assert realise(told) == told
    assert flatten(told) == flatten(text)
    assert len(SENTENCE.split(told)) == len(SENTENCE.split(realise(told)))


def test_gaps_stand_exactly_between_sentences():
    text = (
        'story: {open} {talk} "Oh!" said Mia. {end}\n'
        'open: one day. then it fell. | no. \ntalk: "hi." | ho!\nend: a. b.'
    )
    grammar = Grammar(text)
    for told in every_telling(grammar):
        pieces: list[str] = []

        def walk(parts, choose, pieces=pieces):
            for part in parts:
                if part is GAP:
                    pieces.append("|")
                elif isinstance(part, str):
                    pieces.append(part)
                else:
                    walk(choose(part).options[0].parts, choose)

        walk(grammar.start.options[0].parts, lambda rule: rule)
        assert "|" in pieces
        assert told.text.count("  ") == 0


def test_weights():
    assert chances("story: 3* a | b | 12* c") == pytest.approx(
        {"A": 3 / 16, "B": 1 / 16, "C": 12 / 16}
    )
    assert chances("story: x {2* a|b}.") == pytest.approx(
        {"X a.": 2 / 3, "X b.": 1 / 3}
    )


def test_roles_are_different_and_keep_their_forms():
    text = "story: {A=kid}{B=kid} {A} met {B} and {A.his} {A.he}." + LISTS
    found = chances(text)
    assert list(found.values()) == [pytest.approx(1 / 20)] * 5 * 4
    assert "Ben met Ida and his he." in found


def test_two_lists_in_one_draw():
    found = chances("story: {A=k+l}{A}\nk: x | y\nl: z")
    assert found == pytest.approx({"X": 1 / 3, "Y": 1 / 3, "Z": 1 / 3})


def test_held_out_pairs_are_told_in_one_world_only():
    text = "story: {p} | {q}\np: {A=k}{B=l} {A} {B}\nq: {A=k} {A}\n"
    text += "k: a | b | c\nl: x | y | z | u\nhold: A B 3"
    kept, held = chances(text), chances(text, held_out=True)
    assert sum(kept.values()) == pytest.approx(1)
    assert sum(held.values()) == pytest.approx(1)
    assert not set(kept) & set(held)
    assert {x.lower() for x in held} == {"a x", "an u", "b z", "c y"}
    assert {x for x in kept if " " not in x} == {"A", "B", "C"}
    assert kept["A y"] == pytest.approx(1 / 2 / 3 / 2)
    assert held["A x"] == pytest.approx(1 / 3 / 2)


def test_plot_is_the_rule_that_the_first_rule_chose():
    grammar = Grammar("story: {one} | {two}\none: {x}\ntwo: b\nx: a")
    assert {t.text: t.plot for t in every_telling(grammar)} == {
        "A": "one",
        "B": "two",
    }


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rule 'story'"),
        ("a: b", "no rule 'story'"),
        ("  x", "line 1: continues no rule"),
        ("story", "line 1: 'story' is no name and :"),
        ("sto ry: x", "line 1: 'sto ry' is no name"),
        ("story: a\n\n#\nstory: b", "line 4: 'story' is a second time"),
        ("story: a\n  | {b", "line 2: braces do not match"),
        ("story: {b}", "rule 'story' uses 'b', which is no rule"),
        ("story: {A=kid}", "rule 'story' uses 'kid', which is no rule"),
        ("story: {=k}\nk: x", "uses '', which is no rule"),
        ("story: {a}\na: b | {c}\nc: x {a}", "uses itself, without end"),
        ("story: {story}", "rule 'story' uses itself"),
        ("story: {A=k}{A.he}\nk: x ~b\n~b.he: {A.he}", "uses itself"),
        ("story: {a}\na: 0* b | c", "rule 'a': 0* makes no sense"),
        ("story: {A}", "rule 'story' writes A, but nobody has that role"),
        ("story: {{A=k}|x} {b}\nk: x\nb: {A}", "rule 'b' writes A, but nobo"),
        ("story: {A=k}{A.he}\nk: Mia", "writes A.he, but 'Mia' has no such"),
        ("story: {A=k}{b}{A}\nb: {A=k}\nk: x | y", "rule 'b' fills A twice"),
        ("story: {A=k}{A}\nk: {x|y}", "rule 'k' fills a role, so each of its"),
        ("story: {A=k}{A}\nk: x |", "rule 'k' fills a role, so each of its"),
        ("story: {A=k}{B=k}{B}\nk: x", "gives B to one of 1, but all"),
        ("story: {A=k} b\nk: x", "a story can end without writing A"),
        ("story: x\nhold: A", "hold: 'A' must be two roles and a number"),
        ("story: x\nhold: A B x", "hold: 'A B x' must be"),
        ("story: x\nhold: A B 1", "a number from 2 on"),
        (
            "story: {A=k}{B=l}{B}\nk: x\nl: y\nhold: A B 2",
            "gives B to one of 1, but all of them can be taken or kept out",
        ),
    ],
)
def test_what_could_fail_later_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Grammar(text)


@pytest.mark.parametrize("text", [5, b"story: x", None])
def test_a_grammar_is_a_text(text):
    with pytest.raises(TypeError, match=re.escape(f"{text=!r} must be")):
        Grammar(text)


def test_a_world_without_kept_out_pairs_has_no_held_out_stories():
    with pytest.raises(ValueError, match="no plot of this grammar has"):
        Grammar("story: {a}\na: x", held_out=True)


# -------------------------------------------------------- random grammars

WORDS = ["ran", "sat", "sang", "old", "jumped", "far", "near", "told"]


@st.composite
def grammars(draw) -> str:
    "Small grammars with everything in them, without empty sentences."
    rules = draw(st.integers(1, 3))
    lines = ["story: {p}"]
    if draw(st.booleans()):
        lines = ["story: {p} | 2* {q}", "q: {Hero=kid} {Hero} ran."]
    cast = "{Hero=kid}{Thing=toy}{Friend=kid} {Hero} and {Friend}"
    late = draw(st.sampled_from(["", " {late}", " {late} {Last=kid}{Last}."]))
    lines.append(f"p: {cast} {{r0}} a {{Thing}}.{late}")
    lines.append("late: {Late=kid}{Late} came, too. | 2* all went.")

    def phrase(number: int) -> str:
        parts = [draw(st.sampled_from(WORDS))]
        for _ in range(draw(st.integers(0, 2))):
            able = [
                draw(st.sampled_from(WORDS)),
                "{Hero}",
                "{Hero.he}",
                "{Hero.his} {Thing}",
                "a {Thing}",
                "{Friend}",
                "{red|2* blue|}",
                "{#mood=sad}" + draw(st.sampled_from(WORDS)),
                '{it|"yes!" said {Hero.he} and} left',
                "sat. {Friend.he} saw {Friend}",
            ]
            able += [f"{{r{i}}}" for i in range(number + 1, rules)]
            parts.append(draw(st.sampled_from(able)))
        return " ".join(parts)

    for number in range(rules):
        size = draw(st.integers(1, 3))
        weights = draw(st.lists(st.integers(1, 3), min_size=3, max_size=3))
        options = [
            f"{'' if weights[i] == 1 else f'{weights[i]}* '}{phrase(number)}"
            for i in range(size)
        ]
        lines.append(f"r{number}: {' | '.join(options)}")
    if draw(st.booleans()):
        lines.append("hold: Hero Thing 2")
    return "\n".join(lines) + LISTS


@quick
@given(grammars())
def test_random_grammars_are_told_and_read_back_exactly(text):
    world = StoryWorld(text)
    told = list(islice(every_telling(world), 2001))
    assume(len(told) <= 2000)
    assert sum(math.exp(t.log_prob) for t in told) == pytest.approx(1)
    bits = -sum(math.exp(t.log_prob) * t.log_prob for t in told) / LN2
    assert story_bits(world) == pytest.approx(bits)
    by_text: dict[str, list] = {}
    for telling in told:
        by_text.setdefault(telling.text, []).append(telling)
    for story, tellings in random.Random(0).sample(
        sorted(by_text.items()), min(20, len(by_text))
    ):
        found = find_tellings(world, story)
        key = repr  # entities are compared by what they are
        assert sorted(map(key, found)) == sorted(map(key, tellings))
        total = sum(math.exp(t.log_prob) for t in tellings)
        assert world.log_prob(story) == pytest.approx(math.log(total))
        assert find_faults(world, story) == []


@quick
@given(grammars())
def test_random_grammars_have_disjoint_held_out_worlds(text):
    assume("hold" in text)
    kept = list(islice(every_telling(Grammar(text)), 1001))
    held = list(islice(every_telling(Grammar(text, held_out=True)), 1001))
    assume(max(len(kept), len(held)) <= 1000)
    assert sum(math.exp(t.log_prob) for t in held) == pytest.approx(1)
    pairs = [
        {(t.roles["Hero"].text, t.roles["Thing"].text) for t in some}
        for some in ([t for t in kept if t.plot == "p"], held)
    ]
    assert not pairs[0] & pairs[1]
    assert {t.text for t in held}.isdisjoint(t.text for t in kept)


@quick
@given(grammars(), st.integers(0, 2**32))
def test_what_is_sampled_is_among_what_is_enumerated(text, seed):
    grammar = Grammar(text)
    told = grammar.tell(grammar.by_chance(random.Random(seed)))
    every = list(islice(every_telling(grammar), 2001))
    assume(len(every) <= 2000)
    wanted = [t for t in every if repr(t.roles) == repr(told.roles)]
    assert any(
        t.text == told.text and t.log_prob == pytest.approx(told.log_prob)
        for t in wanted
    )


def test_samples_come_as_often_as_they_should():
    world = Grammar(REDUCED)
    rng = random.Random(0)
    wanted: Counter = Counter()
    for told in every_telling(world):
        wanted[told.text.split()[0]] += math.exp(told.log_prob)
    size = 20_000
    found = Counter(
        world.tell(world.by_chance(rng)).text.split()[0] for _ in range(size)
    )
    for word, p in wanted.items():
        spread = math.sqrt(p * (1 - p) * size)
        assert abs(found[word] - p * size) < 5 * spread


def test_retelling_gives_the_same_story():
    grammar = Grammar(REDUCED)
    for told in islice(every_telling(grammar), 50):
        (found,) = find_tellings(grammar, told.text)
        assert found == told


# --------------------------------------------------------- other processes


def test_seeds_mean_the_same_in_every_process():
    code = (
        "import json, sys; from llm_from_scratch.files import make_story;"
        "sys.stdout.write(json.dumps([make_story(i) for i in (0, 1, 999)]))"
    )
    for hash_seed in ("0", "1", "77"):
        told = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert json.loads(told.stdout) == [make_story(i) for i in (0, 1, 999)]


def test_the_built_in_world_has_held_out_stories():
    grammar = Grammar(read_text(GRAMMAR), held_out=True)
    told = grammar.tell(grammar.by_chance(random.Random(0)))
    first, second = (told.roles[role].number for role in grammar.pair)
    assert (first + second) % grammar.every == 0
