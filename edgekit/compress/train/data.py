"""What is trained on: the workload's own batches and loss, or data without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import torch

from edgekit.errors import WorkloadError
from edgekit.workload import Workload

__all__ = ["Batch", "Data", "Loss", "training_data"]

Batch: TypeAlias = Mapping[str, torch.Tensor]
Loss: TypeAlias = Callable[[Mapping[str, torch.Tensor], Batch], torch.Tensor]

#: One calibration batch in so many is held out, where there are that many.
_HELD_OUT = 5
#: The loss before and after training is that of so many batches.
_PROBED = 16
#: Calibration batches are shuffled among so many, since they are never all in memory.
_BUFFER = 16
#: A rate for trained models, where nobody says one.
_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class Data:
    """Batches of tensors on the model's device; each has all of the model's inputs.

    Attributes:
        batches: those of one epoch, the same ones whenever that epoch is asked for.
        probe: a few to judge by. Of calibration data they are held out; the workload's training
            data cannot be split, so there they are the first of epoch 0.
        loss: the task's own; None where there are no labels.
        rate: a learning rate that suits.
        per_epoch: number of batches.
    """

    batches: Callable[[int], Iterator[Batch]]
    probe: Callable[[], Iterator[Batch]]
    loss: Loss | None
    rate: float
    per_epoch: int


def training_data(workload: Workload, device: torch.device, seed: int) -> Data:
    """The workload's ``training``, else ``unlabelled``, else its calibration data without a loss.

    Args:
        workload: has one of them.
        device: where batches shall be.
        seed: of the order of calibration data.

    Raises:
        WorkloadError: it has none, or there are no batches, or one lacks an input.
    """
    if workload.training is not None:
        training = workload.training
        return _own(workload, training.batches, training.loss, training.rate, device)
    if workload.unlabelled is not None:
        return _own(workload, workload.unlabelled, None, _RATE, device)
    if workload.calibration is None:
        raise WorkloadError(
            "has no data to learn from the original on",
            where=f"workload {workload.name!r}",
            fix="Set training, or unlabelled or calibration; or give --calib data.npz",
        )
    return _calibration(workload, device, seed)


def _own(
    workload: Workload,
    source: Callable[[int], Iterable[Batch]],
    loss: Loss | None,
    rate: float,
    device: torch.device,
) -> Data:
    def batches(epoch: int) -> Iterator[Batch]:
        return _ready(workload, source(epoch), device)

    count = sum(1 for _ in batches(0))
    _require_some(workload, count)
    return Data(batches, lambda: islice(batches(0), _PROBED), loss, rate, count)


def _calibration(workload: Workload, device: torch.device, seed: int) -> Data:
    count = sum(1 for _ in workload.feeds())
    _require_some(workload, count)
    held_out = count // _HELD_OUT

    def tensors(*, held: bool) -> Iterator[Batch]:
        for index, feeds in enumerate(workload.feeds()):
            if (held_out > 0 and index % _HELD_OUT == _HELD_OUT - 1) == held:
                # a copy, since feeds may be read-only or written again
                yield {name: torch.from_numpy(np.array(values)) for name, values in feeds.items()}

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed * 10_007 + epoch)
        return _ready(workload, _shuffled(tensors(held=False), generator), device)

    def probe() -> Iterator[Batch]:
        return islice(_ready(workload, tensors(held=held_out > 0), device), _PROBED)

    return Data(batches, probe, None, _RATE, count - held_out)


def _shuffled(batches: Iterable[Batch], generator: torch.Generator) -> Iterator[Batch]:
    waiting: list[Batch] = []
    for batch in batches:
        waiting.append(batch)
        if len(waiting) == _BUFFER:
            yield waiting.pop(int(torch.randint(_BUFFER, (), generator=generator)))
    for index in torch.randperm(len(waiting), generator=generator).tolist():
        yield waiting[index]


def _ready(workload: Workload, batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    for batch in batches:
        missing = [name for name in workload.example_inputs if name not in batch]
        if missing:
            raise WorkloadError(
                f"a batch has {', '.join(map(repr, batch)) or 'nothing'} but not {missing[0]!r}",
                where=f"workload {workload.name!r}, training data",
                fix="Give every batch all of the model's inputs by the names in example_inputs",
            )
        yield {name: tensor.to(device) for name, tensor in batch.items()}


def _require_some(workload: Workload, count: int) -> None:
    if count == 0:
        raise WorkloadError(
            "there are no batches to train on",
            where=f"workload {workload.name!r}, training data",
            fix="Give at least one batch in every epoch",
        )
