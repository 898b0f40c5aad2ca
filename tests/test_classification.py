"""The contract of `classification` and of its baseline of words.

Scores and files are compared with transformers on the same weights, the
baseline with scikit-learn where it is installed. All else is held
against a property, or against a slower way.
"""

import json
import math
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_from_scratch.checkpoint import load_checkpoint
from llm_from_scratch.classification import (
    Classifier,
    LabelLoader,
    calibration_error,
    classification_loss,
    classifier_tensors,
    confusion,
    encode_text,
    find_temperature,
    freeze,
    label_names,
    load_classifier,
    predict,
    read_labels,
    reliability,
    save_classifier,
    split_sentences,
    swap_neighbours,
)
from llm_from_scratch.files import END
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.modern import ModernConfig, ModernGPT
from llm_from_scratch.pretraining import TrainConfig, train
from llm_from_scratch.tokenization import BPETokenizer
from llm_from_scratch.word_baseline import WordWeights, fit_logistic

quick = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],
)
NAMES = ("calm", "happy", "sad")
TEXTS = [
    "Lily lost her red ball.",
    "Ben sang.",
    "The cat, the dog and the bird sat on the mat. It was late.",
    "Oh!",
    "Sam ran and ran, until he fell.",
]
LABELS = ["sad", "happy", "calm", "happy", "sad"]
SIZES = {"context_len": 64, "n_layer": 2, "n_head": 4, "n_embd": 32}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Small models are faster so, and another number would change digits."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(" ".join(TEXTS), 280, special_tokens=[END])


def new_classifier(tokenizer, names=NAMES, seed=0, **sizes) -> Classifier:
    "Random weights, none of them zero."
    random = torch.Generator().manual_seed(seed)
    sizes = SIZES | {"n_kv_head": 2, "head_size": 8} | sizes
    config = ModernConfig(vocab_size=len(tokenizer), **sizes)
    model = ModernGPT(config, generator=random, zero_init=False, std=0.2)
    return Classifier(model, names, generator=random).eval()


def new_loader(tokenizer, labels=LABELS, names=NAMES, **options):
    options = {"batch_size": 2, "context_len": 64} | options
    return LabelLoader(TEXTS, labels, tokenizer, names, **options)


def in_order(tokenizer, **options) -> LabelLoader:
    return new_loader(tokenizer, shuffle=False, epochs=1, **options)


# -- reading


def write(path, text: str, encoding: str = "utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_read_labels_takes_the_named_columns(tmp_path):
    rows = 'n,story,mood\r\n1,"He said: ""Oh, no!""\nThen he ran.",sad\r\n'
    path = write(tmp_path / "a.csv", "\ufeff" + rows + "\r\n2,Zoë sang,happy ")
    texts, labels = read_labels(path, text="story", label="mood")
    assert texts == ['He said: "Oh, no!"\nThen he ran.', "Zoë sang"]
    assert labels == ["sad", "happy"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("body,label\na,b\n", r"0 columns 'text', its columns are \['body'"),
        ("text,text,label\na,b,c\n", "2 columns 'text'"),
        ("", r"0 columns 'text', its columns are \[\]"),
        ("text,label\nOne, two,sad\n", "line 2: 3 fields, but 2 columns"),
        ("text,label\na,b\nalone\n", "line 3: 1 fields, but 2 columns"),
        ("text,label\n", "no row with a text and a label"),
        ("text,label\n" + "x" * 200_000 + ",a\n", "field larger than"),
    ],
)
def test_read_labels_names_the_fault(tmp_path, rows, message):
    path = write(tmp_path / "bad.csv", rows)
    with pytest.raises(ValueError, match=message) as error:
        read_labels(path)
    assert "bad.csv" in str(error.value)


def test_read_labels_wants_utf8(tmp_path):
    path = write(tmp_path / "old.csv", "text,label\nZoë,happy\n", "latin-1")
    with pytest.raises(ValueError, match=r"old\.csv is no CSV file in UTF-8"):
        read_labels(path)


