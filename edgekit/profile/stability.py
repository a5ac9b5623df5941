"""Whether latencies stayed what they were during a run; if not, how they moved and what else did.

A run is cut into up to 40 windows of equal numbers of rounds, so that interleaving cannot break
them. It is unstable where one of these is found:

- **drift**: the windows' p50 rise or fall by 5 % or more over the run (Mann-Kendall, and the slope
  of Theil and Sen);
- **step**: they change by 5 % or more at some moment, and stay there (Pettitt's test,
  standardized), which is what throttling looks like;
- **stretch**: several windows in a row are more than 10 % above the median of all;
- **windows**: p50 or throughput of the three thirds of the run lies more than 10 % apart, which is
  perf_analyzer's criterion; called **noise** where chance may have done it.

All but noise must be more than chance makes of a stationary run: a statistic counts where at most 5
of 1000 shuffles of the same windows reach it. So a wide distribution is not taken for a drift, and
no distribution is assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from edgekit.profile.samples import Conditions, Samples
from edgekit.spec import Array

__all__ = ["Stability", "assess"]

_WINDOWS: Final = 40
_LEAST_WINDOWS: Final = 12
_LEAST_SAMPLES: Final = 8
_SHUFFLES: Final = 999
_CHANCE: Final = 0.005
_SPREAD: Final = 1.10
_MOVED: Final = 0.05
#: Windows on either side of a step, at least: a level must last to be one.
_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class Stability:
    """The verdict on a run.

    Attributes:
        stable: None where the run is too short to judge.
        reasons: how latencies moved, in words with figures; empty where they did not.
        causes: what else the machine did meanwhile that slows inferences down, in words; told of a
            stable run, too.
        kind: ``drift``, ``step``, ``stretch``, ``windows`` or ``noise``; empty where stable.
    """

    stable: bool | None
    reasons: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    kind: str = ""

    @property
    def words(self) -> str:
        """The verdict in one line."""
        if self.stable:
            return "stable"
        verdict = "not judged" if self.stable is None else "unstable"
        told = "; ".join(filter(None, ("; ".join(self.reasons), ", ".join(self.causes))))
        return f"{verdict}: {told}"


@dataclass(frozen=True, slots=True)
class _Windows:
    """A run in windows.

    Attributes:
        medians: of each, shape ``[windows]``.
        means: of each, shape ``[windows]``.
        edges: when each begins, and when the last ends, in words.
    """

    medians: Array
    means: Array
    edges: tuple[str, ...]


def assess(samples: Samples) -> Stability:
    """Judge whether latencies stayed what they were."""
    causes = _causes(samples)
    windows = _cut(samples)
    if windows is None:
        needed = _LEAST_WINDOWS * _LEAST_SAMPLES
        return Stability(None, (f"{len(samples.latencies_ns)} of {needed} samples",), causes)
    shuffles = np.random.default_rng(0).random((_SHUFFLES, len(windows.medians))).argsort(axis=1)
    for check in _CHECKS:
        found = check(windows, shuffles)
        if found is not None:
            kind, reason = found
            return Stability(stable=False, reasons=(reason,), causes=causes, kind=kind)
    return Stability(stable=True, causes=causes)


def _cut(samples: Samples) -> _Windows | None:
    """The run in windows of whole rounds; None where it is too short for enough of them."""
    values = np.asarray(samples.latencies_ns, np.float64)
    rounds = len(values) // samples.block
    count = min(_WINDOWS, rounds, len(values) // _LEAST_SAMPLES)
    if count < _LEAST_WINDOWS:
        return None
    cuts = np.linspace(0, rounds, count + 1).astype(int) * samples.block
    parts = [values[start:end] for start, end in pairwise(cuts)]
    if samples.starts_ns:
        starts = np.asarray(samples.starts_ns)
        seconds = [*starts[cuts[:-1]], starts[-1] + values[-1]]
        edges = tuple(f"{(at - starts[0]) / 1e9:.1f} s" for at in seconds)
    else:  # a bundle of before the starts were kept
        edges = tuple(f"{cut / len(values):.0%} of the run" for cut in cuts)
    return _Windows(
        np.array([np.median(part) for part in parts]),
        np.array([part.mean() for part in parts]),
        edges,
    )


def _by_chance(statistic: Callable[[Array], Array], values: Array, shuffles: Array) -> bool:
    """Whether shuffled windows reach the statistic of the real order too often to believe it."""
    real = statistic(values[None])[0]
    reached = np.count_nonzero(statistic(values[shuffles]) >= real * (1 - 1e-12))
    return bool((1 + reached) / (1 + len(shuffles)) > _CHANCE)


def _moved(windows: _Windows, shuffles: Array) -> tuple[str, str] | None:
    """A step or a drift, whichever describes the windows better; the other where that fails."""
    values = windows.medians
    logs = np.log(values)
    places = np.arange(len(values))
    split = _split(values)
    before, after = float(np.median(logs[:split])), float(np.median(logs[split:]))
    slope = _slope(logs)
    line = slope * places
    line += np.median(logs - line)
    levels = np.where(places < split, before, after)
    found = {
        "step": (after - before, _pettitt, f"at {windows.edges[split]} and stayed there"),
        "drift": (
            slope * places[-1], _kendall, f"between {windows.edges[0]} and {windows.edges[-1]}"
        ),
    }  # fmt: skip
    kinds = ["step", "drift"]
    if np.abs(logs - line).sum() < np.abs(logs - levels).sum():
        kinds.reverse()
    for kind in kinds:
        moved, statistic, when = found[kind]
        change = float(np.expm1(moved))
        if abs(change) >= _MOVED and not _by_chance(statistic, values, shuffles):
            return kind, f"p50 {'rose' if change > 0 else 'fell'} by {abs(change):.0%} {when}"
    return None


def _thirds(windows: _Windows, shuffles: Array) -> tuple[str, str] | None:
    for name, values, level in (
        ("p50", windows.medians, np.median), ("throughput", windows.means, np.mean)
    ):  # fmt: skip

        def spread(rows: Array, level: Callable[..., Array] = level) -> Array:
            parts = np.stack([level(part, axis=1) for part in np.array_split(rows, 3, axis=1)])
            ratios: Array = parts.max(axis=0) / parts.min(axis=0)
            return ratios

        apart = float(spread(values[None])[0])
        if apart > _SPREAD:
            told = f"{name} of the three thirds of the run lies {apart - 1:.0%} apart"
            if _by_chance(spread, values, shuffles):
                return "noise", f"{told}: too few samples for so much noise"
            return "windows", told
    return None


def _stretch(windows: _Windows, shuffles: Array) -> tuple[str, str] | None:
    slow = windows.medians > _SPREAD * np.median(windows.medians)
    if _by_chance(_longest, slow, shuffles):
        return None
    runs = _run_lengths(slow[None])[0]
    last = int(runs.argmax())
    first = last - int(runs[last]) + 1
    level = np.median(windows.medians[first : last + 1]) / np.median(windows.medians[~slow])
    when = f"between {windows.edges[first]} and {windows.edges[last + 1]}"
    return "stretch", f"p50 was {level - 1:.0%} higher {when}"


_CHECKS: Final = (_moved, _stretch, _thirds)


def _slope(logs: Array) -> float:
    """Theil and Sen's: the median slope between all pairs of windows."""
    first, second = np.triu_indices(len(logs), 1)
    return float(np.median((logs[second] - logs[first]) / (second - first)))


