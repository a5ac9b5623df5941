"""``zoo:crnn-digits``: reads lines of handwritten digits of any width.

CRNN (Shi et al., 2015): convolutions make a sequence of a line's columns, a bidirectional LSTM
reads it in its context, and connectionist temporal classification (Graves et al., 2006) needs no
word of where in the line each digit is. :func:`decode` is the greedy decoding, on the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._layers import convolution
from edgekit.zoo._lines import HEIGHT, Line, edits, lines, padded

__all__ = ["ENTRIES", "decode", "workload"]

_BLANK = 10
_STEP = 4
_CHANNELS, _HIDDEN = 48, 48
_BATCH = 10
_TRAINED, _CALIBRATED, _JUDGED = 1000, 100, 300


class _Crnn(nn.Module):
    """Float32 lines (n, 1, 28, width) to log-probabilities (n, width // 4 + 2, 11).

    The last of the eleven is blank. Steps before and behind the line leave room for blanks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.columns = nn.Sequential(
            convolution(1, 16), nn.MaxPool2d(2),
            convolution(16, 32), nn.MaxPool2d(2),
            convolution(32, _CHANNELS), convolution(_CHANNELS, _CHANNELS),
        )  # fmt: skip
        height = HEIGHT // _STEP
        self.flat = nn.Conv2d(_CHANNELS, 2 * _HIDDEN, (height, 1))
        self.dropout = nn.Dropout(0.2)
        self.reader = nn.LSTM(2 * _HIDDEN, _HIDDEN, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * _HIDDEN, _BLANK + 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.columns(functional.pad(image, (_STEP, _STEP)))
        x = self.dropout(self.flat(x).squeeze(2).relu())
        states, _ = self.reader(x.transpose(1, 2))
        scores: torch.Tensor = self.head(states)
        return scores.log_softmax(-1)


def decode(logs: Array) -> list[tuple[int, ...]]:
    """The digits of each line: repetitions count once, then blanks go.

    Args:
        logs: (n, steps, 11).
    """
    return [
        tuple(int(k) for k, _ in groupby(steps) if k != _BLANK) for steps in logs.argmax(axis=-1)
    ]


def _around(model: nn.Module) -> Workload:
    return Workload(
        name="crnn-digits",
        model=model,
        example_inputs={"image": torch.zeros(2, 1, HEIGHT, 80)},
        output_names=["logs"],
        dynamic_shapes={"image": {0: BATCH, 3: "width"}},
        calibration=lambda: (feeds for feeds, _ in _alike(_CALIBRATED, 1000, held_out=False)),
        evaluate=_evaluate,
        metric=Metric("sequence_accuracy"),
        training=Training(_batches, _loss),
        description=_ENTRY.description,
    )


def _alike(count: int, seed: int, *, held_out: bool) -> Iterator[tuple[Feeds, list[Line]]]:
    """Lines in batches of about the same width, the shorter ones filled up."""
    made = sorted(lines(count, seed, held_out=held_out), key=lambda line: line.pixels.shape[1])
    for start in range(0, count, _BATCH):
        some = made[start : start + _BATCH]
        yield {"image": padded(some, some[-1].pixels.shape[1])}, some


@cache
def _held_out() -> list[tuple[Feeds, list[Line]]]:
    return list(_alike(_JUDGED, seed=0, held_out=True))


def _evaluate(predict: Predict) -> dict[str, float]:
    """How many lines are read without any error, and errors a digit."""
    right = wrong = digits = 0
    for feeds, some in _held_out():
        for got, line in zip(decode(predict(feeds)["logs"]), some, strict=True):
            errors = edits(got, line.digits)
            right, wrong, digits = right + (not errors), wrong + errors, digits + len(line.digits)
    return {"sequence_accuracy": right / _JUDGED, "character_error_rate": wrong / digits}


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    batches = list(_alike(_TRAINED, epoch, held_out=False))
    for index in np.random.default_rng(epoch).permutation(len(batches)):
        feeds, some = batches[index]
        yield {
            "image": torch.from_numpy(feeds["image"]),
            "digits": torch.tensor([digit for line in some for digit in line.digits]),
            "lengths": torch.tensor([len(line.digits) for line in some]),
        }


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logs = outputs["logs"].transpose(0, 1)
    steps = torch.full((logs.shape[1],), logs.shape[0])
    return functional.ctc_loss(
        logs, batch["digits"], steps, batch["lengths"], blank=_BLANK, zero_infinity=True
    )


_ENTRY = Made(
    name="crnn-digits",
    family="dense prediction",
    description="CRNN with CTC: reads lines of three to seven MNIST digits, of any width.",
    bar=0.85,
    source="five digits in a row, each read as well as by LeNet-5 with 4,000 digits (0.97)",
    build=_Crnn,
    make=_around,
    epochs=28,
    rate=4e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
