"""One version of a model: its sessions, its queue, and whether it works."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgekit.machine import resident
from edgekit.manifest import Artifact
from edgekit.runtimes import Session
from edgekit.serve.adaptive import Adaptive
from edgekit.serve.batch import Layout
from edgekit.serve.batcher import Batcher, EngineFailedError
from edgekit.serve.config import ModelConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.isolated import IsolatedSession
from edgekit.serve.response_cache import ResponseCache
from edgekit.serve.statistics import Stages, Statistics
from edgekit.serve.under_way import UnderWay
from edgekit.serve.waiting import BatchPolicy
from edgekit.serve.worker import Worker
from edgekit.spec import BATCH, Feeds, Outputs, TensorSpec, check_feeds
from edgekit.verify import Reference, verify_artifact

__all__ = ["Inference", "Model", "Servable", "canary", "failure_reason"]

_log = logging.getLogger("edgekit.serve")

#: Seconds for which a successful inference says that a model works.
_RECENT = 10.0

#: Seconds that a canary may take before readiness is denied.
_CANARY_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Inference:
    """The answer to one request.

    Attributes:
        outputs: by name.
        model: who computed it.
        stages: how long what took; the transport adds its own.
    """

    outputs: Outputs
    model: Servable
    stages: Stages


class Servable(Protocol):
    """What a repository serves: a model, or several put together.

    Attributes:
        name: in the URLs.
        version: in the URLs.
        platform: what computes it, for the metadata.
        inputs: what :meth:`infer` wants.
        outputs: what it gives.
        labels: of the classes of an output, where the bundle has some.
        statistics: what it did.
    """

    name: str
    version: str
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    statistics: Statistics

    async def infer(
        self, feeds: Feeds, *, deadline: float | None = None, priority: int = 0
    ) -> Inference:
        """Compute one request.

        Args:
            feeds: by name of the input.
            deadline: in ``time.monotonic``; None for the model's own.
            priority: 1 goes first; 0 for the model's default.

        Raises:
            SpecError: the feeds do not fit the model.
            ServeError: it cannot be answered.
        """

    async def ready(self) -> bool:
        """Whether inferences work."""

    async def close(self) -> None:
        """Answer what is under way, then release everything."""


class Model:
    """A model version that one artifact computes.

    Args:
        name: of the model.
        version: of the model.
        artifact: what the sessions were loaded from.
        inputs: of the model.
        outputs: of the model.
        sessions: one an instance.
        reference: samples with their right outputs, for the canary.
        config: how to batch.
        labels: of the classes.
        pad: see :attr:`edgekit.serve.config.ModelConfig.pad`.
    """

    def __init__(
        self,
        name: str,
        version: str,
        *,
        artifact: Artifact,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        sessions: Sequence[Session],
        reference: Reference,
        config: ModelConfig,
        labels: tuple[str, ...] = (),
        pad: Mapping[str, float] | None = None,
    ) -> None:
        self.name, self.version, self.artifact, self.labels = name, version, artifact, labels
        self.platform = f"{artifact.runtime}_{artifact.format}"
        self.inputs, self.outputs = inputs, outputs
        self.config = config
        self.statistics = Statistics()
        layout = Layout(inputs, outputs, pad or {})
        self.max_batch = config.max_batch if layout.batches else 1
        self._workers = [
            Worker(session, f"{name}-{version}-{i}") for i, session in enumerate(sessions)
        ]
        self._batcher = Batcher(self._workers, layout, self._policy(), self.statistics)
        target = config.target_p99_ms
        self._adaptive = Adaptive(self._batcher, target / 1e3) if target else None
        self.responses = self._cache() if config.cache else None
        self.reference = reference
        self._works_until = time.monotonic() + _RECENT
        self._canary: asyncio.Task[bool] | None = None
        self._under_way = UnderWay(self.statistics)

    def _policy(self) -> BatchPolicy:
        config = self.config
        return BatchPolicy(
            largest=self.max_batch,
            preferred=tuple(n for n in config.preferred_batch_sizes if n <= self.max_batch),
            delay=config.max_queue_delay_ms / 1e3,
            queue=config.queue,
        )

    def _cache(self) -> ResponseCache:
        identity = [self.name, self.version, *(file.sha256 for file in self.artifact.files)]
        return ResponseCache(self.config.cache, identity, self.inputs, self.statistics)

    async def infer(
        self, feeds: Feeds, *, deadline: float | None = None, priority: int = 0
    ) -> Inference:
        """See :meth:`Servable.infer`."""
        sizes = check_feeds(self.inputs, feeds)
        if not sizes.get(BATCH, 1):
            raise ServeError("the batch is empty")
        rank = self._rank(priority)
        deadline = self.config.due(deadline)
        start = time.perf_counter_ns()
        with self._under_way:
            try:
                outputs, stages = await self._answer(feeds, sizes, deadline, rank)
            except BaseException as error:
                took = time.perf_counter_ns() - start
                self.statistics.refused(failure_reason(error), took)
                if isinstance(error, EngineFailedError):
                    raise await self._blamed(error) from error
                raise
        if self.responses is not None and not stages.batch:  # it says nothing about the engine
            self.statistics.answered_from_cache(stages)
            return Inference(outputs, self, stages)
        self._works_until = time.monotonic() + _RECENT
        self.statistics.answered(stages, sizes.get(BATCH, 1))
        if self._adaptive is not None:
            self._adaptive.answered((time.perf_counter_ns() - start) / 1e9)
        return Inference(outputs, self, stages)

    async def _answer(
        self, feeds: Feeds, sizes: dict[str, int], deadline: float | None, rank: int
    ) -> tuple[Outputs, Stages]:
        if self.responses is None:
            return await self._compute(feeds, sizes, deadline, rank)
        return await self.responses.answer(
            feeds, lambda: self._compute(feeds, sizes, deadline, rank)
        )

    async def _compute(
        self, feeds: Feeds, sizes: dict[str, int], deadline: float | None, rank: int
    ) -> tuple[Outputs, Stages]:
        if self._adaptive is not None:
            self._adaptive.admit()
        return await self._batcher.infer(feeds, sizes, deadline, rank)

    def _rank(self, priority: int) -> int:
        levels = self.config.priority_levels
        if not 0 <= priority <= levels:
            raise ServeError(
                f"priority {priority} does not exist: 1 (first) to {levels}, 0 is none"
            )
        return priority or (levels + 1) // 2

    async def _blamed(self, error: EngineFailedError) -> ServeError:
        """Whose fault it is: if the engine computes stored samples, it is what the client sent."""
        self._works_until = 0.0
        if isinstance(error.__cause__, ServeError):
            return error.__cause__
        if await self.ready():
            _log.warning(
                "%s/%s: refused by the engine: %s", self.name, self.version, error.__cause__
            )
            return ServeError("the engine cannot compute these inputs, though they fit the model")
        _log.error("%s/%s: the engine failed", self.name, self.version, exc_info=error.__cause__)
        return ServeError("the inference failed, see the server's log", status=500)

    @property
    def hung(self) -> list[Worker]:
        """Workers that are at one inference for longer than any should take."""
        limit = self.config.hang_ms / 1e3
        return [worker for worker in self._workers if _busy_s(worker) > limit]

    def watch(self) -> None:
        """Answer the requests of engines that hang; kill an engine that has its own process.

        To be called every now and then. A killed engine starts again; one in this process cannot be
        stopped, so the model is not ready until it comes back.
        """
        for worker in self.hung:
            _log.error("%s/%s: an inference hangs", self.name, self.version)
            self._works_until = 0.0
            for session in _isolated([worker]):
                session.kill()
            error = ServeError("the engine hangs", status=503, retry_after=1.0)
            self._batcher.give_up(worker, error)

    def kill(self) -> None:
        """End the engines that have processes of their own at once, whatever they do."""
        for session in _isolated(self._workers):
            session.kill()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._batcher.waiting

    @property
    def restarts(self) -> int:
        """How often engines in processes of their own had to be started again."""
        return sum(session.restarts for session in _isolated(self._workers))

    @property
    def elsewhere(self) -> int:
        """Bytes of memory in processes of its own."""
        return sum(resident(session.pid) for session in _isolated(self._workers))

    async def ready(self) -> bool:
        """Whether the threads live, none hangs, and an inference worked lately or does now."""
        if self.hung or not all(worker.alive for worker in self._workers):
            return False
        if time.monotonic() < self._works_until:
            return True
        if self._canary is None:
            self._canary = asyncio.get_running_loop().create_task(self._run_canary())
        try:
            return await asyncio.wait_for(asyncio.shield(self._canary), _CANARY_LIMIT)
        except TimeoutError:
            return False

    async def _run_canary(self) -> bool:
        try:
            worker = await self._batcher.borrow()
            task = _CanaryTask(self.artifact, self.reference)
            worker.start(task)
            works = await task.done
            self._batcher.give_back(worker)
            if works:
                self._works_until = time.monotonic() + _RECENT
            return works
        finally:
            self._canary = None

    async def close(self) -> None:
        """Answer what is under way, then release the sessions."""
        await self._under_way.none()
        limit = self.config.hang_ms / 1e3
        for worker in self._workers:
            await asyncio.to_thread(worker.close, limit)
        self.kill()  # what hangs even now


class _CanaryTask:
    """Runs the canary in a worker."""

    def __init__(self, artifact: Artifact, reference: Reference) -> None:
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._artifact, self._reference = artifact, reference
        self._works = False

    def run(self, session: Session) -> None:
        self._works = canary(self._artifact, self._reference, session)

    def following(self, worker: Worker) -> None:
        """Nothing: the model gives the worker back."""

    def finish(self, worker: Worker) -> None:  # noqa: ARG002
        if not self.done.done():
            self.done.set_result(self._works)


def canary(artifact: Artifact, reference: Reference, session: Session) -> bool:
    """Whether a session computes what the bundle says is right, on the samples it stores."""
    try:
        record = verify_artifact(artifact.id, artifact.precision, session.run, reference)
    except Exception:  # noqa: BLE001, engines raise types of their own: all mean "broken"
        _log.exception("the canary inference failed")
        return False
    return record.passed


def _isolated(workers: Sequence[Worker]) -> list[IsolatedSession]:
    """The sessions whose engines have processes of their own."""
    sessions = (worker.session for worker in workers)
    return [session for session in sessions if isinstance(session, IsolatedSession)]


def _busy_s(worker: Worker) -> float:
    session = worker.session
    return session.busy_s if isinstance(session, IsolatedSession) else worker.busy_s


def failure_reason(error: BaseException) -> str:
    """Why a request failed, in Triton's words."""
    engine = isinstance(error, ServeError) and error.status == 500
    if engine or isinstance(error, EngineFailedError):
        return "BACKEND"
    if isinstance(error, asyncio.CancelledError):
        return "CANCELED"
    if isinstance(error, ServeError) and error.status in {429, 504}:
        return "REJECTED"
    return "OTHER"
