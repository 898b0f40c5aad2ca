"""The contract of `generation` and `decoding`.

Samplers, sampling and beam search are compared with transformers, whose
functions get the same scores, and whose model has the same weights. All
else is held against a property: with a cache as without, together as
alone, in pieces as whole.
"""

import itertools
import math
import subprocess
import sys
from collections import Counter

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as theirs

from llm_from_scratch import decoding, generation
from llm_from_scratch.decoding import Decoder
from llm_from_scratch.devices import can_compile
from llm_from_scratch.files import END
from llm_from_scratch.generation import (
    Batch,
    Beam,
    Sampling,
    beam_search,
    check_count,
    check_prompts,
    evaluating,
    generate,
    left_pad,
    next_tokens,
    repetition_penalty,
    sample,
    stream,
    temperature,
    top_k,
    top_p,
    until,
    whole_characters,
)
from llm_from_scratch.gpt import GPT, GPTConfig, save_gpt2
from llm_from_scratch.modern import ModernConfig, ModernGPT
from llm_from_scratch.tokenization import BPETokenizer

quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],
)
SIZES = {"vocab_size": 61, "context_len": 24, "n_layer": 2, "n_embd": 48}
PROMPTS = [[1, 2, 3], [5], [7, 8, 9, 10, 11, 12, 13], [3] * 23, [60, 0]]
STOP = {0, 4}
WAYS = {
    "greedy": Sampling(greedy=True),
    "as scored": Sampling(),
    "all": Sampling(
        temperature=0.8, top_k=20, top_p=0.9, repetition_penalty=1.3
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seeds(n: int) -> list[torch.Generator]:
    return [seeded(i) for i in range(n)]


def louder(model):
    "So that scores differ enough for every choice to be clear."
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4)
    return model.eval()


@pytest.fixture(scope="module")
def gpt() -> GPT:
    return louder(GPT(GPTConfig(n_head=3, **SIZES), generator=seeded()))


@pytest.fixture(scope="module")
def modern() -> ModernGPT:
    config = ModernConfig(n_head=4, n_kv_head=2, head_size=16, **SIZES)
    return louder(ModernGPT(config, generator=seeded(), zero_init=False))


@pytest.fixture(params=["gpt", "modern"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def peer(gpt, tmp_path_factory):
    "Hugging Face's GPT-2 with our weights."
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = save_gpt2(gpt, tmp_path_factory.mktemp("peer") / "model")
    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    text = "Lily lost her red ball. 红 ☃ naïve 👩‍👩‍👧 ولد" * 3
    return BPETokenizer.train(text, 290, special_tokens=[END])


# -- the samplers, against transformers'

scores = st.builds(
    lambda seed, B, V, size: torch.randn(B, V, generator=seeded(seed)) * size,
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(2, 70),
    st.sampled_from([0.1, 1.0, 5.0, 30.0]),
)


@quick
@given(scores, st.floats(0.05, 5.0))
def test_temperature_is_theirs(logits, value):
    peer = theirs.TemperatureLogitsWarper(value)
    assert torch.equal(temperature(logits, value), peer(None, logits))


@quick
@given(scores, st.integers(1, 90))
def test_top_k_is_theirs(logits, k):
    logits = logits.round()  # so that some are equal
    peer = theirs.TopKLogitsWarper(k)
    assert torch.equal(top_k(logits, k), peer(None, logits))


@quick
@given(scores, st.floats(0.01, 1.0))
def test_top_p_is_theirs(logits, p):
    peer = theirs.TopPLogitsWarper(p)
    assert torch.equal(top_p(logits, p), peer(None, logits))


@quick
@given(scores, st.floats(0.5, 3.0), st.integers(1, 30), st.integers(0, 99))
def test_repetition_penalty_is_theirs(logits, penalty, length, seed):
    B, V = logits.shape
    ids = torch.randint(V, (B, length), generator=seeded(seed))
    peer = theirs.RepetitionPenaltyLogitsProcessor(penalty)
    ours = repetition_penalty(logits, ids, penalty)
    assert torch.equal(ours, peer(ids, logits))


@quick
@given(
    scores,
    st.floats(0.2, 2.0),
    st.integers(1, 50),
    st.floats(0.1, 1.0),
    st.floats(0.7, 2.0),
)
def test_order_is_theirs(logits, heat, k, p, penalty):
    ids = torch.randint(logits.shape[1], (len(logits), 9), generator=seeded())
    wanted = logits
    for peer in (
        theirs.RepetitionPenaltyLogitsProcessor(penalty),
        theirs.TemperatureLogitsWarper(heat),
        theirs.TopKLogitsWarper(k),
        theirs.TopPLogitsWarper(p),
    ):
        wanted = peer(ids, wanted)
    ours = Sampling(
        temperature=heat, top_k=k, top_p=p, repetition_penalty=penalty
    )
    assert torch.equal(ours.adjust(logits, ids), wanted)


@quick
@given(scores, st.floats(0.01, 1.0))
def test_top_p_keeps_the_fewest(logits, p):
    chances = logits.double().softmax(-1)
    kept = top_p(logits.double(), p).isfinite()
    for row, on in zip(chances, kept, strict=True):
        assert on[row.argmax()]
        total = row[on].sum().item()
        assert total >= p - 1e-9
        assert total - row[on].min() < p + 1e-9


def test_nothing_is_changed_by_the_defaults():
    logits = torch.randn(2, 9)
    assert Sampling().adjust(logits, torch.zeros(2, 1).long()) is logits
    assert torch.equal(top_k(logits, 99), logits)
    assert torch.equal(top_p(logits, 1.0), logits)


def test_given_scores_stay_as_they_are():
    logits = torch.randn(2, 9)
    before, ids = logits.clone(), torch.tensor([[1, 2], [3, 4]])
    WAYS["all"].choose(logits, ids, seeded())
    assert torch.equal(logits, before)


def test_drawing_follows_the_probabilities():
    logits = torch.tensor([[1.0, 0.0, -1.0, -math.inf]]).expand(20_000, -1)
    found = Counter(sample(logits, seeded()).tolist())
    wanted = logits[0].softmax(-1)
    for id, chance in enumerate(wanted.tolist()):
        spread = math.sqrt(chance * (1 - chance) / 20_000)
        assert abs(found[id] / 20_000 - chance) <= 4 * spread


def test_one_generator_a_row_makes_rows_independent():
    logits = torch.randn(3, 50, generator=seeded(1))
    together = sample(logits, seeds(3))
    alone = [sample(logits[i : i + 1], seeded(i)) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"temperature": 0}, ["temperature=0", "above 0", "greedy=True"]),
        ({"temperature": -1.5}, ["temperature=-1.5"]),
        ({"temperature": math.nan}, ["temperature=nan"]),
        ({"temperature": math.inf}, ["temperature=inf", "finite"]),
        ({"top_k": 0}, ["top_k=0", "at least 1"]),
        ({"top_k": 2.5}, ["top_k=2.5", "whole"]),
        ({"top_k": 5.0}, ["top_k=5.0", "whole"]),
        ({"top_p": 0.0}, ["top_p=0.0", "above 0", "at most 1"]),
        ({"top_p": 1.01}, ["top_p=1.01"]),
        ({"top_p": math.nan}, ["top_p=nan"]),
        ({"repetition_penalty": 0}, ["repetition_penalty=0", "above 0"]),
        ({"repetition_penalty": -1}, ["repetition_penalty=-1"]),
    ],
)
def test_options_out_of_range(options, parts):
    for greedy in (False, True):
        with pytest.raises(ValueError) as caught:
            Sampling(greedy=greedy, **options)
        for part in parts:
            assert part in str(caught.value)