def test_rows_without_text_or_label_are_counted(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n ,sad\nOne,\nTwo,calm\n")
    with pytest.warns(UserWarning, match="left out 2 of 3 rows"):
        texts, labels = read_labels(path)
    assert (texts, labels) == (["Two"], ["calm"])


def test_label_names_wants_two_kinds():
    assert label_names(["b", "a", "b"]) == ("a", "b")
    with pytest.raises(ValueError, match=r"labels=\['a'\].*two kinds"):
        label_names(["a", "a"])


# -- from texts to batches


def test_encode_text_begins_with_the_marker_and_cuts_by_rule(tokenizer):
    text = TEXTS[2]
    ids, end = tokenizer.encode(text), tokenizer.special_tokens[END]
    assert encode_text(tokenizer, text, 1000) == ([end, *ids], 0)
    n = len(ids)
    assert encode_text(tokenizer, text, 6) == ([end, *ids[-5:]], n - 5)
    cut = encode_text(tokenizer, text, 6, keep="start")
    assert cut == ([end, *ids[:5]], n - 5)
    exact = encode_text(tokenizer, text, n + 1, keep="start")
    assert exact == ([end, *ids], 0)


@pytest.mark.parametrize(
    ("text", "room", "keep", "message"),
    [
        (" \n", 9, "end", r"text=' \\n' is empty"),
        ("Hi", 1, "end", "context_len=1 must be at least 2"),
        ("Hi", 9, "middle", "keep=middle must be one of"),
    ],
)
def test_encode_text_refuses(tokenizer, text, room, keep, message):
    with pytest.raises(ValueError, match=message):
        encode_text(tokenizer, text, room, keep=keep)


def test_encode_text_needs_the_marker():
    plain = BPETokenizer.train("a b c", 258)
    with pytest.raises(ValueError, match=r"no special token <.*it has \[\]"):
        encode_text(plain, "a", 8)


def test_batches_are_padded_at_the_right(tokenizer):
    batches = list(in_order(tokenizer))
    assert [len(ids) for ids, _, _ in batches] == [2, 2, 1]
    at = 0
    for ids, sizes, targets in batches:
        assert ids.shape[1] == sizes.max()
        for row, size, target in zip(ids, sizes, targets, strict=True):
            wanted, _ = encode_text(tokenizer, TEXTS[at], 64)
            assert row[:size].tolist() == wanted
            assert NAMES[target] == LABELS[at]
            at += 1
    assert at == len(TEXTS)


def test_loader_counts_what_it_cuts(tokenizer):
    lost = [encode_text(tokenizer, text, 8)[1] for text in TEXTS]
    loader = new_loader(tokenizer, context_len=8)
    assert loader.n_cut == sum(n > 0 for n in lost) > 0
    assert new_loader(tokenizer).n_cut == 0


def test_labels_may_be_unknown(tokenizer):
    targets = [y for _, _, y in in_order(tokenizer, labels=None)]
    assert torch.cat(targets).tolist() == [-100] * len(TEXTS)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["sad", "mad", "calm", "bad", "sad"], r"labels=\['bad', 'mad'\]"),
        (["sad"], "5 texts and 1 labels"),
        ([], "5 texts and 0 labels"),
    ],
)
def test_loader_refuses(tokenizer, labels, message):
    with pytest.raises(ValueError, match=message):
        new_loader(tokenizer, labels=labels)


def test_loader_refuses_no_text_and_an_empty_one(tokenizer):
    with pytest.raises(ValueError, match="0 texts and 0 labels"):
        LabelLoader([], [], tokenizer, NAMES)
    with pytest.raises(ValueError, match="text='' is empty"):
        LabelLoader(["a", ""], ["sad", "sad"], tokenizer, NAMES)


@quick
@given(taken=st.integers(0, 12), seed=st.integers(0, 5))
def test_loader_goes_on_exactly(tokenizer, taken, seed):
    loader = new_loader(tokenizer, seed=seed)
    source = iter(loader)
    for _ in range(taken):
        next(source)
    state = json.loads(json.dumps(loader.state_dict()))
    again = new_loader(tokenizer, seed=seed)
    again.load_state_dict(state)
    for _, ours, theirs in zip(range(6), source, again, strict=False):
        assert all(map(torch.equal, ours, theirs))


