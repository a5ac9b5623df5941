"""Percentiles, what bounds them, and how sure they are.

The intervals are Woodruff's (J. Am. Stat. Assoc. 47, 1952): the exact binomial interval of the
share of inferences below the percentile, read off the sorted samples. They assume no distribution.
Neighbouring latencies are alike (a stall slows several), so the number of samples that counts is
the number taken divided by the design effect: how much more the share varies between blocks of
the run than it would between independent samples. Counted over 100 runs of 1000 samples, fixed,
bimodal, lognormal, Pareto and autocorrelated (0.7), they hold the true p50 to p99.9 in 93 or more,
where a bootstrap over blocks of the run held p50 to p99 in 85 to 98. Where neighbours are far more
alike than that, 1000 samples are too few, and the intervals are too narrow (about 92).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from edgekit.spec import Array

__all__ = [
    "Percentile",
    "early_stopping",
    "least_samples",
    "most_late",
    "percentile",
    "percentile_interval",
]

_CONFIDENCE: Final = 0.99
_INTERVAL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of latencies, in their unit.

    Attributes:
        share: 0 to 100.
        value: interpolated linearly between samples.
        low: of its 95 % confidence interval.
        high: of it; infinite where too few independent samples bound it.
        count: samples that there are.
        needed: samples that it takes to speak of this percentile, see :func:`least_samples`.
        bound: that MLPerf's early stopping gives, see :func:`early_stopping`; None where there are
            too few samples.
    """

    share: float
    value: float
    low: float
    high: float
    count: int
    needed: int
    bound: float | None

    @property
    def told(self) -> bool:
        """Whether there are enough samples."""
        return self.count >= self.needed

    @property
    def words(self) -> str:
        """The value with its interval, or why it is not told."""
        if not self.told:
            return f"not enough samples ({self.count:,} of {self.needed:,})"
        high = f"{self.high:.3f}" if math.isfinite(self.high) else "?"
        return f"{self.value:.3f} ({self.low:.3f} to {high})"


def percentile(values: Sequence[float] | Array, share: float) -> float:
    """The ``share`` percentile (0 to 100), interpolated linearly between samples."""
    return float(np.percentile(np.asarray(values), share))


def percentile_interval(values: Array, share: float) -> Percentile:
    """The ``share`` percentile (0 to 100) of latencies with its 95 % interval.

    Args:
        values: latencies in the order they were taken, shape ``[samples]``.
        share: 0 to 100.
    """
    chance = share / 100
    ordered = np.sort(values)
    count = len(ordered)
    quantile = ordered[min(count - 1, math.ceil(count * chance) - 1)]
    independent = max(1, int(count / _design_effect(values > quantile)))
    below, above = _interval_ranks(independent, chance)
    low = math.floor(below / independent * count)
    high = math.ceil(above / independent * count)
    value = percentile(values, share)
    return Percentile(
        share=share,
        value=value,  # between two samples, so it may lie just outside of very few
        low=min(value, float(ordered[max(low, 1) - 1])),
        high=max(value, float(ordered[high - 1])) if above <= independent else math.inf,
        count=count,
        needed=least_samples(chance),
        bound=early_stopping(ordered, chance),
    )


@cache
def least_samples(share: float) -> int:
    """The fewest samples that bound the ``share`` percentile (0 to 1) with 99 % confidence.

    MLPerf Inference's early stopping rule with t = 1: the smallest n with
    P(Binomial(n, 1 - share) <= 1) <= 0.01. It gives 11 for p50, 64 for p90, 662 for p99 and 6,636
    for p99.9.
    """
    count = 1
    while _at_most_one(count, 1.0 - share) > 1.0 - _CONFIDENCE + 1e-12:
        count += 1
    return count


