"""Run a model over calibration data and observe its activations, batch by batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from edgekit.calibration.base import Observer
from edgekit.calibration.table import CalibrationTable
from edgekit.runtimes import Session

from edgekit import runtimes
from edgekit.errors import CalibrationError, SpecError
from edgekit.spec import Array, Feeds

__all__ = ["collect", "rows"]


def collect(
    model: Path,
    tensors: Iterable[str],
    feeds: Iterable[Feeds],
    make_observer: Callable[[], Observer],
    *,
    observer_name: str,
    progress: Callable[[int], None] | None = None,
) -> CalibrationTable:
    """Estimate the range of every named tensor.

    One batch of activations is in memory at a time, so the peak does not depend on how many
    samples there are.

    Args:
        model: ONNX file with float activations.
        tensors: names of the values to observe; model inputs may be among them.
        feeds: batches of inputs, read once.
        make_observer: gives a fresh observer for each tensor.
        observer_name: what to call the estimator in the table.
        progress: called with the number of samples seen so far.

    Raises:
        CalibrationError: no data, data that does not fit the model, NaN or infinity in the data
            or in an activation.
    """
    wanted = sorted(set(tensors))
    observers = {name: make_observer() for name in wanted}
    samples = 0
    with tempfile.TemporaryDirectory(prefix="edgekit-calibration-") as folder:
        session = _observing_session(model, wanted, Path(folder))
        with session:
            for index, batch in enumerate(feeds):
                _check_finite(batch, index)
                for name, values in _run(session, batch, index).items():
                    if name in observers:
                        _observe(observers[name], name, values, index)
                for name in observers.keys() & batch.keys():
                    observers[name].update(batch[name])
                samples += rows(batch)
                if progress is not None:
                    progress(samples)
    if samples == 0:
        raise CalibrationError(
            "the calibration set is empty",
            where="calibration",
            fix="Give at least one batch; a few hundred representative samples are usual",
        )
    return CalibrationTable(
        observer=observer_name,
        samples=samples,
        ranges={name: observers[name].range() for name in wanted if observers[name].count},
    )


def _observing_session(model: Path, wanted: list[str], folder: Path) -> Session:
    """A session of ``model`` that returns the wanted tensors beside its own outputs."""
    graph_model = ir.load(model)
    graph = graph_model.graph
    inputs = {value.name for value in graph.inputs}
    outputs = {value.name for value in graph.outputs}
    values = {value.name: value for node in graph for value in node.outputs}
    for name in wanted:
        if name not in inputs and name not in outputs:
            graph.outputs.append(values[name])
    path = folder / "observed.onnx"
    ir.save(graph_model, path)
    return runtimes.require("onnxruntime").load(path)


def _run(session: Session, batch: Feeds, index: int) -> dict[str, Array]:
    try:
        return session.run(batch)
    except SpecError as error:
        raise CalibrationError(
            f"does not fit the model: {str(error).removesuffix(f' {error.fix}.')}",
            where=f"calibration batch {index}",
            fix=error.fix,
        ) from error


def _observe(observer: Observer, name: str, values: Array, index: int) -> None:
    if not np.isfinite(values).all():
        raise CalibrationError(
            f"makes the model compute NaN or infinity in tensor {name!r}",
            where=f"calibration batch {index}",
            fix="Check that the data is scaled as in training",
        )
    observer.update(values)


def _check_finite(batch: Feeds, index: int) -> None:
    for name, values in batch.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            bad = int(values.size - np.isfinite(values).sum())
            raise CalibrationError(
                f"input {name!r} has {bad} NaN or infinite values",
                where=f"calibration batch {index}",
                fix="Remove or repair these samples",
            )


def rows(batch: Feeds) -> int:
    """How many samples a batch holds: the size of axis 0 of its largest input."""
    return max((values.shape[0] if values.ndim else 1) for values in batch.values())
