"""The contract of what a scenario asks: three ways to offer load, one record of what came of it.

A target knows how to ask (a call, a socket, a stream) and keeps the times; when to ask, how long
and what that is worth is the scenario's. Times are integers in nanoseconds from the start of the
run, so that nothing is derived before it is shown.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edgekit.closing import Closing

__all__ = ["UNANSWERED", "Clock", "GiveUp", "Nanoseconds", "Run", "SystemClock", "Target", "Until"]

Nanoseconds: TypeAlias = npt.NDArray[np.int64]

#: In place of the time of an answer that never came.
UNANSWERED = -1


class Clock(Protocol):
    """Where the time comes from; tests bring their own."""

    def now(self) -> int:
        """Nanoseconds since some moment."""

    def sleep_until(self, when: int) -> None:
        """Return at ``when``, or at once where that is past."""


class SystemClock:
    """The machine's."""

    def now(self) -> int:
        return time.perf_counter_ns()

    def sleep_until(self, when: int) -> None:
        left = when - time.perf_counter_ns()
        if left > 0:
            time.sleep(left / 1e9)


@dataclass(frozen=True, slots=True)
class Until:
    """How long a closed loop goes on: for that time and that many queries, both.

    Attributes:
        seconds: at least.
        queries: at least.
        at_most: seconds after which it ends in any case; None for no such limit.
    """

    seconds: float
    queries: int
    at_most: float | None = None

    def reached(self, queries: int, elapsed: int) -> bool:
        """Whether it may end after so many queries, and nanoseconds from when the first was due."""
        if self.at_most is not None and elapsed >= self.at_most * 1e9:
            return True
        return queries >= self.queries and elapsed >= self.seconds * 1e9


@dataclass(frozen=True, slots=True)
class GiveUp:
    """When an open loop cannot end well any more: then it need not end.

    Attributes:
        latency: nanoseconds that a query may take.
        most: queries that may take longer; one more, or one without an answer, ends the run.
    """

    latency: int
    most: int


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the queries, in the order they were due.

    Attributes:
        due: when each should have left; where there is no schedule, when it did.
        done: when its answer was there, or :data:`UNANSWERED`.
        late: by how much the generator itself was late, shape as ``due``. What a query waited for
            the target is none of it.
        samples: in each query.
        dropped: queries without an answer, by reason.
        given_up: it ended early, see :class:`GiveUp`; what was not sent is left out.
    """

    due: Nanoseconds
    done: Nanoseconds
    late: Nanoseconds
    samples: int = 1
    dropped: Mapping[str, int] = field(default_factory=dict)
    given_up: bool = False

    @property
    def queries(self) -> int:
        """All that were sent."""
        return int(self.due.size)

    @property
    def starts(self) -> Nanoseconds:
        """When each answered query was due."""
        found: Nanoseconds = self.due[self.done != UNANSWERED]
        return found

    @property
    def latencies(self) -> Nanoseconds:
        """Of the answered ones, from when they were due."""
        answered = self.done != UNANSWERED
        found: Nanoseconds = self.done[answered] - self.due[answered]
        return found

    @property
    def seconds(self) -> float:
        """From the first that was due to the last answer."""
        if not self.queries:
            return 0.0
        return float(max(self.done.max(), self.due.max()) - self.due[0]) / 1e9


class Target(Closing):
    """Answers queries.

    Attributes:
        streams: inferences that it has under way at a time, where the scenario leaves it the
            choice.
        batch: samples in one inference.
    """

    streams: int
    batch: int

    @abstractmethod
    def warm_up(self, seconds: float) -> tuple[int, float]:
        """Infer for about that long, at least a few times on each stream.

        Returns:
            How many inferences, and the seconds that the median one took.

        Raises:
            EdgekitError: an inference failed.
        """

    @abstractmethod
    def closed_loop(self, until: Until, samples: int = 1) -> Run:
        """Send a query of ``samples`` when the last one is answered.

        Raises:
            EdgekitError: an inference failed.
        """

    @abstractmethod
    def open_loop(self, due: Nanoseconds, give_up: GiveUp | None = None) -> Run:
        """Send a query of one sample at each of these times, whatever became of those before.

        Raises:
            EdgekitError: an inference failed.
        """

    @abstractmethod
    def at_once(self, inferences: int) -> Run:
        """Compute so many inferences of :attr:`batch` samples, all waiting from the start.

        Returns:
            One entry an inference; ``due`` is when it began.

        Raises:
            EdgekitError: an inference failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what the target holds."""