def _kendall(rows: Array) -> Array:
    """Mann and Kendall's S of each row, without its sign."""
    first, second = np.triu_indices(rows.shape[1], 1)
    found: Array = np.abs(np.sign(rows[:, second] - rows[:, first]).sum(axis=1))
    return found


def _pettitt(rows: Array) -> Array:
    """The largest standardized rank sum of the windows before any split, of each row."""
    found: Array = np.abs(_rank_sums(rows)).max(axis=1)
    return found


def _split(values: Array) -> int:
    """Where the level changes most: the first window after it."""
    return _LEVEL + int(np.abs(_rank_sums(values[None]))[0].argmax())


def _rank_sums(rows: Array) -> Array:
    count = rows.shape[1]
    # A median of equal values has equal ranks, else a constant run would have steps.
    ranks = (rows[:, :, None] > rows[:, None, :]).sum(axis=2) - (
        rows[:, :, None] < rows[:, None, :]
    ).sum(axis=2)
    sizes = np.arange(_LEVEL, count - _LEVEL + 1)
    sums = np.cumsum(ranks, axis=1)[:, sizes - 1]
    scaled: Array = sums / np.sqrt(sizes * (count - sizes) * (count + 1) / 3)
    return scaled


def _longest(rows: Array) -> Array:
    """The longest run of true values of each row."""
    found: Array = _run_lengths(rows).max(axis=1)
    return found


def _run_lengths(rows: Array) -> Array:
    """How many true values end at each place of each row."""
    lengths = np.zeros(rows.shape, np.int64)
    lengths[:, 0] = rows[:, 0]
    for place in range(1, rows.shape[1]):
        lengths[:, place] = (lengths[:, place - 1] + 1) * rows[:, place]
    return lengths


def _causes(samples: Samples) -> tuple[str, ...]:
    found = list(_told(samples.conditions)) if samples.conditions else []
    if samples.warm_up is not None and not samples.warm_up.steady:
        found.append(f"not yet steady after {samples.warm_up.seconds:.1f} s of warm-up")
    return tuple(found)


def _told(conditions: Conditions) -> list[str]:
    """What of the conditions slows inferences down."""
    told = []
    if conditions.throttled:
        told.append(f"the processor throttled {conditions.throttled} times")
    if conditions.mhz and conditions.mhz[0] < 0.9 * conditions.mhz[1]:
        low, high = (mhz / 1000 for mhz in conditions.mhz)
        told.append(f"clock between {low:.1f} and {high:.1f} GHz")
    if conditions.celsius and conditions.celsius[1] >= conditions.celsius[0] + 5:
        told.append("from {:.0f} to {:.0f} °C".format(*conditions.celsius))
    if conditions.steal and conditions.steal >= 0.01:
        told.append(f"steal {conditions.steal:.0%}")
    if conditions.others and conditions.others >= 0.05:
        told.append(f"other processes {conditions.others:.0%}")
    if conditions.preempted and conditions.preempted >= 50:
        told.append(f"preempted {conditions.preempted:.0f} times a second")
    return told
