"""Checks of the protocol's core over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgekit.conformance.clause import NotApplicable, Unmet, as_list, expect
from edgekit.conformance.target import UNKNOWN, Reply, Target, read_answer
from edgekit.conformance.tensors import DATATYPES, binary_tensor, datatype_of, json_tensor, same
from edgekit.conformance.wrong import WRONG_JSON, reply_to

__all__ = [
    "client_errors_are_4xx",
    "data_may_be_nested",
    "error_bodies",
    "error_body_of_a_method",
    "error_body_of_a_path",
    "every_version",
    "health_body",
    "id_is_echoed",
    "id_is_not_made_up",
    "infer",
    "int64_is_exact",
    "model_metadata",
    "model_ready_body",
    "model_version",
    "nan_is_valid_json",
    "ok",
    "output_tensors",
    "outputs_all",
    "outputs_chosen",
    "parameters_are_taken",
    "ready_means_every_model",
    "server_metadata",
    "shape_is_the_batch",
    "sixteen_bit_json",
    "slash",
    "tensor_metadata",
    "unknown_is_404",
    "version_metadata",
]  # fmt: skip


def ok(path: str) -> Callable[[Target], None]:
    """GET ``path`` answers 200; ``{model}`` in it is the model's own path."""

    def check(target: Target) -> None:
        reply = target.get(path.format(model=target.path))
        expect(reply.status == 200, "status 200", reply)

    return check


def server_metadata(target: Target) -> None:
    document = target.get("/v2").object()
    _strings(document, "name", "version")
    _list_of_strings(document, "extensions")


def slash(target: Target) -> None:
    reply = target.get("/v2/")
    if reply.status in {301, 302, 307, 308}:
        reply = target.get(reply.headers["location"])
    _strings(reply.object(), "name", "version")


def health_body(path: str) -> Callable[[Target], None]:
    def check(target: Target) -> None:
        reply = target.get(path)
        if not reply.body:
            return
        document = reply.object()
        flags = (document.get("live"), document.get("ready"))
        expect(True in flags, "an empty body, or 'live' or 'ready': true", reply)

    return check


def ready_means_every_model(target: Target) -> None:
    expect(target.get("/v2/health/ready").status == 200, "a server that is ready", "it is not")
    reply = target.post("/v2/repository/index", {})
    if reply.status != 200:
        raise NotApplicable("the server has no repository index")
    for entry in as_list(reply.json(), "a list of models"):
        if entry.get("state") == "READY":
            one = target.get(f"/v2/models/{entry['name']}/ready")
            expect(one.status == 200, f"model {entry['name']!r} to be ready as well", one)


def model_metadata(target: Target) -> None:
    document = target.get(target.path).object()
    _strings(document, "name", "platform")
    expect(document["name"] == target.model, f"name {target.model!r}", document["name"])
    for key in ("inputs", "outputs"):
        expect(isinstance(document.get(key), list), f"{key!r} to be a list", document)
    if "versions" in document:
        _list_of_strings(document, "versions")


def tensor_metadata(target: Target) -> None:
    for kind in ("inputs", "outputs"):
        for entry in target.metadata.get(kind) or []:
            _strings(entry, "name", "datatype")
            expect(entry["datatype"] in DATATYPES, "a datatype of the protocol", entry)
            shape = entry.get("shape")
            whole = isinstance(shape, list) and all(type(dim) is int and dim >= -1 for dim in shape)
            expect(whole, "a shape of sizes, -1 where they vary", entry)


def version_metadata(target: Target) -> None:
    for version in target.versions:
        document = target.get(f"{target.path}/versions/{version}").object()
        expect(document.get("name") == target.model, f"name {target.model!r}", document)


def model_ready_body(target: Target) -> None:
    reply = target.get(f"{target.path}/ready")
    if not reply.body:
        return
    document = reply.object()
    good = document.get("name", target.model) == target.model
    expect(good and document.get("ready") is True, "an empty body, or name and ready", reply)


def every_version(target: Target) -> None:
    for version in target.versions:
        path = f"{target.path}/versions/{version}"
        reply = target.get(f"{path}/ready")
        expect(reply.status == 200, f"version {version} to be ready", reply)
        answer = target.infer(target.document(), path=path)
        told = answer.document.get("model_version")
        expect(told == version, f"an answer of version {version!r}", told)


def infer(target: Target) -> None:
    document = target.baseline.document
    expect(document.get("model_name") == target.model, "the model's name", document)
    expect(document.get("outputs"), "outputs", document)


def model_version(target: Target) -> None:
    told = target.baseline.document.get("model_version")
    if target.metadata.get("versions"):
        expect(told in target.versions, f"one of the versions {target.versions}", told)
    else:
        expect(told is None or isinstance(told, str), "no version, or a string", told)


def output_tensors(target: Target) -> None:
    listed = {entry["name"]: entry for entry in target.metadata.get("outputs") or []}
    for name, array in target.baseline.outputs.items():
        if name not in listed:
            raise Unmet(f"one of the outputs {sorted(listed)}", name)
        wanted = listed[name]
        expect(datatype_of(array) == wanted["datatype"], wanted["datatype"], datatype_of(array))
        fits = len(array.shape) == len(wanted["shape"]) and all(
            dim in {-1, size} for dim, size in zip(wanted["shape"], array.shape, strict=True)
        )
        expect(fits, f"output {name!r} of shape {wanted['shape']}", list(array.shape))


def outputs_all(target: Target) -> None:
    got = list(target.baseline.outputs)
    expect(sorted(got) == sorted(target.outputs), f"all of {target.outputs}", got)


