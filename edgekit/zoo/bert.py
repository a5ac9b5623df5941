"""``zoo:bert-german``: BERT with a masked-LM head, on sentences and their translations.

BERT (Devlin et al., 2019): an encoder that looks both ways, learned positions, a segment for each
of two texts, and of 15 % of the words it has to say what they were: 8 of 10 are masked, one is
another word, one is left. The two texts are an English sentence and its German translation, as in
Cross-lingual Language Model Pretraining (Lample and Conneau, 2019), so that what is masked in one
language follows from the other, from the words around it and from the grammar. Where both are
masked there is nothing to go by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._attention import Block
from edgekit.zoo._entry import Made
from edgekit.zoo._grammar import encoded, pairs

__all__ = ["ENTRIES", "WORDS", "masked", "workload"]

_WIDTH, _HEADS, _LAYERS = 64, 4, 3
_PAD, _CLASS, _SEPARATOR, _MASK = range(4)
_WORD = 4  # the first
WORDS = ("<pad>", "<cls>", "<sep>", "<mask>", *dict.fromkeys([*pairs().english, *pairs().german]))
_LONGEST = 12  # words of a sentence with its separator
_BATCH = 60


class _Bert(nn.Module):
    """``tokens`` and ``segments`` (batch, sequence), int64, 0 is padding and the first segment, to
    ``logits`` (batch, sequence, words).
    """

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(len(WORDS), _WIDTH)
        self.position = nn.Embedding(1 + 2 * _LONGEST, _WIDTH)
        self.segment = nn.Embedding(2, _WIDTH)
        self.first = nn.LayerNorm(_WIDTH)
        self.blocks = nn.ModuleList(Block(_WIDTH, _HEADS) for _ in range(_LAYERS))
        self.head = nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.LayerNorm(_WIDTH))
        self.bias = nn.Parameter(torch.zeros(len(WORDS)))
        for table in (self.token, self.position, self.segment):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, tokens: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        there = (tokens != _PAD)[:, None, None, :]
        place = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.first(self.token(tokens) + self.position(place) + self.segment(segments))
        for block in self.blocks:
            x = block(x, there)
        return functional.linear(self.head(x), self.token.weight, self.bias)


@cache
def _texts(held_out: bool) -> Array:  # noqa: FBT001, of one call each
    """Tokens (n, 25): class, English, separator, padding, German, separator, padding."""
    english, german = zip(*(pairs().test if held_out else pairs().train), strict=True)
    parts = [encoded(side, WORDS, _SEPARATOR, _LONGEST) for side in (english, german)]
    return np.concatenate([np.full((len(english), 1), _CLASS), *parts], axis=1)


def masked(tokens: Array, generator: np.random.Generator) -> tuple[Feeds, Array]:
    """The inputs with 15 % of the words hidden, and which they were, -1 at all other places."""
    drawn = generator.random(tokens.shape)
    chosen = (drawn < 0.15) & (tokens >= _WORD)
    others = generator.integers(_WORD, len(WORDS), tokens.shape)
    hidden = np.where(drawn < 0.12, _MASK, np.where(drawn < 0.135, others, tokens))
    segments = np.zeros_like(tokens)
    segments[:, 1 + _LONGEST :] = 1
    feeds = {"tokens": np.where(chosen, hidden, tokens), "segments": segments}
    return feeds, np.where(chosen, tokens, -1)


def _learning(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    generator = np.random.default_rng(epoch)
    for batch in generator.permutation(_texts(held_out=False)).reshape(
        -1, _BATCH, 1 + 2 * _LONGEST
    ):
        feeds, words = masked(batch, generator)
        yield {name: torch.from_numpy(x) for name, x in {**feeds, "words": words}.items()}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits = outputs["logits"].flatten(0, 1)
    return functional.cross_entropy(logits, batch["words"].flatten(), ignore_index=-1)


def _evaluate(predict: Predict) -> dict[str, float]:
    """How many of the hidden words it says."""
    feeds, words = masked(_texts(held_out=True), np.random.default_rng(0))
    batches = [
        predict({name: array[start : start + 100] for name, array in feeds.items()})["logits"]
        for start in range(0, len(words), 100)
    ]
    found = np.concatenate(batches).argmax(-1)
    return {"masked_accuracy": float((found == words)[words >= 0].mean())}


def _calibration() -> Iterator[Feeds]:
    generator = np.random.default_rng(0)
    for batch in _texts(held_out=False)[:200].reshape(10, 20, -1):
        yield masked(batch, generator)[0]


def _around(model: nn.Module) -> Workload:
    example = next(_calibration())
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array[:2]) for name, array in example.items()},
        output_names=["logits"],
        dynamic_shapes={name: {0: BATCH, 1: "sequence"} for name in example},
        pad=dict.fromkeys(example, 0),
        calibration=_calibration,
        evaluate=_evaluate,
        metric=Metric("masked_accuracy"),
        training=Training(_learning, _loss),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="bert-german",
    family="transformers",
    description="BERT with a masked-LM head on English sentences and their German translations.",
    bar=0.9,
    source="counts of a word between its two neighbours, on the same split: 0.36",
    build=_Bert,
    make=_around,
    epochs=10,
    rate=3e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
