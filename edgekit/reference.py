"""The original model as a predict function: what every artifact is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit import runtimes
from edgekit.runtimes import SessionOptions
from edgekit.spec import Feeds, Outputs
from edgekit.workload import Predict, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["divisible", "in_pieces", "reference_predict", "take_samples"]


@contextmanager
def reference_predict(workload: Workload) -> Iterator[Predict]:
    """The workload's own model, in float32: eager PyTorch, or ONNX Runtime unoptimized."""
    if isinstance(workload.model, Path):
        runtime = runtimes.require("onnxruntime")
        with runtime.load(workload.model, SessionOptions(optimize=False)) as session:
            yield session.run
    else:
        model = workload.model
        training = model.training
        model.eval()
        try:
            yield _torch_predict(model, list(workload.example_inputs), workload.output_names)
        finally:
            model.train(training)


def take_samples(workload: Workload, feeds: Iterable[Feeds], count: int) -> list[Feeds]:
    """The first ``count`` samples of ``feeds``, one row each.

    Where the inputs have no common dynamic axis 0, a batch cannot be divided: it is one sample.
    """
    divide = divisible(workload)
    singles = (one for batch in feeds for one in (_rows(batch) if divide else [batch]))
    return list(islice(singles, count))


def divisible(workload: Workload) -> bool:
    """Whether axis 0 of every input is the same dynamic dimension, so that it counts samples."""
    batch_axes = {axes.get(0) for axes in workload.dynamic.values()}
    return len(batch_axes) == 1 and None not in batch_axes


def in_pieces(predict: Predict, most: int) -> Predict:
    """``predict`` that takes larger batches than ``most``: in pieces, one after the other.

    Only for a model whose inputs and outputs all count samples along axis 0.
    """

    def run(feeds: Feeds) -> Outputs:
        count = max((len(array) for array in feeds.values()), default=0)
        if count <= most:
            return predict(feeds)
        parts = [
            predict({name: array[start : start + most] for name, array in feeds.items()})
            for start in range(0, count, most)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return run


def _rows(batch: Feeds) -> Iterator[Feeds]:
    for row in range(next(iter(batch.values())).shape[0]):
        yield {name: np.ascontiguousarray(a[row : row + 1]) for name, a in batch.items()}


def _torch_predict(
    model: torch.nn.Module, input_names: Sequence[str], output_names: Sequence[str]
) -> Predict:
    import torch  # only where a PyTorch model is the reference

    from edgekit.compress.modules import named_outputs
    from edgekit.tensors import to_array, to_tensor

    def predict(feeds: Feeds) -> Outputs:
        with torch.no_grad():  # copies: forward may change its arguments in place
            result = model(*(to_tensor(np.array(feeds[name])) for name in input_names))
        tensors = named_outputs(result, output_names)
        return {name: to_array(tensor) for name, tensor in tensors.items()}

    return predict
