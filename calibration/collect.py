"""Run a model over calibration data and observe its activations, batch by batch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx_ir as ir
from edgekit.calibration.base import NotFiniteError, Observer, Range, Several, Statistic
from edgekit.calibration.cache import TableCache
from edgekit.calibration.estimators import Estimator
from edgekit.calibration.statistics import ChannelMean
from edgekit.calibration.table import CalibrationTable
from edgekit.runtimes import Session

from edgekit import runtimes
from edgekit.errors import CalibrationError, SpecError
from edgekit.spec import Array, Feeds, Outputs, is_float

__all__ = ["Calibrator", "observing", "rows"]


#: Ranges are compared with what they were this many samples before.
_SETTLE_SAMPLES = 32

#: Rows that are run together. Measured on EfficientNet-Lite0: two rows at a time take two thirds
#: of the time of eight, whose activations fall out of the cache before they are observed.
_ROWS = 2


class Calibrator:
    """Runs ONNX models over one calibration set.

    One batch of activations is in memory at a time, so the peak does not depend on how many
    samples there are.

    Args:
        feeds: gives a fresh iterable of batches of inputs.
        samples: use at most this many rows, in whole batches.
        divisible: whether a batch may be run a few rows at a time, because axis 0 of every input
            counts samples. Activations of a few rows stay in the processor's cache.
        cache: where tables are kept between processes, None not to keep them.
        progress: called with the number of samples seen so far.
    """

    def __init__(
        self,
        feeds: Callable[[], Iterable[Feeds]],
        *,
        samples: int = 512,
        divisible: bool = False,
        cache: TableCache | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._feeds = feeds
        self._samples = samples
        self._divisible = divisible
        self._cache = cache
        self._progress = progress
        self._tables: dict[str, CalibrationTable] = {}
        self._means: dict[str, dict[str, Array]] = {}

    def batches(self, samples: int | None = None) -> Iterator[Feeds]:
        """The batches, checked to be finite, until ``samples`` rows have been given."""
        limit = min(self._samples, samples or self._samples)
        seen = 0
        for index, batch in enumerate(self._feeds()):
            _check_finite(batch, index)
            yield batch
            seen += rows(batch)
            if seen >= limit:  # not after the next batch was drawn: it may cost, and is not used
                break
        if not seen:
            raise CalibrationError(
                "the calibration set is empty",
                where="calibration",
                fix="Give at least one batch; a few hundred representative samples are usual",
            )

    def observe(
        self,
        model: ir.Model,
        statistics: Mapping[str, Statistic],
        samples: int | None = None,
        *,
        enough: Callable[[int], bool] = lambda _: False,
    ) -> int:
        """Show every named tensor of ``model`` to its statistic.

        Args:
            model: a graph with float activations.
            statistics: by tensor name; model inputs may be among them.
            samples: use fewer rows than the calibrator's own limit.
            enough: asked with the number of samples seen so far; True ends the pass.

        Returns:
            How many samples were seen.

        Raises:
            CalibrationError: no data, data that does not fit the model, NaN or infinity in the
                data or in an activation.
        """
        seen = 0
        with observing(model, sorted(statistics)) as run:
            for index, batch in enumerate(self.batches(samples)):
                for part in _divided(batch) if self._divisible else [batch]:
                    values = {**part, **_run(run, part, index)}
                    for name, statistic in statistics.items():
                        _observe(statistic, name, values[name], index)
                seen += rows(batch)
                self._progress(seen)
                if enough(seen):
                    break
        return seen

    def table(
        self,
        model: ir.Model,
        tensors: Iterable[str],
        estimator: Estimator,
        settle: float = 0.0,
        axes: Mapping[str, int] = MappingProxyType({}),
    ) -> CalibrationTable:
        """The range of every named tensor, from the cache when model and data are the same.

        A tensor that was empty in every batch has no range.

        Args:
            model: a graph with float activations.
            tensors: names of the values to observe.
            estimator: how to estimate.
            settle: stop before the last sample when the ranges have settled: when another 32
                samples moved their ends by less than this share of their width, on average over
                the tensors. 0 uses all samples.
            axes: tensors that :meth:`means` will be asked for, which then costs no second pass.

        Raises:
            CalibrationError: as :meth:`observe`.
        """
        wanted = sorted(set(tensors))
        graph = _graph_digest(model)
        key = _digest(graph, str(estimator), str(self._samples), str(settle), *wanted)
        if key not in self._tables:
            stored = self._stored(key)
            self._tables[key] = stored or self._made(model, wanted, estimator, settle, graph, axes)
            if stored is None and self._cache is not None:
                self._cache.put(key, self._tables[key])
        return self._tables[key]

    def means(
        self, model: ir.Model, axes: Mapping[str, int], table: CalibrationTable
    ) -> dict[str, Array]:
        """The mean of each channel over the samples that a table was made from.

        Args:
            model: the graph of that table.
            axes: which axis counts the channels, by tensor name.
            table: from :meth:`table`.

        Returns:
            float64 arrays by name; a tensor that was empty in every batch has none.
        """
        key = _means_key(table.model, axes)
        if axes and key not in self._means:
            found = {name: ChannelMean(axis) for name, axis in axes.items()}
            self.observe(model, found, table.samples)
            self._means[key] = _counted(found)
        return self._means[key] if axes else {}

    def _made(
        self,
        model: ir.Model,
        wanted: list[str],
        estimator: Estimator,
        settle: float,
        graph: str,
        axes: Mapping[str, int],
    ) -> CalibrationTable:
        observers: dict[str, Observer] = {name: estimator.observer() for name in wanted}
        means = {name: ChannelMean(axis) for name, axis in axes.items()}
        statistics: dict[str, Statistic] = {
            name: Several(*filter(None, (observers.get(name), means.get(name))))
            for name in {*wanted, *axes}
        }
        data = _Fingerprint()
        hashed = Calibrator(
            lambda: map(data.add, self._feeds()),
            samples=self._samples,
            divisible=self._divisible,
            progress=self._progress,
        )
        seen = hashed.observe(model, statistics, enough=_Settled(observers, settle))
        self._means[_means_key(graph, axes)] = _counted(means)
        return CalibrationTable(
            observer=str(estimator),
            samples=seen,
            ranges={name: found.range() for name, found in observers.items() if found.count},
            model=graph,
            data=data.digest(),
        )

    def _stored(self, key: str) -> CalibrationTable | None:
        """The cached table made from the samples that this data begins with.

        The data is only read when there is a table, and no further than that table has seen.
        """
        candidates = self._cache.get(key) if self._cache is not None else []
        data, seen = _Fingerprint(), 0
        for batch in self.batches(max(t.samples for t in candidates)) if candidates else ():
            data.add(batch)
            seen += rows(batch)
            for table in candidates:
                if (table.samples, table.data) == (seen, data.digest()):
                    return table
        return None


def _means_key(graph: str, axes: Mapping[str, int]) -> str:
    return _digest(graph, *(f"{name} {axis}" for name, axis in sorted(axes.items())))


def _counted(means: Mapping[str, ChannelMean]) -> dict[str, Array]:
    return {name: found.mean for name, found in means.items() if found.count}


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
        ir.save(shown, path, external_data="weights.bin")  # thrice as fast as inside the protobuf
        session: Session = runtimes.require("onnxruntime").load(path)
    with session:
        yield session.run


def rows(batch: Feeds) -> int:
    """How many samples a batch holds: the size of axis 0 of its largest input."""
    return max((values.shape[0] if values.ndim else 1) for values in batch.values())


class _Settled:
    """Whether the ranges have stopped moving."""

    def __init__(self, observers: Mapping[str, Observer], least: float) -> None:
        self._observers = observers
        self._least = least
        self._asked = 0
        self._before: dict[str, Range] = {}

    def __call__(self, seen: int) -> bool:
        if self._least <= 0.0 or seen < self._asked + _SETTLE_SAMPLES:
            return False
        self._asked = seen
        now = {name: found.range() for name, found in self._observers.items() if found.count}
        moves = [_moved(self._before[name], now[name]) for name in now if name in self._before]
        self._before = now
        return bool(moves) and float(np.mean(moves)) < self._least


def _moved(before: Range, now: Range) -> float:
    """By what share of its width a range has moved at the end that moved more."""
    width = max(now.high - now.low, 1e-30)
    return max(abs(now.low - before.low), abs(now.high - before.high)) / width


def _divided(batch: Feeds) -> Iterator[Feeds]:
    lengths = {values.shape[:1] for values in batch.values()}
    if len(lengths) != 1 or () in lengths:
        yield batch  # it does not fit the model, and running it says why
        return
    for start in range(0, rows(batch), _ROWS):
        yield {
            name: np.ascontiguousarray(values[start : start + _ROWS])
            for name, values in batch.items()
        }


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


def _graph_digest(model: ir.Model) -> str:
    """Hash of the graph and its weights, which protobuf takes long to write out."""
    bare = model.clone()
    bare.graph.initializers.clear()
    found = hashlib.sha256(ir.to_proto(bare).SerializeToString(deterministic=True))
    for name, value in sorted(model.graph.initializers.items()):
        assert value.const_value is not None
        array = np.ascontiguousarray(value.const_value.numpy())
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


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
    try:
        statistic.update(values)
    except NotFiniteError as error:
        raise CalibrationError(
            f"makes the model compute NaN or infinity in tensor {name!r}",
            where=f"calibration batch {index}",
            fix="Check that the data is scaled as in training",
        ) from error


def _check_finite(batch: Feeds, index: int) -> None:
    for name, values in batch.items():
        if is_float(values.dtype) and not np.isfinite(values).all():
            bad = int(values.size - np.isfinite(values).sum())
            raise CalibrationError(
                f"input {name!r} has {bad} NaN or infinite values",
                where=f"calibration batch {index}",
                fix="Remove or repair these samples",
            )
