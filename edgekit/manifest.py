"""``bundle.json``: what a bundle holds and what was measured on it."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekit.compress.search.journal import Trial
from edgekit.exporters.base import Format
from edgekit.machine import Machine
from edgekit.profile.samples import Samples
from edgekit.spec import TensorSpec
from edgekit.state import State

__all__ = [
    "REFERENCE",
    "SCHEMA_VERSION",
    "Accuracy",
    "Artifact",
    "Decision",
    "Defaults",
    "EngineRecord",
    "Extreme",
    "Fidelity",
    "FileEntry",
    "Manifest",
    "PassChange",
    "PassRecord",
    "Shapes",
    "Spec",
    "StateRecord",
    "Verification",
]

SCHEMA_VERSION: Final = 2

#: The file with verification samples and what the original computes for them.
REFERENCE = "reference.npz"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Spec(_Record):
    """A :class:`~edgekit.spec.TensorSpec` on disk."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def tensor(self) -> TensorSpec:
        return TensorSpec(self.name, self.dtype, self.shape)

    @classmethod
    def of(cls, spec: TensorSpec) -> Spec:
        return cls(name=spec.name, dtype=spec.dtype, shape=spec.shape)


class StateRecord(_Record):
    """A :class:`~edgekit.state.State` on disk."""

    input: str
    output: str
    start: tuple[int | tuple[str, int], ...]

    @property
    def state(self) -> State:
        return State(self.input, self.output, self.start)

    @classmethod
    def of(cls, state: State) -> StateRecord:
        return cls(input=state.input, output=state.output, start=state.start)


class FileEntry(_Record):
    """One file of the bundle.

    Attributes:
        path: relative to the bundle, with forward slashes.
        size: in bytes.
        used: how many of them the artifact uses, where the file is not its own alone.
    """

    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    used: int | None = Field(default=None, ge=0)


class Shapes(_Record):
    """The shapes of one input that an engine takes; it is fastest at the typical one."""

    smallest: tuple[int, ...]
    typical: tuple[int, ...]
    largest: tuple[int, ...]


class EngineRecord(_Record):
    """How an engine for a GPU was built.

    Attributes:
        builder: the runtime whose builder made it.
        version: of that builder; no other version reads the engine.
        gpus: the generations that it runs on, empty where the file does not say.
        shapes: for each input with a dynamic dimension.
        flags: of the builder, by their names in its ``BuilderFlag``.
        workspace: bytes of scratch memory that a kernel may use, None without a limit.
    """

    builder: str
    version: str
    gpus: tuple[str, ...]
    shapes: dict[str, Shapes]
    flags: tuple[str, ...]
    workspace: int | None


class Artifact(_Record):
    """One deployable form of the model.

    Attributes:
        id: unique in the bundle, e.g. ``openvino-int8``.
        runtime: the runtime that loads it.
        precision: ``fp32``, ``int8``, ...
        format: ``onnx``, ``openvino-ir``, ``tensorrt-engine``...
        files: every file it consists of; the first is the one to load.
        target: device it was built for when it is tied to one (``sm89``), else None.
        opset: ONNX opset of the graph it was made from.
        reference: samples with the outputs of the PyTorch module it was made from, where that is
            not the original (it was pruned, say); relative to the bundle.
        engine: how it was built, where it is an engine for a GPU.
    """

    id: str
    runtime: str
    precision: str
    format: Format
    files: tuple[FileEntry, ...] = Field(min_length=1)
    target: str | None = None
    opset: int
    reference: str | None = None
    engine: EngineRecord | None = None

    @property
    def size(self) -> int:
        """Bytes of all its files; of a shared one, those that it uses."""
        return sum(entry.size if entry.used is None else entry.used for entry in self.files)


class Fidelity(_Record):
    """How close one output tensor is to the reference, over all verification samples.

    Attributes:
        max_abs: largest absolute difference.
        max_relative: the same in units of the reference's largest absolute value.
        sqnr_db: 10 log10(signal power / error power); infinite for an exact match.
        cosine: mean cosine similarity of a sample's flattened output to its reference.
        argmax_agreement: share of positions whose largest entry along the last axis is the same;
            None where the output is not a score over several classes.
    """

    max_abs: float
    max_relative: float
    sqnr_db: float
    cosine: float
    argmax_agreement: float | None


class Extreme(_Record):
    """An artifact compared with the original on one input unlike the data.

    Attributes:
        outputs: one :class:`Fidelity` an output tensor.
        reason: what is wrong; empty when nothing is.
        gated: whether that fails the artifact: reduced precision may give way to extreme values.
    """

    outputs: dict[str, Fidelity]
    reason: str = ""
    gated: bool = True


