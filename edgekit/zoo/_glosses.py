"""Which field is a noun of? Told from its definition in WordNet.

The fields are the ten that most nouns belong to. A gloss is the indices of its words (n, words),
int64, 0 where it is over; a word that is not among the known ones has index 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._wordnet import nouns, words

__all__ = ["FIELDS", "LONGEST", "VOCABULARY", "Glosses", "gloss_classifier", "glosses"]

FIELDS = (
    "artifact", "person", "plant", "animal", "act", "communication", "state", "location",
    "attribute", "substance",
)  # fmt: skip
LONGEST = 32
VOCABULARY = 3000
_TRAINED, _HELD_OUT = 1400, 200
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Glosses:
    """Indices of words, (n, 32), and fields (n,); both int64."""

    train_words: Array
    train_fields: Array
    test_words: Array
    test_fields: Array


@cache
def glosses() -> Glosses:
    """Of each field 200 glosses are held out, and about 1400 others learnt from."""
    order = np.random.default_rng(0)
    train: list[tuple[list[str], int]] = []
    test: list[tuple[list[str], int]] = []
    for index, field in enumerate(FIELDS):
        # Two meanings may have the same words.
        found = {tuple(words(one.gloss.split(";")[0])) for one in nouns() if one.kind == field}
        shuffled = sorted(found - {()})
        order.shuffle(shuffled)
        test += [(list(text), index) for text in shuffled[:_HELD_OUT]]
        train += [(list(text), index) for text in shuffled[_HELD_OUT : _HELD_OUT + _TRAINED]]
    counts = Counter(word for text, _ in train for word in text)
    known = {word: 2 + i for i, (word, _) in enumerate(counts.most_common(VOCABULARY - 2))}
    order.shuffle(train)
    train_words, train_fields = _indices(train, known)
    test_words, test_fields = _indices(test, known)
    # Other rare words in the same places make the same gloss, to the model.
    held_out = {row.tobytes() for row in test_words}
    new = np.array([row.tobytes() not in held_out for row in train_words])
    return Glosses(train_words[new], train_fields[new], test_words, test_fields)


def _indices(texts: list[tuple[list[str], int]], known: dict[str, int]) -> tuple[Array, Array]:
    table = np.zeros((len(texts), LONGEST), np.int64)
    for row, (text, _) in zip(table, texts, strict=True):
        row[: len(text)] = [known.get(word, 1) for word in text[:LONGEST]]
    return table, np.array([field for _, field in texts])


def gloss_classifier(name: str, model: nn.Module, description: str) -> Workload:
    """A classifier of glosses of any length.

    Args:
        name: of the entry.
        model: from ``words`` (n, words), int64, to scores of the ten fields (n, 10).
        description: one line.
    """
    data = glosses()
    return Workload(
        name=name,
        model=model,
        example_inputs={"words": torch.from_numpy(_trimmed(data.train_words[:2]))},
        output_names=["logits"],
        dynamic_shapes={"words": {0: BATCH, 1: "length"}},
        pad={"words": 0},
        calibration=lambda: _batches(data.train_words[: 8 * _BATCH]),
        evaluate=_evaluate,
        metric=Metric("accuracy"),
        labels=FIELDS,
        training=Training(_shuffled, _loss),
        description=description,
    )


def _trimmed(table: Array) -> Array:
    """As long as the longest gloss of them."""
    return table[:, : max(int((table != 0).sum(1).max()), 1)]


def _batches(table: Array) -> Iterator[Feeds]:
    for start in range(0, len(table), _BATCH):
        yield {"words": _trimmed(table[start : start + _BATCH])}


def _shuffled(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    data = glosses()
    order = np.random.default_rng(epoch).permutation(len(data.train_words))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        batch = {"words": _trimmed(data.train_words[rows]), "field": data.train_fields[rows]}
        yield {name: torch.from_numpy(array) for name, array in batch.items()}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(outputs["logits"], batch["field"], label_smoothing=0.05)


def _evaluate(predict: Predict) -> dict[str, float]:
    data = glosses()
    scores = [predict(feeds)["logits"] for feeds in _batches(data.test_words)]
    found = np.concatenate(scores).argmax(axis=1)
    return {"accuracy": float((found == data.test_fields).mean())}