# -- many texts at a time


@pytest.mark.parametrize("way", WAYS)
def test_together_as_alone_and_with_a_cache_as_without(model, way):
    common = {"max_tokens": 30, "sampling": WAYS[way], "stop_ids": STOP}
    n = len(PROMPTS)
    cached = generate(model, PROMPTS, generator=seeds(n), **common)
    plain = generate(model, PROMPTS, generator=seeds(n), cache=False, **common)
    alone = [
        generate(model, [prompt], generator=[own], **common)[0]
        for prompt, own in zip(PROMPTS, seeds(n), strict=True)
    ]
    assert cached == plain == alone
    assert any(len(x) > 5 for x in cached)


@pytest.mark.parametrize("way", WAYS)
def test_one_generator_for_all_draws_the_same_with_a_cache(model, way):
    common = {"max_tokens": 30, "sampling": WAYS[way], "stop_ids": STOP}
    told = [
        generate(model, PROMPTS, generator=seeded(), cache=x, **common)
        for x in (True, False)
    ]
    assert told[0] == told[1]


def test_texts_end_where_the_context_is_full(model):
    added = generate(model, PROMPTS, max_tokens=99)
    limit = model.config.context_len
    lengths = [len(p) + len(a) for p, a in zip(PROMPTS, added, strict=True)]
    assert lengths == [limit] * len(PROMPTS)


