"""The text that vectors of words are learnt from, and what WordNet says of their likeness.

The text is WordNet's glosses of nouns, and the news that gensim carries for its tests (Lee et al.,
2005).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gensim
import numpy as np
import torch

from edgekit.spec import Array
from edgekit.zoo._wordnet import nouns, words

__all__ = ["WORDS", "Corpus", "corpus", "related", "windows"]

WORDS = 3000
_WINDOW, _FREQUENT = 5, 1e-3
_NEWS = Path(gensim.__file__).parent / "test" / "test_data" / "lee_background.cor"


@dataclass(frozen=True, slots=True)
class Corpus:
    """The most frequent words, the first the most; and the text as their indices.

    Attributes:
        names: the words.
        counts: how often each is in the text (words,).
        text: indices (tokens,), int64; other words are left out.
        sentence: the number of the sentence that each token is in (tokens,), in rising order.
    """

    names: tuple[str, ...]
    counts: Array
    text: Array
    sentence: Array


@cache
def corpus() -> Corpus:
    """82,115 glosses and 300 articles: 0.88 million tokens are of these words."""
    news = _NEWS.read_text(encoding="utf-8").replace(". ", "\n").splitlines()
    texts = [words(text) for text in [*(noun.gloss for noun in nouns()), *news]]
    counts = Counter(word for text in texts for word in text).most_common(WORDS)
    index = {word: i for i, (word, _) in enumerate(counts)}
    kept = [[index[word] for word in text if word in index] for text in texts]
    return Corpus(
        names=tuple(index),
        counts=np.array([count for _, count in counts]),
        text=np.concatenate([np.array(text, np.int64) for text in kept]),
        sentence=np.repeat(np.arange(len(kept)), [len(text) for text in kept]),
    )


@cache
def related() -> Array:
    """Pairs of words that WordNet relates, and another word: (pairs, 3), int64.

    The other one is among those about as frequent as the second, and is not related to the first.
    """
    index = {word: i for i, word in enumerate(corpus().names)}
    known = {one.key: [index[name] for name in one.names if name in index] for one in nouns()}
    found = set()
    for one in nouns():
        others = known[one.key] + [name for key in one.broader for name in known[key]]
        found |= {(a, b) for a in known[one.key] for b in others if a != b}
    drawn = np.random.default_rng(0)
    rows = []
    for first, second in sorted(found):
        other = -1
        while not 0 <= other < WORDS or {(first, other), (other, first)} & found or other == first:
            other = second + int(drawn.integers(-50, 51))
        rows.append((first, second, other))
    return np.array(rows, np.int64)


def windows(epoch: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Words (size,) and their neighbours (size, 10), -1 for none, each epoch others.

    Frequent words are left out at random, and windows are of random width, as word2vec has it.
    """
    data = corpus()
    drawn = np.random.default_rng(epoch)
    share = data.counts / data.counts.sum()
    keep = np.minimum(1.0, np.sqrt(_FREQUENT / share))
    read = drawn.random(len(data.text)) < keep[data.text]
    text, sentence = data.text[read], data.sentence[read]
    places = drawn.permutation(len(text))
    offsets = np.array([o for o in range(-_WINDOW, _WINDOW + 1) if o])
    for start in range(0, len(places), size):
        here = places[start : start + size]
        near = here[:, None] + offsets
        inside = np.abs(offsets) <= drawn.integers(1, _WINDOW + 1, (len(here), 1))
        inside &= (near >= 0) & (near < len(text))
        near = near.clip(0, len(text) - 1)
        inside &= sentence[near] == sentence[here][:, None]
        yield torch.from_numpy(text[here]), torch.from_numpy(np.where(inside, text[near], -1))