def outputs_chosen(target: Target) -> None:
    if len(target.outputs) < 2:
        raise NotApplicable("the model has one output")
    for name in target.outputs:
        got = target.infer(target.document(outputs=[{"name": name}])).outputs
        expect(list(got) == [name], f"only {name!r}", list(got))
        expect(same(got[name], target.baseline.outputs[name]), "the same values", name)


def id_is_echoed(target: Target) -> None:
    told = target.infer(target.document(id="edgekit-42")).document.get("id")
    expect(told == "edgekit-42", "the request's id", told)


def id_is_not_made_up(target: Target) -> None:
    told = target.baseline.document.get("id")
    expect(told in {None, ""}, "no id where the request had none", told)


def data_may_be_nested(target: Target) -> None:
    entries = [json_tensor(name, array, nested=True) for name, array in target.feeds.items()]
    target.check_same(target.infer({"inputs": entries}).outputs)


def shape_is_the_batch(target: Target) -> None:
    for kind in ("inputs", "outputs"):
        for entry in target.metadata.get(kind) or []:
            if not entry["shape"] or entry["shape"][0] != -1:
                raise NotApplicable(f"{entry['name']!r} has no dynamic first dimension")
    entries = [json_tensor(name, np.concatenate([x, x])) for name, x in target.feeds.items()]
    for name, array in target.infer({"inputs": entries}).outputs.items():
        wanted = 2 * target.baseline.outputs[name].shape[0]
        expect(array.shape[0] == wanted, f"{wanted} rows in {name!r}", array.shape[0])


def parameters_are_taken(target: Target) -> None:
    parameters = {"edgekit_text": "a", "edgekit_number": 1, "edgekit_flag": True}
    document = target.document(parameters=parameters)
    document["inputs"][0]["parameters"] = parameters
    target.check_same(target.infer(document).outputs)


def int64_is_exact(target: Target) -> None:
    feeds = {
        name: np.full_like(array, 2**53 + 1) if array.dtype == np.int64 else array
        for name, array in target.feeds.items()
    }
    if not any(array.dtype == np.int64 for array in feeds.values()):
        raise NotApplicable("the model has no input of INT64")
    target.need("binary_tensor_data")
    listed = [json_tensor(*item) for item in feeds.items()]
    reply = target.post(f"{target.path}/infer", {"inputs": listed})
    if reply.status != 200:
        raise NotApplicable(f"the model takes no such values: {reply}")
    plain = read_answer(reply).outputs
    entries, data = zip(*(binary_tensor(*item) for item in feeds.items()), strict=True)
    exact = target.infer_binary({"inputs": list(entries)}, b"".join(data)).outputs
    for name, array in exact.items():
        expect(same(plain[name], array), f"the values {array.ravel()}", plain[name].ravel())


def nan_is_valid_json(target: Target) -> None:
    target.need("binary_tensor_data")
    feeds = {
        name: np.full_like(array, np.nan) if array.dtype.kind in "fV" else array
        for name, array in target.feeds.items()
    }
    if not any(array.dtype.kind in "fV" for array in feeds.values()):
        raise NotApplicable("the model has no floating-point input")
    entries, data = zip(*(binary_tensor(*item) for item in feeds.items()), strict=True)
    target.post_binary({"inputs": list(entries)}, b"".join(data)).json()


def sixteen_bit_json(target: Target) -> None:
    if not any(datatype_of(array) in {"FP16", "BF16"} for array in target.feeds.values()):
        raise NotApplicable("the model has no input of FP16 or BF16")
    target.need("binary_tensor_data")
    reply = target.post(f"{target.path}/infer", target.document())
    if reply.status == 200:
        target.check_same(target.infer_binary(*target.binary()).outputs)
    else:
        expect(400 <= reply.status < 500, "a refusal with a 4xx", reply)


def error_bodies(target: Target) -> None:
    """Every request of the suite that the server refused, and what it said."""
    told = {wrong.id: reply for wrong, reply in _refused(target)}
    bad = {name: str(reply) for name, reply in told.items() if not _is_error(reply)}
    expect(not bad, 'a body of {"error": "..."}', bad)


def error_body_of_a_path(target: Target) -> None:
    _error_body(target.get(f"/v2/{UNKNOWN}"))


def error_body_of_a_method(target: Target) -> None:
    _error_body(target.get(f"{target.path}/infer"))


def client_errors_are_4xx(target: Target) -> None:
    bad = {wrong.id: reply.status for wrong, reply in _refused(target) if reply.status >= 500}
    expect(not bad, "a status of 4xx", bad)


def unknown_is_404(target: Target) -> None:
    for path in (f"/v2/models/{UNKNOWN}", f"/v2/models/{UNKNOWN}/ready"):
        reply = target.get(path)
        expect(reply.status == 404, f"status 404 of {path}", reply)


def _refused(target: Target) -> list[tuple[Any, Reply]]:
    found = []
    for wrong in WRONG_JSON:
        try:
            reply = reply_to(target, wrong)
        except (NotApplicable, Unmet):  # the clause of that request tells it
            continue
        if reply.status >= 400:
            found.append((wrong, reply))
    return found


def _error_body(reply: Reply) -> None:
    expect(reply.status >= 400, "an HTTP error status", reply)
    expect(_is_error(reply), 'a body of {"error": "..."}', reply)


def _is_error(reply: Reply) -> bool:
    try:
        document = reply.json()
    except Unmet:
        return False
    return (
        isinstance(document, dict)
        and isinstance(document.get("error"), str)
        and bool(document["error"])
    )


def _strings(document: Mapping[str, Any], *keys: str) -> None:
    for key in keys:
        expect(isinstance(document.get(key), str), f"{key!r} to be a string", document)


def _list_of_strings(document: Mapping[str, Any], key: str) -> None:
    found: Any = document.get(key)
    good = isinstance(found, list) and all(isinstance(item, str) for item in found)
    expect(good, f"{key!r} to be a list of strings", document)
