"The contract of `parsing`: how a story was told, and what is wrong with it."

import math
import random
import re
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_from_scratch import parsing
from llm_from_scratch.grammar import SENTENCE, Grammar
from llm_from_scratch.parsing import (
    MOST_FAULTY,
    Fault,
    Search,
    find_faults,
    find_tellings,
)
from llm_from_scratch.stories import StoryWorld
from tools import story_world
from tools.story_world import REDUCED, every_telling, mutated, possible

quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=list(HealthCheck),
)
PARK = """
story: {Hero=kid}{Friend=kid}{Thing=toy}{Place=place} {open} {loss} {end}
open: {Hero} and {Friend} met at the {Place}. The {Place.view}.
loss: {Hero} dropped {Hero.his} {Thing}. "Oh no!" cried {Hero.he}.
  | A crow took the {Thing}. {Hero} was {sad|cross}.
end: {Friend} found the {Thing}. {Hero} {thanked|hugged} {Friend.him}.
  | The {Thing} was gone. {Friend} held {Hero.his} hand. They went home.
kid: Mia ~girl | Ben ~boy | Noor ~girl | Ivan ~boy | Ada ~girl
toy: ball | old kite | acorn | doll
place: beach ~sea | pier ~sea | farm ~land | barn ~land
~girl.he: she
~girl.him: her
~girl.his: her
~boy.he: he
~boy.him: him
~boy.his: his
~sea.view: waves {sang|rolled}
~land.view: hens {sat|ran}
"""


@cache
def park() -> Grammar:
    "A small world in which sentences differ."
    return Grammar(PARK)


@cache
def world() -> StoryWorld:
    "The built-in world."
    return StoryWorld()


STORY = (
    "Mia and Ben met at the beach. The waves sang. A crow took the doll. "
    "Mia was sad. Ben found the doll. Mia thanked him."
)


def told_at(grammar: Grammar, seed: int):
    "A telling."
    return grammar.tell(grammar.by_chance(random.Random(seed)))


# ---------------------------------------------------------------- tellings


@pytest.mark.parametrize("text", [PARK, REDUCED])
def test_every_story_is_read_back_as_it_was_told(text):
    grammar = Grammar(text)
    for number, told in enumerate(every_telling(grammar)):
        if number % 7 == 0:
            assert find_tellings(grammar, told.text) == [told]


def test_built_in_stories_are_read_back():
    for seed in range(300):
        told = told_at(world(), seed)
        (found,) = find_tellings(world(), told.text)
        assert found._replace(log_prob=0) == told._replace(log_prob=0)
        assert found.log_prob == pytest.approx(told.log_prob, abs=1e-9)


@pytest.mark.slow
def test_many_built_in_stories_are_read_back():
    found = story_world.check_seeds((0, 100_000))
    assert found["stories"] == 100_000
    assert not found["wrong"]
    assert not found["ambiguous"]


def test_all_ways_are_found():
    grammar = Grammar("story: {a} {b}\na: x | x y\nb: y z | z | 2* y y z")
    assert sorted(
        math.exp(t.log_prob) for t in find_tellings(grammar, "X y z")
    ) == pytest.approx([1 / 8, 1 / 8])
    assert len(find_tellings(grammar, "X y y z")) == 2


def test_who_is_meant_may_be_open():
    kids = "k: Mia ~g | Ada ~g | Ben ~b\n~g.he: she\n~b.he: he"
    grammar = Grammar(f"story: {{A=k}} {{A.he}} sat.\n{kids}")
    found = find_tellings(grammar, "She sat.")
    assert {t.roles["A"].text for t in found} == {"Mia", "Ada"}
    assert len(find_tellings(grammar, "He sat.")) == 1


