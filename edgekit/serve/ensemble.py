"""Several models as one: the steps of an ensemble, run without leaving the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from edgekit.errors import EdgekitError, SpecError
from edgekit.serve.config import ModelConfig
from edgekit.serve.ensemble_file import (
    EnsembleError,
    ModelStep,
    Plan,
    Signature,
    read_plan,
    typed,
)
from edgekit.serve.entry import Entry
from edgekit.serve.errors import ServeError
from edgekit.serve.glue import Glue
from edgekit.serve.model import Inference, Servable, failure_reason
from edgekit.serve.statistics import Stages, Statistics
from edgekit.serve.under_way import UnderWay
from edgekit.spec import BATCH, Array, Feeds, Outputs, TensorSpec, check_feeds

__all__ = ["Ensemble", "Models", "load_ensemble", "members", "users"]


class Models(Protocol):
    """What an ensemble needs of the repository; see its methods there."""

    def known(self, name: str, version: str | None = None) -> Entry: ...

    def find(
        self, name: str, version: str | None = None, session: str | None = None
    ) -> Servable: ...

    async def present(self, name: str, version: str | None = None) -> Servable: ...

    async def compute(
        self,
        name: str,
        version: str | None,
        feeds: Feeds,
        *,
        deadline: float | None = None,
        priority: int = 0,
    ) -> Inference: ...


class Ensemble:
    """A :class:`~edgekit.serve.model.Servable` whose steps are models of the repository.

    A step starts as soon as its inputs are there; those that do not need each other run at the same
    time. Each model batches and counts the requests of its step among all others.

    Args:
        name: of the ensemble.
        plan: its steps.
        members: the model of each step, by position, as they are now.
        models: where they are asked.
        config: of the ensemble; only its deadline matters.

    Raises:
        EnsembleError: the steps do not fit together.
    """

    platform = "ensemble"
    version = "1"

    def __init__(
        self,
        name: str,
        plan: Plan,
        members: dict[int, Servable],
        models: Models,
        config: ModelConfig,
    ) -> None:
        self.name, self.plan, self.config = name, plan, config
        self._models = models
        self._signatures = {at: _signature(servable) for at, servable in members.items()}
        self.inputs = plan.inputs
        self.outputs: tuple[TensorSpec, ...] = typed(plan, self._signatures)
        last = {
            at for at, step in plan.models.items() if {*step.outputs.values()} & {*plan.outputs}
        }
        labels = {members[at].labels for at in last if members[at].labels}
        self.labels: tuple[str, ...] = labels.pop() if len(labels) == 1 else ()
        self.statistics = Statistics()
        self._under_way = UnderWay(self.statistics)

    async def infer(
        self, feeds: Feeds, *, deadline: float | None = None, priority: int = 0
    ) -> Inference:
        """See :meth:`Servable.infer`. The time of the whole counts as that of the engine."""
        sizes = check_feeds(self.inputs, feeds)
        deadline = self.config.due(deadline)
        start = time.perf_counter_ns()
        try:
            with self._under_way:
                outputs = await self._run(feeds, deadline, priority)
        except BaseException as error:
            self.statistics.refused(failure_reason(error), time.perf_counter_ns() - start)
            raise
        samples = sizes.get(BATCH, 1)
        stages = Stages(infer=time.perf_counter_ns() - start, batch=samples)
        self.statistics.answered(stages, samples)
        return Inference(outputs, self, stages)

    async def _run(self, feeds: Feeds, deadline: float | None, priority: int) -> Outputs:
        tensors = dict(feeds)
        tasks: dict[int, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for at in self.plan.order:
                    needs = [tasks[need] for need in self.plan.needs[at]]
                    step = self._step(at, needs, tensors, deadline, priority)
                    tasks[at] = group.create_task(step)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # others failed because this one did
        return {name: tensors[name] for name in self.plan.outputs}

    async def _step(
        self,
        at: int,
        needs: Iterable[asyncio.Task[None]],
        tensors: dict[str, Array],
        deadline: float | None,
        priority: int,
    ) -> None:
        for need in needs:
            await need
        step = self.plan.steps[at]
        feeds = {name: tensors[tensor] for name, tensor in step.inputs.items()}
        try:
            if isinstance(step, ModelStep):
                answer = await self._models.compute(
                    step.model, step.version, feeds, deadline=deadline, priority=priority
                )
                outputs = answer.outputs
            else:
                outputs = await _glued(step, feeds, deadline)
        except (ServeError, SpecError) as error:
            raise self._failed(at, error) from error
        tensors.update({tensor: outputs[name] for name, tensor in step.outputs.items()})

    def _failed(self, at: int, error: ServeError | SpecError) -> ServeError:
        """The error of a step as that of the ensemble."""
        what = f"{self.plan.label(at)}: {error}"
        if isinstance(error, SpecError):
            return ServeError(what)
        status = 503 if error.status == 404 else error.status  # the ensemble itself is there
        return ServeError(what, status=status, retry_after=error.retry_after)

    def _member(self, step: ModelStep) -> Servable | None:
        """What computes a step now; None where it was unloaded to make room.

        Raises:
            ServeError: nothing does.
        """
        if self._models.known(step.model, step.version).evicted:
            return None
        return self._models.find(step.model, step.version, session=self.name)

    @property
    def problem(self) -> str:
        """Why it cannot work with the models there are; empty when it can."""
        for at, step in self.plan.models.items():
            try:
                servable = self._member(step)
            except ServeError as error:
                return f"{self.plan.label(at)}: {error}"
            if servable is not None and _signature(servable) != self._signatures[at]:
                return f"{self.plan.label(at)}: its inputs or outputs are others than they were"
        return ""

    async def ready(self) -> bool:
        """Whether all its models are."""
        if self.problem:
            return False
        found = [self._member(step) for step in self.plan.models.values()]
        checks = await asyncio.gather(*(one.ready() for one in found if one is not None))
        return all(checks)

    async def close(self) -> None:
        """Answer what is under way."""
        await self._under_way.none()


async def load_ensemble(
    name: str, path: Path, config: ModelConfig, models: Models, *, signed_by: Path | None = None
) -> Ensemble:
    """Read an ensemble's file, load the models that it needs, and check that they fit.

    Raises:
        SecurityError: the file has no signature of that key.
        EnsembleError: the file is wrong, a model cannot be had, or steps do not fit together.
    """
    if any((path.parent / bundle).exists() for bundle in (name, f"{name}.edge")):
        what = f"there is a bundle of the name {name!r}, too"
        raise EnsembleError(what, where=str(path), fix="Rename one of the two")
    plan = await asyncio.to_thread(read_plan, path, signed_by=signed_by)
    found = {}
    for at, step in plan.models.items():
        try:
            found[at] = await models.present(step.model, step.version)
        except EdgekitError as error:
            what = f"{plan.label(at)}: {error}"
            raise EnsembleError(what, where=str(path), fix="Mend this model or step") from error
    return Ensemble(name, plan, found, models, config)


def members(entry: Entry) -> set[str]:
    """The models that the loaded ensembles of an entry need."""
    loaded = entry.loaded.values()
    steps = (one.plan.models.values() for one in loaded if isinstance(one, Ensemble))
    return {step.model for some in steps for step in some}


def users(entries: Iterable[Entry], name: str) -> list[str]:
    """The loaded ensembles that need a model."""
    return [entry.name for entry in entries if name in members(entry)]


async def _glued(step: Glue, feeds: Feeds, deadline: float | None) -> Outputs:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        return await asyncio.wait_for(asyncio.to_thread(step.compute, feeds), left)
    except TimeoutError as error:
        raise ServeError("the deadline passed while it computed", status=504) from error


def _signature(servable: Servable) -> Signature:
    return Signature(servable.inputs, servable.outputs)
