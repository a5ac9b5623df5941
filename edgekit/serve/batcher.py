"""Dynamic batching: a queue in front of workers, from which requests that fit run together.

As in Triton: when a worker is free, the oldest request of the highest priority goes, and takes with
it what is queued behind it and fits, up to the largest preferred size that can be reached, else to
the largest batch. With a delay, a batch that is not full waits until its oldest request has waited
that long. Everything happens in the event loop, so there are no locks.
"""

from __future__ import annotations

import asyncio
import bisect
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.serve.batch import Batch, Job, Layout
from edgekit.serve.errors import ServeError
from edgekit.serve.statistics import Stages, Statistics
from edgekit.serve.worker import Worker
from edgekit.spec import BATCH, Feeds, Outputs

__all__ = ["BatchPolicy", "Batcher", "EngineFailedError"]

#: Weight of the newest run in the moving average of a run's time.
_SMOOTHING = 0.1


class EngineFailedError(Exception):
    """The engine raised; ``__cause__`` says what."""


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


class Batcher:
    """The queue of one model version."""

    def __init__(
        self, workers: Sequence[Worker], layout: Layout, policy: BatchPolicy, statistics: Statistics
    ) -> None:
        self.policy = policy
        self._layout = layout
        self._statistics = statistics
        self._idle = list(workers)
        self._workers = len(workers)
        self._queues: dict[Hashable, list[Job]] = {}
        self._waiting = 0
        self._arrived = 0
        self._run_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._free = asyncio.Event()
        self._running: dict[Worker, Batch] = {}

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting

    @property
    def wait_s(self) -> float:
        """How long a request that came now would wait, by the last runs."""
        runs = self._waiting / max(1, self.policy.largest)
        return (runs + 1) * self._run_s / max(1, self._workers)

    async def infer(
        self, feeds: Feeds, sizes: Mapping[str, int], deadline: float | None, priority: int
    ) -> tuple[Outputs, Stages]:
        """Queue one request and wait for its outputs.

        Args:
            feeds: checked.
            sizes: of the dynamic dimensions.
            deadline: in ``time.monotonic``.
            priority: the lowest number goes first.

        Raises:
            ServeError: 429, the queue is full; 504, the deadline passed.
            EngineFailedError: the engine raised.
        """
        if self._waiting >= self.policy.queue and not self._idle:
            raise ServeError(
                f"{self._waiting} requests are waiting, no more are taken",
                status=429,
                retry_after=self.wait_s,
            )
        job = self._queued(feeds, sizes, priority)
        if deadline is not None:
            left = deadline - time.monotonic()
            job.timer = asyncio.get_running_loop().call_later(max(0.0, left), self._expire, job)
        self._dispatch()
        try:
            return await job.future, job.stages
        except asyncio.CancelledError:
            self._forget(job)
            raise
        finally:
            if job.timer is not None:
                job.timer.cancel()

    async def borrow(self) -> Worker:
        """A worker for something else than a request, before anything that is queued.

        Give it back with :meth:`give_back`.
        """
        while not self._idle:
            self._free.clear()
            await self._free.wait()
        return self._idle.pop()

    def give_back(self, worker: Worker) -> None:
        """The end of :meth:`borrow`, or a new worker instead of one that was given up."""
        self._idle.append(worker)
        self._free.set()
        self._dispatch()

    def give_up(self, worker: Worker, error: ServeError) -> None:
        """Answer the requests of a worker that will not finish; it gets no more of them."""
        batch = self._running.pop(worker, None)
        for job in batch.jobs if batch else ():
            if not job.future.done():
                job.future.set_exception(error)

    def _queued(self, feeds: Feeds, sizes: Mapping[str, int], priority: int) -> Job:
        self._arrived += 1
        key: Hashable = self._layout.key(sizes) if self.policy.largest > 1 else self._arrived
        job = Job(
            feeds,
            sizes,
            key,
            sizes.get(BATCH, 1),
            (priority, self._arrived),
            asyncio.get_running_loop().create_future(),
        )
        bisect.insort(self._queues.setdefault(key, []), job, key=_rank)
        self._waiting += 1
        return job

    def _dispatch(self) -> None:
        """Start what can be started; set a timer where it is worth waiting."""
        while self._idle and self._queues:
            now = time.perf_counter_ns()
            waits = []
            for queue in sorted(self._queues.values(), key=_head_rank):
                count, wait = self._choose(queue, now)
                if wait <= 0:
                    self._start(queue, count, now)
                    break
                waits.append(wait)
            else:
                self._again_after(min(waits))
                return

    def _choose(self, queue: Sequence[Job], now: int) -> tuple[int, float]:
        """How many jobs of the queue to run together, and seconds to wait for more before."""
        policy = self.policy
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

    def _start(self, queue: list[Job], count: int, now: int) -> None:
        jobs = queue[:count]
        del queue[:count]
        if not queue:
            del self._queues[jobs[0].key]
        self._waiting -= count
        for job in jobs:
            job.stages.queue = now - job.queued
        worker = self._idle.pop()
        batch = self._running[worker] = Batch(jobs, self._layout, self._finished)
        worker.start(batch)

    def _again_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._dispatch)

    def _finished(self, batch: Batch, worker: Worker) -> None:
        """A batch came back: give the worker the next one before the answers go out."""
        self._running.pop(worker, None)
        self.give_back(worker)
        stages = batch.stages
        self._statistics.ran(stages)
        took = (stages.input + stages.infer + stages.output) / 1e9
        self._run_s += (took - self._run_s) * (_SMOOTHING if self._run_s else 1.0)
        for job, result in zip(batch.jobs, batch.results, strict=True):
            if job.future.done():  # cancelled, or its deadline passed
                continue
            job.stages.batch = stages.batch
            job.stages.input, job.stages.infer = stages.input, stages.infer
            job.stages.output = stages.output
            if isinstance(result, Exception):
                failure = EngineFailedError()
                failure.__cause__ = result
                job.future.set_exception(failure)
            else:
                job.future.set_result(result)

    def _expire(self, job: Job) -> None:
        """The deadline passed: the client gets its answer now, whatever the engine does."""
        if not job.future.done():
            waited = (time.perf_counter_ns() - job.queued) / 1e6
            queued = self._forget(job)
            what = "before the engine was free" if queued else "while the engine computed"
            job.future.set_exception(
                ServeError(f"the deadline passed {what}, after {waited:.0f} ms", status=504)
            )

    def _forget(self, job: Job) -> bool:
        """Take a job out of the queue; whether it was still there."""
        queue = self._queues.get(job.key, [])
        if job not in queue:
            return False
        queue.remove(job)
        self._waiting -= 1
        if not queue:
            del self._queues[job.key]
        return True


def _rank(job: Job) -> tuple[int, int]:
    return job.rank


def _head_rank(queue: Sequence[Job]) -> tuple[int, int]:
    return queue[0].rank