@pytest.mark.parametrize(
    ("story", "message"),
    [
        ("", "sentence 1, '', must not be the last"),
        ("Dogs bark.", "sentence 1, 'Dogs bark.', cannot follow"),
        (STORY + " And so on.", "sentence 7, 'And so on.', cannot follow"),
        (STORY.replace("sad", "bad"), "sentence 4, 'Mia was bad.', cannot"),
        (
            STORY[: STORY.index(" Mia thanked")],
            "'Ben found the doll.', must n",
        ),
        (STORY.replace("The w", "the w"), "sentence 1, 'Mia and Ben"),
        (STORY.replace("A crow", "An crow"), "sentence 3, 'An crow took"),
        (STORY.upper(), "must read 'Mia and Ben met at the beach.'"),
    ],
)
def test_what_is_not_told_says_where(story, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        find_tellings(park(), story)


@pytest.mark.parametrize("judge", [find_tellings, find_faults])
@pytest.mark.parametrize("story", [None, 7, b"Mia", ["Mia"]])
def test_a_story_is_a_text(judge, story):
    with pytest.raises(TypeError, match=re.escape(f"{story=!r} must be")):
        judge(park(), story)


@pytest.mark.parametrize("judge", [find_tellings, find_faults])
def test_space_around_a_story_does_not_matter(judge):
    wanted = judge(park(), STORY)
    assert judge(park(), f"\n {STORY} \n\n") == wanted


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Mia was", "Ada was", ("name", 3, "Ada", "Mia")),
        ("Mia was", "Ben was", ("name", 3, "Ben", "Mia")),
        ("Mia and", "Ada and", ("name", 0, "Ada", "Mia")),
        ("thanked him", "thanked her", ("pronoun", 5, "her", "him")),
        ("beach", "barn", ("place", 0, "barn", "")),
        (" The waves sang.", "", ("missing", 1, "", "")),
        (" Mia was sad.", "", ("missing", 3, "", "")),
        ("A crow", "Mia was sad. A crow", ("extra", 2, "Mia was sad.", "")),
        ("sang.", "sang. It rained.", ("extra", 2, "It rained.", "")),
        ("was sad", "was glad", ("wording", 3, "Mia was glad.", "")),
        ("took", "tokk", ("wording", 2, "A crow tokk the doll.", "")),
        (" thanked him.", "", ("unfinished", 5, "Mia", "")),
        ("anked him.", "", ("unfinished", 5, "Mia th", "")),
        ("found the doll. Mia thanked him.", "", ("unfinished", 4, "Ben", "")),
    ],
)
def test_one_fault_is_named(old, new, fault):
    assert STORY.count(old) == 1
    assert find_faults(park(), STORY.replace(old, new)) == [Fault(*fault)]


def test_a_repeated_sentence():
    story = STORY.replace("sang.", "sang. The waves sang.")
    fault = Fault("repeated", 2, "The waves sang.", "")
    assert find_faults(park(), story) == [fault]


def test_of_two_things_one_is_wrong():
    story = STORY.replace("found the doll", "found the old kite")
    assert find_faults(park(), story) in (
        [Fault("thing", 2, "doll", "old kite")],
        [Fault("thing", 4, "old kite", "doll")],
    )


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("thanked him.", "thanked Him.", (5, "Mia thanked Him.")),
        ("A crow", "An crow", (2, "An crow took the doll.")),
        ("Mia was", "MIA was", (3, "MIA was sad.")),
    ],
)
def test_spelling(old, new, fault):
    number, found = fault
    expected = SENTENCE.split(STORY)[number]
    assert find_faults(park(), STORY.replace(old, new)) == [
        Fault("spelling", number, found, expected)
    ]


@pytest.mark.parametrize("at", range(5))
def test_two_sentences_in_the_wrong_order(at):
    sentences = SENTENCE.split(STORY)
    sentences[at : at + 2] = sentences[at : at + 2][::-1]
    (fault,) = find_faults(park(), " ".join(sentences))
    assert fault.kind == "order"
    assert fault.sentence in (at, at + 1)


def test_two_faults_are_both_named():
    story = STORY.replace("thanked him", "thanked her").replace("sad", "bad")
    assert [x.kind for x in find_faults(park(), story)] == [
        "wording",
        "pronoun",
    ]
    story = STORY.replace("Mia was", "Ada was").replace(" The waves sang.", "")
    assert [x.kind for x in find_faults(park(), story)] == ["missing", "name"]


def test_every_story_is_faultless_in_its_own_world():
    for number, told in enumerate(every_telling(park())):
        if number % 11 == 0:
            assert find_faults(park(), told.text) == []


@pytest.mark.parametrize("kind", list(story_world.MUTATIONS))
def test_faults_in_built_in_stories_are_named(kind):
    if kind not in possible(world()):
        pytest.skip(f"no story of this world can have a wrong {kind}")
    right = 0
    for seed in range(8):
        mutation, _ = mutated(world(), kind, 1000 + seed)
        named, _ = story_world.judged(world().faults(mutation.story), mutation)
        right += named
    assert right >= 7


