"""Several sessions at the same time: the load that ``instances`` of a server carry."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

from edgekit.profile.warmup import Clock
from edgekit.runtimes import Session
from edgekit.spec import Feeds

__all__ = ["Streams", "timed_block"]


def timed_block(
    session: Session,
    feeds: Feeds,
    calls: range,
    clock: Clock,
    starts: list[int],
    latencies: list[int],
) -> None:
    """Inferences in a row: adds when each began and what it took. As little happens as can be."""
    run = session.run
    for _ in calls:
        start = clock()
        run(feeds)
        end = clock()
        starts.append(start)
        latencies.append(end - start)


class Streams:
    """Sessions of one artifact that run side by side, each in a thread of its own.

    Args:
        sessions: one a stream; they stay the caller's to close.
        feeds: the input of every inference.
        clock: nanoseconds.
    """

    def __init__(self, sessions: Sequence[Session], feeds: Feeds, clock: Clock) -> None:
        self._sessions, self._feeds, self._clock = sessions, feeds, clock
        self._threads = ThreadPoolExecutor(len(sessions), thread_name_prefix="edgekit-stream")
        self._start = Barrier(len(sessions))

    def block(self, calls: range) -> list[tuple[int, int]]:
        """Inferences of each stream in a row: when each began and what it took, in that order.

        Each stream runs one more before, which is not counted; then all begin together.
        """
        futures = [self._threads.submit(self._one, session, calls) for session in self._sessions]
        errors = [error for error in (future.exception() for future in futures) if error]
        for error in errors:
            if not isinstance(error, BrokenBarrierError):
                self._start.reset()
                raise error
        return sorted(taken for future in futures for taken in future.result())

    def _one(self, session: Session, calls: range) -> list[tuple[int, int]]:
        starts: list[int] = []
        latencies: list[int] = []
        try:
            session.run(self._feeds)
        except BaseException:
            self._start.abort()  # or the others would wait for ever
            raise
        self._start.wait()
        timed_block(session, self._feeds, calls, self._clock, starts, latencies)
        return list(zip(starts, latencies, strict=True))

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()