def test_loader_gives_each_text_once_an_epoch(tokenizer):
    source = iter(new_loader(tokenizer, batch_size=5))
    for _ in range(3):
        ids, sizes, _ = next(source)
        rows = [x[:n].tolist() for x, n in zip(ids, sizes, strict=True)]
        texts = [encode_text(tokenizer, text, 64)[0] for text in TEXTS]
        assert sorted(rows) == sorted(texts)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": LABELS[1:] + LABELS[:1]},
        {"names": NAMES[::-1]},
        {"context_len": 8},
        {"seed": 1},
        {"batch_size": 1},
    ],
)
def test_a_position_belongs_to_its_data(tokenizer, change):
    state = new_loader(tokenizer).state_dict()
    with pytest.raises(ValueError, match="the saved position has"):
        new_loader(tokenizer, **change).load_state_dict(state)


# -- the classifier


def test_padding_changes_nothing(tokenizer):
    classifier = new_classifier(tokenizer)
    together = torch.cat([classifier(*x[:2]) for x in in_order(tokenizer)])
    alone = in_order(tokenizer, batch_size=1)
    alone = torch.cat([classifier(*x[:2]) for x in alone])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    ids, sizes, _ = next(iter(in_order(tokenizer)))
    wider = F.pad(ids, (0, 7), value=9)
    torch.testing.assert_close(
        classifier(wider, sizes), together[:2], atol=1e-5, rtol=1e-5
    )


