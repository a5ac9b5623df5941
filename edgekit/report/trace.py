"""``trace.json``: every inference on a time line, for Perfetto or ``chrome://tracing``.

Source: Trace Event Format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit.profile.records import Profile, Result
from edgekit.report.plots.roofline import name_of
from edgekit.report.settings import settings_text

__all__ = ["trace"]


def trace(profile: Profile) -> str:
    """A process a result: its inferences on one track, one inference's layers on another.

    Inferences that overlap (an open loop, several streams) are asynchronous slices: those of one
    track of the format may nest, but never cross. Times are microseconds from the start of each
    run. Layers are means laid end to end, not one recorded inference.
    """
    events: list[dict[str, Any]] = []
    for index, result in enumerate(profile.results):
        events += _result(index + 1, result)
    document = {
        "displayTimeUnit": "ms",
        "otherData": {
            "edgekit": profile.edgekit,
            "model": profile.model,
            "created": profile.created,
            "machine": profile.machine.cpu,
        },
        "traceEvents": events,
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n"


def _result(pid: int, result: Result) -> Iterator[dict[str, Any]]:
    samples = result.samples
    named = f"{samples.artifact} ({samples.scenario}, {settings_text(result)})"
    yield _name("process_name", pid, named)
    yield {**_name("process_sort_index", pid, ""), "args": {"sort_index": pid}}
    yield _name("thread_name", pid, "inferences", tid=1)
    yield from _inferences(pid, result)
    if result.layers is not None and result.layers.layers:
        yield _name("thread_name", pid, "layers of one inference (means)", tid=2)
        yield from _layers(pid, result)


def _inferences(pid: int, result: Result) -> Iterator[dict[str, Any]]:
    samples = result.samples
    taken = np.asarray(samples.latencies_ns, dtype=np.int64)
    begun = np.asarray(samples.starts_ns, dtype=np.int64)
    if begun.size != taken.size:  # bundles of before kept none
        begun = np.concatenate([[0], np.cumsum(taken)[:-1]])
    order = np.argsort(begun, kind="stable")
    ends = np.maximum.accumulate(begun[order] + taken[order])
    crossing = bool((begun[order][1:] < ends[:-1]).any())
    for number in order.tolist():
        start, time = float(begun[number]) / 1e3, float(taken[number]) / 1e3
        common = {"name": "inference", "cat": "inference", "pid": pid, "tid": 1}
        if crossing:
            mark = f"{pid}.{number}"
            yield {**common, "ph": "b", "id": mark, "ts": start, "args": {"number": number}}
            yield {**common, "ph": "e", "id": mark, "ts": start + time}
        else:
            yield {**common, "ph": "X", "ts": start, "dur": time, "args": {"number": number}}


def _layers(pid: int, result: Result) -> Iterator[dict[str, Any]]:
    times = result.layers
    assert times is not None
    whole = max(times.inference_ns, sum(layer.ns for layer in times.layers)) / 1e3
    common = {"cat": "layer", "ph": "X", "pid": pid, "tid": 2}
    yield {**common, "name": "inference", "ts": 0.0, "dur": whole, "args": {"runs": times.runs}}
    at = 0.0
    for layer in times.layers:
        known = {
            "operator": layer.op,
            "precision": layer.precision,
            "kernel": layer.kernel,
            "node": layer.node,
            "onnx": ", ".join(layer.onnx),
            "operations": layer.flops,
            "bytes": layer.bytes,
        }
        shown = {name: value for name, value in known.items() if value}
        dur = min(layer.ns / 1e3, whole - at)  # a rounding must not reach beyond the inference
        yield {**common, "name": name_of(layer), "ts": at, "dur": dur, "args": shown}
        at += dur


def _name(kind: str, pid: int, name: str, tid: int = 0) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}
