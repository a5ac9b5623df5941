"""Every statistic of latencies, derived from the raw samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.profile.samples import Samples
from edgekit.spec import Array

__all__ = ["Comparison", "Summary", "compare", "least_samples", "percentile", "summarize"]

_CONFIDENCE = 0.99
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Summary:
    """Latency of one artifact, in milliseconds.

    Attributes:
        count: number of samples.
        p99_supported: whether there are enough samples to speak of a 99th percentile, see
            :func:`least_samples`.
    """

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    lowest: float
    highest: float
    p99_supported: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times as fast one artifact is as another, with a 95 % confidence interval."""

    ratio: float
    low: float
    high: float


def percentile(values: Sequence[float] | Array, share: float) -> float:
    """The ``share`` percentile (0 to 100), interpolated linearly between samples."""
    return float(np.percentile(np.asarray(values), share))


def summarize(samples: Samples) -> Summary:
    """Mean, extremes and percentiles of the samples."""
    values = np.asarray(samples.latencies_ns) / 1e6
    return Summary(
        count=values.size,
        mean=float(values.mean()),
        p50=percentile(values, 50),
        p90=percentile(values, 90),
        p99=percentile(values, 99),
        lowest=float(values.min()),
        highest=float(values.max()),
        p99_supported=values.size >= least_samples(0.99),
    )


@cache
def least_samples(share: float) -> int:
    """The fewest samples that bound the ``share`` percentile with 99 % confidence.

    MLPerf Inference's early stopping rule with one sample dropped (t = 1): the smallest n with
    P(Binomial(n, 1 - share) <= 1) <= 0.01. It gives 11 for p50, 64 for p90 and 662 for p99.
    """
    count = 1
    while _at_most_one(count, 1.0 - share) > 1.0 - _CONFIDENCE + 1e-12:
        count += 1
    return count


def compare(slow: Samples, fast: Samples) -> Comparison:
    """How many times as fast ``fast`` is as ``slow``: the ratio of their medians.

    The interval is a percentile bootstrap over rounds. Both artifacts ran in each round, so a
    resampled round takes the machine's speed of that moment along for both.

    Raises:
        EdgekitError: the two were not taken in the same interleaved run.
    """
    if slow.run != fast.run or len(slow.latencies_ns) != len(fast.latencies_ns):
        raise EdgekitError(
            "were not measured in the same interleaved run",
            where=f"samples of {slow.artifact} and {fast.artifact}",
            fix="Profile both together",
        )
    first, second = (np.reshape(s.latencies_ns, (-1, s.block)) for s in (slow, fast))
    generator = np.random.default_rng(0)
    picks = generator.integers(0, len(first), (_RESAMPLES, len(first)))
    ratios = _medians(first[picks]) / _medians(second[picks])
    return Comparison(
        ratio=float(np.median(first) / np.median(second)),
        low=percentile(ratios, 2.5),
        high=percentile(ratios, 97.5),
    )


def _medians(rounds: Array) -> Array:
    """Median of each resample; input of shape (resamples, rounds, block)."""
    medians: Array = np.median(rounds.reshape(len(rounds), -1), axis=1)
    return medians


def _at_most_one(count: int, chance: float) -> float:
    """P(Binomial(count, chance) <= 1)."""
    none = math.pow(1.0 - chance, count)
    return none + count * chance * math.pow(1.0 - chance, count - 1)