def test_built_in_stories_are_faultless():
    assert not any(world().faults(world().sample(i)) for i in range(100))


@quick
@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_faults_are_found_exactly_where_parsing_fails(seed, place):
    story = told_at(park(), seed).text
    place %= len(story)
    letter = random.Random(seed).choice("abehimsx .")
    changed = story[:place] + letter + story[place + 1 :]
    try:
        told = bool(find_tellings(park(), changed))
    except ValueError:
        told = False
    try:
        faults = find_faults(park(), changed)
    except ValueError:
        faults = [None]
    assert bool(faults) != told


@quick
@given(st.integers(0, 10**9), st.integers(1, 300))
def test_a_cut_story_is_unfinished(seed, size):
    story = told_at(park(), seed).text
    kept = story[:size].strip()
    if kept == story:
        assert find_faults(park(), kept) == []
        return
    kinds = [x.kind for x in find_faults(park(), kept)]
    # the last sentence may also be called missing
    assert kinds in (["unfinished"], ["missing"])


# ------------------------------------------------------------ foreign text

FOREIGN = [
    "hello",
    "Once upon a time there was a cat. It sat on a mat. The end.",
    "Once. " * 12,
    "Once. " * 1000,
    ". " * 2000,
    "x" * 100_000,
    "The " * 5000,
    '"' * 500,
    "\n".join(["A line."] * 40),
    "Es war einmal ein Mädchen. 😊 Sie hieß Lily! 你好。",
    "{Hero} lost {Hero.his} ball.",
]


@pytest.mark.parametrize("story", FOREIGN, ids=lambda x: repr(x[:20]))
def test_foreign_text_is_refused(story):
    for grammar in (park(), world()):
        with pytest.raises(ValueError, match="does not tell such a story"):
            find_tellings(grammar, story)
        with pytest.raises(ValueError, match="cannot be judged"):
            find_faults(grammar, story)


def test_stories_of_another_world_are_refused():
    for seed in range(2):
        with pytest.raises(ValueError, match="cannot be judged"):
            find_faults(world(), told_at(park(), seed).text)
        with pytest.raises(ValueError, match="cannot be judged"):
            find_faults(park(), world().sample(seed))
        with pytest.raises(ValueError, match="does not tell"):
            find_tellings(world(), told_at(park(), seed).text)


@pytest.mark.data("tinystories/valid.txt")
def test_tinystories_are_refused(data_dir):
    text = (data_dir / "tinystories" / "valid.txt").read_text("utf-8")
    for story in text[:20_000].split("<|endoftext|>")[:2]:
        with pytest.raises(ValueError, match="cannot be judged"):
            world().faults(story)
        assert world().log_prob(story) == -math.inf


def hard_texts() -> list[str]:
    "Texts that look like stories for long."
    one, two = (SENTENCE.split(world().sample(seed)) for seed in (3, 4))
    mixed = [x for pair in zip(one, two, strict=False) for x in pair]
    shuffled = random.Random(0).sample(one, len(one))
    return [
        " ".join(one * 3),
        " ".join(mixed),
        " ".join(shuffled),
        " ".join(one[::-1]),
        " ".join(world().stream(0, 30)),
    ]


@pytest.mark.parametrize("number", range(5))
def test_a_search_is_bounded(number, monkeypatch):
    looked = 0
    follow = Search.follow

    def counted(self, path):
        nonlocal looked
        looked += 1
        return follow(self, path)

    monkeypatch.setattr(Search, "follow", counted)
    text = hard_texts()[number]
    try:
        assert find_faults(world(), text)
    except ValueError as error:
        assert "cannot be judged" in str(error)
    assert looked <= MOST_FAULTY + 2000
    looked = 0
    with pytest.raises(ValueError, match="does not tell"):
        find_tellings(world(), text)
    assert looked <= 2000


def test_the_limits_hold(monkeypatch):
    monkeypatch.setattr(parsing, "MOST", 3)
    monkeypatch.setattr(parsing, "MOST_FAULTY", 3)
    with pytest.raises(ValueError, match="does not tell"):
        find_tellings(park(), STORY)
    with pytest.raises(ValueError, match="cannot be judged"):
        find_faults(park(), STORY)
