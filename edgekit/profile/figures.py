"""Figures of a point: percentiles and throughput, and how those of two points compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgekit.profile.percentiles import least_samples, percentile
from edgekit.profile.points import named
from edgekit.profile.records import Profile, Settings
from edgekit.profile.rounds import round_seconds
from edgekit.profile.samples import Samples
from edgekit.spec import Array

__all__ = ["Measured", "Ratio", "measured", "ratio"]

#: Stretches that a run is cut into at most. Rounds close to each other are alike, so what varies by
#: chance shows between stretches, not between rounds (the method of batch means).
_STRETCHES: Final = 20
_LEAST: Final = 3
_Z: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Measured:
    """All samples of one artifact with one setting, of as many runs as it took.

    Attributes:
        artifact: its id.
        runtime: that ran it.
        settings: how.
        samples: one record a run; of one scenario.
    """

    artifact: str
    runtime: str
    settings: Settings
    samples: tuple[Samples, ...]

    @property
    def name(self) -> str:
        """Artifact and setting in words."""
        return named(self.artifact, self.settings)

    @property
    def count(self) -> int:
        """Latencies that were measured."""
        return sum(len(one.latencies_ns) for one in self.samples)

    @property
    def throughput(self) -> float:
        """Samples a second, all streams together."""
        seconds = sum(float(round_seconds(one).sum()) for one in self.samples)
        return self.count * self.settings.batch / seconds

    def latency(self, share: float) -> float:
        """The percentile (0 to 100), in milliseconds."""
        return percentile(np.concatenate([one.latencies_ns for one in self.samples]), share) / 1e6

    def lacks(self, share: float) -> str:
        """Why that percentile cannot be told, in words; empty where there are enough samples."""
        least = least_samples(share / 100)
        return "" if self.count >= least else f"{self.count} samples, p{share:g} takes {least}"

    def stretches(self, share: float | None, count: int) -> Array:
        """A percentile, or the throughput, of each stretch of the runs; shape ``[stretches]``."""
        found = []
        for one in self.samples:
            latencies = np.reshape(one.latencies_ns, (-1, one.block))
            seconds = round_seconds(one)
            for part in np.array_split(np.arange(len(latencies)), min(count, len(latencies))):
                if share is not None:
                    found.append(percentile(latencies[part].ravel(), share) / 1e6)
                else:
                    did = latencies[part].size * self.settings.batch
                    found.append(did / float(seconds[part].sum()))
        return np.asarray(found)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One point's figure over another's, with a 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f}x ({self.low:.2f} to {self.high:.2f})"


def measured(profile: Profile, scenario: str = "single-stream") -> list[Measured]:
    """The points of a profile that were measured under a scenario, in order."""
    found: dict[str, Measured] = {}
    for result in profile.results:
        samples, settings = result.samples, result.settings
        if samples.scenario == scenario:
            new = Measured(samples.artifact, samples.runtime, settings, (samples,))
            known = found.get(new.name)
            kept = (*known.samples, samples) if known else (samples,)
            found[new.name] = Measured(samples.artifact, samples.runtime, settings, kept)
    return list(found.values())


def ratio(one: Measured, other: Measured, share: float | None) -> Ratio:
    """How many times as large a figure of ``one`` is as that of ``other``.

    The logarithms of the figure in stretches of the runs are compared, as means with Student's
    interval: pair by pair where both took turns in the same run, so that what hit both alike
    cancels out. Two runs at different times may differ by more than either shows within: a
    baseline is best measured on the same machine right before.

    Args:
        one: the numerator.
        other: the denominator.
        share: percentile (0 to 100) that is compared; None for the throughput.
    """
    first, second = (np.log(point.stretches(share, _STRETCHES)) for point in (one, other))
    if min(len(first), len(second)) < _LEAST:
        return Ratio(_figure(one, share) / _figure(other, share), 0.0, math.inf)
    runs = [[samples.run for samples in point.samples] for point in (one, other)]
    if runs[0] == runs[1] and len(first) == len(second):
        pairs = first - second
        centre, freedom = float(pairs.mean()), len(pairs) - 1
        error = float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    else:
        centre = float(first.mean() - second.mean())
        parts = [float(part.var(ddof=1)) / len(part) for part in (first, second)]
        error, freedom = math.sqrt(sum(parts)), min(len(first), len(second)) - 1
    reach = _student(freedom) * error
    return Ratio(*(math.exp(centre + shift) for shift in (0.0, -reach, reach)))


def _figure(point: Measured, share: float | None) -> float:
    return point.throughput if share is None else point.latency(share)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by the expansion of Cornish and Fisher."""
    terms = (
        _Z,
        (_Z**3 + _Z) / 4,
        (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96,
        (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
