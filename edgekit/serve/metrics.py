"""The models' statistics as Prometheus' metrics. Nothing is counted here, it is read on demand.

Names are Triton's where it has one, so that its dashboards work; what it lacks is ``edgekit_``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator

from edgekit.machine import resident
from edgekit.sensors import CpuClock, memory, process_cpu_s, temperatures
from edgekit.serve.exposition import Family
from edgekit.serve.live_profile import PERCENTILES, measured, supported_percentile
from edgekit.serve.model import Model, Servable
from edgekit.serve.repository import Repository
from edgekit.serve.statistics import STAGES, Statistics
from edgekit.spec import Array

__all__ = ["Metrics"]

_Counter = Callable[[Statistics], int]

_COUNTERS: dict[str, tuple[str, _Counter]] = {
    "nv_inference_request_success": ("Requests answered", lambda s: s.success.count),
    "nv_inference_count": ("Inferences: a batch of n counts n", lambda s: s.samples),
    "nv_inference_exec_count": (
        "Runs of the engine",
        lambda s: sum(batch.infer.count for batch in s.batches.values()),
    ),
    "nv_inference_request_duration_us": (
        "From queue to outputs, requests answered",
        lambda s: s.success.ns // 1000,
    ),
    "nv_inference_queue_duration_us": ("Waiting in the queue", lambda s: s.queue.ns // 1000),
    "nv_inference_compute_input_duration_us": (
        "Putting batches together",
        lambda s: s.compute_input.ns // 1000,
    ),
    "nv_inference_compute_infer_duration_us": (
        "In the engine",
        lambda s: s.compute_infer.ns // 1000,
    ),
    "nv_inference_compute_output_duration_us": (
        "Taking batches apart",
        lambda s: s.compute_output.ns // 1000,
    ),
    "nv_cache_num_hits_per_model": ("Answers from the cache", lambda s: s.cache_hit.count),
    "nv_cache_num_misses_per_model": ("Not in the cache", lambda s: s.cache_miss.count),
}

_TOLD = "of the last requests; NaN while they are too few to bound the percentile"


class Metrics:
    """What a scrape is answered with.

    Args:
        repository: whose models.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._clock = CpuClock()

    async def collect(self) -> list[Family]:
        """Everything, now."""
        models = list(self._repository.servables())
        ready = await asyncio.gather(*(model.ready() for model in models))
        works = {(m.name, m.version): ok for m, ok in zip(models, ready, strict=True)}
        return [
            *_counted(models),
            *_summaries(models),
            _batch_sizes(models),
            *_engines(models),
            *self._states(works),
            *self._machine(),
        ]

    def _states(self, works: dict[tuple[str, str], bool]) -> Iterator[Family]:
        ready = Family("edgekit_model_ready", "gauge", "Whether inferences of it work")
        loads = Family("edgekit_model_loads_total", "counter", "How often it was loaded")
        failures = Family("edgekit_model_load_failures_total", "counter", "And could not be")
        size = Family("edgekit_model_memory_bytes", "gauge", "What loading it took")
        for entry in self._repository.entries.values():
            for name, version in entry.versions.items():
                labels = {"model": entry.name, "version": name}
                ready.add(int(works.get((entry.name, name), False)), labels)
                loads.add(version.loads, labels)
                failures.add(version.failures, labels)
                size.add(version.size, labels)
        yield from (ready, loads, failures, size)

    def _machine(self) -> Iterator[Family]:
        cpu = Family("nv_cpu_utilization", "gauge", "Of all processors since the last scrape, 0-1")
        busy = self._clock.utilization()
        if busy is not None:
            cpu.add(busy)
        total = Family("nv_cpu_memory_total_bytes", "gauge", "Of the machine")
        used = Family("nv_cpu_memory_used_bytes", "gauge", "Of the machine, not available")
        amounts = memory()
        if amounts is not None:
            total.add(amounts[0])
            used.add(amounts[1])
        own = Family("process_resident_memory_bytes", "gauge", "Of this process")
        own.add(resident())
        seconds = Family("process_cpu_seconds_total", "counter", "Of this process")
        seconds.add(process_cpu_s())
        heat = Family("edgekit_temperature_celsius", "gauge", "Of every sensor of the board")
        for reading in temperatures():
            heat.add(reading.celsius, {"sensor": reading.sensor})
        yield from (cpu, total, used, own, seconds, heat)


def _labels(model: Servable) -> dict[str, str]:
    return {"model": model.name, "version": model.version}


def _counted(models: list[Servable]) -> Iterator[Family]:
    for name, (told, read) in _COUNTERS.items():
        family = Family(name, "counter", told)
        for model in models:
            family.add(read(model.statistics), _labels(model))
        yield family
    failed = Family("nv_inference_request_failure", "counter", "Requests not answered, by reason")
    pending = Family("nv_inference_pending_request_count", "gauge", "Taken and not answered yet")
    for model in models:
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
            count = model.statistics.failures.get(reason, 0)
            failed.add(count, {**_labels(model), "reason": reason})
        pending.add(model.statistics.pending, _labels(model))
    yield from (failed, pending)


def _summaries(models: list[Servable]) -> Iterator[Family]:
    """Percentiles. Sums and counts of the same are in the counters."""
    whole = Family("nv_inference_request_summary_us", "summary", f"From bytes to bytes, {_TOLD}")
    stages = Family("edgekit_stage_summary_us", "summary", f"Each stage, {_TOLD}")
    overhead = Family("edgekit_overhead_summary_us", "summary", f"All but the engine, {_TOLD}")
    for model in models:
        labels = _labels(model)
        table = measured(taken for _, taken in model.statistics.recent) / 1000
        total = table.sum(axis=1)
        _quantiles(whole, total, labels)
        _quantiles(overhead, total - table[:, STAGES.index("infer")], labels)
        for index, stage in enumerate(STAGES):
            _quantiles(stages, table[:, index], {**labels, "stage": stage})
    yield from (whole, stages, overhead)


def _quantiles(family: Family, values: Array, labels: dict[str, str]) -> None:
    for share in PERCENTILES:
        found = supported_percentile(values, share)
        quantile = {**labels, "quantile": str(share / 100)}
        family.add(math.nan if found is None else found, quantile)


def _batch_sizes(models: list[Servable]) -> Family:
    family = Family("edgekit_batch_size", "histogram", "Samples in a run of the engine")
    for model in models:
        runs = {size: batch.infer.count for size, batch in model.statistics.batches.items()}
        largest = max([*runs, 1])
        for power in range((largest - 1).bit_length() + 1):
            count = sum(n for size, n in runs.items() if size <= 2**power)
            family.add(count, {**_labels(model), "le": str(2**power)}, "_bucket")
        family.add(sum(runs.values()), {**_labels(model), "le": "+Inf"}, "_bucket")
        family.add(sum(size * n for size, n in runs.items()), _labels(model), "_sum")
        family.add(sum(runs.values()), _labels(model), "_count")
    return family


def _engines(models: list[Servable]) -> Iterator[Family]:
    waiting = Family("edgekit_queue_length", "gauge", "Requests that wait for the engine")
    restarts = Family("edgekit_engine_restarts_total", "counter", "Of isolated engines")
    memory = Family("edgekit_engine_memory_bytes", "gauge", "Of isolated engines' processes")
    for model in models:
        if isinstance(model, Model):
            waiting.add(model.waiting, _labels(model))
            restarts.add(model.restarts, _labels(model))
            memory.add(model.elsewhere, _labels(model))
    yield from (waiting, restarts, memory)