def test_stop_ids_end_a_text_and_are_left_out(model):
    free = generate(model, PROMPTS, max_tokens=20, sampling=WAYS["greedy"])
    stop = {free[0][3], free[2][0]}
    ended = generate(
        model, PROMPTS, max_tokens=20, sampling=WAYS["greedy"], stop_ids=stop
    )
    for whole, cut in zip(free, ended, strict=True):
        first = next((i for i, x in enumerate(whole) if x in stop), None)
        assert cut == whole[:first]
    assert ended[2] == []


def test_max_tokens_counts_new_ones(model):
    added = generate(model, [[1], [2, 3]], max_tokens=4)
    assert [len(x) for x in added] == [4, 4]
    assert generate(model, [], max_tokens=4) == []
    some = torch.tensor([[1, 2], [3, 4]])
    assert [len(x) for x in generate(model, some, max_tokens=2)] == [2, 2]


def test_the_model_is_left_as_it_was(gpt):
    config = GPTConfig(n_head=3, **(SIZES | {"dropout": 0.5}))
    other = GPT(config)
    other.load_state_dict(gpt.state_dict())
    other.train()
    other.blocks[0].eval()
    before = [part.training for part in other.modules()]
    options = {"max_tokens": 8, "sampling": WAYS["greedy"]}
    assert generate(other, PROMPTS, **options) == generate(
        gpt, PROMPTS, **options
    )
    assert [part.training for part in other.modules()] == before
    with pytest.raises(RuntimeError), evaluating(other):
        assert not other.training
        raise RuntimeError
    assert [part.training for part in other.modules()] == before


def test_steps_come_one_by_one(model):
    steps = next_tokens(model, [[1], [2, 3]], max_tokens=5)
    assert sorted(next(steps)) == [0, 1]
    assert not torch.is_inference_mode_enabled()
    assert len(list(steps)) == 4


def test_padding_is_on_the_left_and_of_known_ids():
    ids, real = left_pad([[1, 2, 3], [4]])
    assert ids.tolist() == [[1, 2, 3], [4, 4, 4]]
    assert real.tolist() == [[True] * 3, [False, False, True]]


@pytest.mark.parametrize("cache", [True, False])
def test_a_batch_takes_other_rows(model, cache):
    "What beam search asks: rows in another order, some twice, some not."
    with torch.inference_mode():
        batch = Batch(model, [[1, 2], [3], [4, 5, 6]], cache=cache)
        batch.scores()
        batch.grow(torch.tensor([7, 8, 9]), torch.tensor([2, 0, 2]))
        found = batch.scores()
        for row, text in zip(
            found, [[4, 5, 6, 7], [1, 2, 8], [4, 5, 6, 9]], strict=True
        ):
            alone = model(torch.tensor([text]))[0, -1]
            torch.testing.assert_close(row, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("prompts", "kind", "parts"),
    [
        ([[1], []], ValueError, ["prompts[1]", "empty", END]),
        ([[1] * 24], ValueError, ["24 tokens", "at most 23", "=24"]),
        ([[1, 61]], ValueError, ["prompts[0]", "id 61", "0…60"]),
        ([[1, -1]], ValueError, ["id -1", "0…60"]),
        ([1, 2], TypeError, ["prompts[0]=1", "[ids]"]),
        (["Lily"], TypeError, ["prompts[0]='Lily'", "list of token ids"]),
        (torch.zeros(1, 2, 3), TypeError, ["prompts[0]", "list"]),
        ([[[1, 2]]], TypeError, ["prompts[0]", "[1, 2]", "no token id"]),
        ([[1.0, 2.0]], TypeError, ["prompts[0]", "1.0", "no token id"]),
    ],
)
def test_wrong_prompts(gpt, prompts, kind, parts):
    for call in (
        lambda: generate(gpt, prompts, max_tokens=1),
        lambda: check_prompts(prompts, 61, 24),
    ):
        with pytest.raises(kind) as caught:
            call()
        for part in parts:
            assert part in str(caught.value)


