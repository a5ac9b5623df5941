"""How close two sets of outputs are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

import numpy as np

from edgekit.manifest import Fidelity
from edgekit.spec import Array, Feeds, Outputs
from edgekit.workload import Evaluate, Predict

__all__ = ["FidelityMeter", "fidelity_evaluate", "worst_sqnr"]


class FidelityMeter:
    """Accumulates the comparison of one output tensor, batch by batch.

    Signal and error power are summed in float64 over everything seen; cosine is averaged over
    samples (rows of axis 0); argmax agreement over positions of the last axis.
    """

    def __init__(self) -> None:
        self._max_abs = 0.0
        self._largest = 0.0
        self._signal = 0.0
        self._error = 0.0
        self._cosines = 0.0
        self._rows = 0
        self._agree = 0
        self._positions = 0

    def add(self, reference: Array, value: Array) -> None:
        """Compare one batch; both arrays have the same shape."""
        wanted, got = reference.astype(np.float64), value.astype(np.float64)
        self._max_abs = max(self._max_abs, float(np.abs(wanted - got).max(initial=0.0)))
        self._largest = max(self._largest, float(np.abs(wanted).max(initial=0.0)))
        self._signal += float(np.square(wanted).sum())
        self._error += float(np.square(wanted - got).sum())
        rows = wanted.shape[0] if wanted.ndim else 1
        self._cosines += sum(_cosines(wanted.reshape(rows, -1), got.reshape(rows, -1)))
        self._rows += rows
        if wanted.ndim > 1 and wanted.shape[-1] > 1:
            same = wanted.argmax(axis=-1) == got.argmax(axis=-1)
            self._agree += int(same.sum())
            self._positions += same.size

    def result(self) -> Fidelity:
        """The comparison so far. An exact match has an infinite SQNR."""
        ratio = self._signal / self._error if self._error else float("inf")
        return Fidelity(
            max_abs=self._max_abs,
            max_relative=self._max_abs / max(self._largest, np.finfo(np.float64).tiny),
            sqnr_db=float(10 * np.log10(ratio)) if ratio > 0 else float("-inf"),
            cosine=self._cosines / self._rows if self._rows else 1.0,
            argmax_agreement=self._agree / self._positions if self._positions else None,
        )


def worst_sqnr(wanted: Outputs, got: Outputs) -> float:
    """The least SQNR of all outputs of one call, in dB."""
    found = []
    for name, reference in wanted.items():
        meter = FidelityMeter()
        meter.add(reference, got[name])
        found.append(meter.result().sqnr_db)
    return min(found)


def fidelity_evaluate(
    open_reference: Callable[[], AbstractContextManager[Predict]],
    feeds: Callable[[], Iterable[Feeds]],
) -> Evaluate:
    """An ``evaluate`` for a model without labels: closeness to the original's own outputs.

    Args:
        open_reference: opens the original model, which runs once over ``feeds``; its outputs
            are kept.
        feeds: gives a fresh iterable of held-out batches.

    Returns:
        A function returning ``cosine`` (mean over samples, the worst output), ``sqnr_db`` and
        ``argmax_agreement`` of the worst output.
    """
    kept: list[tuple[Feeds, Outputs]] = []

    def evaluate(predict: Predict) -> Mapping[str, float]:
        if not kept:
            with open_reference() as reference:
                kept.extend((batch, reference(batch)) for batch in feeds())
        meters: dict[str, FidelityMeter] = {}
        for batch, wanted in kept:
            got = predict(batch)
            for name, value in wanted.items():
                meters.setdefault(name, FidelityMeter()).add(value, got[name])
        results = [meter.result() for meter in meters.values()]
        agreements = [r.argmax_agreement for r in results if r.argmax_agreement is not None]
        return {
            "cosine": min(result.cosine for result in results),
            "sqnr_db": min(result.sqnr_db for result in results),
            "argmax_agreement": min(agreements, default=1.0),
        }

    return evaluate


def _cosines(wanted: Array, got: Array) -> list[float]:
    """Cosine similarity of each row; two rows of zeros are alike, one of them is not."""
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(got, axis=1)
    products = (wanted * got).sum(axis=1)
    alike = (np.abs(wanted).max(axis=1, initial=0) == 0) & (np.abs(got).max(axis=1, initial=0) == 0)
    safe = np.where(norms > 0, norms, 1.0)
    values: list[float] = np.where(alike, 1.0, products / safe).tolist()
    return values
