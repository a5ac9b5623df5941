"""Derived figures that several parts of the report show."""

from __future__ import annotations

import numpy as np

from edgekit.profile.samples import Samples

__all__ = ["interval"]


def interval(samples: Samples) -> tuple[float, float]:
    """A 95 % interval of the median, in milliseconds."""
    values = np.sort(np.asarray(samples.latencies_ns)) / 1e6
    half = 0.98 * np.sqrt(values.size)
    low = int(max(np.floor(values.size / 2 - half), 0))
    high = int(min(np.ceil(values.size / 2 + half), values.size - 1))
    return float(values[low]), float(values[high])
