"""``zoo:translation-german``: a transformer translates English into German, word by word.

Attention Is All You Need (Vaswani et al., 2017): an encoder, a decoder that looks at it and at what
it wrote, sinusoidal positions; norms come first, as is usual since. The sentences come from a
grammar, see :mod:`._grammar`: what is hard about them is real. :func:`translated` writes the
likeliest word at each place, on any engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._attention import Block, Cross
from edgekit.zoo._entry import Made
from edgekit.zoo._grammar import encoded, pairs

__all__ = ["ENTRIES", "translated", "workload"]

_WIDTH, _HEADS, _LAYERS = 64, 4, 2
_PAD, _BEGIN, _END = range(3)
_LONGEST = 16
_BATCH = 60


_MARKS = ("<pad>", "<begin>", "<end>")
_ENGLISH, _GERMAN = ((*_MARKS, *words) for words in (pairs().english, pairs().german))


class _Layer(nn.Module):
    """A block of the decoder, which looks at the other sentence between its halves."""

    def __init__(self) -> None:
        super().__init__()
        self.own = Block(_WIDTH, _HEADS)
        self.other = Cross(_WIDTH, _HEADS)

    def forward(
        self, x: torch.Tensor, earlier: torch.Tensor, other: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        return self.own.fed(self.other(self.own.attended(x, earlier)[0], other, there))


class _Translator(nn.Module):
    """``source`` (batch, source words) and ``target`` (batch, target words), int64, 0 is padding,
    to ``logits`` (batch, target words, German words) for the word after each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.english = nn.Embedding(len(_ENGLISH), _WIDTH)
        self.german = nn.Embedding(len(_GERMAN), _WIDTH)
        self.encoder = nn.ModuleList(Block(_WIDTH, _HEADS) for _ in range(_LAYERS))
        self.decoder = nn.ModuleList(_Layer() for _ in range(_LAYERS))
        self.read, self.norm = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, len(_GERMAN))

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        there = (source != _PAD)[:, None, None, :]
        read = self.english(source) + _positions(source)
        for block in self.encoder:
            read = block(read, there)
        read = self.read(read)
        order = torch.arange(target.shape[1], device=target.device)
        earlier = order <= order.unsqueeze(1)
        x = self.german(target) + _positions(target)
        for layer in self.decoder:
            x = layer(x, earlier, read, there)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


def _positions(tokens: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of each place, (words, width)."""
    place = torch.arange(tokens.shape[1], device=tokens.device).float().unsqueeze(1)
    rates = torch.exp(torch.arange(0, _WIDTH, 2) * (-math.log(10000.0) / _WIDTH))
    angles = place * rates.to(tokens.device)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def translated(predict: Predict, english: Sequence[str]) -> list[str]:
    """The German for some sentences, the likeliest word at each place."""
    source = encoded(english, _ENGLISH, _END)
    target = np.full((len(english), 1), _BEGIN)
    ended = np.zeros(len(english), bool)
    while not ended.all() and target.shape[1] <= _LONGEST:
        word = predict({"source": source, "target": target})["logits"][:, -1].argmax(-1)
        word = np.where(ended, _PAD, word)
        ended |= word == _END
        target = np.concatenate([target, word[:, None]], axis=1)
    return [" ".join(_GERMAN[one] for one in row if one > _END) for row in target]


def _fed(chosen: Sequence[tuple[str, str]]) -> tuple[Feeds, Array]:
    """The inputs, with the right translation up to each place, and the words that come next."""
    english, german = zip(*chosen, strict=True)
    after = encoded(german, _GERMAN, _END)
    before = np.concatenate([np.full((len(after), 1), _BEGIN), after[:, :-1]], axis=1)
    return {"source": encoded(english, _ENGLISH, _END), "target": before}, after


def _learning(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    train = pairs().train
    order = np.random.default_rng(epoch).permutation(len(train))
    for chosen in order.reshape(-1, _BATCH):
        feeds, after = _fed([train[index] for index in chosen])
        yield {name: torch.from_numpy(x) for name, x in {**feeds, "next": after}.items()}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits = outputs["logits"].flatten(0, 1)
    return functional.cross_entropy(logits, batch["next"].flatten(), ignore_index=_PAD)


def _evaluate(predict: Predict) -> dict[str, float]:
    english, german = zip(*pairs().test, strict=True)
    found = translated(predict, english)
    same = [got == wanted for got, wanted in zip(found, german, strict=True)]
    return {"exact_match": float(np.mean(same))}


def _calibration() -> Iterator[Feeds]:
    for start in range(0, 200, 20):
        yield _fed(pairs().train[start : start + 20])[0]


def _around(model: nn.Module) -> Workload:
    example = next(_calibration())
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array[:2]) for name, array in example.items()},
        output_names=["logits"],
        dynamic_shapes={
            "source": {0: BATCH, 1: "source_words"},
            "target": {0: BATCH, 1: "target_words"},
        },
        pad={"source": _PAD},
        calibration=_calibration,
        evaluate=_evaluate,
        metric=Metric("exact_match"),
        training=Training(_learning, _loss),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="translation-german",
    family="transformers",
    description="Encoder-decoder transformer from English to German, sentences of a grammar.",
    bar=0.95,
    source="a dictionary, word by word: 0.00",
    build=_Translator,
    make=_around,
    epochs=4,
    rate=3e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
