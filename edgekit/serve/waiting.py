"""Requests that wait for a worker, and which of them run together next.

As in Triton: the oldest request of the highest priority goes, and takes with it what is queued
behind it and fits, up to the largest preferred size that can be reached, else to the largest batch.
With a delay, a batch that is not full waits until its oldest request has waited that long.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from edgekit.serve.batch import Job

__all__ = ["BatchPolicy", "Waiting"]


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When requests run together.

    Attributes:
        largest: most samples of a batch; a request that has more by itself runs alone.
        preferred: sizes to stop at.
        delay: seconds that the oldest request waits for others.
        queue: requests that may wait for a worker.
    """

    largest: int = 1
    preferred: tuple[int, ...] = ()
    delay: float = 0.0
    queue: int = 256


class Waiting:
    """The queue of one model version, for the event loop and the threads of the workers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[Hashable, list[Job]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, job: Job) -> None:
        """Queue it among those that it may run with."""
        with self._lock:
            bisect.insort(self._queues.setdefault(job.key, []), job, key=_rank)
            self._count += 1

    def remove(self, job: Job) -> bool:
        """Take it out; whether it was still there."""
        with self._lock:
            queue = self._queues.get(job.key, [])
            if job not in queue:
                return False
            self._cut(queue, queue.index(job), 1)
            return True

    def take(self, policy: BatchPolicy, now: int) -> tuple[list[Job], float]:
        """Those that run together now; else none, and the seconds after which some may.

        Args:
            policy: when they do.
            now: in ``time.perf_counter_ns``.
        """
        waits = []
        with self._lock:
            for queue in sorted(self._queues.values(), key=_head_rank):
                count, wait = _choose(queue, policy, now)
                if wait <= 0:
                    return self._cut(queue, 0, count), 0.0
                waits.append(wait)
        return [], min(waits, default=0.0)

    def _cut(self, queue: list[Job], start: int, count: int) -> list[Job]:
        jobs = queue[start : start + count]
        del queue[start : start + count]
        if not queue:
            del self._queues[jobs[0].key]
        self._count -= count
        return jobs


def _choose(queue: Sequence[Job], policy: BatchPolicy, now: int) -> tuple[int, float]:
    """How many jobs of the queue to run together, and seconds to wait for more before."""
    samples, count, preferred = 0, 0, 0
    for job in queue:
        if count and samples + job.samples > policy.largest:
            break
        samples += job.samples
        count += 1
        if samples in policy.preferred:
            preferred = count
    full = count < len(queue) or samples >= policy.largest
    if preferred and (full or samples >= max(policy.preferred)):
        return preferred, 0.0
    if full or not policy.delay:
        return preferred or count, 0.0
    oldest = min(job.queued for job in queue[:count])
    return preferred or count, policy.delay - (now - oldest) / 1e9


def _rank(job: Job) -> tuple[int, int]:
    return job.rank


def _head_rank(queue: Sequence[Job]) -> tuple[int, int]:
    return queue[0].rank
