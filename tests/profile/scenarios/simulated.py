"""A target on a clock of its own: queries wait in line for servers that take a known time."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np

from edgekit.profile.targets.base import UNANSWERED, GiveUp, Nanoseconds, Run, Target, Until

__all__ = ["ManualClock", "Simulated"]


class ManualClock:
    """Time passes only when somebody sleeps, or a test says so."""

    def __init__(self, oversleep: int = 0) -> None:
        self.time = 10**12
        self._oversleep = oversleep

    def now(self) -> int:
        return self.time

    def sleep_until(self, when: int) -> None:
        self.time = max(self.time, when + self._oversleep)


class Simulated(Target):
    """``streams`` servers and one line, without a real second.

    Args:
        service: nanoseconds of one inference, by its number.
        late: of the generator, of each query.
        refuses: reasons by number of the query.
    """

    def __init__(
        self,
        service: Callable[[int], int],
        *,
        streams: int = 1,
        late: int = 0,
        refuses: dict[int, str] | None = None,
    ) -> None:
        self.streams, self.batch = streams, 1
        self._service, self._late, self._refuses = service, late, refuses or {}
        self.asked = 0

    def warm_up(self, seconds: float) -> tuple[int, float]:
        return max(3, int(seconds)), self._service(0) / 1e9

    def closed_loop(self, until: Until, samples: int = 1) -> Run:
        due, done, now = [], [], 0
        while not until.reached(len(due), now):
            due.append(now)
            now += sum(self._next() for _ in range(samples))
            done.append(now)
        return self._run(np.array(due), np.array(done), samples)

    def open_loop(self, due: Nanoseconds, give_up: GiveUp | None = None) -> Run:
        free = [0] * self.streams
        done: list[int] = []
        over = 0
        for number, when in enumerate(due.tolist()):
            if number in self._refuses:
                done.append(UNANSWERED)
                continue
            done.append(max(when + self._late, heapq.heappop(free)) + self._next())
            heapq.heappush(free, done[-1])
            over += give_up is not None and done[-1] - when > give_up.latency
            if give_up is not None and over > give_up.most:
                return self._run(due[: len(done)], np.array(done), given_up=True)
        return self._run(due, np.array(done))

    def at_once(self, inferences: int) -> Run:
        free = [0] * self.streams
        due, done = [], []
        for _ in range(inferences):
            due.append(heapq.heappop(free))
            done.append(due[-1] + self._next())
            heapq.heappush(free, done[-1])
        return self._run(np.array(due), np.array(done))

    def close(self) -> None:
        pass

    def _next(self) -> int:
        self.asked += 1
        return self._service(self.asked)

    def _run(
        self, due: Nanoseconds, done: Nanoseconds, samples: int = 1, *, given_up: bool = False
    ) -> Run:
        dropped: dict[str, int] = {}
        for number in np.flatnonzero(done == UNANSWERED).tolist():
            reason = self._refuses[number]
            dropped[reason] = dropped.get(reason, 0) + 1
        return Run(due, done, np.full(due.size, self._late), samples, dropped, given_up)
