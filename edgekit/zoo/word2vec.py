"""``zoo:skipgram-wordnet`` and ``zoo:cbow-wordnet``: vectors of words, learnt from plain text.

Word2Vec (Mikolov et al., "Distributed Representations of Words and Phrases and their
Compositionality", 2013): skip-gram with negative sampling tells a word's neighbours from random
words, CBOW tells the word from the mean of its neighbours. Frequent words are read less often.
What is kept is the sum of a word's two vectors, as one that is told and as one that tells (Levy et
al., "Improving Distributional Similarity with Lessons Learned from Word Embeddings", 2015). The
text is that of WordNet's glosses of nouns and of the news that gensim carries for its tests.

They are judged by WordNet's relations, which they have not seen: of a pair of words, one of which
is a kind of the other or that have a meaning in common, and a pair with the second word exchanged
for one about as frequent, which is nearer? On this little text counting is still a bit better: PPMI
and SVD of the same size have 0.797. A word is (n,), int64; what comes out is its vector
(n, 64), of length 1, and its cosine to each of the 3000 words (n, 3000).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._batches import in_order
from edgekit.zoo._corpus import WORDS, corpus, related, windows
from edgekit.zoo._entry import Made

__all__ = ["ENTRIES", "WordVectors"]

_SIZE = 64
_NEGATIVES = 2
# The original learns from each pair at once. The sum over a few words comes near to that; with
# thousands, the vectors of rare words hardly move.
_BATCH = 256


class WordVectors(nn.Module):
    """Words (n,), int64, to their vectors (n, 64) and cosines to all words (n, 3000)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, _SIZE)
        nn.init.uniform_(self.table.weight, -0.5 / _SIZE, 0.5 / _SIZE)

    def forward(self, word: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.table(word)
        return found, functional.linear(found, self.table.weight)


def _evaluate(predict: Predict) -> dict[str, float]:
    """How often the related word is nearer than the other one; by chance half the time."""
    feeds = in_order({"word": np.arange(WORDS)}, 1000)
    vectors = np.concatenate([predict(one)["vector"] for one in feeds])
    first, second, other = (vectors[column] for column in related().T)
    nearer = (first * second).sum(1) > (first * other).sum(1)
    return {"related_nearer": float(nearer.mean())}


class _Taught(nn.Module):
    """The two tables in training."""

    def __init__(self, vectors: nn.Embedding) -> None:
        super().__init__()
        self.vectors = vectors
        self.contexts = nn.Embedding(WORDS, _SIZE)
        nn.init.zeros_(self.contexts.weight)

    def skipgram(self, word: torch.Tensor, near: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors of words, each beside one of their neighbours."""
        place, _ = torch.nonzero(near >= 0, as_tuple=True)
        return self.vectors(word[place]), near[near >= 0]

    def cbow(self, word: torch.Tensor, near: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean vectors of the neighbours of words, and the words."""
        there = (near >= 0).any(dim=1)
        real = (near[there] >= 0).unsqueeze(-1)
        total = (self.vectors(near[there].clamp(min=0)) * real).sum(1)
        return total / real.sum(1), word[there]

    def loss(self, found: torch.Tensor, wanted: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
        """Tell what is there, (m,), from random words, (m, 2), by (m, 64)."""
        right = (found * self.contexts(wanted)).sum(-1)
        wrong = (self.contexts(random) @ found.unsqueeze(-1)).squeeze(-1)
        return -functional.logsigmoid(right).sum() - functional.logsigmoid(-wrong).sum()


#: Of words and their neighbours: vectors (m, 64), and the words (m,) that they are to tell.
_Read: TypeAlias = Callable[
    [_Taught, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]


def _fit(read: _Read, rate: float, epochs: int, model: nn.Module) -> None:
    assert isinstance(model, WordVectors)
    taught = _Taught(model.table)
    optimizer = torch.optim.SGD(taught.parameters(), rate)
    noise = torch.from_numpy(corpus().counts ** 0.75).float()
    generator = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - epoch / epochs)
        for word, near in windows(epoch, _BATCH):
            found, wanted = read(taught, word, near)
            count = len(wanted) * _NEGATIVES
            random = torch.multinomial(noise, count, replacement=True, generator=generator)
            optimizer.zero_grad()
            taught.loss(found, wanted, random.view(-1, _NEGATIVES)).backward()
            optimizer.step()
    with torch.no_grad():
        both = taught.vectors.weight + taught.contexts.weight
        model.table.weight.copy_(functional.normalize(both, dim=-1))


def _around(name: str, description: str, model: nn.Module) -> Workload:
    every = {"word": np.arange(WORDS)}
    return Workload(
        name=name,
        model=model,
        example_inputs={"word": torch.arange(2)},
        output_names=["vector", "cosine"],
        calibration=lambda: in_order(every, 100),
        evaluate=_evaluate,
        metric=Metric("related_nearer"),
        description=description,
    )


_SOURCE = "gensim's Word2Vec on the same text, its defaults: 0.766 by skip-gram, 0.731 by CBOW"


def _entry(name: str, description: str, read: _Read, *, epochs: int, rate: float) -> Made:
    return Made(
        name=name,
        family="embeddings and graphs",
        description=description,
        build=WordVectors,
        make=partial(_around, name, description),
        fit=partial(_fit, read, rate, epochs),
        epochs=epochs,
        rate=rate,
        bar=0.77,
        source=_SOURCE,
    )


ENTRIES = (
    _entry(
        "skipgram-wordnet",
        "Word2Vec's skip-gram: vectors of 3000 words from glosses and news.",
        _Taught.skipgram,
        epochs=8,
        rate=0.1,
    ),
    _entry(
        "cbow-wordnet",
        "Word2Vec's CBOW: vectors of 3000 words from glosses and news.",
        _Taught.cbow,
        epochs=16,
        rate=0.2,
    ),
)
