"""``zoo:vqa-scenes``: answers questions about an image.

"FiLM: Visual Reasoning with a General Conditioning Layer" (Perez et al., 2018): a recurrent network
reads the question; what it has read scales and shifts each channel of the residual blocks that look
at the image. The blocks see where they look by two maps of coordinates. Questions are in the manner
of CLEVR, and every scene that is judged has a thing of a kind that training never shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from edgekit.zoo._fit import fit
from edgekit.zoo._naming import name_things
from edgekit.zoo._questions import ANSWERS, ASKED, QUESTION_WORDS, TOPICS, asked
from edgekit.zoo._things import crowds, encode, render

__all__ = ["ENTRIES", "Film", "FilmBlock", "workload"]

_CHANNELS, _STATE, _BLOCKS = 56, 64, 3
_BATCH = 64
_TRAINED, _JUDGED = 8192, 1000
#: Seeds of what no model is trained on; those of training are the numbers of epochs.
_CALIBRATION, _HELD_OUT = 10**6, 10**6 + 1


class FilmBlock(nn.Module):
    """Maps (n, channels, 4, 4), coordinates (n, 2, 4, 4) and a question (n, size) to maps."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(channels + 2, channels, 1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)  # the question's are in their place
        self.gamma = nn.Linear(size, channels)
        self.beta = nn.Linear(size, channels)

    def forward(self, maps: torch.Tensor, at: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.look(torch.cat([maps, at], dim=1)))
        # As in the paper, gamma is 1 and something, so that at first nothing is shut.
        gamma = 1 + self.gamma(read).unsqueeze(-1).unsqueeze(-1)
        beta = self.beta(read).unsqueeze(-1).unsqueeze(-1)
        return seen + torch.relu(self.norm(self.conv(seen)) * gamma + beta)


class Film(nn.Module):
    """Images (n, 3, 32, 32), float32, and questions (n, 11), int64, to scores of the answers."""

    at: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_bn(3, 24, 3, 2), conv_bn(24, 32, 3, 2), conv_bn(32, _CHANNELS, 3, 2)
        )
        side = torch.linspace(-1, 1, 4)
        at = torch.stack(torch.meshgrid(side, side, indexing="ij")).unsqueeze(0)
        self.register_buffer("at", at, persistent=False)
        self.words = nn.Embedding(len(QUESTION_WORDS), 32)
        self.reader = nn.GRU(32, _STATE, batch_first=True)
        self.blocks = nn.ModuleList(FilmBlock(_CHANNELS, _STATE) for _ in range(_BLOCKS))
        self.last = conv_bn(_CHANNELS, 96, 1)
        self.answer = nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, len(ANSWERS)))

    def forward(self, image: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        states, _ = self.reader(self.words(question))
        # The state after the question's last word: the one that no other word follows.
        real = (question != 0).to(states.dtype)
        last = real - functional.pad(real[:, 1:], (0, 1))
        read = (states * last.unsqueeze(-1)).sum(1)
        maps = self.stem(image)
        at = self.at.expand(len(image), -1, -1, -1)
        for block in self.blocks:
            maps = block(maps, at, read)
        scores: torch.Tensor = self.answer(self.last(maps).amax((2, 3)))
        return scores


def _questions(count: int, seed: int, *, held_out: bool) -> tuple[dict[str, Array], Array, Array]:
    """Images with a question each, the answers, and the questions' topics."""
    generator = np.random.default_rng(seed)
    kinds = crowds(count, generator, held_out=held_out)
    texts, answers, topics = asked(kinds, generator)
    inputs = {
        "image": render(kinds, generator),
        "question": encode(texts, QUESTION_WORDS, ASKED),
    }
    return inputs, answers, topics


@cache
def _judged() -> tuple[dict[str, Array], Array, Array]:
    return _questions(_JUDGED, _HELD_OUT, held_out=True)


def _around(model: nn.Module) -> Workload:
    shown, _, _ = _questions(256, _CALIBRATION, held_out=False)
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array[:2]) for name, array in shown.items()},
        output_names=["answer"],
        calibration=lambda: in_order(shown, 64),
        evaluate=_evaluate,
        metric=Metric("accuracy"),
        training=Training(_batches, _loss),
        labels=ANSWERS,
        description=_ENTRY.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """New scenes in each epoch."""
    inputs, answers, _ = _questions(_TRAINED, epoch, held_out=False)
    return shuffled({**inputs, "answer": answers}, _BATCH, epoch)


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(outputs["answer"], batch["answer"])


def _evaluate(predict: Predict) -> dict[str, float]:
    """How often the likeliest answer is the right one: of all questions, and of each topic."""
    inputs, answers, topics = _judged()
    scores = np.concatenate([predict(feeds)["answer"] for feeds in in_order(inputs, 125)])
    right = scores.argmax(axis=1) == answers
    by_topic = {topic: float(right[topics == i].mean()) for i, topic in enumerate(TOPICS)}
    return {"accuracy": float(right.mean()), **by_topic}


def _fit(model: nn.Module) -> None:
    """The stem first, by naming things, and it stays so, as the paper's extractor of features."""
    assert isinstance(model, Film)
    name_things(model.stem, _CHANNELS, _ENTRY.rate)
    model.stem.requires_grad_(requires_grad=False)
    fit(_around(model), model, epochs=_ENTRY.epochs, rate=_ENTRY.rate)
    model.stem.requires_grad_()


_ENTRY = Made(
    name="vqa-scenes",
    family="multimodal",
    description="FiLM: answers questions about scenes of coloured shapes.",
    build=Film,
    make=_around,
    fit=_fit,
    epochs=14,
    rate=3e-3,
    bar=0.8,
    source="logistic regression on words and pixels finds 0.47, the likeliest answer by topic 0.31",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
