"""Dynamic batching: workers, and the requests that wait for them.

A worker that is idle is handed requests by the event loop. One that has finished takes the next by
itself, in its own thread: while many requests come in the event loop is as busy as the engine, and
the engine would wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Mapping, Sequence

from edgekit.serve.batch import Batch, Job, Layout
from edgekit.serve.errors import ServeError
from edgekit.serve.statistics import Stages, Statistics
from edgekit.serve.waiting import BatchPolicy, Waiting
from edgekit.serve.worker import Worker
from edgekit.spec import BATCH, Feeds, Outputs

__all__ = ["Batcher", "EngineFailedError"]

#: Weight of the newest run in the moving average of a run's time.
_SMOOTHING = 0.1


class EngineFailedError(Exception):
    """The engine raised; ``__cause__`` says what."""


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
        self._borrowers = 0
        self._waiting = Waiting()
        self._arrived = 0
        self._run_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._free = asyncio.Event()
        self._running: dict[Worker, Batch] = {}

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def wait_s(self) -> float:
        """How long a request that came now would wait, by the last runs."""
        runs = len(self._waiting) / max(1, self.policy.largest)
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
        if len(self._waiting) >= self.policy.queue and not self._idle:
            raise ServeError(
                f"{len(self._waiting)} requests are waiting, no more are taken",
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
            self._waiting.remove(job)
            raise
        finally:
            if job.timer is not None:
                job.timer.cancel()

    async def borrow(self) -> Worker:
        """A worker for something else than a request, before anything that is queued.

        Give it back with :meth:`give_back`.
        """
        self._borrowers += 1
        try:
            while not self._idle:
                self._free.clear()
                await self._free.wait()
            return self._idle.pop()
        finally:
            self._borrowers -= 1
            self._dispatch()

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
        self._waiting.add(job)
        return job

    def _dispatch(self) -> None:
        """Start what can be started; set a timer where it is worth waiting."""
        while len(self._idle) > self._borrowers:
            jobs, wait = self._take()
            if not jobs:
                if wait:
                    self._again_after(wait)
                return
            worker = self._idle.pop()
            worker.start(self._batch(jobs, worker))

    def _take(self) -> tuple[list[Job], float]:
        now = time.perf_counter_ns()
        jobs, wait = self._waiting.take(self.policy, now)
        for job in jobs:
            job.stages.queue = now - job.queued
        return jobs, wait

    def _batch(self, jobs: list[Job], worker: Worker) -> Batch:
        batch = self._running[worker] = Batch(jobs, self._layout, self)
        return batch

    def _again_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._dispatch)

    def following(self, batch: Batch, worker: Worker) -> Batch | None:
        """What a worker runs after a batch, asked in its thread; None to give it back."""
        if self._borrowers or self._running.get(worker) is not batch:  # wanted, or given up
            return None
        jobs, _ = self._take()
        return self._batch(jobs, worker) if jobs else None

    def finished(self, batch: Batch, worker: Worker) -> None:
        """A batch came back: its worker gets the next one before the answers go out."""
        if not batch.followed:
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
            queued = self._waiting.remove(job)
            what = "before the engine was free" if queued else "while the engine computed"
            job.future.set_exception(
                ServeError(f"the deadline passed {what}, after {waited:.0f} ms", status=504)
            )