def test_only_real_tokens_have_a_gradient(tokenizer):
    classifier = new_classifier(tokenizer)
    ids, sizes, _ = next(iter(in_order(tokenizer, batch_size=5)))
    found = []
    layer = classifier.model.token_embedding
    hook = layer.register_forward_hook(lambda *x: found.append(x[2]))
    scores = classifier(ids, sizes)
    hook.remove()
    (grad,) = torch.autograd.grad(scores.sum(), found)
    real = torch.arange(ids.shape[1]) < sizes[:, None]
    assert torch.equal(grad.abs().sum(2) > 0, real)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([3, 0], r"sizes=\[3, 0\] must lie from 1 to 4"),
        ([5, 1], r"sizes=\[5, 1\] must lie from 1 to 4"),
    ],
)
def test_sizes_must_fit(tokenizer, sizes, message):
    ids = torch.ones(2, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        new_classifier(tokenizer)(ids, torch.tensor(sizes))


def test_names_must_differ(tokenizer):
    model = new_classifier(tokenizer).model
    with pytest.raises(ValueError, match="holds one of them twice"):
        Classifier(model, ["a", "b", "a"])
    with pytest.raises(ValueError, match=r"labels=\['a'\]"):
        Classifier(model, ["a"])


def test_the_head_follows_the_generator_and_the_model(tokenizer):
    heads = [new_classifier(tokenizer, seed=x).score.weight for x in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    model = new_classifier(tokenizer).model.bfloat16()
    assert Classifier(model, NAMES).score.weight.dtype == torch.bfloat16
    many = new_classifier(tokenizer, names=[*map(str, range(400))])
    assert abs(many.score.weight.std().item() - 0.02) < 0.001


def test_gpt2_can_be_a_classifier(tokenizer):
    sizes = SIZES | {"vocab_size": len(tokenizer)}
    classifier = Classifier(GPT(GPTConfig(**sizes)), NAMES)
    scores, _ = predict(classifier, in_order(tokenizer))
    assert scores.shape == (5, 3)
    assert freeze(classifier, 0) == 3 * SIZES["n_embd"]
    assert freeze(classifier, 1) > freeze(classifier, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_reads_the_files_and_agrees(
    tokenizer, tmp_path, kind, tied, dtype
):
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    ours = new_classifier(tokenizer, qk_norm=kind == "qwen3", tied=tied)
    ours = ours.to(dtype)
    save_classifier(tmp_path / "c", ours, tokenizer)
    auto = transformers.AutoModelForSequenceClassification
    theirs = auto.from_pretrained(tmp_path / "c", dtype=dtype).eval()
    name = {"qwen3": "Qwen3", "llama": "Llama"}[kind]
    assert type(theirs).__name__ == f"{name}ForSequenceClassification"
    assert theirs.config.id2label == dict(enumerate(NAMES))
    end = theirs.config.pad_token_id
    ids, sizes, targets = next(iter(in_order(tokenizer, batch_size=5)))
    ids[torch.arange(ids.shape[1]) >= sizes[:, None]] = end
    with torch.no_grad():
        found = theirs(ids, labels=targets)
        scores = ours(ids, sizes)
    size = scores.abs().max()
    assert (found.logits - scores).abs().max() <= 2e-5 * size
    loss, n = classification_loss(ours, (ids, sizes, targets))
    assert n == 5
    assert abs(loss.item() - found.loss.item()) < 1e-4
    back, _, _ = load_classifier(tmp_path / "c")
    theirs.save_pretrained(tmp_path / "theirs")
    again, none, told = load_classifier(tmp_path / "theirs")
    assert none is None
    assert told == {"temperature": 1.0, "keep": "end"}
    for other in (back, again):
        assert other.names == NAMES
        with torch.no_grad():
            assert torch.equal(other(ids, sizes), scores)


# -- training


def test_freeze_leaves_the_rest_as_it_was(tokenizer):
    for blocks, moved in (
        (0, {"score"}),
        (1, {"score", "model.norm", "model.blocks.1"}),
        (2, {"score", "model.norm", "model.blocks.0", "model.blocks.1"}),
        (None, None),
    ):
        classifier = new_classifier(tokenizer)
        before = {k: x.clone() for k, x in classifier.state_dict().items()}
        count = freeze(classifier, blocks)
        trained = [p for p in classifier.parameters() if p.requires_grad]
        assert count == sum(p.numel() for p in trained)
        train(
            classifier,
            new_loader(tokenizer),
            TrainConfig(steps=2, lr=1e-2, evaluations=1),
            loss_fn=classification_loss,
            progress=False,
        )
        for name, tensor in classifier.state_dict().items():
            free = moved is None or name.startswith(tuple(moved))
            assert torch.equal(tensor, before[name]) != free, name


def test_freeze_can_be_undone_and_checks(tokenizer):
    classifier = new_classifier(tokenizer)
    full = sum(p.numel() for p in classifier.parameters())
    assert freeze(classifier, 0) == classifier.score.weight.numel()
    assert freeze(classifier, None) == full
    for blocks in (-1, 3):
        with pytest.raises(ValueError, match=f"blocks={blocks} must lie from"):
            freeze(classifier, blocks)


def test_resumed_is_uninterrupted(tokenizer, tmp_path):
    config = TrainConfig(steps=6, lr=1e-2, evaluations=3)
    options = {"loss_fn": classification_loss, "progress": False}

    class Stop(Exception):
        pass

    def stop(rows):
        if len(rows) == 4:
            raise Stop

    whole, half = new_classifier(tokenizer), new_classifier(tokenizer)
    rows = train(whole, new_loader(tokenizer), config, **options)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train(half, new_loader(tokenizer), config, watch=stop,
              folder=folder, **options)  # fmt: skip
    half = new_classifier(tokenizer, seed=5)
    again = train(half, new_loader(tokenizer), config, folder=folder,
                  resume=True, **options)  # fmt: skip
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]
    for a, b in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_learns_a_label_by_heart(tokenizer):
    classifier = new_classifier(tokenizer)
    train(
        classifier,
        new_loader(tokenizer, batch_size=5),
        TrainConfig(steps=30, lr=1e-2),
        loss_fn=classification_loss,
        progress=False,
    )
    scores, targets = predict(classifier, in_order(tokenizer))
    assert torch.equal(scores.argmax(1), targets)


def test_predict_keeps_the_order_and_the_mode(tokenizer):
    classifier = new_classifier(tokenizer).train()
    scores, targets = predict(classifier, in_order(tokenizer))
    assert classifier.training and not scores.requires_grad
    assert [NAMES[i] for i in targets] == LABELS
    one, _ = predict(classifier, in_order(tokenizer, batch_size=5))
    torch.testing.assert_close(scores, one, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="batches is empty"):
        predict(classifier, [])


# -- how good, and how sure


def draws(n: int, labels: int = 4, seed: int = 0) -> tuple:
    "Scores, and labels drawn with exactly these probabilities."
    random = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(n, labels, generator=random)
    targets = torch.multinomial(scores.softmax(1), 1, generator=random)
    return scores, targets[:, 0]


def test_confusion_counts_pairs():
    scores, targets = draws(200)
    table, said = confusion(scores, targets), scores.argmax(1)
    for i in range(4):
        for j in range(4):
            n = sum(
                a == i and b == j
                for a, b in zip(targets.tolist(), said.tolist(), strict=True)
            )
            assert table[i, j] == n
    assert table.sum() == 200
    assert table.trace() == (said == targets).sum()


def slow_error(scores, targets, bins):
    "The definition, a text at a time."
    kept = {}
    for row, target in zip(scores.double().softmax(1), targets, strict=True):
        sure = row.max().item()
        place = next(i for i in range(bins) if sure <= (i + 1) / bins)
        kept.setdefault(place, []).append((sure, row.argmax() == target))
    gaps = [abs(sum(s - int(r) for s, r in x)) for x in kept.values()]
    return sum(gaps) / len(targets)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_calibration_error_is_its_definition(bins):
    scores, targets = draws(300)
    wanted = slow_error(scores, targets, bins)
    found = calibration_error(scores, targets, bins=bins)
    assert found == pytest.approx(wanted, abs=1e-12)
    rows = reliability(scores, targets, bins=bins)
    assert sum(n for _, _, n in rows) == 300


def test_the_truth_is_calibrated_and_nothing_else_is():
    scores, targets = draws(40_000)
    assert calibration_error(scores, targets) < 0.01
    for factor in (0.3, 3.0):
        assert calibration_error(scores * factor, targets) > 0.1
    sure = F.one_hot(targets, 4) * 1e4
    assert calibration_error(sure, targets) == 0
    assert calibration_error(sure, (targets + 1) % 4) == 1


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_the_temperature_is_found(factor):
    scores, targets = draws(40_000)
    found = find_temperature(scores * factor, targets)
    assert found == pytest.approx(factor, rel=0.03)

    def loss(temperature):
        scaled = scores.double() * factor / temperature
        return F.cross_entropy(scaled, targets).item()

    for other in (0.99, 1.01):
        assert loss(found) < loss(found * other)


def test_the_temperature_has_limits():
    targets = torch.tensor([0, 1, 0])
    right = F.one_hot(targets, 2).float()
    assert find_temperature(right, targets) == 1  # nothing to learn from
    close = torch.tensor([[1e-3, 0.0]] * 99 + [[1e-6, 0.0]])
    mostly = torch.tensor([0] * 99 + [1])
    assert find_temperature(close, mostly) == pytest.approx(0.01)
    assert find_temperature(-right, targets) == pytest.approx(100)


# -- files


def test_saved_and_loaded(tokenizer, tmp_path):
    classifier = new_classifier(tokenizer).bfloat16()
    save_classifier(
        tmp_path / "c",
        classifier,
        tokenizer,
        temperature=1.5,
        keep="start",
        meta={"seed": 3},
    )
    back, words, told = load_classifier(tmp_path / "c")
    assert told == {"temperature": 1.5, "keep": "start"}
    assert words.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert not back.training and back.names == NAMES
    for name, tensor in classifier_tensors(classifier).items():
        assert torch.equal(tensor, classifier_tensors(back)[name])
        assert tensor.dtype == torch.bfloat16
    data = json.loads((tmp_path / "c/config.json").read_text("utf-8"))
    assert data["llm_from_scratch"]["seed"] == 3
    wide, _, _ = load_classifier(tmp_path / "c", dtype=torch.float32)
    assert wide.score.weight.dtype == torch.float32
    assert {x.name for x in (tmp_path / "c").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


def test_a_folder_is_kept_unless_told(tokenizer, tmp_path):
    classifier = new_classifier(tokenizer)
    save_classifier(tmp_path / "c", classifier, tokenizer)
    with pytest.raises(FileExistsError, match="exists already"):
        save_classifier(tmp_path / "c", classifier, tokenizer)
    save_classifier(tmp_path / "c", classifier, tokenizer, overwrite=True)


def test_save_refuses(tokenizer, tmp_path):
    model = GPT(GPTConfig(**SIZES, vocab_size=len(tokenizer)))
    with pytest.raises(TypeError, match="model_type='gpt2' must be qwen3"):
        save_classifier(tmp_path / "c", Classifier(model, NAMES), tokenizer)
    classifier = new_classifier(tokenizer)
    with pytest.raises(ValueError, match=r"temperature=0\.0 must"):
        save_classifier(tmp_path / "c", classifier, tokenizer, temperature=0.0)
    with pytest.raises(ValueError, match="keep=all must be one of"):
        save_classifier(tmp_path / "c", classifier, tokenizer, keep="all")
    assert not (tmp_path / "c").exists()


def test_load_refuses_what_is_no_classifier(tokenizer, tmp_path):
    from llm_from_scratch.modern import save_modern

    classifier = new_classifier(tokenizer)
    save_modern(classifier.model, tmp_path / "m")
    with pytest.raises(ValueError, match="id2label=None: it is no classif"):
        load_classifier(tmp_path / "m")
    path = save_classifier(tmp_path / "c", classifier, tokenizer)
    data = json.loads((path / "config.json").read_text("utf-8"))
    data["id2label"]["3"] = "angry"
    write(path / "config.json", json.dumps(data))
    with pytest.raises(ValueError, match=r"score\.weight is \[3, 32\]"):
        load_classifier(path)
    with pytest.raises(ValueError, match=r"score\.weight"):
        load_checkpoint(path)  # a classifier is no language model


# -- sentences


def test_sentences_are_found():
    text = 'He ran. "Oh no!" said Tom. It was 3.5 miles.\n\n"Why?" she asked.'
    assert split_sentences(text) == [
        "He ran.",
        '"Oh no!" said Tom.',
        "It was 3.5 miles.",
        '"Why?" she asked.',
    ]
    assert split_sentences("") == []


@quick
@given(text=st.text(alphabet='aB.!?" \n', max_size=60))
def test_sentences_hold_all_words(text):
    assert " ".join(split_sentences(text)).split() == text.split()


@quick
@given(seed=st.integers(0, 999), most=st.integers(2, 6))
def test_two_neighbours_change_places(seed, most):
    text = "One. Two! Three? Four. Five. Six."
    old, new = swap_neighbours(text, random.Random(seed), most=most)
    a, b = split_sentences(old), split_sentences(new)
    assert a == split_sentences(text)[:most]
    different = [i for i in range(most) if a[i] != b[i]]
    assert len(different) == 2
    assert different[1] - different[0] == 1
    assert sorted(a) == sorted(b)


def test_nothing_to_swap():
    for text in ("", "Only one.", "Same. Same. Same."):
        assert swap_neighbours(text, random.Random(0)) is None


# -- the baseline


def test_word_weights_by_hand():
    weights = WordWeights(["red ball", "red cat", "a red, red hat"])
    assert list(weights.column) == ["ball", "cat", "hat", "red"]
    rare = math.log(4 / 2) + 1
    row = weights(["Red RED ball dog"]).to_dense()[0]
    length = math.hypot(rare, 2.0)
    wanted = [rare / length, 0, 0, 2 / length]
    assert row.tolist() == pytest.approx(wanted)
    assert weights(["dog"]).to_dense().abs().sum() == 0
    with pytest.raises(ValueError, match="2 texts hold no word"):
        WordWeights(["!", "a b c"])


def test_a_bag_of_words_cannot_see_order():
    weights, text = WordWeights(TEXTS), "One cat. The dog ran. Ben sat."
    old, new = swap_neighbours(text, random.Random(0))
    assert old != new
    a, b = weights([old, new]).to_dense()
    assert torch.equal(a, b)


def test_the_regression_is_at_its_minimum():
    x, y = draws(60)
    weight, shift = fit_logistic(x, y, 4, strength=0.5)
    weight.requires_grad_()
    shift.requires_grad_()
    loss = F.cross_entropy(x.double() @ weight + shift, y, reduction="sum")
    (loss + weight.square().sum()).backward()
    for grad in (weight.grad, shift.grad):
        assert grad.abs().max() < 1e-4


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_scikit_learn_agrees(strength):
    pytest.importorskip("sklearn")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    rng, words = random.Random(0), ("the", "red", "a", "mat", "zoë's", "ran")
    texts = [" ".join(rng.choices(words, k=9)) for _ in range(80)]
    labels = [rng.randrange(3) for _ in texts]
    ours, theirs = WordWeights(texts[:60]), TfidfVectorizer()
    x = ours(texts)
    wanted = torch.from_numpy(
        theirs.fit(texts[:60]).transform(texts).todense()
    )
    assert list(ours.column) == list(theirs.get_feature_names_out())
    torch.testing.assert_close(x.to_dense(), wanted)
    weight, shift = fit_logistic(
        ours(texts[:60]), torch.tensor(labels[:60]), 3, strength=strength
    )
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
    model.fit(wanted[:60].numpy(), labels[:60])
    shares = (x @ weight + shift).softmax(1)
    found = torch.from_numpy(model.predict_proba(wanted.numpy()))
    torch.testing.assert_close(shares, found, atol=1e-5, rtol=0)
