"""The best setting for a goal: ``latency``, ``p99``, ``throughput with p99<8ms``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgekit.errors import GateError, SpecError
from edgekit.profile.figures import Measured, Ratio, ratio
from edgekit.profile.goals import Goal, parse_goal

__all__ = ["Aim", "Choice", "choose", "pareto", "parse_aim"]

_OPTION: Final = "--goal"
_PERCENTILE: Final = re.compile(r"p(\d{1,2}(?:\.\d+)?)", re.ASCII)

#: Two settings within this much of each other are alike, however many samples tell them apart.
_MARGIN: Final = 0.02
#: Beyond this they are not, however much the samples vary: it is more likely there than not.
_COUNTS: Final = 0.10


@dataclass(frozen=True, slots=True)
class Aim:
    """What a setting shall be best at.

    Attributes:
        share: the percentile (0 to 100) of the latency that shall be low; None for a high
            throughput.
        limits: what it must hold as well.
    """

    share: float | None
    limits: tuple[Goal, ...] = ()

    @property
    def latency(self) -> float:
        """The percentile that stands for the latency: its own, or that of its first limit."""
        shares = (goal.percentile for goal in self.limits)
        return self.share or next((share for share in shares if share), 50.0)

    def __str__(self) -> str:
        what = "throughput" if self.share is None else f"p{self.share:g}"
        limits = " and ".join(map(str, self.limits))
        return f"{what} with {limits}" if limits else what


@dataclass(frozen=True, slots=True)
class Choice:
    """The setting for an aim.

    Attributes:
        point: what was chosen.
        reason: why, in words with the figures.
    """

    point: Measured
    reason: str


def parse_aim(text: str) -> Aim:
    """Read ``latency``, ``p99`` or ``throughput``, each alone or with limits.

    ``latency`` is the median. Limits are of percentiles and of the throughput (samples a second):
    ``throughput with p99<8ms and p50<2ms``, ``p99 with throughput>100``.

    Raises:
        SpecError: it is none.
    """
    what, _, rest = text.strip().partition(" with ")
    what = what.strip()
    found = _PERCENTILE.fullmatch("p50" if what == "latency" else what)
    if what != "throughput" and not (found and float(found[1])):
        raise SpecError(
            f"{text!r} is no goal of a sweep",
            where=_OPTION,
            fix="Write latency, p99, throughput or 'throughput with p99<8ms', say",
        )
    limits = tuple(parse_goal(part, option=_OPTION) for part in rest.split(" and ") if part.strip())
    for goal in limits:
        if goal.percentile is None and goal.metric != "throughput":
            raise SpecError(
                "a setting is judged by percentiles of its latency and by its throughput only",
                where=f"{_OPTION}, {goal}",
                fix="Write p99<8ms or throughput>100, say",
            )
        goal.value_in("" if goal.percentile is None else "ms")
    return Aim(float(found[1]) if found else None, limits)


def choose(points: Sequence[Measured], aim: Aim) -> Choice:
    """The best of the points; of those that noise or 2 % tell apart, the cheapest.

    Cheaper is: fewer threads over all streams, then fewer streams, then a smaller batch, as each
    session and each sample of a batch takes memory.

    Raises:
        GateError: no point holds the limits.
    """
    fitting = [point for point in points if not _misses(point, aim)]
    if not fitting:
        told = "; ".join(f"{point.name}: {_misses(point, aim)}" for point in points)
        raise GateError(
            f"no setting holds {' and '.join(map(str, aim.limits))} ({told})",
            where=_OPTION,
            fix="Allow more, sweep other settings, or measure for longer",
        )
    best = min(fitting, key=lambda point: _badness(point, aim))
    alike = {
        point.name: times
        for point in fitting
        if point is not best and _alike(times := ratio(point, best, aim.share), aim)
    }
    cheapest = min((best, *(p for p in fitting if p.name in alike)), key=_cost)
    kind = "the lowest latency" if aim.share is not None else "the highest throughput"
    if aim.limits:
        kind += f" with {' and '.join(map(str, aim.limits))}"
    if cheapest is best:
        return Choice(best, f"{kind}: {_told(best, aim)}")
    against = f"{alike[cheapest.name]} that of {best.name}, which has {kind} ({_told(best, aim)})"
    told = f"no difference that counts, and it is cheaper ({_saved(cheapest, best)})"
    return Choice(cheapest, f"{_told(cheapest, aim)}, {against}: {told}")


def pareto(points: Sequence[Measured], share: float) -> list[Measured]:
    """The points that no other one beats in latency and throughput, the lowest latency first."""
    figures = [(point.latency(share), -point.throughput, point) for point in points]
    front: list[Measured] = []
    least = 0.0
    for _, negative, point in sorted(figures, key=lambda one: one[:2]):
        if negative < least:
            front.append(point)
            least = negative
    return front


def _misses(point: Measured, aim: Aim) -> str:
    """Which limit it does not hold, in words; empty where it holds all."""
    shares = [aim.share, *(goal.percentile for goal in aim.limits)]
    for share in shares:
        if share is not None and (lack := point.lacks(share)):
            return lack
    for goal in aim.limits:
        share = goal.percentile
        value = point.throughput if share is None else point.latency(share)
        if not goal.met(value, "" if share is None else "ms"):
            return f"{goal.metric} {value:.3g}{'' if share is None else ' ms'}"
    return ""


def _badness(point: Measured, aim: Aim) -> float:
    return -point.throughput if aim.share is None else point.latency(aim.share)


def _alike(times: Ratio, aim: Aim) -> bool:
    """Whether a point is as good as the best: by chance, or by a margin that does not count."""
    if aim.share is None:
        times = Ratio(1 / times.value, 1 / times.high, 1 / times.low if times.low else math.inf)
    return times.value <= 1 + _MARGIN or (times.low <= 1 and times.value <= 1 + _COUNTS)


def _cost(point: Measured) -> tuple[int, int, int]:
    settings = point.settings
    return ((settings.threads or 1) * settings.streams, settings.streams, settings.batch)


def _saved(cheap: Measured, dear: Measured) -> str:
    """What the cheaper one takes less of."""
    names = ("threads in all", "streams", "samples in a batch")
    pairs = zip(names, _cost(cheap), _cost(dear), strict=True)
    return next(
        (f"{less} {name} instead of {more}" for name, less, more in pairs if less < more), ""
    )


def _told(point: Measured, aim: Aim) -> str:
    share = aim.latency
    return f"p{share:g} {point.latency(share):.3f} ms, {point.throughput:.1f} samples/s"
