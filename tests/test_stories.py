"The contract of `stories`: worlds, floors, n-grams and tasks."

import inspect
import math
import random
import re
from collections import Counter
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_from_scratch import stories
from llm_from_scratch.files import SEEDS, make_story
from llm_from_scratch.grammar import Grammar
from llm_from_scratch.stories import (
    LN2,
    Facts,
    NGram,
    Request,
    StoryWorld,
    ask,
    babble,
    bits_per_byte,
    make_contrast,
    make_request,
    story_bits,
    tell_variant,
    unmet,
)
from tools.story_world import ENDINGS, MOODS, REDUCED, every_telling

quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=list(HealthCheck),
)
TASKS = """
story: {day}
day: {Hero=kid}{Thing=toy}{Look=look}{Place=place} {lost} {end}
lost: {Hero} took a {Look} {Thing} to the {Place}. It fell.{#feel=sad}
end: {Friend=kid}{Friend} found it. {Hero} {sang|danced}.{#mood=happy}
  {#ending=helped}{#keeper=Hero} | {Hero} {cried|sighed}.{#mood=sad}
  {#ending=lost}
kid: Mia | Ben | Noor
toy: ball | kite
look: red | old | new
place: park | lake
hold: Thing Look 3
"""


@cache
def world() -> StoryWorld:
    "The built-in world."
    return StoryWorld()


@cache
def held_out() -> StoryWorld:
    "Its twin."
    return StoryWorld(held_out=True)


@cache
def tasks() -> StoryWorld:
    "A small world with all labels."
    return StoryWorld(TASKS)


# ---------------------------------------------------------------- telling


def test_seeds():
    assert world().sample(5) == world().sample(5) == StoryWorld().sample(5)
    assert len({world().sample(seed) for seed in range(200)}) == 200
    assert world().sample(5) == make_story(5)
    assert world().sample(2**70)


