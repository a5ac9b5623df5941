"""Every statistic of latencies, derived from the raw samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.profile.percentiles import (
    Percentile,
    early_stopping,
    least_samples,
    percentile,
    percentile_interval,
)
from edgekit.profile.samples import Samples
from edgekit.spec import Array

__all__ = [
    "MARGIN",
    "PERCENTILES",
    "Comparison",
    "Percentile",
    "Summary",
    "compare",
    "early_stopping",
    "least_samples",
    "percentile",
    "percentile_interval",
    "summarize",
]

PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)

#: The smallest relative difference of medians that counts. One artifact loaded twice may differ by
#: this much, as its weights and buffers lie elsewhere in memory.
MARGIN: Final = 0.02

_RESAMPLES: Final = 2000
#: Places where the resamples are counted first.
_EDGES: Final = 129
#: Units of the bootstrap at most: longer runs are resampled in stretches of several rounds, as
#: rounds close to each other are alike.
_UNITS: Final = 50
#: Percent of the resamples on either side of the 95 % interval. With 2.5 % it is too narrow: it
#: holds the true ratio in 93 to 97 of 100 runs of 25 to 1000 rounds, with this one in 95 to 98 (on
#: narrow, bimodal and lognormal latencies that are independent; on strongly autocorrelated ones in
#: 85 to 97, the fewest in runs of 25 and 50 rounds).
_TAIL: Final = 1.5
_CHUNK: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Summary:
    """Latency of one artifact, in milliseconds.

    Attributes:
        count: number of samples.
        p99_supported: whether there are enough samples to speak of a 99th percentile, see
            :func:`least_samples`.
        percentiles: with their intervals, for each of :data:`PERCENTILES`.
        outliers: samples beyond :attr:`outlier_limit`. They are part of every statistic here.
        outlier_limit: p50 and ten times the median absolute deviation (at least 5 % of p50).
    """

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    lowest: float
    highest: float
    p99_supported: bool
    percentiles: dict[float, Percentile]
    outliers: int
    outlier_limit: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times as fast one artifact is as another, with a 95 % confidence interval."""

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["faster", "slower", "same", "unclear"]:
        """``faster`` and ``slower``: the interval excludes 1, and the ratio is beyond the margin.

        ``same``: the interval excludes every difference that counts; with ``unclear`` there may be
        one, but these samples do not show it.
        """
        if self.low > 1.0 and self.ratio >= 1.0 + MARGIN:
            return "faster"
        if self.high < 1.0 and self.ratio <= 1.0 / (1.0 + MARGIN):
            return "slower"
        inside = self.low >= 1.0 / (1.0 + MARGIN) and self.high <= 1.0 + MARGIN
        return "same" if inside else "unclear"

    def words(self, fast: str, slow: str) -> str:
        """The verdict as a sentence on two names."""
        interval = f"({self.low:.2f} to {self.high:.2f})"
        if self.verdict in {"faster", "slower"}:
            return f"{fast} is {self.ratio:.2f}x as fast as {slow} {interval}"
        beyond = "" if self.verdict == "same" else " beyond the noise"
        return f"no difference between {fast} and {slow}{beyond} {interval}"


def summarize(samples: Samples) -> Summary:
    """Mean, extremes and percentiles of the samples: of all of them, outliers too."""
    values = np.asarray(samples.latencies_ns) / 1e6
    found = {share: percentile_interval(values, share) for share in PERCENTILES}
    median = found[50.0].value
    deviation = float(np.median(np.abs(values - median)))
    limit = median + max(10 * deviation, 0.05 * median)
    return Summary(
        count=values.size,
        mean=float(values.mean()),
        p50=median,
        p90=found[90.0].value,
        p99=found[99.0].value,
        lowest=float(values.min()),
        highest=float(values.max()),
        p99_supported=found[99.0].told,
        percentiles=found,
        outliers=int(np.count_nonzero(values > limit)),
        outlier_limit=limit,
    )


def compare(slow: Samples, fast: Samples) -> Comparison:
    """How many times as fast ``fast`` is as ``slow``: the ratio of their medians.

    The interval is a percentile bootstrap over rounds, in up to 50 stretches of them. Both
    artifacts ran in each round, so a resampled round takes the machine's speed of that moment
    along for both.

    Raises:
        EdgekitError: the two were not taken in the same interleaved run.
    """
    rounds = math.ceil(len(slow.latencies_ns) / slow.block)
    if slow.run != fast.run or rounds != math.ceil(len(fast.latencies_ns) / fast.block):
        raise EdgekitError(
            "were not measured in the same interleaved run",
            where=f"samples of {slow.artifact} and {fast.artifact}",
            fix="Profile both together",
        )
    stretch = math.ceil(rounds / _UNITS)
    units = math.ceil(rounds / stretch)
    generator = np.random.default_rng(0)
    counts = generator.multinomial(units, np.full(units, 1.0 / units), _RESAMPLES)
    ratios = _medians(slow, stretch, counts) / _medians(fast, stretch, counts)
    return Comparison(
        ratio=float(np.median(slow.latencies_ns) / np.median(fast.latencies_ns)),
        low=percentile(ratios, _TAIL),
        high=percentile(ratios, 100 - _TAIL),
    )


def _medians(samples: Samples, stretch: int, counts: Array) -> Array:
    """Median of each resample.

    A resample takes every unit some times. Sorting once and adding up these times along the sorted
    values finds all medians, without making any resample. Medians lie close together, so it is done
    for few values first, and then only for those between which all medians are.

    Args:
        samples: of one artifact.
        stretch: rounds of a unit.
        counts: how often each resample takes each unit, shape ``[resamples, units]``.
    """
    values = np.asarray(samples.latencies_ns)
    order = np.argsort(values)
    ordered, owner = values[order], order // (samples.block * stretch)
    edges = np.linspace(0, len(values), min(_EDGES, len(values) // 16 + 2)).astype(int)
    owned = [np.bincount(owner[:edge], minlength=counts.shape[1]) for edge in edges]
    below = counts @ np.stack(owned, axis=1)  # of a resample's values, before each edge
    half = below[:, -1:] / 2
    first = np.flatnonzero((below < half).all(0))[-1]
    last = np.flatnonzero((below > half).all(0))[0]
    start, stop = edges[first], edges[last]
    found = []
    parts = math.ceil(counts.shape[0] * (stop - start) / _CHUNK)
    for rows in np.array_split(np.arange(counts.shape[0]), parts):
        taken = below[rows, first, None] + np.cumsum(counts[rows][:, owner[start:stop]], axis=1)
        lower, upper = (taken < half[rows]).sum(axis=1), (taken <= half[rows]).sum(axis=1)
        found.append((ordered[start + lower] + ordered[start + upper]) / 2)
    return np.concatenate(found)
