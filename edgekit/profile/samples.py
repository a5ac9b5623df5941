"""Raw latency samples. Every statistic and plot is derived from them, never stored instead."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from edgekit.machine import Machine

__all__ = ["Samples"]


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
            round, ``block`` entries each.
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
    machine: Machine
    started: str

    @property
    def call(self) -> str:
        """The shapes in words: ``input_ids 1x128, attention_mask 1x128``."""
        return ", ".join(
            f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items()
        )
