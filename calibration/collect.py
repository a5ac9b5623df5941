"""Run a model over calibration data and observe its activations, batch by batch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
from edgekit.calibration.base import Observer, Statistic
from edgekit.calibration.cache import TableCache
from edgekit.calibration.estimators import Estimator
from edgekit.calibration.table import CalibrationTable
from edgekit.runtimes import Session

from edgekit import runtimes
from edgekit.errors import CalibrationError, SpecError
from edgekit.spec import Array, Feeds, Outputs

__all__ = ["Calibrator", "observing", "rows"]


class Calibrator:
    """Runs ONNX models over one calibration set.

    One batch of activations is in memory at a time, so the peak does not depend on how many
    samples there are.

    Args:
        feeds: gives a fresh iterable of batches of inputs.
        samples: use at most this many rows, in whole batches.
        cache: where tables are kept between processes, None not to keep them.
        progress: called with the number of samples seen so far.
    """

    def __init__(
        self,
        feeds: Callable[[], Iterable[Feeds]],
        *,
        samples: int = 512,
        cache: TableCache | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._feeds = feeds
        self._samples = samples
        self._cache = cache
        self._progress = progress
        self._tables: dict[str, CalibrationTable] = {}

    def batches(self, samples: int | None = None) -> Iterator[Feeds]:
        """The batches, checked to be finite, until ``samples`` rows have been given."""
        limit = min(self._samples, samples or self._samples)
        seen = 0
        for index, batch in enumerate(self._feeds()):
            if seen >= limit:
                break
            _check_finite(batch, index)
            yield batch
            seen += rows(batch)
        if not seen:
            raise CalibrationError(
                "the calibration set is empty",
                where="calibration",
                fix="Give at least one batch; a few hundred representative samples are usual",
            )

    def observe(
        self, model: ir.Model, statistics: Mapping[str, Statistic], samples: int | None = None
    ) -> int:
        """Show every named tensor of ``model`` to its statistic.

        Args:
            model: a graph with float activations.
            statistics: by tensor name; model inputs may be among them.
            samples: use fewer rows than the calibrator's own limit.

        Returns:
            How many samples were seen.

        Raises:
            CalibrationError: no data, data that does not fit the model, NaN or infinity in the
                data or in an activation.
        """
        seen = 0
        with observing(model, sorted(statistics)) as run:
            for index, batch in enumerate(self.batches(samples)):
                values = _run(run, batch, index)
                for name, statistic in statistics.items():
                    _observe(
                        statistic, name, values[name] if name in values else batch[name], index
                    )
                seen += rows(batch)
                self._progress(seen)
        return seen

    def table(
        self, model: ir.Model, tensors: Iterable[str], estimator: Estimator
    ) -> CalibrationTable:
        """The range of every named tensor, from the cache when model and data are the same.

        A tensor that was empty in every batch has no range.

        Raises:
            CalibrationError: as :meth:`observe`.
        """
        wanted = sorted(set(tensors))
        graph = hashlib.sha256(ir.to_proto(model).SerializeToString()).hexdigest()
        key = _digest(graph, str(estimator), str(self._samples), *wanted)
        if key not in self._tables:
            self._tables[key] = self._stored(key) or self._made(
                key, graph, model, wanted, estimator
            )
        return self._tables[key]

    def _made(
        self, key: str, graph: str, model: ir.Model, wanted: list[str], estimator: Estimator
    ) -> CalibrationTable:
        observers: dict[str, Observer] = {name: estimator.observer() for name in wanted}
        data = _Fingerprint()
        hashed = Calibrator(
            lambda: map(data.add, self._feeds()), samples=self._samples, progress=self._progress
        )
        seen = hashed.observe(model, observers)
        table = CalibrationTable(
            observer=str(estimator),
            samples=seen,
            ranges={name: found.range() for name, found in observers.items() if found.count},
            model=graph,
            data=data.digest(),
        )
        if self._cache is not None:
            self._cache.put(key, table)
        return table

    def _stored(self, key: str) -> CalibrationTable | None:
        """The cached table; the data is only read when there is one to compare it with."""
        candidates = self._cache.get(key) if self._cache is not None else {}
        if not candidates:
            return None
        data = _Fingerprint()
        for batch in self.batches():
            data.add(batch)
        return candidates.get(data.digest())


@contextmanager
def observing(model: ir.Model, wanted: Iterable[str]) -> Iterator[Callable[[Feeds], Outputs]]:
    """Run ``model`` on ONNX Runtime with the wanted tensors beside its own outputs."""
    shown = model.clone()
    graph = shown.graph
    known = {value.name for value in (*graph.inputs, *graph.outputs)}
    values = {value.name: value for node in graph for value in node.outputs}
    graph.outputs.extend(values[name] for name in wanted if name not in known)
    with tempfile.TemporaryDirectory(prefix="edgekit-calibration-") as folder:
        path = Path(folder) / "observed.onnx"
        ir.save(shown, path)
        session: Session = runtimes.require("onnxruntime").load(path)
    with session:
        yield session.run


def rows(batch: Feeds) -> int:
    """How many samples a batch holds: the size of axis 0 of its largest input."""
    return max((values.shape[0] if values.ndim else 1) for values in batch.values())


class _Fingerprint:
    """The hash of a stream of batches."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, batch: Feeds) -> Feeds:
        for name in sorted(batch):
            values = np.ascontiguousarray(batch[name])
            self._hash.update(f"{name} {values.dtype} {values.shape}".encode())
            self._hash.update(values.data.cast("B") if values.size else b"")
        return batch

    def digest(self) -> str:
        return self._hash.hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _run(run: Callable[[Feeds], Outputs], batch: Feeds, index: int) -> Outputs:
    try:
        return run(batch)
    except SpecError as error:
        raise CalibrationError(
            f"does not fit the model: {str(error).removesuffix(f' {error.fix}.')}",
            where=f"calibration batch {index}",
            fix=error.fix,
        ) from error


def _observe(statistic: Statistic, name: str, values: Array, index: int) -> None:
    # A sum is finite only when every value is (or when two infinities were lucky to overflow
    # apart), and costs no array of booleans; the slow test decides in doubt.
    if not np.isfinite(values.sum(dtype=np.float32)) and not np.isfinite(values).all():
        raise CalibrationError(
            f"makes the model compute NaN or infinity in tensor {name!r}",
            where=f"calibration batch {index}",
            fix="Check that the data is scaled as in training",
        )
    statistic.update(values)


def _check_finite(batch: Feeds, index: int) -> None:
    for name, values in batch.items():
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            bad = int(values.size - np.isfinite(values).sum())
            raise CalibrationError(
                f"input {name!r} has {bad} NaN or infinite values",
                where=f"calibration batch {index}",
                fix="Remove or repair these samples",
            )
