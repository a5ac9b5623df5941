"""What single-stream and multi-stream share: the next query leaves when the last is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgekit.profile.percentiles import early_stopping
from edgekit.profile.records import Outcome
from edgekit.profile.scenarios.base import WARM_UP, Ended, Rules, Scenario, Tell, in_ms
from edgekit.profile.stats import least_samples
from edgekit.profile.targets.base import Target, Until

__all__ = ["ClosedLoop"]


@dataclass(frozen=True, slots=True)
class ClosedLoop(Scenario):
    """One query at a time, judged by a percentile of their latency.

    Attributes:
        samples: in each query.
        share: the percentile, 0 to 1.
    """

    samples: ClassVar[int]
    share: ClassVar[float]
    rules: Rules

    def run(self, target: Target, tell: Tell = lambda _: None) -> Ended:
        tell("warm-up")
        warm, _ = target.warm_up(WARM_UP)
        least = max(self.rules.queries, least_samples(self.share))
        tell(f"{self.rules.seconds:g} s and {least} queries at least")
        run = target.closed_loop(Until(self.rules.seconds, least, self.rules.at_most), self.samples)
        proven = early_stopping(run.latencies, self.share)
        reasons = self.rules.unmet(run, least)
        outcome = Outcome(
            valid=not reasons,
            reasons=tuple(reasons),
            short_of=tuple(self.rules.short_of()),
            queries=run.queries,
            samples=run.queries * run.samples,
            seconds=run.seconds,
            metric=f"p{self.share * 100:g} latency",
            value=in_ms(run, self.share),
            bound=None if proven is None else proven / 1e6,
            dropped=sum(run.dropped.values()),
            lost=dict(run.dropped),
        )
        return Ended(run, outcome, warm)
