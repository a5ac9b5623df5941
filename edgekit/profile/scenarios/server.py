"""Server: queries come at random. Judged by the highest rate that holds a latency percentile."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from edgekit.errors import SpecError
from edgekit.profile.goals import Goal
from edgekit.profile.percentiles import most_late
from edgekit.profile.records import Outcome
from edgekit.profile.scenarios.arrivals import arrivals
from edgekit.profile.scenarios.base import WARM_UP, Ended, Rules, Scenario, Tell, in_ms
from edgekit.profile.scenarios.search import highest
from edgekit.profile.stats import least_samples
from edgekit.profile.targets.base import GiveUp, Run, Target

__all__ = ["Server", "require_target"]

#: How close the search comes to the highest rate.
_RESOLUTION: Final = 0.02

#: The search begins at this share of what one answer after the other gives: random arrivals leave
#: no room for more than about that where the target is a small multiple of the latency.
_FIRST: Final = 0.5

#: No rate is tried below this share of it. Where even that is too much, queries are hardly ever
#: there together, and it is their latency alone that is too long.
_LOWEST: Final = 0.01

#: Trials of the search are this much shorter than the run that counts.
_TRIAL: Final = 0.25

#: After a run that counts did not hold, the next is this much slower; so often.
_BACK, _RETREATS = 0.985, 14

#: The generator may be late by this share of the target, in its 99th percentile.
_LATE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Server(Scenario):
    """Poisson arrivals of one sample each.

    The search tries each rate for a quarter of the least duration, and ends a trial as soon as too
    many queries are late. The rate that it finds then has to hold for a whole run.

    Attributes:
        goal: a percentile of latency, such as ``p99<10ms``.
        rate: offer this one only, in queries a second; None searches.
        seed: of the arrivals.
    """

    name: ClassVar[str] = "server"
    goal: Goal
    rules: Rules
    rate: float | None = None
    seed: int = 0

    def run(self, target: Target, tell: Tell = lambda _: None) -> Ended:
        tell("warm-up")
        warm, seconds = target.warm_up(WARM_UP)
        search = _Search(self, target, tell, warm)
        if self.rate is not None:
            return search.counted(self.rate)
        start = _FIRST * target.streams / seconds
        lowest = start * _LOWEST
        found = highest(search.trial, start, resolution=_RESOLUTION, least=lowest)
        ended = search.counted(found or lowest)
        for _ in range(_RETREATS if found else 0):
            if not search.too_fast(ended.run):
                break
            found *= _BACK
            ended = search.counted(found)
        return ended

    @property
    def share(self) -> float:
        """The percentile, 0 to 1."""
        return (self.goal.percentile or 0.0) / 100

    @property
    def limit(self) -> int:
        """The most nanoseconds that an answer which is not late takes."""
        limit = round(self.goal.value_in("us") * 1e3)
        return limit - 1 if self.goal.op == "<" else limit

    def count(self, rate: float, share: float = 1.0) -> int:
        """Queries of a run at this rate: for the least duration, and enough to prove the target."""
        seconds = self.rules.seconds * share
        wanted = max(rate * seconds, self.rules.queries * share, least_samples(self.share))
        if not self.rules.endless:
            wanted = min(wanted, rate * (self.rules.at_most or 0.0) * share)
        return max(1, math.ceil(wanted))


@dataclass(slots=True)
class _Search:
    """One target under one scenario: tries rates, and keeps which it tried."""

    scenario: Server
    target: Target
    tell: Tell
    warm: int
    tried: list[tuple[float, bool]] = field(default_factory=list)

    def trial(self, rate: float) -> bool:
        """Whether the target holds at this rate, in a short run."""
        scenario = self.scenario
        count, whole = scenario.count(rate, _TRIAL), scenario.count(rate)
        # As large a share as in a whole run, which proves more: by its own number a trial would
        # let fewer through. Where even that has too few to prove anything, none may be late.
        most = round(max(0, most_late(whole, scenario.share)) * count / whole)
        self.tell(f"trying {rate:.4g}/s, {count / rate:.1f} s")
        run = self.target.open_loop(
            arrivals(rate, count, scenario.seed), GiveUp(scenario.limit, most)
        )
        held = not (run.given_up or run.dropped) and self._late(run) <= most
        self.warm += run.queries
        self.tried.append((rate, held))
        return held

    def counted(self, rate: float) -> Ended:
        """The run at this rate that the outcome is of."""
        scenario = self.scenario
        count = scenario.count(rate)
        self.tell(f"{rate:.4g}/s, {count / rate:.1f} s")
        run = self.target.open_loop(arrivals(rate, count, scenario.seed))
        reasons = self._reasons(run, rate)
        self.tried.append((rate, not reasons))
        outcome = Outcome(
            valid=not reasons,
            reasons=tuple(reasons),
            short_of=tuple(scenario.rules.short_of()),
            queries=run.queries,
            samples=run.queries,
            seconds=run.seconds,
            metric="queries/s",
            value=rate,
            bound=self._bound(run),
            target=(scenario.share * 100, scenario.goal.value_in("ms")),
            latency=in_ms(run, scenario.share),
            tried=tuple(self.tried),
            seed=scenario.seed,
            late_ms=_late_ms(run),
            dropped=sum(run.dropped.values()),
            lost=dict(run.dropped),
        )
        return Ended(run, outcome, self.warm)

    def too_fast(self, run: Run) -> bool:
        """Whether a slower rate could do better: queries were late or dropped."""
        most = max(0, most_late(run.queries, self.scenario.share))
        return bool(run.dropped) or self._late(run) > most

    def _late(self, run: Run) -> int:
        """Queries above the target; those without an answer are."""
        in_time = int((run.latencies <= self.scenario.limit).sum())
        return run.queries - in_time

    def _bound(self, run: Run) -> float | None:
        """Below the target exactly where early stopping says that the run holds it."""
        spare = most_late(run.queries, self.scenario.share) - (run.queries - run.latencies.size)
        if spare < 0:
            return None
        return float(np.partition(run.latencies, -spare - 1)[-spare - 1]) / 1e6

    def _reasons(self, run: Run, rate: float) -> list[str]:
        scenario, goal = self.scenario, self.scenario.goal
        least = max(scenario.rules.queries, least_samples(scenario.share))
        reasons = scenario.rules.unmet(run, least, seconds=run.queries / rate)
        late, most = self._late(run), most_late(run.queries, scenario.share)
        if late > max(0, most):
            told = in_ms(run, scenario.share)
            reasons.append(
                f"{late} of {run.queries} queries took longer than {goal.value:g} {goal.unit}, at "
                f"most {max(0, most)} may: {goal.metric} was {told:.4g} ms"
            )
        generator = _late_ms(run)
        if generator > _LATE * goal.value_in("ms"):
            reasons.append(
                f"the load generator was late by {generator * 1e3:.0f} us (p99), more than "
                f"{_LATE:.0%} of the target: the machine has other work, or needs a second one "
                "to send from"
            )
        return reasons


def _late_ms(run: Run) -> float:
    return float(np.percentile(run.late, 99)) / 1e6


def require_target(goal: Goal, option: str = "--target") -> Goal:
    """See that a goal is one that the server scenario can hold.

    Raises:
        SpecError: it is no upper limit of a percentile of time.
    """
    if goal.percentile is None or goal.op not in {"<", "<="} or goal.quantity != "time":
        raise SpecError(
            f"{str(goal)!r} is no limit of a latency percentile",
            where=option,
            fix=f"Write {option} 'p99<10ms', say",
        )
    if goal.value <= 0:
        raise SpecError(f"{str(goal)!r} allows no time", where=option, fix="Write more than 0")
    return goal
