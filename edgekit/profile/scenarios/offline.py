"""Offline: all samples are there from the start. Judged by the samples a second."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

from edgekit.profile.records import Outcome
from edgekit.profile.scenarios.base import WARM_UP, Ended, Rules, Scenario, Tell
from edgekit.profile.targets.base import Run, Target

__all__ = ["Offline"]

#: Samples in the one query, by MLPerf's rules.
_LEAST: Final = 24_576

#: The query is this much larger than what the least duration is expected to need, as loadgen's.
_SLACK: Final = 1.1

#: A query grows by this factor at most: what a short one took says little about a long one.
_GROWTH: Final = 20

_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class Offline(Scenario):
    """One query of as many samples as the least duration needs.

    How many these are is found by asking: a query that took too short is asked again, larger.
    """

    name: ClassVar[str] = "offline"
    rules: Rules

    def run(self, target: Target, tell: Tell = lambda _: None) -> Ended:
        tell("warm-up")
        warm, _ = target.warm_up(WARM_UP)
        least = max(self.rules.queries, 1 if self.rules.short_of() else _LEAST)
        fewest = math.ceil(least / target.batch)
        count = 2 * target.streams
        for attempt in range(_ATTEMPTS):
            tell(f"{count * target.batch} samples")
            run = target.at_once(count)
            done = run.seconds >= self.rules.seconds and count >= fewest
            if done or run.dropped or attempt == _ATTEMPTS - 1:
                break
            warm += run.queries
            wanted = math.ceil(count / run.seconds * self.rules.seconds * _SLACK)
            count = min(max(wanted, fewest, count + 1), _GROWTH * count)
        return Ended(run, self._judged(run, least), warm)

    def _judged(self, run: Run, least: int) -> Outcome:
        answered = run.latencies.size * run.samples
        reasons = self.rules.unmet(run, least, "samples")
        short_of = self.rules.short_of()
        if answered < _LEAST:
            short_of.append(f"MLPerf asks for {_LEAST} samples, these were {answered}")
        return Outcome(
            valid=not reasons,
            reasons=tuple(reasons),
            short_of=tuple(short_of),
            queries=1,
            samples=run.queries * run.samples,
            seconds=run.seconds,
            metric="samples/s",
            value=answered / run.seconds if run.seconds else 0.0,
            dropped=sum(run.dropped.values()),
            lost=dict(run.dropped),
        )
