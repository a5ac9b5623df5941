"""The original model as a predict function: what every artifact is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit import runtimes
from edgekit.errors import WorkloadError
from edgekit.runtimes import SessionOptions
from edgekit.spec import Array, Feeds, Outputs
from edgekit.workload import Predict, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["divisible", "reference_predict", "take_samples"]


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


def _rows(batch: Feeds) -> Iterator[Feeds]:
    for row in range(next(iter(batch.values())).shape[0]):
        yield {name: np.ascontiguousarray(a[row : row + 1]) for name, a in batch.items()}


def _torch_predict(
    model: torch.nn.Module, input_names: Sequence[str], output_names: Sequence[str]
) -> Predict:
    import torch  # only where a PyTorch model is the reference

    def predict(feeds: Feeds) -> Outputs:
        with torch.no_grad():
            result = model(*(torch.from_numpy(np.array(feeds[name])) for name in input_names))
        values = _flatten(result)
        if len(values) != len(output_names):
            raise WorkloadError(
                f"returned {len(values)} tensors, output_names has {len(output_names)}",
                where="model forward",
                fix="Set output_names to one name for each tensor that forward returns",
            )
        return dict(zip(output_names, values, strict=True))

    return predict


def _flatten(result: Any) -> list[Array]:
    """The tensors of a forward result in the order in which torch.export lists them."""
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return [array for item in result for array in _flatten(item)]
    if result is None:
        return []
    array: Array = result.detach().cpu().numpy()
    return [array]
