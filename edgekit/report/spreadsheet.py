"""``report.csv``: one row for each artifact and setting that was measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from statistics import median
from typing import Any

from edgekit.profile.records import Costs, Result
from edgekit.profile.samples import Samples
from edgekit.report.document import latency_record
from edgekit.report.view import View

__all__ = ["COLUMNS", "spreadsheet"]

COLUMNS = (
    "bundle", "artifact", "runtime", "precision", "target", "status", "scenario", "threads",
    "streams", "batch", "sizes", "device", "samples", "mean_ms", "p50_ms", "p50_low_ms",
    "p50_high_ms", "p90_ms", "p99_ms", "p99_supported", "lowest_ms", "highest_ms", "metric",
    "value", "valid", "score", "size_bytes", "verified", "speedup", "speedup_low", "speedup_high",
    "load_s", "first_s", "cold_start_s", "steady_bytes", "peak_bytes", "cpu_s", "joules", "cpu",
    "measured",
)  # fmt: skip


def spreadsheet(view: View) -> str:
    """RFC 4180; a figure that was not measured is an empty cell."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    for line in _lines(view):
        writer.writerow({name: _safe(value) for name, value in line.items()})
    return stream.getvalue()


def _lines(view: View) -> Iterator[dict[str, Any]]:
    measured: list[tuple[Samples, Result | None]] = [(one, None) for one in view.samples]
    if view.profile is not None:
        measured = [(one.samples, one) for one in view.profile.results]
    known = {samples.artifact for samples, _ in measured}
    for samples, result in measured:
        yield {
            **_artifact(view, samples.artifact),
            **_latency(samples),
            **(_result(view, result) if result is not None else {}),
        }
    for row in view.rows:
        if row.artifact.id not in known:
            yield _artifact(view, row.artifact.id)


def _artifact(view: View, identity: str) -> dict[str, Any]:
    row = next((row for row in view.rows if row.artifact.id == identity), None)
    found: dict[str, Any] = {"bundle": view.manifest.name, "artifact": identity}
    if row is None:
        return found
    record, speed = row.verification, row.speedup
    return {
        **found,
        "runtime": row.artifact.runtime,
        "precision": row.artifact.precision,
        "target": row.artifact.target,
        "status": row.status,
        "score": row.score,
        "size_bytes": row.artifact.size,
        "verified": record is not None and record.ran and record.passed,
        **(
            {}
            if speed is None
            else {"speedup": speed.ratio, "speedup_low": speed.low, "speedup_high": speed.high}
        ),
    }


def _latency(samples: Samples) -> dict[str, Any]:
    found = latency_record(samples)
    return {
        "runtime": samples.runtime,
        "scenario": samples.scenario,
        "threads": samples.threads,
        "device": samples.device,
        "samples": found.count,
        "mean_ms": found.mean,
        "p50_ms": found.p50,
        "p50_low_ms": found.p50_interval[0],
        "p50_high_ms": found.p50_interval[1],
        "p90_ms": found.p90,
        "p99_ms": found.p99,
        "p99_supported": found.p99_supported,
        "lowest_ms": found.lowest,
        "highest_ms": found.highest,
        "cpu": samples.machine.cpu,
        "measured": samples.started,
    }


def _result(view: View, result: Result) -> dict[str, Any]:
    settings, outcome = result.settings, result.outcome
    own = result in view.results  # the speed-up is of these settings only
    empty = {} if own else {"speedup": None, "speedup_low": None, "speedup_high": None}
    return {
        **empty,
        "threads": settings.threads or result.samples.threads,
        "streams": settings.streams,
        "batch": settings.batch,
        "sizes": " ".join(f"{name}={size}" for name, size in settings.sizes.items()),
        "device": settings.device or result.samples.device,
        "metric": outcome.metric if outcome else None,
        "value": outcome.value if outcome else None,
        "valid": outcome.valid if outcome else None,
        **(_costs(result.costs) if result.costs is not None else {}),
    }


def _costs(costs: Costs) -> dict[str, Any]:
    return {
        "load_s": median(costs.load_s) if costs.load_s else None,
        "first_s": median(costs.first_s) if costs.first_s else None,
        "cold_start_s": median(costs.cold_start_s) if costs.cold_start_s else None,
        "steady_bytes": costs.steady_bytes,
        "peak_bytes": costs.peak_bytes,
        "cpu_s": costs.cpu_s,
        "joules": costs.energy.joules if costs.energy else None,
    }


def _safe(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula begins with a quote instead."""
    if isinstance(value, str) and value[:1] in set("=+-@\t\r"):
        return f"'{value}"
    return value
