"""What a model version did: counters since it was loaded, and its last requests."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

__all__ = ["STAGES", "BatchCount", "Duration", "Stages", "Statistics"]

#: The stages of a request, in order.
STAGES = ("parse", "queue", "input", "infer", "output", "serialise")

#: Requests whose stages are kept for percentiles.
_KEPT = 4096


@dataclass(slots=True)
class Stages:
    """How long each stage of one request took, in nanoseconds.

    Attributes:
        parse: bytes to tensors.
        queue: waiting for the engine and for others to be run with; of a kept answer, finding it.
        input: putting the batch together.
        infer: the engine.
        output: taking the batch apart.
        serialise: tensors to bytes.
        batch: samples that ran together; 0 when the answer was kept.
    """

    parse: int = 0
    queue: int = 0
    input: int = 0
    infer: int = 0
    output: int = 0
    serialise: int = 0
    batch: int = 0

    @property
    def total(self) -> int:
        return self.parse + self.queue + self.input + self.infer + self.output + self.serialise


@dataclass(slots=True)
class Duration:
    """How often something happened, and nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass(slots=True)
class BatchCount:
    """Runs of the engine at one batch size."""

    input: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class Statistics:
    """Of one model version. Used in the event loop only.

    Attributes:
        success: requests that were answered, and their time from queue to outputs.
        failures: those that were not, by reason: ``REJECTED`` (queue full or deadline passed
            before it ran), ``CANCELED``, ``BACKEND`` (the engine) or ``OTHER``; as Triton's.
        failed: the same in all, with their time.
        cache_hit: requests that a kept answer was found for, and the time of finding it.
        cache_miss: those that none was found for, and the time of looking and keeping.
        samples: inferences: a request with a batch of 3 counts 3.
        batches: runs of the engine by batch size.
        last_inference_ms: when the last one was, in milliseconds since 1970.
        pending: requests accepted and not answered yet.
        recent: when (monotonic seconds) and how long the last requests took.
    """

    success: Duration = field(default_factory=Duration)
    failures: dict[str, int] = field(default_factory=dict)
    failed: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    samples: int = 0
    batches: dict[int, BatchCount] = field(default_factory=dict)
    last_inference_ms: int = 0
    pending: int = 0
    recent: deque[tuple[float, Stages]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def answered(self, stages: Stages, samples: int) -> None:
        """A request was computed. ``stages`` may still grow by what the transport adds."""
        self.success.add(stages.queue + stages.input + stages.infer + stages.output)
        self.queue.add(stages.queue)
        self.compute_input.add(stages.input)
        self.compute_infer.add(stages.infer)
        self.compute_output.add(stages.output)
        self.samples += samples
        self.last_inference_ms = time.time_ns() // 1_000_000
        self.recent.append((time.monotonic(), stages))

    def answered_from_cache(self, stages: Stages) -> None:
        """A request was answered with what is kept. As Triton, no inference and no queue."""
        self.success.add(stages.queue)
        self.recent.append((time.monotonic(), stages))

    def refused(self, reason: str, ns: int) -> None:
        """A request was not answered."""
        self.failures[reason] = self.failures.get(reason, 0) + 1
        self.failed.add(ns)

    def ran(self, stages: Stages) -> None:
        """The engine ran once."""
        count = self.batches.get(stages.batch)
        if count is None:
            count = self.batches[stages.batch] = BatchCount()
        count.input.add(stages.input)
        count.infer.add(stages.infer)
        count.output.add(stages.output)
