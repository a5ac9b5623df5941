"""Checks of the extension ``binary_tensor_data``: tensors behind the JSON."""

from __future__ import annotations

from typing import Any

from edgekit.conformance.clause import NotApplicable, expect
from edgekit.conformance.target import HEADER, Answer, Target, read_answer
from edgekit.conformance.tensors import binary_tensor, datatype_of, json_tensor, to_bytes

__all__ = [
    "bytes_elements", "default_for_all", "inputs", "inputs_mixed", "json_unless_asked",
    "one_output", "one_overrides", "outputs_mixed", "raw_request", "response_header",
    "whole_body_of_json",
]  # fmt: skip

_ALL: dict[str, Any] = {"binary_data_output": True}


def inputs(target: Target) -> None:
    target.check_same(target.infer_binary(*target.binary()).outputs)


def inputs_mixed(target: Target) -> None:
    if len(target.feeds) < 2:
        raise NotApplicable("the model has one input")
    (first, array), *rest = target.feeds.items()
    entry, data = binary_tensor(first, array)
    document = {"inputs": [entry, *(json_tensor(*item) for item in rest)]}
    target.check_same(target.infer_binary(document, data).outputs)


def whole_body_of_json(target: Target) -> None:
    document = target.document(parameters=_ALL)
    target.check_same(read_answer(target.post_binary(document, b"")).outputs)


def response_header(target: Target) -> None:
    answer = _binary_answer(target)
    headers = answer.reply.headers
    kind = headers.get("content-type", "")
    expect(kind.startswith("application/octet-stream"), "application/octet-stream", kind)
    expect(headers.get("content-length") == str(len(answer.reply.body)), "its length", headers)


def default_for_all(target: Target) -> None:
    answer = _binary_answer(target)
    for name, array in answer.outputs.items():
        size = (answer.entry(name).get("parameters") or {}).get("binary_data_size")
        expect(size == len(to_bytes(array)), f"{len(to_bytes(array))} bytes of {name!r}", size)


def one_output(target: Target) -> None:
    for name in target.outputs:
        wanted = [{"name": name, "parameters": {"binary_data": True}}]
        answer = target.infer(target.document(outputs=wanted))
        expect(_is_binary(answer, name), f"{name!r} in binary", answer.document)


def one_overrides(target: Target) -> None:
    name = target.outputs[0]
    wanted = [{"name": name, "parameters": {"binary_data": False}}]
    answer = target.infer(target.document(parameters=_ALL, outputs=wanted))
    expect(not _is_binary(answer, name), f"{name!r} in JSON", answer.document)


def outputs_mixed(target: Target) -> None:
    if len(target.outputs) < 2:
        raise NotApplicable("the model has one output")
    first, *rest = target.outputs
    wanted = [
        {"name": name, "parameters": {"binary_data": name != first}} for name in target.outputs
    ]
    answer = target.infer(target.document(outputs=wanted))
    expect(not _is_binary(answer, first), f"{first!r} in JSON", answer.document)
    for name in rest:
        expect(_is_binary(answer, name), f"{name!r} in binary", answer.document)
    target.check_same(answer.outputs)


def json_unless_asked(target: Target) -> None:
    answer = target.infer_binary(*target.binary())
    binary = [name for name in answer.outputs if _is_binary(answer, name)]
    expect(not binary, "outputs in JSON", f"{binary} in binary")


def bytes_elements(target: Target) -> None:
    names = [name for name, array in target.feeds.items() if datatype_of(array) == "BYTES"]
    if not names:
        raise NotApplicable("the model has no input of BYTES")
    target.check_same(target.infer_binary(*target.binary(parameters=_ALL)).outputs)


def raw_request(target: Target) -> None:
    (array, *more) = target.feeds.values()
    if more:
        raise NotApplicable("the model has more than one input")
    declared = target.metadata["inputs"][0]["shape"]
    if declared.count(-1) > 1 or (array.shape and declared[0] == -1 and array.shape[0] != 1):
        raise NotApplicable("the model has more than one dynamic dimension, or the batch is not 1")
    body = array.ravel()[0] if datatype_of(array) == "BYTES" else to_bytes(array)
    reply = target.send("POST", f"{target.path}/infer", body, {HEADER: "0"})
    answer = read_answer(reply)
    for name in answer.outputs:
        expect(_is_binary(answer, name), f"{name!r} in binary", answer.document)
    target.check_same(answer.outputs)


def _binary_answer(target: Target) -> Answer:
    answer = target.infer(target.document(parameters=_ALL))
    expect(HEADER in answer.reply.headers, f"the header {HEADER}", dict(answer.reply.headers))
    target.check_same(answer.outputs)
    return answer


def _is_binary(answer: Answer, name: str) -> bool:
    return "binary_data_size" in (answer.entry(name).get("parameters") or {})
