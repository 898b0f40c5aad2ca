"""Texts judged by their words alone: the baseline of every classifier.

Knows words and numbers. Knows nothing of tokens and language models.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .devices import check_range


class WordWeights:
    """Texts as weighted counts of their words, TF-IDF.

    Equal to scikit-learn's `TfidfVectorizer` as it comes: words of two
    letters or more, small letters, rare words weigh more, length 1.
    """

    def __init__(
        self,
        texts: Iterable[str],  # whose words are known from now on
    ):
        "Raise `ValueError` if they hold no word."
        texts = list(texts)
        seen = Counter(word for x in texts for word in {*self.words(x)})
        if not seen:
            raise ValueError(f"{len(texts)} texts hold no word")
        self.column = {word: i for i, word in enumerate(sorted(seen))}
        found = torch.tensor([seen[w] for w in self.column]).double()
        self.weight = ((1 + len(texts)) / (1 + found)).log() + 1

    @staticmethod
    def words(text: str) -> list[str]:
        "Every word, as often as it stands there."
        return re.findall(r"\b\w\w+\b", text.lower())

    def __call__(
        self,
        texts: Sequence[str],  # N; words that are not known do not count
    ) -> Tensor:  # sparse, in float64, a row a text
        "Count, weigh, and bring each row to length 1."
        places, values = [], []
        for row, text in enumerate(texts):
            known = (self.column.get(w) for w in self.words(text))
            counts = Counter(column for column in known if column is not None)
            columns = sorted(counts)
            value = torch.tensor([counts[c] for c in columns]).double()
            value *= self.weight[columns]
            values.append(value / value.norm().clamp(min=1e-12))
            places += [(row, column) for column in columns]
        where = torch.tensor(places, dtype=torch.long).view(-1, 2).T
        shape = len(texts), len(self.column)
        data = torch.cat(values)
        return torch.sparse_coo_tensor(
            where, data, shape, check_invariants=True
        )


def fit_logistic(
    x: Tensor,  # a row a text, dense or sparse
    targets: Tensor,  # the right labels, (N,)
    n_labels: int,  # L
    *,
    strength: float = 1.0,  # C of scikit-learn: less holds weights smaller
    steps: int = 200,  # of L-BFGS, at most
) -> tuple[Tensor, Tensor]:  # weights, and a shift of each label (L,)
    """Logistic regression: the sum of losses, plus |weights|² / (2 C).

    Equal to scikit-learn's `LogisticRegression`, whose minimum is the
    only one. Score texts by `x @ weights + shift`.
    """
    check_range("strength", strength, 1e-9, math.inf)
    x = x.double()
    weight = torch.zeros(x.shape[1], n_labels).double().requires_grad_()
    shift = torch.zeros(n_labels).double().requires_grad_()
    options = {"history_size": 20, "tolerance_grad": 1e-9}
    optimizer = torch.optim.LBFGS(
        [weight, shift],
        max_iter=steps,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
        **options,
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(x @ weight + shift, targets)
        total = losses + weight.square().sum() / (2 * strength * len(targets))
        total.backward()
        return total

    optimizer.step(loss)
    return weight.detach(), shift.detach()
