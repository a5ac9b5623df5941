"""Checks of the extensions ``model_repository``, ``statistics`` and ``classification``."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from edgekit.conformance.clause import NotApplicable, as_list, expect
from edgekit.conformance.target import UNKNOWN, Target
from edgekit.conformance.tensors import Array

__all__ = [
    "check_classes",
    "class_scores",
    "classes",
    "classes_in_binary",
    "classes_refused",
    "failed_load_keeps_serving",
    "index",
    "index_has_the_model",
    "index_ready",
    "index_without_body",
    "reload_loses_nothing",
    "repository_unknown",
    "stats",
    "stats_batches",
    "stats_count_successes",
    "stats_everywhere",
    "stats_unknown",
    "traversal",
    "unload_and_load",
]  # fmt: skip

_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def index(target: Target) -> None:
    for entry in _index(target, {}):
        good = isinstance(entry, dict) and all(
            isinstance(entry.get(key), str) for key in ("name", "state", "reason")
        )
        expect(good, "name, state and reason as strings", entry)
        expect(isinstance(entry.get("version", ""), str), "a version that is a string", entry)


def index_has_the_model(target: Target) -> None:
    states = {e["state"] for e in _index(target, {}) if e["name"] == target.model}
    expect("READY" in states, f"{target.model!r} as READY", states or "it is not listed")


def index_ready(target: Target) -> None:
    listed = _index(target, {"ready": True})
    expect(target.model in {e["name"] for e in listed}, f"{target.model!r}", listed)
    others = [entry for entry in listed if entry["state"] != "READY"]
    expect(not others, "models in state READY only", others)


def index_without_body(target: Target) -> None:
    listed, whole = _index(target, None), _index(target, {})
    expect(len(listed) == len(whole), f"{len(whole)} models", listed)


def repository_unknown(target: Target) -> None:
    reply = target.post(f"/v2/repository/models/{UNKNOWN}/load")
    expect(reply.status >= 400, "an HTTP error status", reply)
    document = reply.json()
    expect(isinstance(document, dict) and document.get("error"), '{"error": "..."}', reply)


def traversal(target: Target) -> None:
    for name in ("..", "%2e%2e", "..%2f..%2fetc", "%2fetc%2fpasswd", "a%00b"):
        reply = target.post(f"/v2/repository/models/{name}/load")
        expect(reply.status >= 400, f"a refusal of the name {name!r}", reply)


def failed_load_keeps_serving(target: Target) -> None:
    _need_leave(target)
    body = b'{"parameters": '
    reply = target.send("POST", f"/v2/repository/models/{target.model}/load", body)
    expect(reply.status >= 400, "an HTTP error status", reply)
    target.check_same(target.infer(target.document()).outputs)


def unload_and_load(target: Target) -> None:
    _need_leave(target)
    wanted = target.baseline.outputs
    path = f"/v2/repository/models/{target.model}"
    try:
        reply = target.post(f"{path}/unload")
        expect(reply.status == 200, "status 200 of unload", reply)
        for gone in (
            target.get(f"{target.path}/ready"),
            target.post(f"{target.path}/infer", target.document()),
        ):
            expect(gone.status >= 400, "an error while the model is unloaded", gone)
        states = {e["state"] for e in _index(target, {}) if e["name"] == target.model}
        expect("READY" not in states, "another state than READY in the index", states)
    finally:
        reply = target.post(f"{path}/load", {})
    expect(reply.status == 200, "status 200 of load", reply)
    expect(target.get(f"{target.path}/ready").status == 200, "a model that is ready", "it is not")
    expect(list(target.infer(target.document()).outputs) == list(wanted), "its outputs", "others")


def reload_loses_nothing(target: Target) -> None:
    _need_leave(target)
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            target.check_same(target.infer(target.document()).outputs)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            for _ in range(3):
                reply = target.post(f"/v2/repository/models/{target.model}/load")
                expect(reply.status == 200, "status 200 of load", reply)
        finally:
            done.set()
        asking.result()


def stats(target: Target) -> None:
    target.infer(target.document())
    for entry in _stats(target):
        expect(entry.get("name") == target.model, f"name {target.model!r}", entry)
        for key in ("last_inference", "inference_count", "execution_count"):
            expect(type(entry.get(key)) is int, f"{key!r} to be a whole number", entry)
        durations: Any = entry.get("inference_stats")
        expect(isinstance(durations, dict), "'inference_stats' to be an object", entry)
        for key in _DURATIONS:
            _check_duration(durations.get(key), key)


def stats_everywhere(target: Target) -> None:
    everywhere = target.get("/v2/models/stats").object().get("model_stats", [])
    names = {entry.get("name") for entry in everywhere}
    expect(target.model in names, f"{target.model!r} among all models", names)
    for version in target.versions:
        (entry,) = _stats(target, f"/versions/{version}")
        expect(entry.get("version") == version, f"version {version!r}", entry)


def stats_unknown(target: Target) -> None:
    reply = target.get(f"/v2/models/{UNKNOWN}/stats")
    expect(reply.status >= 400, "an HTTP error status", reply)


def stats_count_successes(target: Target) -> None:
    def counts() -> tuple[int, int]:
        found = _stats(target)
        successes = sum(entry["inference_stats"]["success"]["count"] for entry in found)
        return successes, sum(entry["inference_count"] for entry in found)

    before = counts()
    target.infer(target.document())
    after = counts()
    grown = all(new > old for old, new in zip(before, after, strict=True))
    expect(grown, f"success and inference_count above {before}", after)


def stats_batches(target: Target) -> None:
    target.infer(target.document())
    for entry in _stats(target):
        batches: Any = entry.get("batch_stats")
        expect(isinstance(batches, list) and batches, "'batch_stats' to be a list", entry)
        for batch in batches:
            expect(type(batch.get("batch_size")) is int, "a whole 'batch_size'", batch)
            for key in ("compute_input", "compute_infer", "compute_output"):
                _check_duration(batch.get(key), key)
        runs = sum(batch["compute_infer"]["count"] for batch in batches)
        expect(runs == entry["execution_count"], f"{entry['execution_count']} executions", runs)


def classes(target: Target) -> None:
    name, scores = class_scores(target)
    count = min(3, scores.shape[-1])
    wanted = [{"name": name, "parameters": {"classification": count}}]
    got = target.infer(target.document(outputs=wanted)).outputs[name]
    check_classes(scores, got, count)


def classes_in_binary(target: Target) -> None:
    target.need("binary_tensor_data")
    name, scores = class_scores(target)
    wanted = [{"name": name, "parameters": {"classification": 1, "binary_data": True}}]
    answer = target.infer(target.document(outputs=wanted))
    size = (answer.entry(name).get("parameters") or {}).get("binary_data_size")
    expect(size is not None, "the classes in binary", answer.document)
    check_classes(scores, answer.outputs[name], 1)


def classes_refused(target: Target) -> None:
    name, _ = class_scores(target)
    for count in (-1, "many"):
        wanted = [{"name": name, "parameters": {"classification": count}}]
        reply = target.post(f"{target.path}/infer", target.document(outputs=wanted))
        expect(reply.status >= 400, f"a refusal of {count!r} classes", reply)


def check_classes(scores: Array, got: Array, count: int) -> None:
    """``got`` holds the ``count`` best of each row of ``scores``, as "value:index[:label]"."""
    shape = [count] if scores.ndim == 1 else [scores.shape[0], count]
    expect(got.dtype.kind == "O", "the datatype BYTES", got.dtype)
    expect(list(got.shape) == shape, f"shape {shape}", list(got.shape))
    rows = scores.reshape(-1, scores.shape[-1])
    for row, texts in zip(rows, got.reshape(-1, count), strict=True):
        told = [text.decode().split(":") for text in texts]
        good = all(len(parts) >= 2 and parts[1].isdigit() for parts in told)
        expect(good, "value:index[:label]", texts)
        indices = [int(parts[1]) for parts in told]
        best = -np.sort(-row)[:count]
        right = len(set(indices)) == count and np.allclose(row[indices], best, 1e-3, 1e-3)
        expect(right, f"the {count} best of {row}", texts)


def class_scores(target: Target) -> tuple[str, Array]:
    """An output that can be read as classes: one row of numbers for each of the batch."""
    for name, array in target.baseline.outputs.items():
        if array.dtype.kind != "O" and array.ndim in {1, 2} and array.shape[-1] > 0:
            return name, array
    raise NotApplicable("no output of the model is a row of numbers")


def _check_duration(found: Any, key: str) -> None:
    good = isinstance(found, dict) and all(
        type(found.get(part)) is int and found[part] >= 0 for part in ("count", "ns")
    )
    expect(good, f"{key!r} as whole numbers 'count' and 'ns'", found)


def _stats(target: Target, version: str = "") -> list[dict[str, Any]]:
    told = target.get(f"{target.path}{version}/stats").object()
    found = as_list(told.get("model_stats"), "'model_stats' to be a list")
    expect(found, "statistics of the model", told)
    return found


def _index(target: Target, document: Any) -> list[dict[str, Any]]:
    reply = target.post("/v2/repository/index", document)
    expect(reply.status == 200, "status 200", reply)
    return as_list(reply.json(), "a list of models")


def _need_leave(target: Target) -> None:
    if not target.unload:
        raise NotApplicable("it would unload or reload the model: allow it with --unload")
