"""Raw latency samples. Every statistic and plot is derived from them, never stored instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from edgekit.machine import Machine

__all__ = ["Conditions", "Samples", "WarmUp", "Watch"]


class Conditions(BaseModel):
    """What else the machine did while samples were taken; None where it cannot be known.

    Attributes:
        steal: share of the time of this process's processors that the hypervisor gave to others.
        others: share of it that other processes used.
        preempted: involuntary context switches of this process a second.
        mhz: lowest and highest clock of the fastest core, of readings every half second.
        celsius: highest temperature at the start and at the end.
        throttled: times that the processor says it slowed down for heat or power, and readings
            that found its clock held down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steal: float | None = None
    others: float | None = None
    preempted: float | None = None
    mhz: tuple[float, float] | None = None
    celsius: tuple[float, float] | None = None
    throttled: int | None = None


class WarmUp(BaseModel):
    """The inferences before those that count.

    Attributes:
        calls: how many.
        seconds: how long they took.
        steady: whether latencies were stable at the end of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: int
    seconds: float
    steady: bool


class Samples(BaseModel):
    """The raw latencies of one artifact in one run.

    Attributes:
        artifact: id of the artifact that was timed.
        runtime: name of the runtime that ran it.
        run: samples that share this id were taken in turn, A B A B ..., in one process, so their
            latencies may be compared pair by pair.
        scenario: how load was offered; ``single-stream`` sends one request when the last is done.
        shapes: ``{input: shape}`` of the feeds.
        threads: intra-op threads the session was given, None for the engine's choice.
        device: where the session was told to run, None for the engine's choice.
        warmup: inferences run before, and not counted.
        block: inferences counted in a row in each round, after one that is not counted.
        latencies_ns: one entry an inference in the order they ran, in nanoseconds; round after
            round, ``block`` entries each. In an open loop each counts from ``starts_ns``, whenever
            the inference could really begin.
        starts_ns: when each inference was due, from the start of the run; in a closed loop, when
            it began. Empty in samples of bundles that were built before it was kept.
        conditions: of the machine meanwhile.
        warm_up: how the warm-up ended; None where it was of fixed length.
        machine: where it ran.
        started: UTC time of the first sample, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifact: str
    runtime: str
    run: str
    scenario: str = "single-stream"
    shapes: dict[str, tuple[int, ...]]
    threads: int | None
    device: str | None = None
    warmup: int = Field(ge=0)
    block: int = Field(default=1, ge=1)
    latencies_ns: tuple[int, ...] = Field(min_length=1)
    starts_ns: tuple[int, ...] = ()
    conditions: Conditions | None = None
    warm_up: WarmUp | None = None
    machine: Machine
    started: str

    @property
    def call(self) -> str:
        """The shapes in words: ``input_ids 1x128, attention_mask 1x128``."""
        return ", ".join(
            f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items()
        )


#: Gets the samples that one round added, one record an entry. All rounds of a run have its id.
Watch = Callable[[Sequence[Samples]], None]
