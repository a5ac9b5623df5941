"""Sessions in this process: one thread a session, and queries that wait for the next free one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.profile.runner import no_garbage_collection
from edgekit.profile.targets.base import (
    UNANSWERED,
    Clock,
    GiveUp,
    Nanoseconds,
    Run,
    SystemClock,
    Target,
    Until,
)
from edgekit.runtimes import Session
from edgekit.spec import Feeds

__all__ = ["SessionTarget"]

#: Inferences of each session before any is counted, however long they take.
_WARM = 3


class SessionTarget(Target):
    """Loaded artifacts.

    In an open loop there is no thread that sends: the schedule is known, so each free session takes
    the next query from it and waits until that is due. Nothing stands between the two that could
    make a query late, and queries that are due while all sessions are busy wait, as in a queue.

    Args:
        sessions: of the same artifact; one stream each.
        feeds: the input of one inference of so many samples.
        batch: samples in one inference. In an open loop the most: those that wait, and no query
            waits for others to fill it.
        clock: tests bring their own.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        feeds: Callable[[int], Feeds],
        *,
        batch: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self.streams = len(sessions)
        self.batch = batch
        self._sessions = tuple(sessions)
        self._clock: Clock = clock or SystemClock()
        self._feeds = {count: feeds(count) for count in range(1, batch + 1)}
        # One stream runs in the calling thread: to wake another costs more than small models do.
        self._pool = ThreadPoolExecutor(self.streams) if self.streams > 1 else None

    def warm_up(self, seconds: float) -> tuple[int, float]:
        took: list[int] = []
        sizes = {1, self.batch}
        ends = self._clock.now() + int(seconds * 1e9)
        for number in itertools.count():
            if number >= _WARM and self._clock.now() >= ends:
                break
            for session in self._sessions:
                for size in sizes:
                    start = self._clock.now()
                    self._infer(session, size)
                    took.append(self._clock.now() - start)
        return len(took), float(np.median(took)) / 1e9

    def closed_loop(self, until: Until, samples: int = 1) -> Run:
        sizes = _parts(samples, self.batch)
        ask = self._spread(sizes) if len(sizes) > 1 and self._pool else self._in_turn(sizes)
        due: list[int] = []
        done: list[int] = []
        clock = self._clock
        with no_garbage_collection():
            start = clock.now()
            elapsed = 0
            while not until.reached(len(done), elapsed):
                due.append(clock.now() - start)
                ask()
                done.append(clock.now() - start)
                elapsed = done[-1] - due[0]
        return _run(due, done, samples=samples)

    def open_loop(self, due: Nanoseconds, give_up: GiveUp | None = None) -> Run:
        line = _Line(due.tolist(), give_up)
        with no_garbage_collection():
            line.start = self._clock.now()
            self._on_each(lambda session: self._serve(session, line), line.stopped)
        sent = line.next
        return _run(
            line.due[:sent], line.done[:sent], line.late[:sent], given_up=line.stopped.is_set()
        )

    def at_once(self, inferences: int) -> Run:
        due, done = [0] * inferences, [0] * inferences
        numbers = itertools.count()  # its next() is atomic
        clock = self._clock
        stopped = threading.Event()

        def work(session: Session) -> None:
            while (number := next(numbers)) < inferences and not stopped.is_set():
                due[number] = clock.now() - start
                self._infer(session, self.batch)
                done[number] = clock.now() - start

        with no_garbage_collection():
            start = clock.now()
            self._on_each(work, stopped)
        return _run(due, done, samples=self.batch)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def _serve(self, session: Session, line: _Line) -> None:
        clock = self._clock
        while (taken := line.take(clock, self.batch)) is not None:
            first, last = taken
            self._infer(session, last - first)
            line.answered(first, last, clock.now() - line.start)

    def _infer(self, session: Session, size: int) -> None:
        try:
            session.run(self._feeds[size])
        except EdgekitError:
            raise
        except Exception as error:  # engines raise types of their own
            raise EdgekitError(
                f"inference failed: {error}", fix="Run edgekit verify on the bundle"
            ) from error

    def _in_turn(self, sizes: Sequence[int]) -> Callable[[], None]:
        session = self._sessions[0]

        def ask() -> None:
            for size in sizes:
                self._infer(session, size)

        return ask

    def _spread(self, sizes: Sequence[int]) -> Callable[[], None]:
        pool = self._pool
        assert pool is not None
        free: SimpleQueue[Session] = SimpleQueue()
        for session in self._sessions:
            free.put(session)

        def part(size: int) -> None:
            session = free.get()
            try:
                self._infer(session, size)
            finally:
                free.put(session)

        def ask() -> None:
            list(pool.map(part, sizes))

        return ask

    def _on_each(self, work: Callable[[Session], None], stopped: threading.Event) -> None:
        """Where one fails, or somebody presses Ctrl-C, the others are told to stop."""
        if self._pool is None:
            work(self._sessions[0])
            return

        def guarded(session: Session) -> None:
            try:
                work(session)
            except BaseException:
                stopped.set()
                raise

        try:
            list(self._pool.map(guarded, self._sessions))
        except BaseException:
            stopped.set()
            raise


@dataclass
class _Line:
    """The schedule of an open loop, and how far it is."""

    due: list[int]
    give_up: GiveUp | None
    start: int = 0
    next: int = 0
    over: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.done = [UNANSWERED] * len(self.due)
        self.late = [0] * len(self.due)

    def take(self, clock: Clock, most: int) -> tuple[int, int] | None:
        """The next queries, first and behind the last, when they are due; None after the last."""
        with self.lock:  # who waits for the next query holds it; there is nothing else to take
            first = self.next
            if first >= len(self.due) or self.stopped.is_set():
                return None
            now = clock.now() - self.start
            if now < self.due[first]:
                clock.sleep_until(self.start + self.due[first])
                now = clock.now() - self.start
                self.late[first] = max(0, now - self.due[first])
            last = first + 1
            while last < len(self.due) and last - first < most and self.due[last] <= now:
                last += 1
            self.next = last
            return first, last

    def answered(self, first: int, last: int, at: int) -> None:
        self.done[first:last] = [at] * (last - first)
        if self.give_up is None:
            return
        with self.lock:
            self.over += sum(at - due > self.give_up.latency for due in self.due[first:last])
        if self.over > self.give_up.most:
            self.stopped.set()


def _parts(samples: int, batch: int) -> list[int]:
    """Sizes of the inferences of one query."""
    whole, rest = divmod(samples, batch)
    return [batch] * whole + [rest] * bool(rest)


def _run(
    due: Sequence[int],
    done: Sequence[int],
    late: Sequence[int] | None = None,
    *,
    samples: int = 1,
    given_up: bool = False,
) -> Run:
    return Run(
        np.asarray(due, np.int64),
        np.asarray(done, np.int64),
        np.asarray(late if late is not None else [0] * len(due), np.int64),
        samples=samples,
        given_up=given_up,
    )
