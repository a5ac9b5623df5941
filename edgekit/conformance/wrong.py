"""Requests that break the protocol in one way each; a server has to refuse every one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from edgekit.conformance.clause import Clause, Level, NotApplicable, expect
from edgekit.conformance.target import HEADER, UNKNOWN, Reply, Target
from edgekit.conformance.tensors import datatype_of, json_tensor

__all__ = ["WRONG_BINARY", "WRONG_JSON", "Wrong", "refusal"]

#: Deep enough to overflow the stack of a parser that recurses.
_DEPTH = 100_000

#: What a small compressed body of spaces grows to.
_BOMB = 200 * 2**20


@dataclass(frozen=True, slots=True)
class Wrong:
    """One way to be wrong.

    Attributes:
        id: last part of the clause's id.
        what: what is wrong, as the end of "It refuses ...".
        send: sends it; raises :class:`NotApplicable` where this model has no such request.
        level: how binding the refusal is.
    """

    id: str
    what: str
    send: Callable[[Target], Reply]
    level: Level = "must"


def refusal(wrong: Wrong, area: str, extension: str | None = None) -> Clause:
    """The clause that a server refuses that request."""

    def check(target: Target) -> None:
        reply = reply_to(target, wrong)
        expect(reply.status >= 400, "an HTTP error status", reply)

    requires = f"It refuses {wrong.what}"
    return Clause(f"{area}/refuses-{wrong.id}", wrong.level, requires, check, extension)


def reply_to(target: Target, wrong: Wrong) -> Reply:
    """What the server answers; the request is sent once however often this is called."""
    return target.remembered(wrong.id, lambda: wrong.send(target))


def _sent(edit: Callable[[dict[str, Any], Target], None]) -> Callable[[Target], Reply]:
    """Send the plain request after ``edit`` has changed it."""

    def send(target: Target) -> Reply:
        document = target.document()
        edit(document, target)
        return target.post(f"{target.path}/infer", document)

    return send


def _input(**changes: Any) -> Callable[[Target], Reply]:
    return _sent(lambda document, _: document["inputs"][0].update(changes))


def _without(key: str) -> Callable[[Target], Reply]:
    return _sent(lambda document, _: document["inputs"][0].pop(key))


def _document(**changes: Any) -> Callable[[Target], Reply]:
    return _sent(lambda document, _: document.update(changes))


def _raw(body: bytes, **headers: str) -> Callable[[Target], Reply]:
    named = {"Content-Type": "application/json"}
    named.update({key.replace("_", "-"): value for key, value in headers.items()})
    return lambda target: target.send("POST", f"{target.path}/infer", body, named)


def _shape(change: Callable[[list[int]], list[int]]) -> Callable[[Target], Reply]:
    """Another shape, with as many elements as it needs."""

    def edit(document: dict[str, Any], _: Target) -> None:
        entry = document["inputs"][0]
        entry["shape"] = change(entry["shape"])
        entry["data"] = np.resize(entry["data"], np.prod(entry["shape"], dtype=int)).tolist()

    return _sent(edit)


def _data(change: Callable[[list[Any]], list[Any]]) -> Callable[[Target], Reply]:
    def edit(document: dict[str, Any], _: Target) -> None:
        entry = document["inputs"][0]
        entry["data"] = change(entry["data"])

    return _sent(edit)


def _text_for_number(target: Target) -> Reply:
    if not _numeric(target):
        raise NotApplicable("the first input is not numeric")
    return _data(lambda data: ["not a number", *data[1:]])(target)


def _out_of_range(target: Target) -> Reply:
    if not _numeric(target) or "INT" not in datatype_of(next(iter(target.feeds.values()))):
        raise NotApplicable("the first input is not of whole numbers")
    return _data(lambda data: [2**70, *data[1:]])(target)


def _numeric(target: Target) -> bool:
    return datatype_of(next(iter(target.feeds.values()))) not in {"BYTES", "BOOL"}


def _fixed_dimension(target: Target) -> Reply:
    name = next(iter(target.feeds))
    (declared,) = (e["shape"] for e in target.metadata["inputs"] if e["name"] == name)
    if all(dim == -1 for dim in declared):
        raise NotApplicable("every dimension of the first input is dynamic")
    at = max(axis for axis, dim in enumerate(declared) if dim != -1)
    return _shape(lambda shape: [*shape[:at], shape[at] + 1, *shape[at + 1 :]])(target)


def _other_datatype(target: Target) -> Reply:
    if not _numeric(target):
        raise NotApplicable("the first input is not numeric")
    own = datatype_of(next(iter(target.feeds.values())))
    return _sent(
        lambda document, _: document["inputs"][0].update(
            datatype="INT16" if own != "INT16" else "INT32",
            data=[0] * len(document["inputs"][0]["data"]),
        )
    )(target)


def _missing_input(target: Target) -> Reply:
    if len(target.feeds) < 2:
        raise NotApplicable("the model has one input")
    return _sent(lambda document, _: document["inputs"].pop())(target)


def _extra_input(document: dict[str, Any], _: Target) -> None:
    document["inputs"].append(json_tensor(UNKNOWN, np.zeros((1, 1), np.float32)))


def _twice(document: dict[str, Any], target: Target) -> None:
    document["outputs"] = [{"name": target.outputs[0]}] * 2


def _unknown_model(target: Target) -> Reply:
    return target.post(f"/v2/models/{UNKNOWN}/infer", target.document())


def _unknown_version(target: Target) -> Reply:
    unknown = max(target.versions) + "987654321"
    return target.post(f"{target.path}/versions/{unknown}/infer", target.document())


@cache
def _compressed_spaces() -> bytes:
    return gzip.compress(b" " * _BOMB, 1)


def _bomb(target: Target) -> Reply:
    return _raw(_compressed_spaces(), Content_Encoding="gzip")(target)


#: What is wrong with a request in JSON.
WRONG_JSON = (
    Wrong("malformed-json", "a body that is not JSON", _raw(b'{"inputs": [')),
    Wrong("empty-body", "an empty body", _raw(b"")),
    Wrong("list-body", "a body that is JSON but no object", _raw(b"[]")),
    Wrong(
        "deep-json",
        "JSON nested 100,000 deep",
        _raw(b'{"inputs":[{"data":' + b"[" * _DEPTH + b"]" * _DEPTH + b"}]}"),
    ),
    Wrong("no-inputs", "a request without 'inputs'", _sent(lambda d, _: d.pop("inputs"))),
    Wrong("empty-inputs", "an empty list of inputs", _document(inputs=[])),
    Wrong("input-without-name", "an input without a name", _without("name")),
    Wrong("input-without-shape", "an input without a shape", _without("shape")),
    Wrong("input-without-datatype", "an input without a datatype", _without("datatype")),
    Wrong("input-without-data", "an input without data", _without("data")),
    Wrong("unknown-input", "an input that the model has not", _input(name=UNKNOWN)),
    Wrong("missing-input", "a request that lacks one of the model's inputs", _missing_input),
    Wrong("extra-input", "one input more than the model has", _sent(_extra_input), "should"),
    Wrong(
        "duplicate-input",
        "the same input twice",
        _sent(lambda d, _: d["inputs"].append(d["inputs"][0])),
        "should",
    ),
    Wrong("unknown-datatype", "a datatype that does not exist", _input(datatype="FP8")),
    Wrong("other-datatype", "another datatype than the model's", _other_datatype, "should"),
    Wrong("negative-dimension", "a negative dimension", _input(shape=[-1, 1])),
    Wrong("fractional-dimension", "a dimension with a fraction", _input(shape=[1.5])),
    Wrong("huge-dimension", "a dimension of 2^64, which no uint64 holds", _input(shape=[2**64])),
    Wrong("overflowing-shape", "a shape of 2^80 elements", _input(shape=[2**40, 2**40])),
    Wrong("wrong-rank", "one dimension more than the model has", _shape(lambda s: [1, *s])),
    Wrong("wrong-dimension", "another size of a fixed dimension", _fixed_dimension),
    Wrong("too-little-data", "fewer elements than the shape has", _data(lambda d: d[:-1])),
    Wrong("too-much-data", "more elements than the shape has", _data(lambda d: [*d, d[0]])),
    Wrong("text-for-number", "a text where a number belongs", _text_for_number),
    Wrong("out-of-range", "a number that the datatype cannot hold", _out_of_range),
    Wrong("nan-token", "NaN, which JSON does not have", _raw(b'{"inputs": NaN}'), "should"),
    Wrong("number-as-id", "an id that is no string", _document(id=42), "should"),
    Wrong(
        "structured-parameter",
        "a parameter that is no string, number or boolean",
        _document(parameters={"edgekit": {"nested": 1}}),
        "should",
    ),
    Wrong(
        "unknown-output",
        "an output that the model has not",
        _document(outputs=[{"name": UNKNOWN}]),
    ),
    Wrong("duplicate-output", "the same output asked for twice", _sent(_twice), "should"),
    Wrong("unknown-model", "a model that it has not", _unknown_model),
    Wrong("unknown-version", "a version that the model has not", _unknown_version),
    Wrong(
        "unknown-encoding",
        "a Content-Encoding that it does not know",
        _raw(b"{}", Content_Encoding="edgekit"),
        "should",
    ),
    Wrong("compression-bomb", "0.2 MB of gzip that hold 200 MB", _bomb, "should"),
)  # fmt: skip


def _header(value: str) -> Callable[[Target], Reply]:
    return lambda target: target.post_binary(*target.binary(), header=value)


def _too_long_header(target: Target) -> Reply:
    document, data = target.binary()
    total = len(json.dumps(document)) + len(data)
    return target.post_binary(document, data, header=str(total + 1))


def _tail(change: Callable[[bytes], bytes]) -> Callable[[Target], Reply]:
    def send(target: Target) -> Reply:
        document, data = target.binary()
        return target.post_binary(document, change(data))

    return send


def _size(change: Callable[[int], Any]) -> Callable[[Target], Reply]:
    """Another binary_data_size, and as much data where that can be."""

    def send(target: Target) -> Reply:
        document, data = target.binary()
        last = document["inputs"][-1]["parameters"]
        before, size = len(data) - last["binary_data_size"], change(last["binary_data_size"])
        last["binary_data_size"] = size
        if isinstance(size, int) and 0 <= size < 2**20:
            data = data[:before] + data[before:].ljust(size, b"\0")[:size]
        return target.post_binary(document, data)

    return send


def _both(target: Target) -> Reply:
    document, data = target.binary()
    plain = target.document()
    document["inputs"][0]["data"] = plain["inputs"][0]["data"]
    return target.post_binary(document, data)


def _overflow(target: Target) -> Reply:
    document, data = target.binary()
    document["inputs"][0]["shape"] = [2**62, 4]
    return target.post_binary(document, data)


def _long_prefix(target: Target) -> Reply:
    if datatype_of(list(target.feeds.values())[-1]) != "BYTES":
        raise NotApplicable("the last input is not BYTES")
    document, data = target.binary()
    start = len(data) - document["inputs"][-1]["parameters"]["binary_data_size"]
    return target.post_binary(document, data[:start] + b"\xff" * 4 + data[start + 4 :])


def _flag(target: Target) -> Reply:
    document, data = target.binary(parameters={"binary_data_output": "yes"})
    return target.post_binary(document, data)


def _raw_size(target: Target) -> Reply:
    if len(target.feeds) != 1 or datatype_of(next(iter(target.feeds.values()))) == "BYTES":
        raise NotApplicable("the model has more than one input, or takes BYTES")
    return target.send(
        "POST", f"{target.path}/infer", b"\0" * 3 + target.binary()[1], {HEADER: "0"}
    )


#: What is wrong with a request with binary tensors.
WRONG_BINARY = (
    Wrong("text-header", f"a {HEADER} that is no number", _header("ten"), "extension"),
    Wrong("negative-header", f"a negative {HEADER}", _header("-1"), "extension"),
    Wrong("huge-header", f"a {HEADER} of 2^70", _header(str(2**70)), "extension"),
    Wrong("long-header", f"a {HEADER} beyond the body", _too_long_header, "extension"),
    Wrong("short-tail", "less data than the sizes add up to", _tail(lambda d: d[:-1]), "extension"),
    Wrong("long-tail", "data behind the last tensor", _tail(lambda d: d + b"\0"), "extension"),
    Wrong("small-size", "a size smaller than the shape's", _size(lambda s: s - 1), "extension"),
    Wrong("large-size", "a size larger than the shape's", _size(lambda s: s + 1), "extension"),
    Wrong("negative-size", "a negative size", _size(lambda s: -s), "extension"),
    Wrong("text-size", "a size that is no number", _size(str), "extension"),
    Wrong("data-and-size", "an input with both data and a size", _both, "extension"),
    Wrong("overflowing-size", "a shape whose elements overflow 64 bits", _overflow, "extension"),
    Wrong("long-prefix", "a BYTES element that ends behind the body", _long_prefix, "extension"),
    Wrong("raw-size", "a raw body that does not fill the input", _raw_size, "extension"),
    Wrong("text-flag", "binary_data_output that is no boolean", _flag, "should"),
)  # fmt: skip
