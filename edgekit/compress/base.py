"""The contracts of compress passes: one step of a recipe, on the module or on the ONNX graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import onnx_ir as ir
from pydantic import BaseModel, ConfigDict

from edgekit.calibration import CalibrationTable, Calibrator
from edgekit.compress.quantize.profiles import PlacementProfile
from edgekit.numerics import TARGETS, InstructionSet
from edgekit.progress import Progress, Silent
from edgekit.spec import Array

if TYPE_CHECKING:
    import torch

    from edgekit.workload import Workload

__all__ = [
    "Change",
    "Clock",
    "GraphContext",
    "GraphPass",
    "Learned",
    "Measured",
    "ModuleContext",
    "ModulePass",
    "Pass",
    "PassReport",
    "Trained",
    "pass_types",
]


@dataclass(frozen=True, slots=True)
class Change:
    """What a pass did to one module or group of modules, or undid.

    Attributes:
        where: qualified name of the module (of the first one of a group).
        before: what it was, in words: ``64 channels``.
        after: what it became: ``48 channels``.
        kept: False when it was undone, or was not done.
        why: the reason for that, with the figures that decided.
    """

    where: str
    before: str
    after: str
    kept: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class PassReport:
    """What a pass did.

    Attributes:
        name: the pass.
        changed: how many operators it changed; 0 means the model is as it was.
        total: how many operators it could have changed.
        details: what is worth telling beside that, one line each.
        table: the activation ranges that it used, if any.
        changes: what it removed, layer by layer.
    """

    name: str
    changed: int
    total: int
    details: tuple[str, ...] = ()
    table: CalibrationTable | None = None
    changes: tuple[Change, ...] = ()


class Learned(Protocol):
    """What quantization-aware training learnt about one layer.

    Attributes:
        weight: float32 on its grid, shape ``(outputs, ...)``.
        weight_scale: the grid's step, shape ``(outputs,)``.
        low: lower end of the input's range.
        high: upper end.
    """

    @property
    def weight(self) -> Array: ...
    @property
    def weight_scale(self) -> Array: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True, slots=True)
class GraphContext:
    """What a pass may use beside the graph: never a runtime, only its placement profile.

    Attributes:
        profile: the engine that the graph is for.
        profiles: every engine of this run, so that one calibration serves all.
        calibrator: runs graphs over the calibration data.
        target: the instruction set that the artifact will run on.
        keep_float: names of operators that have to stay float.
        learned: layers whose scales were learnt in training, by the sha256 of the layer's weight.
        memo: what passes found out for this engine that does not depend on ``keep_float``, kept
            from one build to the next.
    """

    profile: PlacementProfile
    profiles: tuple[PlacementProfile, ...]
    calibrator: Calibrator
    target: InstructionSet
    keep_float: frozenset[str] = frozenset()
    learned: Mapping[str, Learned] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)


class Pass(BaseModel, ABC):
    """One step of a recipe.

    Its fields are its keys in the recipe. A vendor adds a pass by registering a subclass of
    :class:`GraphPass` or :class:`ModulePass` under the entry-point group ``edgekit.passes``, named
    as its ``type``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What artifacts are called that this pass has changed: the precision that it makes, or what it
    #: did to the module (``pruned``); None where they keep their name.
    precision: ClassVar[str | None] = None

    #: What this pass makes that a later one could undo: ``zeros``, ``palette``, ``learnt scales``,
    #: ``trained weights``, ``statistics``; in the graph ``half precision``, ``quantized weights``,
    #: ``stored palettes``.
    makes: ClassVar[frozenset[str]] = frozenset()

    #: What of that is lost when this pass runs afterwards.
    undoes: ClassVar[frozenset[str]] = frozenset()

    type: str

    @property
    def label(self) -> str | None:
        """What artifacts are called that this pass has changed, with its settings."""
        return self.precision


class GraphPass(Pass):
    """A step that rewrites the ONNX graph."""

    #: Whether the result depends on the engine's profile. One that does not is applied once.
    per_engine: ClassVar[bool] = False

    def suits(self, profile: PlacementProfile) -> bool:  # noqa: ARG002
        """Whether the engine has anything for this pass to do; otherwise it is left out."""
        return True

    @abstractmethod
    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        """Rewrite ``model`` in place."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a module pass made.

    Attributes:
        model: a plain module in eval mode; the workload's own is untouched.
        report: what the pass did.
        learned: layers whose scales were learnt, by :func:`.quantize.learned.weight_key`.
    """

    model: torch.nn.Module
    report: PassReport
    learned: Mapping[str, Learned] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """Speed of a candidate against another one, of one interleaved run.

    Attributes:
        ratio: above 1 when the candidate is faster.
        low: lower end of the 95 % interval.
    """

    ratio: float
    low: float

    @property
    def faster(self) -> bool:
        """Whether the candidate is surely faster, and not only in this run."""
        return self.low > 1.0

    def told(self, clock: str) -> str:
        """The figures in words, with where they were measured."""
        return f"{self.ratio:.2f} times as fast on {clock}, at least {self.low:.2f}"


class Clock(Protocol):
    """Times modules as what they will be deployed as: exported, in the recipe's final precision.

    Attributes:
        name: the engine and the precision, for people: ``openvino int8``.
    """

    @property
    def name(self) -> str: ...

    def compare(self, baseline: Workload, candidate: Workload) -> Measured:
        """Time two workloads' models, which take the same inputs, in one interleaved run.

        Raises:
            EdgekitError: one of them cannot be exported.
        """

    def seconds(self, workloads: Sequence[Workload]) -> list[float]:
        """Seconds of one inference of each one's model, all in one interleaved run.

        What the engine needs when little disturbs it: the 10th percentile.
        """


@dataclass(frozen=True, slots=True)
class ModuleContext:
    """What a module pass may use beside the workload.

    Attributes:
        teacher: the original model before any pass, in eval mode, to learn from. Not to be
            changed. None: the workload's own model is the original.
        clock: measures on the target; None where latency is not to be measured.
        folder: where training keeps its checkpoints, so that a killed run goes on; None for
            nowhere.
        seed: of everything random.
        progress: told what is going on.
        target: the instruction set that the artifact will run on.
    """

    teacher: torch.nn.Module | None = None
    clock: Clock | None = None
    folder: Path | None = None
    seed: int = 0
    progress: Progress = Silent()  # noqa: RUF009, it has no state
    target: InstructionSet = TARGETS[0]


class ModulePass(Pass):
    """A step that changes the PyTorch module before its export; it comes before graph passes."""

    #: The result is another original: what everything is compared with. Comes first.
    redefines: ClassVar[bool] = False

    @property
    def starts_over(self) -> bool:
        """Whether the result is another module, whatever the passes before made. Comes early."""
        return False

    @abstractmethod
    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        """Make a changed copy of the workload's model.

        Raises:
            WorkloadError: the workload lacks what the pass needs.
        """


@cache
def pass_types() -> dict[str, type[Pass]]:
    """Every registered pass by the ``type`` a recipe calls it."""
    return {point.name: point.load() for point in entry_points(group="edgekit.passes")}
