"""``profile.json``: everything one run of ``edgekit profile`` measured. Raw, never only derived.

The statistics that a reader sees are computed from these records when they are shown, by
:mod:`edgekit.profile.stats` and :mod:`edgekit.profile.diagnosis`.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekit.machine import Machine
from edgekit.profile.samples import Samples

__all__ = [
    "SCHEMA_VERSION",
    "Costs",
    "Energy",
    "LayerTime",
    "LayerTimes",
    "Outcome",
    "Peaks",
    "Profile",
    "Result",
    "Settings",
    "Simulated",
]

SCHEMA_VERSION: Final = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Settings(_Record):
    """How an artifact was run; also what a bundle keeps as its default.

    Attributes:
        threads: intra-op threads of each session, None for all cores.
        streams: sessions that run at the same time.
        batch: samples in one inference.
        sizes: of dynamic dimensions, by name.
        device: the engine's processor, see :class:`~edgekit.runtimes.SessionOptions`.
    """

    threads: int | None = Field(default=None, ge=1)
    streams: int = Field(default=1, ge=1)
    batch: int = Field(default=1, ge=1)
    sizes: dict[str, int] = {}
    device: str | None = None


class Outcome(_Record):
    """How a scenario of MLPerf's loadgen ended.

    Attributes:
        valid: whether the rules of the run are met (duration, queries, answers, latency bound).
        reasons: what is not met, in words.
        short_of: what MLPerf's own rules ask beyond those of the run, in words.
        queries: that were issued.
        samples: in all queries.
        seconds: from the first query that was due to the last answer.
        metric: what the scenario is judged by: ``p90 latency``, ``p99 latency``, ``queries/s``
            or ``samples/s``.
        value: of it; latencies in milliseconds. The rate that was offered last where none was
            valid.
        bound: of the early-stopping rule for the latency percentile, in milliseconds; None where
            there are too few queries to give one, or no percentile is judged.
        target: percentile (0 to 100) and milliseconds that the server scenario must hold.
        latency: that percentile at the rate that was found, in milliseconds.
        tried: rates of the search, in the order they were tried, and whether each was valid.
        seed: of the arrivals.
        late_ms: 99th percentile of how late the load generator itself was; None in closed loops.
        dropped: queries without an answer; each makes the run invalid.
        lost: how many of them, by reason.
    """

    valid: bool
    reasons: tuple[str, ...] = ()
    short_of: tuple[str, ...] = ()
    queries: int
    samples: int
    seconds: float
    metric: str
    value: float
    bound: float | None = None
    target: tuple[float, float] | None = None
    latency: float | None = None
    tried: tuple[tuple[float, bool], ...] = ()
    seed: int | None = None
    late_ms: float | None = None
    dropped: int = 0
    lost: dict[str, int] = {}


class Energy(_Record):
    """What sensors of the board say that inferences took.

    Attributes:
        joules: of one inference: of everything that the domain covers, at rest or not.
        idle_watts: of the same domain, before the run.
        domain: what is covered, by the sensor's own name. ``package-0`` is the whole processor
            with whatever else it computes, without memory and board.
    """

    joules: float
    idle_watts: float
    domain: str


class Costs(_Record):
    """What an artifact takes beside its latency. Seconds and bytes.

    Times are raw, one entry a fresh process. Cold start is the sum of the four others. Memory,
    processor time and energy are medians of these processes.

    Attributes:
        start_s: from the start of the process until Python runs its first line.
        import_s: importing edgekit and the engine.
        load_s: reading the artifact and making it ready.
        first_s: the first inference after it.
        cold_start_s: from the start of the process to the first answer.
        steady_bytes: resident memory of a process that did nothing else, after many inferences,
            above what the same process holds before it loads the artifact.
        peak_bytes: the most that it ever held, above the same.
        base_bytes: what the process held before loading: Python and the engine's libraries.
        cpu_s: processor time of one inference, all threads together.
        disk_bytes: of the files that the device needs.
        energy: None where no sensor can be read.
        energy_missing: why not; empty where it was read.
    """

    start_s: tuple[float, ...]
    import_s: tuple[float, ...]
    load_s: tuple[float, ...]
    first_s: tuple[float, ...]
    cold_start_s: tuple[float, ...]
    steady_bytes: int
    peak_bytes: int
    base_bytes: int
    cpu_s: float
    disk_bytes: int
    energy: Energy | None = None
    energy_missing: str = ""


class LayerTime(_Record):
    """One operator that the engine executed.

    Attributes:
        node: the engine's own name of it.
        op: type of the operator as executed, such as ``QLinearConv``.
        precision: that it was computed in, by the engine's word; empty where it does not say.
        kernel: what the engine says of its implementation (``jit_avx512_core_amx``).
        onnx: the operators of the ONNX graph that it computes.
        modules: the PyTorch modules that those come from; several where they were fused.
        inserted: whether the engine added it to bring data into another form; then ``modules`` are
            those of what it feeds.
        ns: time of one inference, in nanoseconds, without what profiling itself takes of it.
        flops: operations (2 for a multiply-accumulate) of one inference; None where unknown. Of
            integers where ``precision`` is one.
        bytes: of its inputs, outputs and weights; None where unknown.
    """

    node: str
    op: str
    precision: str = ""
    kernel: str = ""
    onnx: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    inserted: bool = False
    ns: float
    flops: int | None = None
    bytes: int | None = None


class LayerTimes(_Record):
    """All operators of one artifact, in the order of execution.

    Times are means over the middle third of the inferences, by their whole time: see
    :func:`edgekit.profile.layers.measure.middle`. Those of the layers, of the call and between the
    layers add up to an inference.

    Attributes:
        layers: of one inference.
        inference_ns: of whole inferences of the same runs, with the engine's profiling on.
        plain_ns: of whole inferences without it, in turns with the former.
        profiler_ns: what profiling adds to the time of each operator, in the mean; already taken
            off.
        scale: what the layers were multiplied by after that, where they took longer than a plain
            inference leaves them: profiling pushes small models out of the caches.
        call_ns: what is around the operators whatever these are: Python, the binding, inputs and
            outputs, and what the engine does once; 0 where that is not known.
        between_ns: what the engine does between operators (dispatch, shapes, memory), where their
            own times do not hold it.
        runs: inferences that were profiled.
    """

    layers: tuple[LayerTime, ...]
    inference_ns: float
    plain_ns: float
    profiler_ns: float = 0.0
    scale: float = 1.0
    call_ns: float = 0.0
    between_ns: float = 0.0
    runs: int

    @property
    def layers_ns(self) -> float:
        """Of all operators together."""
        return sum(layer.ns for layer in self.layers)

    @property
    def scaled(self) -> bool:
        """Whether their times were scaled by more than measuring them varies."""
        return self.scale < 0.95

    @property
    def mapped(self) -> float:
        """Share of that time whose PyTorch module is known."""
        known = sum(layer.ns for layer in self.layers if layer.modules)
        return known / self.layers_ns if self.layers_ns else 1.0


class Peaks(_Record):
    """What this machine can do at most: measured, never looked up.

    Attributes:
        threads: that it was measured with.
        measured: when, UTC, ISO 8601; it is kept for later runs.
        flops: operations a second of a large matrix product, by precision (``fp32``, ``int8``).
        bytes_per_s: of streaming through memory that no cache holds.
        others: share of the processors that other work used meanwhile, which lowers the figures;
            None where it cannot be known.
    """

    threads: int
    measured: str = ""
    flops: dict[str, float]
    bytes_per_s: float
    others: float | None = None


class Simulated(_Record):
    """Limits that make this machine like a smaller one. Figures under it are no device's.

    Attributes:
        cores: that could be used.
        memory_bytes: that could be used.
        cpu: processor time that could be used, in cores: 0.5 is half of one.
        how: what held the limits: ``affinity``, ``affinity and cgroup``...
    """

    cores: int | None = None
    memory_bytes: int | None = None
    cpu: float | None = None
    how: str

    def label(self, cpu: str) -> str:
        """In words, for whatever shows the figures.

        Args:
            cpu: name of the processor that it ran on.
        """
        parts = []
        if self.cores is not None:
            parts.append(f"{self.cores} core{'' if self.cores == 1 else 's'}")
        if self.cpu is not None:
            parts.append(f"{self.cpu:.0%} of a core's time")
        if self.memory_bytes is not None:
            parts.append(f"{self.memory_bytes / 1e6:.0f} MB")
        return f"simulated: {', '.join(parts)} by {self.how} on {cpu}: no device's figures"


class Result(_Record):
    """One artifact, run with one setting under one scenario.

    Attributes:
        stages: mean nanoseconds of each stage of a request inside the server that was measured
            (``parse``, ``queue``, ``input``, ``infer``, ``output``, ``serialise``); empty of a
            session.
    """

    samples: Samples
    settings: Settings = Settings()
    outcome: Outcome | None = None
    costs: Costs | None = None
    layers: LayerTimes | None = None
    stages: dict[str, float] = {}


class Profile(_Record):
    """One run of ``edgekit profile``.

    Attributes:
        edgekit: version that measured.
        created: UTC, ISO 8601.
        model: name of the bundle, or URL of the server that was measured.
        artifacts: sha256 of the first file of each artifact, by its id: what was measured.
        versions: of the engines.
        command: that measures the same again.
        machine: that was measured (the remote one, where it was).
        simulated: limits that it ran under.
        remote: ``user@host`` that it ran on.
        peaks: of the machine.
        results: in the order they were measured. A run that was stopped and resumed has one of each
            process for a point; their samples say which run they are from.
        skipped: what a sweep left out, and why, by artifact and setting in words.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    edgekit: str
    created: str
    model: str
    artifacts: dict[str, str] = {}
    versions: dict[str, str] = {}
    command: tuple[str, ...] = ()
    machine: Machine
    simulated: Simulated | None = None
    remote: str | None = None
    peaks: Peaks | None = None
    results: tuple[Result, ...]
    skipped: dict[str, str] = {}

    @property
    def samples(self) -> list[Samples]:
        """Of all results."""
        return [result.samples for result in self.results]