@pytest.mark.parametrize("prompt", [[], [1] * 24, [61]])
def test_wrong_prompts_of_a_beam(gpt, prompt):
    with pytest.raises(ValueError, match=r"prompts\[0\]"):
        beam_search(gpt, prompt, width=2, max_tokens=1)


@pytest.mark.parametrize("value", [0, -3, 1.5, True])
def test_counts_below_one(gpt, value):
    calls = {
        "max_tokens": lambda: generate(gpt, [[1]], max_tokens=value),
        "width": lambda: beam_search(gpt, [1], width=value, max_tokens=1),
        "some": lambda: check_count("some", value),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"{name}={value}.*at least 1"):
            call()


# -- against transformers' generate


@pytest.mark.parametrize("way", ["greedy", "all"])
def test_the_same_tokens_as_transformers(gpt, peer, way):
    ids, own = torch.tensor([PROMPTS[0]] * 3), WAYS[way]
    options = {
        "max_new_tokens": 20, "eos_token_id": None, "pad_token_id": 60,
        "attention_mask": torch.ones_like(ids),
        "do_sample": not own.greedy,
        "repetition_penalty": own.repetition_penalty,
    }  # fmt: skip
    if not own.greedy:
        options |= {
            "temperature": own.temperature, "top_k": own.top_k,
            "top_p": own.top_p,
        }  # fmt: skip
    torch.manual_seed(1)
    wanted = peer.generate(ids, **options)[:, 3:].tolist()
    torch.manual_seed(1)
    assert generate(gpt, ids, max_tokens=20, sampling=own) == wanted


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_same_beams_as_transformers(gpt, peer, width, length_penalty):
    ids, stop = torch.tensor([PROMPTS[0]]), [60, 30]
    wanted = peer.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        num_beams=width,
        num_return_sequences=width,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=60,
        length_penalty=length_penalty,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = beam_search(
        gpt,
        PROMPTS[0],
        width=width,
        max_tokens=12,
        stop_ids=stop,
        length_penalty=length_penalty,
    )
    for their, ours in zip(wanted.sequences, found, strict=True):
        until_stop = itertools.takewhile(
            lambda id: id not in stop, their[3:].tolist()
        )
        assert list(until_stop) == ours.ids
    if width > 1:
        scores = torch.tensor([beam.score for beam in found])
        torch.testing.assert_close(wanted.sequences_scores, scores)


# -- beam search, against trying everything


