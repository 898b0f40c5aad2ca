"Bits per byte, against plain sums, and an interval that keeps its word."

import math

import pytest
import torch
from torch import nn

from llm_from_scratch.data import Windows, write_tokens
from llm_from_scratch.files import END
from llm_from_scratch.gpt import GPT, GPTConfig
from llm_from_scratch.scoring import Score, document_losses, evaluate
from llm_from_scratch.stories import bits_per_byte
from llm_from_scratch.tokenization import BPETokenizer

STORIES = [
    "Lily lost her red ball.",
    "So she asked Ben, who had it in his bag.",
    "Ben ran. Ben fell. Lily helped Ben, and Ben said: thank you, Lily!",
    "The café was open.",
    "A cat.",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    tokenizer = BPETokenizer.train(
        " ".join(STORIES) * 5, 300, special_tokens=[END]
    )
    path = tmp_path_factory.mktemp("tokens") / "text"
    return write_tokens(path, STORIES, tokenizer, workers=1), tokenizer


def made(dropout: float = 0.0) -> GPT:
    config = GPTConfig(
        vocab_size=300,
        context_len=64,
        n_layer=2,
        n_head=2,
        n_embd=16,
        dropout=dropout,
    )
    return GPT(config, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_equal_to_the_sums_of_the_stories_chapter(size, text):
    "Each story alone, its end marker counted, no padding, no batch."
    file, tokenizer = text
    model, log_prob, n = made().eval(), 0.0, 0
    end = [file.header["end_id"]]
    with torch.no_grad():
        for story in STORIES:
            ids = torch.tensor([end + tokenizer.encode(story) + end])
            scores = model(ids[:, :-1]).double().log_softmax(-1)
            chosen = scores.gather(2, ids[:, 1:, None])
            log_prob, n = log_prob + chosen.sum().item(), n + chosen.numel()
    windows = Windows(file, 64, "documents")
    batches = [
        windows.batch(range(i, min(i + size, 5))) for i in range(0, 5, size)
    ]
    score = evaluate(model, batches, file.document_bytes())
    wanted = bits_per_byte(log_prob, STORIES)
    assert score.bits_per_byte == pytest.approx(wanted, rel=1e-5)
    assert float(score) == score.bits_per_byte
    assert score.loss == pytest.approx(-log_prob / n, rel=1e-5)
    assert (score.documents, score.targets) == (5, n)


def test_each_document_alone(text):
    "What else is in a batch, and how wide it is, does not matter."
    file, _ = text
    windows = Windows(file, 64, "documents")
    together = document_losses(made(), [windows.batch(range(5))])
    alone = document_losses(made(), [windows.batch([i]) for i in range(5)])
    assert torch.equal(together[1], alone[1])
    torch.testing.assert_close(together[0], alone[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_without_dropout_and_without_a_trace(training, text):
    file, _ = text
    batch = [Windows(file, 64, "documents").batch(range(5))]
    noisy = made(dropout=0.5).train(training)
    sizes = file.document_bytes()
    first, second = (evaluate(noisy, batch, sizes) for _ in range(2))
    assert first == second == evaluate(made(), batch, sizes)
    assert noisy.training is training
    assert all(p.grad is None for p in noisy.parameters())


def test_a_guess_costs_what_it_must(text):
    "A model that finds all tokens equally likely: log2 V for each."

    class Even(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(300))

        def forward(self, ids):
            return self.bias.expand(*ids.shape, 300)

    file, _ = text
    batch = [Windows(file, 64, "documents").batch(range(5))]
    score = evaluate(Even(), batch, file.document_bytes())
    bits = score.targets * math.log2(300) / file.text_bytes()
    assert score.bits_per_byte == pytest.approx(bits, rel=1e-6)
    assert score.loss == pytest.approx(math.log(300), rel=1e-6)


def test_other_documents_than_sizes(text):
    file, _ = text
    batch = [Windows(file, 64, "documents").batch(range(5))]
    with pytest.raises(ValueError, match="5 documents, but 4 sizes"):
        evaluate(made(), batch, [1] * 4)


def test_no_documents():
    with pytest.raises(ValueError, match="batches is empty: give one"):
        evaluate(made(), [], [])


def test_in_words():
    score = Score(0.98765, 0.0123, 1.5, 1000, 9)
    assert str(score) == "0.988 ± 0.012 bits per byte on 1000 documents"


def test_one_document_has_no_margin(text):
    file, _ = text
    batch = [Windows(file, 64, "documents", 1).batch([0])]
    score = evaluate(made(), batch, file.document_bytes(1))
    assert math.isnan(score.margin)
    assert " ± ? bits per byte on 1 documents" in str(score)


def test_a_target_behind_a_masked_prompt(text):
    "Only the last target of each row counts, however long the rows are."
    file, _ = text
    x, y = Windows(file, 64, "documents").batch(range(5))
    counts = (y != -100).sum(1)
    masked = torch.full_like(y, -100)
    for row, n in enumerate(counts):
        masked[row, n - 1] = y[row, n - 1]
    model = made().eval()
    nats, found = document_losses(model, [(x, masked)])
    assert found.tolist() == [1] * 5
    with torch.no_grad():
        scores = model(x).double().log_softmax(-1)
    for row, n in enumerate(counts):
        wanted = -scores[row, n - 1, y[row, n - 1]]
        assert nats[row].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_doubles_are_made_on_the_processor(text, monkeypatch):
    "Apple's GPUs have none."
    cpu, double, moved = torch.Tensor.cpu, torch.Tensor.double, []

    def to_cpu(x):
        moved.append(cpu(x).clone())
        return moved[-1]

    def to_double(x):
        if not any(x is known for known in moved):
            raise TypeError("the MPS framework doesn't support float64")
        return double(x)

    file, _ = text
    batch = [Windows(file, 64, "documents").batch(range(5))]
    wanted = document_losses(made(), batch)
    monkeypatch.setattr(torch.Tensor, "cpu", to_cpu)
    monkeypatch.setattr(torch.Tensor, "double", to_double)
    found = document_losses(made(), batch)
    assert torch.equal(found[0], wanted[0])


def test_interval_covers(monkeypatch):
    """95 % intervals, of samples whose true rate is known.

    Documents of very unequal length, whose bits follow their size with
    noise. 600 samples: 95 % ± 2.6 % at three standard errors; the rule
    is for large samples, so a little less is granted.
    """
    from llm_from_scratch import scoring

    chance = torch.Generator().manual_seed(0)
    found = []
    monkeypatch.setattr(scoring, "document_losses", lambda *_: found[-1])
    rate, hits, n = 1.25, 0, 120
    for _ in range(600):
        sizes = torch.randint(50, 1500, (n,), generator=chance).double()
        ease = 1 + 0.3 * torch.randn(n, generator=chance).double()
        nats = rate * math.log(2) * sizes * ease
        found.append((nats, torch.ones(n)))
        score = evaluate(None, [], sizes.tolist())
        hits += abs(score.bits_per_byte - rate) <= score.margin
    assert 0.91 < hits / 600 < 0.98
