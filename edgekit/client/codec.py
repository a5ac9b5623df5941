"""Tensors to the body of a request, and the body of an answer to tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from edgekit.client.errors import ClientError
from edgekit.serve import datatypes
from edgekit.serve.datatypes import BYTES
from edgekit.serve.protocol import HEADER_LENGTH
from edgekit.spec import Array, is_float

__all__ = ["Buffer", "Encoded", "decode", "encode"]

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Encoded:
    """A body and the headers that describe it.

    Attributes:
        headers: of the request.
        parts: the body; tensors are views of the caller's arrays.
    """

    headers: dict[str, str]
    parts: tuple[Buffer, ...]


def encode(
    inputs: Mapping[str, Any],
    *,
    binary: bool,
    outputs: Iterable[str] | None,
    id: str | None,  # noqa: A002, the protocol's name
    parameters: Mapping[str, str | bool | float] | None,
    where: str,
) -> Encoded:
    """The body of an inference request.

    Args:
        inputs: arrays, or whatever numpy makes one of, by name. Strings, ``bytes`` and object
            arrays of them are BYTES.
        binary: tensors as bytes behind the JSON part, both ways; else all in JSON.
        outputs: those wanted; None for all.
        id: the server says it back.
        parameters: of the request.
        where: the URL, for errors.

    Raises:
        ClientError: a dtype that the protocol does not have, or a value that JSON cannot carry.
    """
    tail: list[Buffer] = []
    described = []
    for name, value in inputs.items():
        place = f"{where}, input {name!r}"
        array = _array(value, place)
        entry: dict[str, Any] = {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatypes.datatype(array),
        }
        if binary:
            data = datatypes.to_bytes(array)
            tail.append(data)
            entry["parameters"] = {"binary_data_size": len(data)}
        else:
            entry["data"] = _to_json(array, place)
        described.append(entry)
    document: dict[str, Any] = {"inputs": described}
    if id is not None:
        document["id"] = id
    if outputs is not None:
        # Triton takes the request's binary_data_output for those outputs only that are not listed.
        how: dict[str, Any] = {"parameters": {"binary_data": True}} if binary else {}
        document["outputs"] = [{"name": name, **how} for name in outputs]
    if parameters or binary:
        document["parameters"] = dict(parameters or {}) | (
            {"binary_data_output": True} if binary else {}
        )
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return Encoded({"Content-Type": "application/json"}, (head,))
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return Encoded(headers, (head, *tail))


def decode(headers: Mapping[str, str], body: bytes, where: str) -> dict[str, Array]:
    """The outputs in an answer, arrays of their own that may be written to.

    Raises:
        ClientError: it breaks the protocol.
    """
    length = headers.get(HEADER_LENGTH)
    try:
        split = len(body) if length is None else int(length)
        document = orjson.loads(memoryview(body)[:split])
        tail = memoryview(body)[split:]
        outputs: dict[str, Array] = {}
        for entry in document["outputs"]:
            size = entry.get("parameters", {}).get("binary_data_size")
            if size is None:
                outputs[entry["name"]] = _from_json(entry)
                continue
            kind = datatypes.dtype(entry["datatype"])
            array = datatypes.from_bytes(tail[:size], kind, entry["shape"])
            outputs[entry["name"]] = array.copy()  # out of the body: aligned, writable, its own
            tail = tail[size:]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        what = f"the answer breaks the protocol: {type(error).__name__}: {error}"
        raise ClientError(
            what, where=where, status=200, fix="Report it to the server's makers"
        ) from error
    return outputs


def _array(value: Any, where: str) -> Array:
    try:
        array: Array = np.asarray(value)
    except ValueError as error:
        raise ClientError(
            f"is no array: {error}", where=where, fix="Give rows of one length"
        ) from error
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.dtype.name not in datatypes.DATATYPES:
        raise ClientError(
            f"the protocol has no datatype for {array.dtype}",
            where=where,
            fix=f"Convert it to one of {', '.join(datatypes.DATATYPES)}",
        )
    return array


def _to_json(array: Array, where: str) -> Any:
    fix = "Leave out binary=False"
    if array.dtype.kind == "O":
        try:
            return [item.decode() if isinstance(item, bytes) else str(item) for item in array.flat]
        except UnicodeDecodeError as error:
            what = "JSON carries text only, not any bytes"
            raise ClientError(what, where=where, fix=fix) from error
    if is_float(array.dtype.newbyteorder("=")) and not np.isfinite(array).all():
        raise ClientError("JSON has no NaN and no infinity", where=where, fix=fix)
    return datatypes.for_json(array)


def _from_json(entry: Mapping[str, Any]) -> Array:
    data = entry["data"]
    if entry["datatype"] != BYTES:
        kind = datatypes.dtype(entry["datatype"])
        return np.array(data, kind).reshape(entry["shape"])
    array = np.empty(math.prod(entry["shape"]), object)
    array[:] = [item.encode() for item in np.array(data, object).flat]
    return array.reshape(entry["shape"])
