"""The contract of a scenario: offer load to a target, judge what came of it by the rules.

The scenarios and their rules are those of MLPerf Inference (arXiv 1911.02549; the current rules are
in its repository ``inference_policies``) and of its load generator: a run has a least duration and
a least number of queries and must meet both, each query must be answered, and latency counts from
when a query was due. The rules ask for 600 s; a shorter run is valid by its own rules, and says
what it is short of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from edgekit.profile.records import Outcome
from edgekit.profile.stats import percentile
from edgekit.profile.targets.base import Run, Target

__all__ = ["MLPERF", "WARM_UP", "Ended", "Rules", "Scenario", "Tell", "dropped_reasons", "in_ms"]

#: Told of each step of a scenario, in a few words.
Tell = Callable[[str], None]

_MLPERF_SECONDS: Final = 600.0

#: Where a run ends in any case, as a multiple of the least duration.
_PATIENCE: Final = 6

#: Least time of a warm-up.
WARM_UP: Final = 0.5


@dataclass(frozen=True, slots=True)
class Rules:
    """How long a run must go on.

    Attributes:
        seconds: at least.
        queries: at least; early stopping wants its own number, too.
        endless: go on until both are met, however long that takes. Else six times ``seconds`` end
            a run, which is not valid then.
    """

    seconds: float = 10.0
    queries: int = 0
    endless: bool = False

    @property
    def at_most(self) -> float | None:
        """Seconds after which a run ends in any case."""
        return None if self.endless else _PATIENCE * self.seconds

    def unmet(
        self, run: Run, least: int, unit: str = "queries", seconds: float | None = None
    ) -> list[str]:
        """What the run lacks, in words.

        Args:
            run: that ended.
            least: that it needs of ``unit``.
            unit: ``queries``, or ``samples`` in them.
            seconds: that it was made for; None for those it took.
        """
        count = run.queries * (run.samples if unit == "samples" else 1)
        seconds = run.seconds if seconds is None else seconds
        found = dropped_reasons(run)
        if seconds < self.seconds * (1 - 1e-6):
            found.append(f"took {seconds:.3g} s, {self.seconds:g} s are the least")
        if count < least:
            found.append(f"{count} {unit}, {least} are the least")
        return found

    def short_of(self) -> list[str]:
        """What MLPerf's rules ask beyond these, in words."""
        if self.seconds >= _MLPERF_SECONDS:
            return []
        return [f"MLPerf asks for {_MLPERF_SECONDS:g} s, this run was made for {self.seconds:g} s"]


#: The rules of MLPerf Inference.
MLPERF: Final = Rules(seconds=_MLPERF_SECONDS, endless=True)


@dataclass(frozen=True, slots=True)
class Ended:
    """A scenario that is over.

    Attributes:
        run: that the outcome is of: times of all its queries.
        outcome: how it is judged.
        warm: inferences before it.
    """

    run: Run
    outcome: Outcome
    warm: int


class Scenario(ABC):
    """How load is offered and judged."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, target: Target, tell: Tell = lambda _: None) -> Ended:
        """Offer the load.

        Raises:
            EdgekitError: an inference failed, or the target cannot be asked at all.
        """


def dropped_reasons(run: Run) -> list[str]:
    """What is wrong with queries that were not answered; one entry, or none."""
    if not run.dropped:
        return []
    told = ", ".join(f"{count} x {reason}" for reason, count in run.dropped.items())
    return [f"{sum(run.dropped.values())} of {run.queries} queries were dropped ({told})"]


def in_ms(run: Run, share: float) -> float:
    """A percentile (0 to 1) of the answered queries in milliseconds; NaN where there are none."""
    latencies = run.latencies
    return percentile(latencies, share * 100) / 1e6 if latencies.size else float(np.nan)
