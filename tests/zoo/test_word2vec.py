"""The vectors of words, and what they are judged by."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from edgekit import zoo
from edgekit.zoo._corpus import corpus, related, windows

NAMES = ["skipgram-wordnet", "cbow-wordnet"]


def test_the_other_word_is_about_as_frequent_and_unrelated() -> None:
    rows = related()
    pairs = {(first, second) for first, second, _ in rows.tolist()}
    assert len(rows) > 1000
    assert all((first, other) not in pairs for first, _, other in rows.tolist())
    assert np.abs(rows[:, 1] - rows[:, 2]).max() <= 50


@pytest.mark.parametrize("name", NAMES)
def test_words_of_one_kind_are_near(name: str) -> None:
    names = corpus().names
    model = zoo.load(name).model
    with torch.no_grad():
        _, cosine = model(torch.tensor([names.index("dog")]))
    order = [names[index] for index in cosine[0].argsort(descending=True)]
    assert order[0] == "dog"
    assert order.index("cat") < 100


def test_a_sentence_ends_where_the_next_begins() -> None:
    data = corpus()
    assert len(data.text) == len(data.sentence) == data.counts.sum()
    assert (np.diff(data.sentence) >= 0).all()


def test_neighbours_are_of_one_sentence_and_others_in_each_epoch() -> None:
    data = corpus()
    spans = np.split(data.text, np.flatnonzero(np.diff(data.sentence)) + 1)
    together = {pair for span in spans for pair in _pairs(set(span.tolist()))}
    word, near = next(windows(0, 256))
    found = {(a, b) for a, row in zip(word.tolist(), near.tolist(), strict=True) for b in row}
    assert {(a, b) for a, b in found if b >= 0} <= together
    assert not torch.equal(word, next(windows(1, 256))[0])
    assert torch.equal(near, next(windows(0, 256))[1])


def _pairs(span: set[int]) -> Iterator[tuple[int, int]]:
    yield from ((a, b) for a in span for b in span)