@pytest.mark.parametrize("seed", [-1, 1.0, "1", None, True])
def test_a_seed_is_a_whole_number_from_0_on(seed):
    for call in (
        world().sample,
        lambda s: tell_variant(world(), s, 0.5, 1),
        lambda s: tell_variant(world(), 1, 0.5, s),
        lambda s: make_contrast(world(), s),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{seed=} must be a")):
            call(seed)


def test_stream():
    assert list(world().stream(7, 3)) == [world().sample(i) for i in (7, 8, 9)]
    assert list(world().stream(7, 0)) == []
    with pytest.raises(ValueError, match="n=-1 must be 0 or more"):
        world().stream(0, -1)


def test_the_splits_of_built_in_stories_do_not_overlap():
    (a, n), (b, m) = SEEDS["train"], SEEDS["valid"]
    assert a + n <= b or b + m <= a


def test_worlds_of_ones_own():
    assert StoryWorld("story: a. b.").sample(0) == "A. B."
    with pytest.raises(ValueError, match="no rule 'story'"):
        StoryWorld("")
    with pytest.raises(TypeError, match="text=7 must be"):
        StoryWorld(7)


def test_many_seeds_are_whole_numbers_from_0_on():
    for call in (world().stream, lambda s, n: world().entropy(n, s)):
        with pytest.raises(ValueError, match="seed=-1 must be a whole"):
            call(-1, 3)


# ---------------------------------------------------------------- reading


def test_facts():
    story = (
        "Mia took an old kite to the lake. It fell. Ben found it. Mia sang."
    )
    p = 1 / (3 * 2 * 2 * 2) / 2 / 2 / 2
    assert tasks().parse(story) == Facts(
        "day",
        {
            "Hero": "Mia",
            "Thing": "kite",
            "Look": "old",
            "Place": "lake",
            "Friend": "Ben",
        },
        "happy",
        "helped",
        {
            "feel": "sad",
            "mood": "happy",
            "ending": "helped",
            "keeper": "Hero",
        },
        pytest.approx(math.log(p)),
    )
    assert tasks().log_prob(story) == pytest.approx(math.log(p))


def test_facts_of_built_in_stories():
    for seed in range(100):
        told = world().tell(world().by_chance(random.Random(seed)))
        facts = world().parse(f"  {told.text}\n")
        assert facts.log_prob == pytest.approx(told.log_prob, abs=1e-9)
        assert facts.mood in MOODS
        assert facts.ending in ENDINGS
        assert facts.tags == told.tags
        assert facts.plot == told.plot
        for role, text in facts.roles.items():
            assert told.roles[role].text == text
            assert re.search(re.escape(text), told.text, re.IGNORECASE)


def test_what_is_not_told_has_no_probability():
    for text in ("", "hello", world().sample(0) + " And?", "😊"):
        assert world().log_prob(text) == -math.inf
        with pytest.raises(ValueError, match="does not tell such a story"):
            world().parse(text)
    assert world().faults(world().sample(0)) == []
    with pytest.raises(ValueError, match="cannot be judged"):
        world().faults("It was a dark and stormy night. The rain fell.")


def test_two_ways_to_tell_a_story_add_up():
    two = StoryWorld("story: x{#a=1} | 3* y | 2* x{#a=2}")
    assert two.log_prob("X") == pytest.approx(math.log(1 / 2))
    assert two.parse("X").tags == {"a": "2"}


def test_held_out_pairs():
    first, second = world().pair
    for seed in range(50):
        for mine, other in ((world(), held_out()), (held_out(), world())):
            told = mine.tell(mine.by_chance(random.Random(seed)))
            assert mine.log_prob(told.text) > -math.inf
            if {first, second} <= set(told.roles):
                numbers = (told.roles[x].number for x in (first, second))
                held = sum(numbers) % world().every == 0
                assert held == mine.held_out
                assert other.log_prob(told.text) == -math.inf
                with pytest.raises(ValueError, match=r"keeps a pair|not tell"):
                    other.parse(told.text)


# ---------------------------------------------------------------- floor


def test_bits_per_byte():
    assert bits_per_byte(-8 * LN2, ["abcd", "efgh"]) == pytest.approx(1)
    assert bits_per_byte(-6 * LN2, ["é", "😊"]) == pytest.approx(1)
    assert bits_per_byte(-LN2, (x for x in ["a"])) == pytest.approx(1)
    for texts in ([], [""]):
        with pytest.raises(ValueError, match="texts holds no text"):
            bits_per_byte(-1.0, texts)
    with pytest.raises(TypeError, match=r"texts='Mia ran\.' is one string"):
        bits_per_byte(-1.0, "Mia ran.")


@pytest.mark.parametrize("text", [REDUCED.replace("kid+pet", "kid"), TASKS])
@pytest.mark.parametrize("held", [False, True])
def test_story_bits_is_the_entropy(text, held):
    some = StoryWorld(text, held_out=held)
    told = list(every_telling(some))
    exact = -sum(math.exp(t.log_prob) * t.log_prob for t in told) / LN2
    assert story_bits(some) == pytest.approx(exact)


def test_story_bits_knows_who_was_drawn_in_an_earlier_rule():
    text = "story: {A=k} {A} ran. {x} {C=k} {C} sat.\nk: a | b | c | d\n"
    some = Grammar(text + "x: so. | {B=k} {B} ran.")
    told = list(every_telling(some))
    exact = -sum(math.exp(t.log_prob) * t.log_prob for t in told) / LN2
    assert story_bits(some) == pytest.approx(exact)


def test_story_bits_refuses_lists_that_overlap():
    with pytest.raises(ValueError, match="list of Friend overlaps an earlie"):
        story_bits(Grammar(REDUCED))


def test_entropy_estimates_the_floor():
    rate, error = tasks().entropy(4000)
    told = list(every_telling(tasks()))
    chances = [math.exp(t.log_prob) for t in told]
    sizes = [len(t.text.encode()) for t in told]
    mean = sum(p * size for p, size in zip(chances, sizes, strict=True))
    assert abs(rate - story_bits(tasks()) / mean) < 4 * error
    assert 0 < error < 0.01
    rough = tasks().entropy(250)[1]
    assert 3 < rough / error < 5.5  # sixteen times the stories
    assert tasks().entropy(50, 3) == tasks().entropy(50, 3)
    assert tasks().entropy(50, 3) != tasks().entropy(50, 4)


@pytest.mark.parametrize("n", [-1, 0, 1])
def test_one_story_has_no_standard_error(n):
    with pytest.raises(ValueError, match=re.escape(f"{n=} must be at least")):
        world().entropy(n)


def test_entropies_of_the_built_in_world_agree():
    told = [
        world().tell(world().by_chance(random.Random(seed))).log_prob
        for seed in range(2000)
    ]
    bits = [-x / LN2 for x in told]
    mean = sum(bits) / len(bits)
    spread = math.sqrt(sum((x - mean) ** 2 for x in bits) / len(bits) ** 2)
    assert abs(mean - story_bits(world())) < 4 * spread


# ---------------------------------------------------------------- n-grams

rows = st.lists(st.lists(st.integers(0, 4), max_size=8), max_size=6)
sizes = st.integers(1, 5)


@quick
@given(
    rows, sizes, st.lists(st.integers(0, 4), max_size=7), st.floats(0.1, 0.9)
)
def test_probabilities_sum_to_1(sequences, n, context, discount):
    model = NGram(n, 5, discount=discount).fit(sequences)
    every = [model.prob(context, symbol) for symbol in range(5)]
    assert sum(every) == pytest.approx(1)
    assert min(every) > 0


@quick
@given(rows, sizes)
def test_log_probs_are_those_of_the_symbols(sequences, n):
    model = NGram(n, 5).fit(sequences)
    for ids in sequences:
        found = model.log_probs(ids)
        assert len(found) == max(0, len(ids) - 1)
        for i, value in enumerate(found, 1):
            assert math.exp(value) == pytest.approx(
                model.prob(ids[:i], ids[i])
            )
            # no more than n - 1 symbols are looked at
            if i >= n:
                other = [(x + 1) % 5 for x in ids[: i - n + 1]]
                context = [*other, *ids[i - n + 1 : i]]
                assert model.prob(context, ids[i]) == pytest.approx(
                    math.exp(value)
                )


def kneser_ney(sequences, n, size, discount, context, symbol) -> float:
    "The textbook's recursion (Chen and Goodman 1999), counting each time."
    padded = [[-1] * (n - 2) + ids for ids in map(list, sequences)]
    if n == 1:
        padded = [ids[1:] for ids in padded]
    windows = [
        tuple(ids[i : i + n])
        for ids in padded
        for i in range(len(ids) - n + 1)
    ]

    def p(given: tuple) -> float:
        grams = Counter(windows)
        for _ in range(n - 1 - len(given)):
            grams = Counter(gram[1:] for gram in grams)
        able = {g[-1]: c for g, c in grams.items() if g[:-1] == given}
        lower = p(given[1:]) if given else 1 / size
        if not able:
            return lower
        total = sum(able.values())
        share = max(able.get(symbol, 0) - discount, 0) / total
        return share + discount * len(able) / total * lower

    return p(tuple(([-1] * n + list(context))[len(context) + 1 :]))


@quick
@given(rows, sizes, st.lists(st.integers(0, 4), max_size=6), st.integers(0, 4))
def test_probabilities_are_the_textbooks(sequences, n, context, symbol):
    model = NGram(n, 5, discount=0.6).fit(sequences)
    wanted = kneser_ney(sequences, n, 5, 0.6, context, symbol)
    assert model.prob(context, symbol) == pytest.approx(wanted)


def test_ngrams_by_hand():
    model = NGram(1, 3, discount=0.5).fit([[0, 1, 1, 2]])
    freed = 0.5 * 2 / 3
    assert model.prob([], 0) == pytest.approx(freed / 3)
    assert model.prob([], 1) == pytest.approx((1.5 + freed) / 3)
    assert model.prob([], 2) == pytest.approx((0.5 + freed) / 3)
    assert NGram(3, 4).prob([1, 2], 3) == 1 / 4  # nothing counted


def test_fitting_forgets():
    model = NGram(2, 3).fit([[0, 1, 1]])
    before = model.prob([1], 1)
    model.fit([[0, 2, 2]])
    assert model.prob([1], 1) != before
    assert model.fit([]).prob([1], 1) == 1 / 3
    assert model.fit([[], [1]]).prob([1], 1) == 1 / 3
    assert model.log_probs([]) == model.log_probs([1]) == []


@pytest.mark.parametrize(
    ("n", "size", "discount", "message"),
    [
        (0, 5, 0.5, "n=0 and vocab_size=5 must be 1 or more"),
        (2, 0, 0.5, "n=2 and vocab_size=0 must be 1 or more"),
        (2, 5, 0, "discount=0 must lie between 0 and 1"),
        (2, 5, 1, "discount=1 must lie between 0 and 1"),
        (2, 5, math.nan, "discount=nan must lie between 0 and 1"),
    ],
)
def test_impossible_models(n, size, discount, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        NGram(n, size, discount=discount)


def test_more_symbols_help_and_the_floor_holds():
    train = list(tasks().stream(0, 3000))
    ids: dict[str, int] = {"": 0}

    def row(text: str) -> list[int]:
        words = re.findall(r"\w+|\.", text)
        return [0, *(ids.setdefault(w, len(ids)) for w in words), 0]

    known = [row(text) for text in train]
    valid = list(tasks().stream(10**6, 500))
    cost = []
    for n in (1, 2, 3, 4):
        model = NGram(n, len(ids)).fit(known)
        total = sum(sum(model.log_probs(row(x))) for x in valid)
        cost.append(bits_per_byte(total, valid))
    assert cost[0] > cost[1] > cost[2]
    floor, error = tasks().entropy(3000)
    assert min(cost) > floor - 3 * error


def test_babble():
    model = NGram(2, 3).fit([[0, 1, 2, 1, 2, 1, 2, 0]] * 50)
    told = babble(model, [0], 30, random.Random(1), stop=0)
    assert told[:3] == [0, 1, 2]
    assert 0 not in told[1:-1]
    assert babble(model, [1], 0, random.Random(1)) == [1]
    again = babble(model, [0], 30, random.Random(1), stop=0)
    assert told == again
    ids = [0]
    assert len(babble(model, ids, 9, random.Random(1))) == 10
    assert ids == [0]


def test_babble_draws_with_the_models_probabilities():
    model = NGram(2, 4).fit([[0, 1, 0, 2, 0, 1, 0, 3]])
    rng = random.Random(0)
    count = 4000
    found = Counter(babble(model, [0], 1, rng)[1] for _ in range(count))
    for symbol in range(4):
        p = model.prob([0], symbol)
        assert abs(found[symbol] - p * count) < 5 * math.sqrt(p * count)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_nltk_gives_the_same_probabilities(n):
    pytest.importorskip("nltk")
    from bench.ngram_parity import compare, rows_of

    texts = list(world().stream(0, 24))
    found, size = rows_of(texts)
    result = compare(n, size, found[:18], found[18:])
    assert result["probabilities"] > 1000
    assert result["of_unseen_ngrams"] > 100
    assert result["greatest_relative_difference"] < 1e-12


# ---------------------------------------------------------------- tasks


@quick
@given(st.integers(0, 10**6), st.integers(0, 4))
def test_a_story_meets_its_own_request(seed, count):
    for some in (tasks(), world()):
        story = some.sample(seed)
        facts = some.parse(story)
        request = make_request(facts, random.Random(seed), count)
        assert len(request.words) == min(count, len(set(facts.roles.values())))
        assert set(request.words) <= set(facts.roles.values())
        assert unmet(some, request, story) == []


@pytest.mark.parametrize("count", [-1, -7])
def test_a_request_has_no_negative_count(count):
    facts = tasks().parse(tasks().sample(0))
    with pytest.raises(ValueError, match=f"count={count} must be 0 or more"):
        make_request(facts, random.Random(0), count)


def test_what_a_request_misses():
    story = "Mia took an old kite to the lake. It fell. Mia cried."
    request = Request(("kite", "park", "lak"), "happy")
    assert unmet(tasks(), request, story) == [
        "the word 'park'",
        "the word 'lak'",
        "a happy end",
    ]
    assert unmet(tasks(), request, "A kite.") == [
        "the word 'park'",
        "the word 'lak'",
        "a story of this world",
    ]
    assert unmet(tasks(), Request(("KITE",), "sad"), story) == []
    assert str(Request(("a.b", "kite"), "sad")) == (
        "Tell a story with these words: a.b, kite. The end: sad."
    )


def test_questions_and_answers():
    story = "Mia took a new ball to the lake. It fell. Ben found it. Mia sang."
    assert ask(tasks().parse(story)) == [
        ("Who is the story about?", "Mia"),
        ("How does Mia feel in the end?", "happy"),
        ("How did Mia feel in between?", "sad"),
        ("Where does it happen?", "lake"),
        ("What is the ball like?", "new"),
        ("Who has the ball in the end?", "Mia"),
    ]
    assert ask(Facts("", {}, "", "", {}, 0.0)) == []
    for seed in range(100):
        facts = world().parse(world().sample(seed))
        questions = ask(facts)
        assert len(questions) >= 2
        for question, answer in questions:
            assert question.endswith("?")
            assert "None" not in question
            assert answer in {*facts.roles.values(), *facts.tags.values()}


@quick
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 10**6))
def test_variants_begin_alike(seed, kept, new_seed):
    story = tasks().sample(seed)
    changed = tell_variant(tasks(), seed, kept, new_seed)
    assert tasks().log_prob(changed) > -math.inf
    assert tell_variant(tasks(), seed, 1, new_seed) == story
    assert tell_variant(tasks(), seed, 0, new_seed) == tasks().sample(new_seed)
    assert changed == tell_variant(tasks(), seed, kept, new_seed)


