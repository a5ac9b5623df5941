"""Several sessions at the same time: the load that ``instances`` of a server carry."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

from edgekit.runtimes import Session
from edgekit.spec import Feeds

__all__ = ["Streams", "timed_block"]


def timed_block(session: Session, feeds: Feeds, count: int) -> list[tuple[int, int]]:
    """When each of ``count`` inferences in a row began, and what it took; in nanoseconds."""
    taken = []
    for _ in range(count):
        start = time.perf_counter_ns()
        session.run(feeds)
        taken.append((start, time.perf_counter_ns() - start))
    return taken


class Streams:
    """Sessions of one artifact that run side by side, each in a thread of its own.

    Args:
        sessions: one a stream; they stay the caller's to close.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions
        self._threads = ThreadPoolExecutor(len(sessions), thread_name_prefix="edgekit-stream")
        self._start = Barrier(len(sessions))

    def block(self, feeds: Feeds, count: int) -> list[tuple[int, int]]:
        """``count`` inferences of each stream, in the order they began; see :func:`timed_block`.

        Each stream runs one more before, which is not counted; then all begin together.
        """
        futures = [
            self._threads.submit(self._one, session, feeds, count) for session in self._sessions
        ]
        errors = [error for error in (future.exception() for future in futures) if error]
        for error in errors:
            if not isinstance(error, BrokenBarrierError):
                self._start.reset()
                raise error
        return sorted(taken for future in futures for taken in future.result())

    def _one(self, session: Session, feeds: Feeds, count: int) -> list[tuple[int, int]]:
        try:
            session.run(feeds)
        except BaseException:
            self._start.abort()  # or the others would wait for ever
            raise
        self._start.wait()
        return timed_block(session, feeds, count)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()