@cache
def most_late(count: int, share: float) -> int:
    """How many of ``count`` queries may be late for the rest to prove the ``share`` percentile.

    MLPerf Inference's early stopping (inference_rules, appendix): the largest t such that
    P(Binomial(count, 1 - share) <= t) <= 0.01.

    Args:
        count: of all queries.
        share: such as 0.99.

    Returns:
        -1 where even none being late proves nothing: 458 queries for p99.
    """
    if count < 1:
        return -1
    first, chances = _binomial(count, 1.0 - share)
    return first + int(np.searchsorted(chances, 1.0 - _CONFIDENCE + 1e-12, side="right")) - 1


def early_stopping(values: Sequence[float] | Array, share: float) -> float | None:
    """What the ``share`` percentile (0 to 1) is at most, with 99 % confidence.

    MLPerf Inference's rule: of the t that :func:`most_late` allows, the t - 1 highest latencies are
    dropped; the bound is the highest one left.

    Returns:
        None where there are fewer than :func:`least_samples`.
    """
    count = len(values)
    most = most_late(count, share)
    if most < 1:
        return None
    return float(np.partition(np.asarray(values), count - most)[count - most])


def _interval_ranks(count: int, chance: float) -> tuple[int, int]:
    """Ranks (from 1) of the samples that enclose a percentile; 0 or ``count + 1`` where none does.

    The number of samples below the percentile is Binomial(count, chance): each end is beyond it
    with a probability of at most 2.5 %.
    """
    first, chances = _binomial(count, chance)
    tail = (1.0 - _INTERVAL) / 2
    low = first + int(np.searchsorted(chances, tail, side="right"))
    high = first + int(np.searchsorted(chances, 1.0 - tail, side="left")) + 1
    return low, high


@cache
def _binomial(count: int, chance: float) -> tuple[int, Array]:
    """P(Binomial(count, chance) <= k) for k = first, first + 1, ... within ten deviations."""
    mean, deviation = count * chance, math.sqrt(count * chance * (1.0 - chance))
    first = max(0, math.floor(mean - 10 * deviation - 10))
    last = min(count, math.ceil(mean + 10 * deviation + 10))
    start = (
        math.lgamma(count + 1)
        - math.lgamma(first + 1)
        - math.lgamma(count - first + 1)
        + first * math.log(chance)
        + (count - first) * math.log1p(-chance)
    )
    k = np.arange(first + 1, last + 1)
    steps = np.log((count - k + 1) / k) + math.log(chance / (1.0 - chance))
    logs = start + np.concatenate([[0.0], np.cumsum(steps)])
    chances: Array = np.cumsum(np.exp(logs))
    return first, chances


def _design_effect(above: Array) -> float:
    """How many times the variance of a share is that of independent samples; at least 1.

    The larger of two estimates, as either is too small on some runs: the variance between blocks
    of n**0.6 samples, and the sum of autocorrelations up to where pairs of them end being positive
    (Geyer's initial positive sequence, Statistical Science 7, 1992).

    Args:
        above: whether each sample is above the percentile, in the order they were taken.
    """
    count = len(above)
    share = float(above.mean())
    spread = share * (1.0 - share)
    if spread == 0.0 or count < 16:
        return 1.0
    size = round(count**0.6)
    blocks = above[: count // size * size].reshape(-1, size).mean(axis=1)
    between = size * float(blocks.var(ddof=1)) / spread if len(blocks) > 1 else 1.0
    return max(1.0, between, _correlation_time(above - share))


def _correlation_time(centred: Array) -> float:
    """Sum of the autocorrelations at all lags, both ways, by Geyer's initial positive sequence."""
    count = len(centred)
    spectrum = np.fft.rfft(centred, 2 * count)
    correlation = np.fft.irfft(spectrum * np.conj(spectrum))[: count // 2 * 2]
    pairs = (correlation[0::2] + correlation[1::2]) / correlation[0]
    ends = np.flatnonzero(pairs <= 0.0)
    return float(2.0 * pairs[: ends[0] if len(ends) else None].sum() - 1.0)


def _at_most_one(count: int, chance: float) -> float:
    """P(Binomial(count, chance) <= 1)."""
    none = math.pow(1.0 - chance, count)
    return none + count * chance * math.pow(1.0 - chance, count - 1)
