"""What HTTP and gRPC share: a generator on one event loop that never waits for an answer to send.

Queries leave when they are due, each as a task of its own. When one left is noted, so that a run
tells by how much the generator itself was late.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np

from edgekit.errors import EdgekitError, GateError
from edgekit.profile.runner import no_garbage_collection
from edgekit.profile.targets.base import UNANSWERED, GiveUp, Nanoseconds, Run, Target, Until

__all__ = ["PATIENCE", "Dropped", "Remote"]

_T = TypeVar("_T")

#: Seconds that an answer may take before it counts as none.
PATIENCE = 60.0

#: Queries under way at a time. The server is beyond help where there are more.
_MOST_UNDER_WAY = 4096

#: Queries of a warm-up, however long they take.
_WARM = 5


class Dropped(Exception):  # noqa: N818, an answer that says no is not an error of the generator
    """A query was not answered, or with a refusal; says which."""


class Remote(Target):
    """A model on a running server.

    Args:
        where: it is, for messages.
        streams: requests under way at a time, where the scenario leaves the choice.
        batch: samples in one request of the offline scenario.
    """

    def __init__(self, where: str, *, streams: int, batch: int) -> None:
        self.where = where
        self.streams = streams
        self.batch = batch
        self._loop = asyncio.SelectorEventLoop(_PreciseSelector())

    @abstractmethod
    async def ask(self, size: int) -> int:
        """Send one request of so many samples and read the answer.

        Returns:
            ``time.perf_counter_ns`` when the request had left.

        Raises:
            Dropped: there is no answer, or it is a refusal.
        """

    @abstractmethod
    async def prepare(self, count: int) -> None:
        """Open connections for so many requests at a time, so that none waits for one."""

    @abstractmethod
    async def finish(self) -> None:
        """Close them."""

    def warm_up(self, seconds: float) -> tuple[int, float]:
        run = self.closed_loop(Until(seconds, _WARM, at_most=10 * max(seconds, 1.0)))
        latencies = run.latencies
        if not latencies.size:
            told = ", ".join(f"{count} x {reason}" for reason, count in run.dropped.items())
            raise GateError(
                f"not one query was answered ({told})",
                where=self.where,
                fix="See the server's log",
            )
        return run.queries, float(np.median(latencies)) / 1e9

    def closed_loop(self, until: Until, samples: int = 1) -> Run:
        return self._run(self._closed(until, samples))

    def open_loop(self, due: Nanoseconds, give_up: GiveUp | None = None) -> Run:
        return self._run(_Open(self, due, give_up).run())

    def at_once(self, inferences: int) -> Run:
        return self._run(self._at_once(inferences))

    def close(self) -> None:
        self._run(self.finish())
        self._loop.close()

    async def _closed(self, until: Until, samples: int) -> Run:
        """Several samples of a query go as requests of one each, all at the same time."""
        await self.prepare(samples)
        dropped: Counter[str] = Counter()
        due: list[int] = []
        done: list[int] = []
        start = time.perf_counter_ns()
        elapsed = 0
        while not until.reached(len(due), elapsed):
            due.append(time.perf_counter_ns() - start)
            reason = await self._query(samples)
            answered = time.perf_counter_ns() - start
            elapsed = answered - due[0]
            done.append(UNANSWERED if reason else answered)
            if reason:
                dropped[reason] += 1
                await asyncio.sleep(min(0.001 * len(due), 0.1))  # it refuses faster than it answers
        return _run(due, done, [0] * len(due), samples, dropped)

    async def _query(self, samples: int) -> str:
        """Why it was dropped; empty where it was answered."""
        try:
            async with asyncio.timeout(PATIENCE):
                if samples == 1:
                    await self.ask(1)
                else:
                    await asyncio.gather(*(self.ask(1) for _ in range(samples)))
        except Dropped as error:
            return str(error)
        except TimeoutError:
            return _NO_ANSWER
        return ""

    async def _at_once(self, inferences: int) -> Run:
        await self.prepare(self.streams)
        dropped: Counter[str] = Counter()
        due, done = [0] * inferences, [UNANSWERED] * inferences
        numbers = iter(range(inferences))
        start = time.perf_counter_ns()

        async def work() -> None:
            for number in numbers:  # all workers take from the same one
                due[number] = time.perf_counter_ns() - start
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self.ask(self.batch)
                except Dropped as error:
                    dropped[str(error)] += 1
                except TimeoutError:
                    dropped[_NO_ANSWER] += 1
                else:
                    done[number] = time.perf_counter_ns() - start

        await asyncio.gather(*(work() for _ in range(self.streams)))
        return _run(due, done, [0] * inferences, self.batch, dropped)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            with no_garbage_collection():
                return self._loop.run_until_complete(work)
        except Dropped as error:  # before the first query
            raise EdgekitError(
                f"cannot be asked: {error}", where=self.where, fix="Check that the server runs"
            ) from error


_NO_ANSWER = f"no answer in {PATIENCE:g} s"


class _Open:
    """One open loop."""

    def __init__(self, target: Remote, due: Nanoseconds, give_up: GiveUp | None) -> None:
        self._target = target
        self._due: list[int] = due.tolist()
        self._give_up = give_up
        self._done = [UNANSWERED] * len(self._due)
        self._late = [0] * len(self._due)
        self._dropped: Counter[str] = Counter()
        self._over = 0
        self._stopped = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> Run:
        await self._target.prepare(self._target.streams)
        self._start = time.perf_counter_ns()
        sent = 0
        for number, due in enumerate(self._due):
            left = self._start + due - time.perf_counter_ns()
            # Also where the generator is behind: answers are to be read meanwhile.
            await asyncio.sleep(max(left, 0) / 1e9)
            if self._stopped.is_set():
                break
            self._send(number)
            sent = number + 1
        await self._drained()
        return _run(
            self._due[:sent],
            self._done[:sent],
            self._late[:sent],
            1,
            self._dropped,
            given_up=self._stopped.is_set(),
        )

    def _send(self, number: int) -> None:
        if len(self._under_way) >= _MOST_UNDER_WAY:
            self._drop(f"more than {_MOST_UNDER_WAY} queries under way")
            return
        task = asyncio.ensure_future(self._query(number))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _query(self, number: int) -> None:
        try:
            left = await self._target.ask(1)
        except Dropped as error:
            self._drop(str(error))
            return
        done = time.perf_counter_ns() - self._start
        self._done[number] = done
        self._late[number] = left - self._start - self._due[number]
        limit = self._give_up
        if limit is not None and done - self._due[number] > limit.latency:
            self._over += 1
            if self._over > limit.most:
                self._stopped.set()

    def _drop(self, reason: str) -> None:
        self._dropped[reason] += 1
        if self._give_up is not None:
            self._stopped.set()

    async def _drained(self) -> None:
        """Wait for what is under way; not for what cannot make a run that failed any better."""
        pending = set(self._under_way)
        if pending and not self._stopped.is_set():
            _, pending = await asyncio.wait(pending, timeout=PATIENCE)
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
            self._dropped[_NO_ANSWER if not self._stopped.is_set() else "given up"] += len(pending)


class _PreciseSelector(selectors.DefaultSelector):
    """One that waits to the microsecond. epoll rounds up to milliseconds: that late a query would
    leave. The descriptor of epoll can be waited for itself, with select, which does not.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0 and hasattr(self, "fileno"):
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def _run(
    due: list[int],
    done: list[int],
    late: list[int],
    samples: int,
    dropped: Counter[str],
    *,
    given_up: bool = False,
) -> Run:
    due_ns, done_ns, late_ns = (np.asarray(values, np.int64) for values in (due, done, late))
    return Run(due_ns, done_ns, late_ns, samples, dict(dropped), given_up)
