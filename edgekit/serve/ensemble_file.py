"""``NAME.ensemble.yaml``: a small graph of models, read and checked.

A step is a model (``model: NAME``, perhaps ``version: VERSION``) or an operation of
:mod:`edgekit.serve.glue` (``op: NAME``). The order of the steps does not matter: what reads a
tensor comes after what makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from edgekit.errors import EdgekitError, SpecError, did_you_mean
from edgekit.serve.datatypes import dtype
from edgekit.serve.glue import Argmax, Crop, Glue, Softmax, Step
from edgekit.spec import BATCH, Dim, TensorSpec

__all__ = ["EnsembleError", "ModelStep", "Plan", "Signature", "read_plan", "typed"]


class EnsembleError(EdgekitError):
    """An ensemble's file that cannot be used as it is, or not with the models there are."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class ModelStep(Step):
    """A model of the repository.

    Attributes:
        model: its name.
        version: None for the one that a request without a version gets.
    """

    model: str
    version: str | None = None


def _kind(step: Any) -> str:
    op = step.get("op") if isinstance(step, dict) else None
    return "model" if op is None else str(op)


_AnyStep = Annotated[
    Annotated[ModelStep, Tag("model")]
    | Annotated[Crop, Tag("crop")]
    | Annotated[Softmax, Tag("softmax")]
    | Annotated[Argmax, Tag("argmax")],
    Discriminator(_kind),
]


