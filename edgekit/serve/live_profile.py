"""How long each stage of the last requests took, from the stages that every request leaves.

A percentile is told only where there are samples enough to speak of it: see
:func:`edgekit.profile.stats.least_samples`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

from edgekit.profile.stats import least_samples, percentile
from edgekit.serve.statistics import STAGES, Stages, Statistics
from edgekit.spec import Array

__all__ = ["PERCENTILES", "live_profile", "measured", "supported_percentile"]

PERCENTILES = (50, 90, 99)

#: Nanoseconds in the unit that is told.
_UNIT = 1e3


def live_profile(statistics: Statistics, last: int, seconds: float) -> dict[str, Any]:
    """Latencies in microseconds, of the ``last`` requests and of the last ``seconds``."""
    now = time.monotonic()
    kept = statistics.recent
    newest = list(islice(reversed(kept), last))
    recent = [entry for entry in kept if entry[0] >= now - seconds]
    # Where more came than are kept, the window is shorter than what was asked for.
    window = now - recent[0][0] if len(recent) == kept.maxlen else seconds
    return {
        "unit": "us",
        "success": statistics.success.count,
        "failures": dict(statistics.failures),
        "pending": statistics.pending,
        "requests": _window(newest, now - newest[-1][0] if newest else 0.0),
        "recent": _window(recent, window),
    }


def measured(stages: Iterable[Stages]) -> Array:
    """Nanoseconds of each stage, in order; shape ``[requests, stages]``."""
    rows = [(s.parse, s.queue, s.input, s.infer, s.output, s.serialise) for s in stages]
    return np.array(rows, np.int64).reshape(-1, len(STAGES))


def supported_percentile(values: Array, share: int) -> float | None:
    """The percentile (0 to 100), None where the samples are too few to bound it."""
    return percentile(values, share) if len(values) >= least_samples(share / 100) else None


def _window(entries: list[tuple[float, Stages]], seconds: float) -> dict[str, Any]:
    table = measured(stages for _, stages in entries)
    total = table.sum(axis=1)
    batches = [stages.batch for _, stages in entries]
    return {
        "count": len(entries),
        "seconds": seconds,
        "requests_per_s": len(entries) / seconds if seconds else 0.0,
        "mean_batch": float(np.mean(batches)) if batches else None,
        "stages": {name: _row(table[:, i]) for i, name in enumerate(STAGES)},
        "total": _row(total),
        "overhead": _row(total - table[:, STAGES.index("infer")]),
        "notes": _notes(len(entries)),
    }


def _row(values: Array) -> dict[str, float | None]:
    row: dict[str, float | None] = {
        "count": len(values),
        "mean": float(values.mean()) / _UNIT if len(values) else None,
    }
    for share in PERCENTILES:
        found = supported_percentile(values, share)
        row[f"p{share}"] = None if found is None else found / _UNIT
    return row


def _notes(count: int) -> dict[str, str]:
    """Why a percentile is null."""
    needed = {share: least_samples(share / 100) for share in PERCENTILES}
    return {
        f"p{share}": f"{count} requests, {least} are needed to bound this percentile"
        for share, least in needed.items()
        if count < least
    }
