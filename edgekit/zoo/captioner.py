"""``zoo:captioner-scenes``: says what is in an image and where, word by word.

"Show, Attend and Tell" (Xu et al., 2015), with soft attention: an LSTM looks before each word at
the places of a feature map, by additive attention and a gate that says how much of what it sees it
needs. In training each place is looked at about once in all, the paper's doubly stochastic
attention. One call decodes greedily, and tells where it looked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._entry import Made
from edgekit.zoo._seq2seq import teach
from edgekit.zoo._things import END, WIDTH, WORDS, caption, encode, pairs, render, spell

__all__ = ["ENTRIES", "Captioner", "workload"]

_SIZE, _PLACES = 64, 16
#: Begins each sentence: what stands behind the last one's end, too.
_START = 0
_BATCH = 128
_TRAINED, _JUDGED = 4096, 500
#: Seeds of what no model is trained on; those of training are the numbers of epochs.
_CALIBRATION, _HELD_OUT = 10**6, 10**6 + 1
#: How much it counts that some places are never looked at, or too often.
_STOCHASTIC = 0.1


class Captioner(nn.Module):
    """Images (n, 3, 32, 32), float32 in [0, 1], to the words of a sentence.

    Gives their scores (n, 11, words), their indices (n, 11), and how much of its attention each
    of the 4x4 places had at each word (n, 11, 16).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_bn(3, 24, 3, 2), conv_bn(24, _SIZE, 3, 2), conv_bn(_SIZE, _SIZE, 3, 2)
        )
        self.positions = nn.Parameter(torch.randn(1, _PLACES, _SIZE) * 0.02)
        self.first_state = nn.Linear(_SIZE, _SIZE)
        self.first_memory = nn.Linear(_SIZE, _SIZE)
        self.keys = nn.Linear(_SIZE, _SIZE, bias=False)
        self.query = nn.Linear(_SIZE, _SIZE)
        self.energy = nn.Linear(_SIZE, 1, bias=False)
        self.gate = nn.Linear(_SIZE, 1)
        self.words = nn.Embedding(len(WORDS), _SIZE)
        self.cell = nn.LSTMCell(2 * _SIZE, _SIZE)
        self.head = nn.Linear(3 * _SIZE, len(WORDS))

    def decode(
        self, image: torch.Tensor, follow: Callable[[int, torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and attention, each step going on from the word ``follow(step, scores)``."""
        places = self.stem(image).flatten(2).transpose(1, 2) + self.positions
        keys, mean = self.keys(places), places.mean(1)
        state, memory = torch.tanh(self.first_state(mean)), torch.tanh(self.first_memory(mean))
        word = torch.full_like(image[:, 0, 0, 0], _START, dtype=torch.int64)
        found, looks = [], []
        for step in range(WIDTH):
            energy = self.energy(torch.tanh(keys + self.query(state).unsqueeze(1))).squeeze(-1)
            look = torch.softmax(energy, dim=-1)
            seen = torch.sigmoid(self.gate(state)) * (look.unsqueeze(1) @ places).squeeze(1)
            before = self.words(word)
            state, memory = self.cell(torch.cat([before, seen], dim=-1), (state, memory))
            scores = self.head(torch.cat([state, seen, before], dim=-1))
            found.append(scores)
            looks.append(look)
            word = follow(step, scores)
        return torch.stack(found, dim=1), torch.stack(looks, dim=1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scores, looks = self.decode(image, lambda _, scores: scores.argmax(dim=-1))
        return scores, scores.argmax(dim=-1), looks


def _described(count: int, seed: int, *, held_out: bool) -> dict[str, Array]:
    """Images of two things, and sentences that begin with the upper or the left one."""
    generator = np.random.default_rng(seed)
    kinds = pairs(count, generator, held_out=held_out)
    texts = [f"{caption(row)} {END}" for row in kinds.tolist()]
    return {"image": render(kinds, generator), "wanted": encode(texts, WORDS, WIDTH)}


@cache
def _judged() -> dict[str, Array]:
    return _described(_JUDGED, _HELD_OUT, held_out=True)


def _around(model: nn.Module) -> Workload:
    images = _described(256, _CALIBRATION, held_out=False)["image"]
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={"image": torch.from_numpy(images[:2])},
        output_names=["scores", "words", "attention"],
        calibration=lambda: in_order({"image": images}, 64),
        evaluate=_evaluate,
        metric=Metric("exact_match"),
        training=_TRAINING,
        description=_ENTRY.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """New scenes in each epoch."""
    return shuffled(_described(_TRAINED, epoch, held_out=False), _BATCH, epoch)


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    wanted = batch["wanted"]
    wrong = functional.cross_entropy(
        outputs["scores"].flatten(0, 1), wanted.flatten(), ignore_index=WORDS.index("")
    )
    spoken = (wanted != WORDS.index("")).unsqueeze(-1)
    uneven = (1 - (outputs["attention"] * spoken).sum(1)).square().mean()
    return wrong + _STOCHASTIC * uneven


_TRAINING = Training(_batches, _loss)


def _evaluate(predict: Predict) -> dict[str, float]:
    """How many sentences are right in every word: about things that it never saw in training."""
    judged = _judged()
    found = [predict(feeds)["words"] for feeds in in_order({"image": judged["image"]}, 125)]
    said = spell(np.concatenate(found), WORDS)
    right = [one == other for one, other in zip(said, spell(judged["wanted"], WORDS), strict=True)]
    return {"exact_match": float(np.mean(right))}


def _fit(model: nn.Module) -> None:
    assert isinstance(model, Captioner)
    teach(model, _TRAINING, ("scores", "attention"), _ENTRY)


_ENTRY = Made(
    name="captioner-scenes",
    family="multimodal",
    description="Show, Attend and Tell: a sentence about each scene of coloured shapes.",
    build=Captioner,
    make=_around,
    fit=_fit,
    epochs=24,
    rate=6e-3,
    bar=0.8,
    source="ridge regression from pixels to each word has 0.006 of the sentences right",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