class Verification(_Record):
    """An artifact compared with the original model on the same samples.

    Attributes:
        artifact: id of the artifact.
        samples: how many samples of the data were compared.
        outputs: one :class:`Fidelity` an output tensor, over the samples of the data.
        extremes: the same for inputs unlike the data, see :mod:`edgekit.extremes`.
        passed: whether every output is inside the gate for its precision.
        reason: what failed or why it was not run; empty when it passed.
        ran: False when this machine cannot run the artifact (an engine for an absent GPU); what
            was compared is then the ONNX graph that it was built from.
    """

    artifact: str
    samples: int
    outputs: dict[str, Fidelity]
    extremes: dict[str, Extreme] = {}
    passed: bool
    reason: str = ""
    ran: bool = True


class Accuracy(_Record):
    """The workload's metric: of the original and of each artifact that was evaluated.

    Attributes:
        max_drop: how much of it an artifact might lose to be selected.
    """

    metric: str
    higher_is_better: bool
    max_drop: float
    reference: float
    artifacts: dict[str, float]


class PassChange(_Record):
    """What a pass did to one module: see :class:`~edgekit.compress.base.Change`."""

    where: str
    before: str
    after: str
    kept: bool
    why: str


class PassRecord(_Record):
    """What one pass did to the PyTorch module.

    Attributes:
        name: its type in the recipe.
        changed: modules (or groups of them) that it changed.
        total: how many it could have changed.
        details: what is worth telling beside that.
        changes: layer by layer.
        macs: multiply-accumulates of one example call before and after: a proxy for time.
        parameters: before and after.
        score: the workload's metric of the module after the pass, None without a metric.
        seconds: how long it took.
    """

    name: str
    changed: int
    total: int
    details: tuple[str, ...]
    changes: tuple[PassChange, ...]
    macs: tuple[int, int]
    parameters: tuple[int, int]
    score: float | None
    seconds: float


class Decision(_Record):
    """Which artifact a runtime gets, and why each other one was not chosen.

    Attributes:
        target: the device that its artifacts were built for, where they are tied to one: such a
            runtime has a decision for each.
    """

    runtime: str
    target: str | None = None
    selected: str
    reason: str
    rejected: dict[str, str]


class Defaults(_Record):
    """The settings that were measured to be best; None for what was not chosen.

    Attributes:
        threads: intra-op threads of each session.
        streams: sessions that run at the same time.
        batch: samples in one inference; in a server, the most that are run together.
        device: see :class:`~edgekit.runtimes.SessionOptions`.
        goal: what they are best for, as it was asked for.
        created: UTC, ISO 8601.
        cpu: of the machine that they were measured on. They are used on its like only.
        cores: of it.
    """

    threads: int | None = Field(default=None, ge=1)
    streams: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=1)
    device: str | None = None
    goal: str = ""
    created: str = ""
    cpu: str = ""
    cores: int = 0


class Manifest(_Record):
    """Everything ``bundle.json`` says.

    Attributes:
        pad: with what the server may fill up inputs, see :class:`~edgekit.workload.Workload`.
        state: which inputs and outputs are what the model remembers; empty when it does not.
        target: the instruction set that the artifacts were made for and, when it is that of
            ``machine``, validated on; empty in bundles that do not say.
        defaults: settings to run with, by runtime, where ``edgekit profile --write`` put some.
        search: every trial of accuracy control and mixed precision.
        passes: what each pass did to the PyTorch module, in order.
        alternatives: a smaller model that the workload offers, treated the same way and measured
            in the same run; its files are not in the bundle.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str
    created: str
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    state: tuple[StateRecord, ...] = ()
    pad: dict[str, float] = {}
    artifacts: tuple[Artifact, ...]
    extras: tuple[FileEntry, ...] = ()
    labels: str | None = None
    reference: str | None = None
    source: str = ""
    target: str = ""
    recipe: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    accuracy: Accuracy | None = None
    verification: tuple[Verification, ...] = ()
    latency: tuple[Samples, ...] = ()
    decisions: tuple[Decision, ...] = ()
    defaults: dict[str, Defaults] = {}
    search: tuple[Trial, ...] = ()
    passes: tuple[PassRecord, ...] = ()
    alternatives: tuple[Artifact, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    machine: Machine

    @property
    def selected(self) -> frozenset[str]:
        """The artifacts that are run, by id: one for each runtime and device."""
        return frozenset(decision.selected for decision in self.decisions)

    def of(self, decision: Decision) -> list[Artifact]:
        """The artifacts that it was made among, the uncompressed one first."""
        kind = (decision.runtime, decision.target)
        return [a for a in self.artifacts if (a.runtime, a.target) == kind]

    def artifact(self, identity: str) -> Artifact:
        """The artifact of that id (KeyError when there is none)."""
        for artifact in self.artifacts:
            if artifact.id == identity:
                return artifact
        raise KeyError(identity)