class _Input(BaseModel):
    """A shape has -1 or a name for a dimension that may differ; the first of those is the batch."""

    model_config = ConfigDict(extra="forbid")

    name: str
    datatype: str
    shape: tuple[Annotated[int, Field(ge=-1)] | str, ...]

    @property
    def spec(self) -> TensorSpec:
        dims: list[Dim] = []
        for axis, dim in enumerate(self.shape):
            unnamed = BATCH if axis == 0 else f"{self.name}.{axis}"
            dims.append(unnamed if dim == -1 else dim)
        return TensorSpec(self.name, dtype(self.datatype).name, tuple(dims))


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inputs: tuple[_Input, ...] = Field(min_length=1)
    steps: tuple[_AnyStep, ...] = Field(min_length=1)
    outputs: tuple[str, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """An ensemble whose tensors are each made once, before they are read.

    Attributes:
        path: the file.
        inputs: of the ensemble.
        steps: as in the file.
        needs: for each step, those it has to wait for, by position.
        order: positions of the steps, each behind what it needs.
        outputs: names of the tensors that are the answer.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    steps: tuple[ModelStep | Glue, ...]
    needs: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    outputs: tuple[str, ...]

    def label(self, position: int) -> str:
        """What a step is called in messages."""
        step = self.steps[position]
        what = f"model {step.model!r}" if isinstance(step, ModelStep) else type(step).__name__
        return f"step {position + 1} ({what.lower() if isinstance(step, Glue) else what})"

    @property
    def models(self) -> dict[int, ModelStep]:
        """The steps that are models, by position."""
        return {at: step for at, step in enumerate(self.steps) if isinstance(step, ModelStep)}


def read_plan(path: Path, *, signed_by: Path | None = None) -> Plan:
    """Read an ensemble's file.

    Args:
        path: the file.
        signed_by: a public key; what its holder did not sign is refused before it is parsed.

    Raises:
        SecurityError: it is not signed with that key.
        EnsembleError: it cannot be read; its tensors are not each made once; it has a cycle.
    """
    file = _parsed(path, _read(path, signed_by))
    try:
        inputs = tuple(one.spec for one in file.inputs)
    except (SpecError, ValueError) as error:
        raise _error(path, str(error), "Mend the inputs") from error
    makers = _makers(path, inputs, file.steps)
    needs = tuple(_needs(path, at, step, makers) for at, step in enumerate(file.steps))
    try:
        order = tuple(TopologicalSorter(dict(enumerate(needs))).static_order())
    except CycleError as error:
        circle = " -> ".join(str(at + 1) for at in error.args[1])
        raise _error(path, f"steps wait for each other: {circle}", "Break the cycle") from error
    for name in file.outputs:
        if name not in makers:
            what = f"output {name!r} is made by no step{did_you_mean(name, makers)}"
            raise _error(path, what, "Name a tensor that a step makes")
    if len(set(file.outputs)) < len(file.outputs):
        raise _error(path, "an output is named twice", "Name each once")
    return Plan(path, inputs, file.steps, needs, order, file.outputs)


def typed(plan: Plan, models: Mapping[int, Signature]) -> tuple[TensorSpec, ...]:
    """The outputs of an ensemble of these models, by position of the step.

    Raises:
        EnsembleError: what a step makes does not fit what reads it.
    """
    tensors = {spec.name: spec for spec in plan.inputs}
    for at in plan.order:
        step = plan.steps[at]
        given = {name: tensors[tensor] for name, tensor in step.inputs.items()}
        try:
            if isinstance(step, Glue):
                _check_names("input", step.inputs, step.takes, every=True)
                outputs = step.typed(given)
            else:
                outputs = _model_outputs(models[at], given)
            _check_names("output", step.outputs, outputs, every=False)
        except SpecError as error:
            raise _error(plan.path, f"{plan.label(at)}: {error}", "Mend this step") from error
        for name, tensor in step.outputs.items():
            tensors[tensor] = TensorSpec(tensor, outputs[name].dtype, outputs[name].shape)
    return tuple(tensors[name] for name in plan.outputs)


def _model_outputs(signature: Signature, given: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """What a model makes of these inputs, with the sizes that they settle."""
    _check_names("input", given, [spec.name for spec in signature.inputs], every=True)
    sizes: dict[str, Dim] = {}
    for wanted in signature.inputs:
        _bind(wanted, given[wanted.name], sizes)
    return {
        spec.name: TensorSpec(
            spec.name,
            spec.dtype,
            tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape),
        )
        for spec in signature.outputs
    }


def _bind(wanted: TensorSpec, given: TensorSpec, sizes: dict[str, Dim]) -> None:
    """Check a tensor against the input that it feeds, as far as sizes are known."""
    if wanted.dtype != given.dtype:
        what = f"input {wanted.name!r} is {wanted.dtype}, tensor {given.name!r} is {given.dtype}"
        raise SpecError(what)
    fits = len(wanted.shape) == len(given.shape)
    for dim, size in zip(wanted.shape, given.shape, strict=False):
        settled = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
        fits &= isinstance(settled, str) or isinstance(size, str) or settled == size
    if not fits:
        raise SpecError(
            f"input {wanted.name!r} has the shape {_shown(wanted)}, "
            f"tensor {given.name!r} has {_shown(given)}"
        )


def _check_names(
    kind: str,
    used: Mapping[str, object],
    known: Sequence[str] | Mapping[str, object],
    *,
    every: bool,
) -> None:
    for name in used:
        if name not in known:
            what = f"it has no {kind} {name!r}{did_you_mean(name, known)}"
            raise SpecError(what, fix=f"It has {', '.join(known)}")
    missing = [name for name in known if name not in used]
    if missing and every:
        raise SpecError(f"its {kind} {missing[0]!r} gets no tensor")


def _makers(
    path: Path, inputs: Sequence[TensorSpec], steps: Sequence[Step]
) -> dict[str, int | None]:
    """Which step makes each tensor; None for what the client gives."""
    makers: dict[str, int | None] = {}
    made: list[tuple[str, int | None]] = [(spec.name, None) for spec in inputs]
    made += [(tensor, at) for at, step in enumerate(steps) for tensor in step.outputs.values()]
    for tensor, at in made:
        if tensor in makers:
            who = "the inputs" if at is None else f"step {at + 1}"
            first = makers[tensor]
            other = "an input" if first is None else f"step {first + 1}"
            what = f"tensor {tensor!r} is made twice, by {other} and by {who}"
            raise _error(path, what, "Give each a name of its own")
        makers[tensor] = at
    return makers


def _needs(path: Path, at: int, step: Step, makers: Mapping[str, int | None]) -> tuple[int, ...]:
    needs = set()
    for tensor in step.inputs.values():
        if tensor not in makers:
            what = f"step {at + 1} reads tensor {tensor!r}, which nothing makes"
            raise _error(path, what + did_you_mean(tensor, makers), "Make it, or read another")
        maker = makers[tensor]
        if maker is not None:
            needs.add(maker)
    return tuple(sorted(needs))


def _read(path: Path, signed_by: Path | None) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _error(path, "cannot be read", "Check the file") from error
    if signed_by is not None:
        from edgekit.security import signature  # takes long to import

        signature.check(raw, path, signed_by)
    return raw


def _parsed(path: Path, raw: bytes) -> _File:
    try:
        return _File.model_validate(yaml.safe_load(raw.decode()))
    except UnicodeDecodeError as error:
        raise _error(path, "cannot be read", "Check the file") from error
    except yaml.YAMLError as error:
        raise _error(path, f"is not YAML: {error}", "Mend the file") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise _error(path, f"{place}: {first['msg']}", "Mend the file") from error


def _shown(spec: TensorSpec) -> str:
    return "[" + ", ".join(map(str, spec.shape)) + "]"


def _error(path: Path, what: str, fix: str) -> EnsembleError:
    return EnsembleError(what, where=str(path), fix=fix)