def test_more_that_is_kept_is_a_longer_common_beginning():
    def common(kept: float) -> float:
        total = 0
        for seed in range(30):
            one = world().sample(seed)
            two = tell_variant(world(), seed, kept, seed + 1000)
            pairs = zip(one, two, strict=False)
            same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
            total += len(one) if same is None else same
        return total

    assert common(0.1) < common(0.5) < common(0.9)


@pytest.mark.parametrize("kept", [-0.1, 1.1, math.nan])
def test_a_share_lies_between_0_and_1(kept):
    with pytest.raises(ValueError, match=re.escape(f"{kept=} must lie")):
        tell_variant(world(), 0, kept, 1)


def test_contrasts():
    for some in (tasks(), world()):
        for seed in range(30):
            request, good, bad = make_contrast(some, seed)
            assert good == some.sample(seed)
            assert unmet(some, request, good) == []
            assert unmet(some, request, bad)
            assert some.faults(bad) == []
            assert make_contrast(some, seed) == (request, good, bad)
    with pytest.raises(ValueError, match="every story of this world ends al"):
        make_contrast(StoryWorld("story: a."), 0)


def test_everything_public_is_documented():
    for name in stories.__all__:
        thing = getattr(stories, name)
        assert not callable(thing) or inspect.getdoc(thing), name


