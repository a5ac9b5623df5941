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
        valid: whether the rules of the scenario are met (duration, queries, latency bound).
        reasons: what is not met.
        queries: that were issued.
        samples: in all queries.
        seconds: from the first query that was due to the last answer.
        metric: what the scenario is judged by: ``p90 latency``, ``p99 latency``, ``queries/s``
            or ``samples/s``.
        value: of it; latencies in milliseconds.
        bound: of the early-stopping rule for that latency percentile, in milliseconds; None where
            there are too few queries to give one.
        target: percentile (0 to 100) and milliseconds that the server scenario must hold.
        tried: rates of the search, in the order they were tried, and whether each was valid.
        dropped: queries without an answer; each makes the run invalid.
    """

    valid: bool
    reasons: tuple[str, ...] = ()
    queries: int
    samples: int
    seconds: float
    metric: str
    value: float
    bound: float | None = None
    target: tuple[float, float] | None = None
    tried: tuple[tuple[float, bool], ...] = ()
    dropped: int = 0


class Energy(_Record):
    """What sensors of the board say that inferences took.

    Attributes:
        joules: of one inference, above nothing: the whole domain's.
        idle_watts: of the same domain, before the run.
        domain: the sensor's own name.
    """

    joules: float
    idle_watts: float
    domain: str


class Costs(_Record):
    """What an artifact takes beside its latency. Seconds and bytes.

    Attributes:
        load_s: reading the artifact and making it ready, raw, one entry a fresh process.
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
        ns: median time of one inference, in nanoseconds.
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
    ns: float
    flops: int | None = None
    bytes: int | None = None


class LayerTimes(_Record):
    """All operators of one artifact, in the order of execution.

    Attributes:
        layers: of one inference.
        inference_ns: median of whole inferences of the same runs, with the engine's profiling on.
        plain_ns: the same without it, in turns with the former.
        runs: inferences that the medians are of.
    """

    layers: tuple[LayerTime, ...]
    inference_ns: float
    plain_ns: float
    runs: int


class Peaks(_Record):
    """What this machine can do at most: measured, never looked up.

    Attributes:
        threads: that it was measured with.
        flops: operations a second of a large matrix product, by precision (``fp32``, ``int8``).
        bytes_per_s: of streaming through memory that no cache holds.
    """

    threads: int
    flops: dict[str, float]
    bytes_per_s: float


class Simulated(_Record):
    """Limits that make this machine like a smaller one. Figures under it are no device's.

    Attributes:
        cores: that could be used.
        memory_bytes: that could be used.
        how: ``cgroup``, ``affinity``...
    """

    cores: int | None = None
    memory_bytes: int | None = None
    how: str


class Result(_Record):
    """One artifact, run with one setting under one scenario."""

    samples: Samples
    settings: Settings = Settings()
    outcome: Outcome | None = None
    costs: Costs | None = None
    layers: LayerTimes | None = None


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
