"""Requests put together for one run of the engine, and taken apart again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgekit.runtimes import Session
from edgekit.serve.statistics import Stages
from edgekit.serve.worker import Worker
from edgekit.spec import BATCH, Array, Feeds, Outputs, TensorSpec

__all__ = ["Batch", "Job", "Layout"]

_log = logging.getLogger("edgekit.serve")


@dataclass(slots=True, eq=False)
class Job:
    """One request that waits for the engine.

    Attributes:
        feeds: checked against the model's inputs.
        sizes: of its dynamic dimensions.
        key: jobs of equal keys may run together.
        samples: how many samples it has.
        rank: priority and order of arrival; the least is served first.
        future: its outputs.
        queued: when it came, in ``time.perf_counter_ns``.
        stages: filled in as it goes on.
        timer: of its deadline.
    """

    feeds: Feeds
    sizes: Mapping[str, int]
    key: Hashable
    samples: int
    rank: tuple[int, int]
    future: asyncio.Future[Outputs]
    queued: int = field(default_factory=time.perf_counter_ns)
    stages: Stages = field(default_factory=Stages)
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """How requests of a model go together.

    Attributes:
        inputs: of the model, as ``outputs``.
        pad: see :attr:`edgekit.serve.config.ModelConfig.pad`.
        padded: the dynamic dimensions that may differ in a batch.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    pad: Mapping[str, float] = field(default_factory=dict)
    padded: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        found = {dim for spec in self.inputs if spec.name in self.pad for dim in spec.dynamic}
        fixed = {dim for spec in self.inputs if spec.name not in self.pad for dim in spec.dynamic}
        object.__setattr__(self, "padded", frozenset(found - fixed - {BATCH}))

    @property
    def batches(self) -> bool:
        """Whether every input and output has one axis that counts samples."""
        specs = (*self.inputs, *self.outputs)
        return bool(self.inputs) and all(spec.shape.count(BATCH) == 1 for spec in specs)

    def key(self, sizes: Mapping[str, int]) -> Hashable:
        """Equal for requests that may run together: the batch and padded sizes do not count."""
        padded = self.padded
        return tuple((dim, n) for dim, n in sizes.items() if dim != BATCH and dim not in padded)

    def together(self, jobs: Sequence[Job]) -> dict[str, Array]:
        """The feeds of all jobs as one."""
        joined = {}
        for spec in self.inputs:
            arrays = [job.feeds[spec.name] for job in jobs]
            if spec.name in self.pad:
                arrays = _filled(arrays, spec.shape.index(BATCH), self.pad[spec.name])
            joined[spec.name] = np.concatenate(arrays, axis=spec.shape.index(BATCH))
        return joined

    def apart(self, outputs: Outputs, jobs: Sequence[Job]) -> list[Outputs]:
        """The outputs of each job, C-contiguous where samples are the first axis."""
        padded = self.padded
        parts: list[Outputs] = [{} for _ in jobs]
        for spec in self.outputs:
            start, axis = 0, spec.shape.index(BATCH)
            for part, job in zip(parts, jobs, strict=True):
                cut = [slice(None)] * len(spec.shape)
                cut[axis] = slice(start, start + job.samples)
                for other, dim in enumerate(spec.shape):
                    if dim in padded:
                        cut[other] = slice(job.sizes[str(dim)])
                part[spec.name] = outputs[spec.name][tuple(cut)]
                start += job.samples
        return parts


class Owner(Protocol):
    """Who makes batches of requests."""

    def following(self, batch: Batch, worker: Worker) -> Batch | None:
        """The next batch for a worker that has run one; called in its thread."""

    def finished(self, batch: Batch, worker: Worker) -> None:
        """It has its results; called in the event loop."""


class Batch:
    """A task for a worker: one run of the engine for several jobs.

    Where the run fails and there are several, each runs by itself, so that one bad request does
    not take others with it.

    Attributes:
        followed: whether the worker went on with another batch.
    """

    def __init__(self, jobs: list[Job], layout: Layout, owner: Owner) -> None:
        self.jobs = jobs
        self.samples = sum(job.samples for job in jobs)
        self.results: list[Outputs | Exception] = []
        self.stages = Stages(batch=self.samples)
        self.followed = False
        self._layout = layout
        self._owner = owner

    def run(self, session: Session) -> None:
        """Compute :attr:`results`, one for each job."""
        start = time.perf_counter_ns()
        try:
            self._run(session, start)
        except Exception as error:  # noqa: BLE001, engines raise types of their own
            if len(self.jobs) == 1:
                self.results = [error]
            else:
                _log.warning("a batch of %d requests failed: each runs alone", len(self.jobs))
                self.results = [_alone(session, job) for job in self.jobs]

    def _run(self, session: Session, start: int) -> None:
        single = len(self.jobs) == 1
        feeds = self.jobs[0].feeds if single else self._layout.together(self.jobs)
        joined = time.perf_counter_ns()
        outputs = session.run(feeds)
        ran = time.perf_counter_ns()
        self.results = [outputs] if single else [*self._layout.apart(outputs, self.jobs)]
        self.stages.input = joined - start
        self.stages.infer = ran - joined
        self.stages.output = time.perf_counter_ns() - ran

    def following(self, worker: Worker) -> Batch | None:
        """Whatever its owner has for the worker."""
        following = self._owner.following(self, worker)
        self.followed = following is not None
        return following

    def finish(self, worker: Worker) -> None:
        """Back in the event loop."""
        self._owner.finished(self, worker)


def _alone(session: Session, job: Job) -> Outputs | Exception:
    try:
        return session.run(job.feeds)
    except Exception as error:  # noqa: BLE001, as above
        return error


def _filled(arrays: Sequence[Array], batch: int, value: float) -> list[Array]:
    """The arrays, filled up at the end of each axis but the batch to the largest of them."""
    largest = np.max([array.shape for array in arrays], axis=0)
    grown = []
    for array in arrays:
        missing = [
            (0, 0 if axis == batch else n - array.shape[axis]) for axis, n in enumerate(largest)
        ]
        grown.append(np.pad(array, missing, constant_values=value))
    return grown