@pytest.mark.parametrize("ids", [[0, 7], [0, -1, 2], [3, 1]])
def test_ngrams_refuse_symbols_that_are_not_in_the_vocabulary(ids):
    model = NGram(2, 3)
    with pytest.raises(ValueError, match=rf"{max(ids)} must lie from 0 to 2"):
        model.fit([[0, 1, 2], ids])
    assert not model.counts


@pytest.mark.parametrize(
    ("context", "symbol", "message"),
    [
        ([], 3, "ids 3 to 3 must lie from 0 to 2, below vocab_size"),
        ([], -1, "ids -1 to -1 must lie from 0 to 2, below vocab_size"),
        ([0, 7], 1, "ids 0 to 7 must lie from -1 to 2, below vocab_size"),
        ([-2, 2], 1, "ids -2 to 2 must lie from -1 to 2, below vocab_size"),
        ([1, 1], 5, "ids 5 to 5 must lie from 0 to 2, below vocab_size"),
    ],
)
def test_ngrams_predict_no_symbols_that_there_are_not(
    context, symbol, message
):
    model = NGram(3, 3).fit([[0, 1, 2]])
    with pytest.raises(ValueError, match=message):
        model.prob(context, symbol)
    with pytest.raises(ValueError, match=r"must lie from (0|-1) to 2"):
        model.log_probs([0, *context, symbol])
    assert model.prob([-1, 0], 1) == model.prob([0], 1) != model.prob([2], 1)
