"""What the small trained classifiers share: a split, a metric, training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from edgekit.spec import Array, Feeds
from edgekit.workload import Evaluate, Metric, Predict, Training, Workload
from edgekit.zoo._entry import Trained

__all__ = ["SMOOTHED", "Classifier", "Loss", "Split", "digits", "split"]

_BATCH = 50
#: ``loss(scores, labels)``: float32 scores (n, classes), int64 labels (n,), to a scalar.
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
SMOOTHED: Loss = nn.CrossEntropyLoss(label_smoothing=0.05)


@dataclass(frozen=True, slots=True)
class Split:
    """Training and held-out data: float32 inputs of shape (n, ...) and int64 labels (n,)."""

    train_inputs: Array
    train_labels: Array
    test_inputs: Array
    test_labels: Array


def split(inputs: Array, labels: Array, test_size: float) -> Split:
    """A stratified split with a fixed seed, the same in every process."""
    train_x, test_x, train_y, test_y = train_test_split(
        inputs.astype(np.float32),
        labels.astype(np.int64),
        test_size=test_size,
        stratify=labels,
        random_state=0,
    )
    return Split(train_x, train_y, test_x, test_y)


def digits(shape: tuple[int, ...]) -> Split:
    """scikit-learn's 1797 handwritten digits, scaled to [0, 1] and shaped ``(n, *shape)``."""
    data = load_digits()
    return split(data.data.reshape(-1, *shape) / 16.0, data.target, test_size=0.3)


@dataclass(frozen=True, kw_only=True)
class Classifier(Trained):
    """A small classifier of ten digits.

    Attributes:
        input_name: name of its only input.
        load_data: loads the split.
        augment: changes a training batch at random (a tensor of shape (n, ...)), or None.
        loss: what it is trained by; cross-entropy with label smoothing by default.
    """

    input_name: str
    load_data: Callable[[], Split]
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None
    loss: Loss = SMOOTHED

    def around(self, model: nn.Module) -> Workload:
        """See :meth:`Trained.around`."""
        data = self.load_data()
        return Workload(
            name=self.name,
            model=model,
            example_inputs={self.input_name: torch.from_numpy(data.train_inputs[:2])},
            output_names=["logits"],
            calibration=lambda: self._batches(data.train_inputs),
            evaluate=self._evaluate(data),
            metric=Metric("accuracy"),
            labels=[str(digit) for digit in range(10)],
            training=self._training(data),
            smaller=self.smaller.workload if self.smaller else None,
            description=self.description,
        )

    def _training(self, data: Split) -> Training:
        """Shuffled, augmented batches."""
        inputs, labels = (torch.from_numpy(a) for a in (data.train_inputs, data.train_labels))

        def batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
            generator = torch.Generator().manual_seed(epoch)
            for chosen in torch.split(torch.randperm(len(inputs), generator=generator), _BATCH):
                batch = inputs[chosen]
                if self.augment is not None:
                    batch = self.augment(batch, generator)
                yield {self.input_name: batch, "label": labels[chosen]}

        return Training(
            batches, lambda outputs, batch: self.loss(outputs["logits"], batch["label"])
        )

    def _batches(self, inputs: Array) -> Iterator[Feeds]:
        for start in range(0, len(inputs), _BATCH):
            yield {self.input_name: inputs[start : start + _BATCH]}

    def _evaluate(self, data: Split) -> Evaluate:
        def evaluate(predict: Predict) -> dict[str, float]:
            scores = [predict(feeds)["logits"] for feeds in self._batches(data.test_inputs)]
            predicted = np.concatenate(scores).argmax(axis=1)
            return {"accuracy": float((predicted == data.test_labels).mean())}

        return evaluate