def log_prob(model, prompt: list[int], ids: list[int]) -> float:
    "What the model gives a continuation, in one pass."
    text = torch.tensor([prompt + ids])
    with torch.no_grad():
        logs = model(text)[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logs[range(len(ids)), ids].sum().item()


def test_a_wide_beam_finds_the_likeliest_of_all():
    config = GPTConfig(
        vocab_size=5, context_len=8, n_layer=1, n_head=1, n_embd=8
    )
    model, prompt = louder(GPT(config, generator=seeded(3))), [1, 2]
    # all texts of up to three tokens that end with 0 or are full
    every = [
        [*body, *end]
        for n in range(4)
        for body in itertools.product(range(1, 5), repeat=n)
        for end in [()] * (n == 3) + [(0,)] * (n < 3)
    ]
    total = math.fsum(math.exp(log_prob(model, prompt, x)) for x in every)
    assert total == pytest.approx(1, abs=1e-5)
    best = max(every, key=lambda x: log_prob(model, prompt, x))
    found = beam_search(
        model, prompt, width=80, max_tokens=3, stop_ids=[0], length_penalty=0
    )
    assert isinstance(found[0], Beam)
    assert found[0].ids == [x for x in best if x]
    wanted = log_prob(model, prompt, best)
    assert found[0].log_prob == pytest.approx(wanted, abs=1e-4)
    assert len(found) == min(80, len(every))
    assert found == sorted(found, key=lambda beam: -beam.score)


def test_a_beam_of_one_is_greedy(model):
    for prompt in PROMPTS:
        options = {"max_tokens": 15, "stop_ids": STOP}
        best = beam_search(model, prompt, width=1, **options)[0].ids
        greedy = generate(model, [prompt], sampling=WAYS["greedy"], **options)[
            0
        ]
        assert best == greedy


TOLD = {(): [0.5, 0.4, 0.1], (0,): [0.45, 0.35, 0.2], (1,): [0.1, 0.2, 0.7]}


class Told:
    "Says what the chapter's step by hand says: 0 is x, 1 is y, 2 the end."

    config = GPTConfig(
        vocab_size=3, context_len=9, n_layer=1, n_head=1, n_embd=1
    )
    token_embedding = torch.nn.Embedding(3, 1)

    def new_cache(self, batch_size: int, max_len: int | None) -> None:
        self.texts = []

    def __call__(self, ids, cache=None, *, mask=None):
        texts = [[] if x == [2] else x for x in ids.tolist()]
        self.texts += texts
        chances = [[TOLD[tuple(x)]] for x in texts]
        return torch.tensor(chances).log()  # (B, 1, V)


def test_one_step_by_hand():
    model = Told()
    options = {"max_tokens": 2, "stop_ids": [2], "length_penalty": 0}
    found = beam_search(model, [2], width=2, **options)
    assert [x.ids for x in found] == [[1], [0, 0]]
    chances = [math.exp(x.log_prob) for x in found]
    assert chances == pytest.approx([0.28, 0.225])
    assert model.texts == [[], [0], [1]]
    greedy = beam_search(model, [2], width=1, **options)
    assert [x.ids for x in greedy] == [[0, 0]]


# -- text that comes in pieces

LETTERS = st.text(
    st.one_of(
        st.sampled_from("ab \n"),
        st.sampled_from("é红☃👩‍👧🇩🇪नमस्ते ולד한"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)


@quick
@given(LETTERS)
def test_pieces_joined_are_the_text(tokenizer, text):
    pieces = list(whole_characters(tokenizer, tokenizer.encode(text)))
    assert "".join(pieces) == text
    assert "�" in text or not any("�" in x for x in pieces)
    assert all(pieces)


@quick
@given(st.lists(st.integers(0, 289), max_size=40))
def test_pieces_of_any_ids_are_what_decode_says(tokenizer, ids):
    pieces = list(whole_characters(tokenizer, ids))
    assert "".join(pieces) == tokenizer.decode(ids)


def test_half_a_character_waits():
    tokenizer = BPETokenizer.train("Lily", 256)  # ids are bytes
    ids = list("é☃!".encode())
    first = [next(whole_characters(tokenizer, ids[:n]), "") for n in (1, 2)]
    assert first == ["�", "é"]  # one byte alone: only when all is over
    assert list(whole_characters(tokenizer, ids)) == ["é", "☃", "!"]
    assert list(whole_characters(tokenizer, ids[:4])) == ["é", "�"]


def cut_before(text: str, stop: list[str]) -> str:
    "What `until` must give: the text before the stop string done first."
    for end in range(len(text) + 1):
        starts = [end - len(s) for s in stop if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)]
    return text


@quick
@given(
    st.lists(st.text("abc", max_size=4), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
def test_until_is_blind_to_how_the_text_is_cut(pieces, stop):
    wanted = cut_before("".join(pieces), stop)
    assert "".join(until(pieces, stop)) == wanted
    assert "".join(until("".join(pieces), stop)) == wanted


def test_what_may_become_a_stop_string_waits():
    told = until(iter(["Ben sai", "d: E", "ND"]), "END")
    assert list(told) == ["Ben sai", "d: "]
    assert list(until(["EN", "TER", "EN"], ["END"])) == ["ENTER", "EN"]
    with pytest.raises(ValueError, match=r"stop=''.*every text"):
        list(until(["a"], ["x", ""]))


def test_stream_reads_and_stops_at_the_end_marker(tokenizer):
    config = GPTConfig(
        vocab_size=len(tokenizer), context_len=40, n_layer=1, n_head=2,
        n_embd=16,
    )  # fmt: skip
    model = louder(GPT(config, generator=seeded()))
    end = tokenizer.special_tokens[END]
    for seed in range(8):
        ids = generate(
            model,
            [[end, *tokenizer.encode("Lily")]],
            max_tokens=30,
            stop_ids=[end],
            generator=seeded(seed),
        )[0]
        options = {"max_tokens": 30, "generator": seeded(seed)}
        pieces = list(stream(model, tokenizer, "Lily", **options))
        whole = tokenizer.decode(ids)
        assert "".join(pieces) == whole
        stop = whole[5:7]
        options = {"max_tokens": 30, "generator": seeded(seed), "stop": stop}
        pieces = stream(model, tokenizer, "Lily", **options)
        assert "".join(pieces) == whole.partition(stop)[0] or not stop
    assert "".join(stream(model, tokenizer, "", max_tokens=5))
    with pytest.raises(ValueError, match=r"leaves no room.*at most 39"):
        stream(model, tokenizer, "x" * 50, max_tokens=1)


# -- the decoder

DECODED = {
    "gpt2": GPTConfig(n_head=3, **SIZES),
    "untied": GPTConfig(n_head=3, tied=False, **SIZES),
    "qwen3": ModernConfig(n_head=4, n_kv_head=2, head_size=16, **SIZES),
    "llama": ModernConfig(n_head=3, qk_norm=False, tied=False, **SIZES),
    "relu2": ModernConfig(n_head=4, activation="relu2", **SIZES),
    "bias": ModernConfig(n_head=4, attention_bias=True, **SIZES),
}


@pytest.mark.parametrize("way", ["products", "bags", "loops"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", DECODED)
def test_the_decoder_says_what_the_model_says(name, dtype, way, monkeypatch):
    config = DECODED[name]
    if isinstance(config, ModernConfig):
        model = ModernGPT(config, generator=seeded(), zero_init=False)
    else:
        model = GPT(config, generator=seeded())
    with torch.no_grad():
        for weight in model.parameters():  # norms and biases too
            weight.add_(0.1 * torch.randn(weight.shape, generator=seeded(1)))
    model = model.to(getattr(torch, dtype)).eval()
    if way == "loops":  # what is compiled, without compiling it
        monkeypatch.setattr(torch, "compile", lambda function, **_: function)
        monkeypatch.setattr(decoding, "can_compile", lambda device: True)
        decoder = Decoder(model, compiled=True)
    else:
        decoder = Decoder(model, bags=way == "bags")
    ids = torch.randint(61, (1, 24), generator=seeded(2))
    kept, own = model.new_cache(1), decoder.new_cache(1)
    atol = {"float32": 2e-5, "float64": 1e-12, "bfloat16": 0.1}[dtype]
    for part in ids.split([3] + [1] * 21, 1):
        with torch.inference_mode():
            wanted, found = model(part, kept), decoder(part, own)
        assert found.shape == wanted.shape
        scale = wanted.abs().max().item()
        assert (wanted - found).abs().max().item() <= atol * scale
    with pytest.raises(ValueError, match="do not fit"):
        decoder(ids[:, :1], own)


@pytest.mark.parametrize("way", WAYS)
def test_the_decoder_writes_what_the_model_writes(model, way):
    decoder = Decoder(model)
    for prompts in (PROMPTS, PROMPTS[:1]):
        told = [
            generate(
                x,
                prompts,
                max_tokens=30,
                sampling=WAYS[way],
                generator=seeds(len(prompts)),
            )
            for x in (model, decoder)
        ]
        assert told[0] == told[1]


COMPILE = """
import torch
from llm_from_scratch.decoding import Decoder
from llm_from_scratch.generation import generate
from llm_from_scratch.modern import ModernConfig, ModernGPT

config = ModernConfig(vocab_size=61, context_len=24, n_layer=1, n_head=4,
                      n_kv_head=2, n_embd=32)
model = ModernGPT(config, generator=torch.Generator().manual_seed(0),
                  zero_init=False)
fast = Decoder(model, compiled=True)
for prompt, count in (([5], 40), ([7, 9, 11], 6), ([1, 2], 40)):
    told = [
        generate(x, [prompt], max_tokens=count,
                 generator=torch.Generator().manual_seed(1))
        for x in (model, fast)
    ]
    assert told[0] == told[1], told
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
assert graphs == 1, graphs
"""


@pytest.mark.skipif(not can_compile("cpu"), reason="no compiler here")
def test_a_compiled_step_is_compiled_once_for_all_lengths():
    "In a process of its own, so that nothing was compiled before."
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_decoder_says_that_there_is_no_compiler(model, monkeypatch):
    monkeypatch.setattr(decoding, "can_compile", lambda device: False)
    with pytest.raises(ValueError, match=r"compiled=True: .*llmfs doctor"):
        Decoder(model, compiled=True)


def test_the_decoder_refuses_other_models():
    with pytest.raises(TypeError, match="got Linear"):
        Decoder(torch.nn.Linear(2, 2))


# -- the bugs of the page are seen


def test_padding_without_its_mask_is_seen(model, monkeypatch):
    options = {"max_tokens": 8, "sampling": WAYS["greedy"]}
    right = generate(model, PROMPTS[:3], **options)

    def blind(texts):
        ids, real = left_pad(texts)
        return ids, torch.ones_like(real)

    monkeypatch.setattr(generation, "left_pad", blind)
    assert generate(model, PROMPTS[:3], **options) != right


def test_a_cache_has_room_for_the_text_and_no_more(model, monkeypatch):
    rooms, new_cache = [], type(model).new_cache

    def spied(self, batch_size, max_len=None):
        rooms.append(max_len)
        return new_cache(self, batch_size, max_len)

    monkeypatch.setattr(type(model), "new_cache", spied)
    generate(model, [[1, 2], [3]], max_tokens=5)
    beam_search(model, [1, 2, 3], width=2, max_tokens=4)
    generate(model, [[1, 2]], max_tokens=500)
    assert rooms == [7, 7, SIZES["context_len"]]


@pytest.mark.parametrize("greedy", [False, True])
def test_scores_that_are_no_numbers(greedy):
    ids = torch.tensor([[0]])
    for logits in ([0.0, math.nan], [1.0, math.inf]):
        with pytest.raises(ValueError, match=r"score is (nan|inf).*diverged"):
            Sampling(greedy=greedy).choose(torch.tensor([logits]), ids)
    with pytest.raises(ValueError, match="temperature or the penalty"):
        far = torch.tensor([[100.0, 1.0]])
        Sampling(temperature=1e-40, greedy=greedy).choose(far, ids)


def test_a_generator_for_each_prompt_or_one_for_all(model):
    for n in (1, 3):
        with pytest.raises(ValueError, match=f"{n} generators for 2 prompts"):
            generate(model, [[1], [2]], max_tokens=2, generator=seeds(n))


def test_ids_that_the_tokenizer_lacks_are_never_drawn():
    tokenizer = BPETokenizer.train("Lily", 256)  # ids are bytes, no marker
    config = GPTConfig(
        vocab_size=300, context_len=64, n_layer=1, n_head=2, n_embd=16
    )
    model = GPT(config, generator=seeded())
    options = {"max_tokens": 40, "generator": seeded()}
    assert "".join(stream(model, tokenizer, "Lily", **options))
    own = generate(model, [[1]], max_tokens=60, generator=seeded())[0]
    assert max(own) > 255  # else nothing was left out above
    with pytest.raises(ValueError, match=r"prompt=''.*<\|endoftext\|>"):
        stream(model, tokenizer, "", **options)
