"""Open Inference Protocol v2 over HTTP: bytes to tensors and back. No server in here.

Specifications: the protocol's ``inference_rest.md``, and for binary tensors the extension
``binary_tensor_data`` as Triton defines it. Where they leave a choice open: a JSON element of the
wrong type is an error and never converted, and a NaN or infinity, which JSON cannot carry, is an
error that points to the binary extension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson

from edgekit.serve import datatypes
from edgekit.serve.datatypes import DATATYPES
from edgekit.serve.errors import ServeError
from edgekit.serve.wanted import InferRequest, RequestedOutput, wanted
from edgekit.spec import Array, Outputs, TensorSpec, is_float

__all__ = [
    "HEADER_LENGTH",
    "describe",
    "encode_response",
    "json_data",
    "parse_request",
    "with_parameters",
]

#: The header that splits a body into its JSON part and the binary tensors behind it.
HEADER_LENGTH = "Inference-Header-Content-Length"

#: What JSON element types each kind of dtype takes.
_NUMBERS: set[type] = {int, float}
_ELEMENTS: dict[str, set[type]] = {
    "b": {bool},
    "i": {int},
    "u": {int},
    "f": _NUMBERS,
    "V": _NUMBERS,  # numpy's kind of bfloat16
    "O": {str},
}


def parse_request(
    body: bytes, header_length: str | None, inputs: Sequence[TensorSpec]
) -> InferRequest:
    """Parse the body of ``POST .../infer``.

    Args:
        body: the whole body.
        header_length: value of the header :data:`HEADER_LENGTH`, None when it is absent. ``0``
            means that the whole body is the one tensor of a model with one input.
        inputs: the model's inputs (used for a raw body only; the caller checks the feeds).

    Raises:
        ServeError: the body breaks the protocol, with a message that says where.
    """
    length = _json_length(header_length, len(body))
    if header_length is not None and length == 0:
        return InferRequest(None, _raw_input(body, inputs), (), binary=True)
    document = _load(body[:length])
    tail = _Tail(body[length:])
    listed = _list(document, "inputs", required=True)
    tensors: dict[str, Array] = {}
    for index, item in enumerate(listed):
        name, tensor = _input(item, f"inputs[{index}]", tail)
        if name in tensors:
            raise ServeError(f"input {name!r} is given twice")
        tensors[name] = tensor
    tail.finish()
    parameters = _parameters(document, "request")
    binary = _flag(parameters, "binary_data_output", default=False)
    return InferRequest(
        _id(document),
        tensors,
        _requested(document, binary=binary),
        binary,
        _whole(parameters, "priority"),
        _whole(parameters, "timeout") / 1e6 or None,
        _flag(parameters, "profile", default=False),
    )


def encode_response(
    model: str,
    version: str,
    request: InferRequest,
    outputs: Outputs,
    labels: Sequence[str] = (),
) -> tuple[bytes, int | None]:
    """The body of the response, and the length of its JSON part when tensors follow it.

    Args:
        model: its name.
        version: its version.
        request: that is answered.
        outputs: all of the model's.
        labels: of the classes.

    Raises:
        ServeError: an unknown output was asked for, or a value does not fit into JSON.
    """
    described: list[dict[str, Any]] = []
    tail: list[bytes | memoryview] = []
    for output, array in wanted(request, outputs, labels):
        entry = _described(output.name, array)
        if output.binary:
            data = datatypes.to_bytes(array)
            tail.append(data)
            entry["parameters"] = {"binary_data_size": len(data)}
        else:
            entry["data"] = json_data(output.name, array)
        described.append(entry)
    head: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id is not None:
        head["id"] = request.id
    encoded = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([encoded, *tail]), len(encoded) if tail else None


def with_parameters(
    body: bytes, length: int | None, parameters: Mapping[str, int]
) -> tuple[bytes, int | None]:
    """An encoded response with ``parameters`` added to it, and the length of its JSON part.

    What encoding took can be told only when it is done.
    """
    end = len(body) if length is None else length
    added = b',"parameters":' + orjson.dumps(parameters) + b"}"
    return body[: end - 1] + added + body[end:], None if length is None else end - 1 + len(added)


def describe(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """Metadata of inputs or outputs; a dynamic dimension is -1."""
    return [
        {
            "name": spec.name,
            "datatype": DATATYPES[spec.dtype],
            "shape": [-1 if isinstance(dim, str) else dim for dim in spec.shape],
        }
        for spec in specs
    ]


class _Tail:
    """The binary tensors behind the JSON part, taken in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._taken = 0

    def take(self, size: int, where: str) -> bytes:
        left = len(self._data) - self._taken
        if size > left:
            raise ServeError(f"{where}: binary_data_size is {size}, the body has {left} left")
        self._taken += size
        return self._data[self._taken - size : self._taken]

    def finish(self) -> None:
        left = len(self._data) - self._taken
        if left:
            raise ServeError(
                f"unexpected additional input data: {left} bytes behind the last tensor"
            )


def _json_length(header: str | None, total: int) -> int:
    if header is None:
        return total
    if not header.isascii() or not header.isdigit() or len(header) > 18:
        raise ServeError(f"{HEADER_LENGTH} must be a whole number, it is {header[:40]!r}")
    if int(header) > total:
        raise ServeError(f"{HEADER_LENGTH} is {header}, the whole body has {total} bytes")
    return int(header)


def _load(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServeError(f"the body is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ServeError("the body must be a JSON object with 'inputs'")
    return document


def _input(item: Any, where: str, tail: _Tail) -> tuple[str, Array]:
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name:
        raise ServeError(f"{where} must be an object with a 'name'")
    where = f"input {name!r}"
    dtype, shape = _dtype(item, where), _shape(item, where)
    size = _parameters(item, where).get("binary_data_size")
    if size is None:
        return name, _from_json(item, where, dtype, shape)
    if "data" in item:
        raise ServeError(f"{where} has both 'data' and binary_data_size: give one of them")
    expected = size if dtype.kind == "O" else math.prod(shape) * dtype.itemsize
    if type(size) is not int or size < 0 or size != expected:
        raise ServeError(
            f"{where}: binary_data_size is {size!r}, shape {shape} of {item['datatype']} "
            f"has {expected} bytes"
        )
    try:
        return name, datatypes.from_bytes(tail.take(size, where), dtype, shape)
    except ValueError as error:
        raise ServeError(f"{where}: {error}") from error


def _dtype(item: dict[str, Any], where: str) -> np.dtype[Any]:
    try:
        return datatypes.dtype(item.get("datatype"))
    except ValueError as error:
        raise ServeError(f"{where}: {error}") from error


def _shape(item: dict[str, Any], where: str) -> list[int]:
    shape = item.get("shape")
    good = isinstance(shape, list) and all(type(d) is int and 0 <= d < 2**63 for d in shape)
    if not good or not isinstance(shape, list):
        raise ServeError(f"{where}: shape must be a list of sizes, it is {str(shape)[:80]}")
    return shape


def _from_json(item: dict[str, Any], where: str, dtype: np.dtype[Any], shape: list[int]) -> Array:
    if not isinstance(item.get("data"), list):
        raise ServeError(f"{where} has no 'data': give a list, nested or flat in row-major order")
    flat: list[Any] = item["data"]
    while flat and isinstance(flat[0], list):
        if not all(isinstance(row, list) for row in flat):
            raise ServeError(f"{where}: data mixes numbers and lists")
        flat = list(chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise ServeError(
            f"{where}: data has {len(flat)} elements, shape {shape} needs {math.prod(shape)}"
        )
    wrong = set(map(type, flat)) - _ELEMENTS[dtype.kind]
    if wrong:
        kind = wrong.pop().__name__
        raise ServeError(f"{where}: an element is of type {kind}, not {item['datatype']}")
    try:
        if dtype.kind == "O":
            flat = [item.encode() for item in flat]
        tensor: Array = np.array(flat, dtype=dtype).reshape(shape)
    except OverflowError as error:
        raise ServeError(f"{where}: an element is out of range of {item['datatype']}") from error
    except ValueError as error:
        raise ServeError(f"{where}: {error}") from error
    return tensor


def _raw_input(body: bytes, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    if len(inputs) != 1:
        raise ServeError(f"a raw body needs a model with one input, this has {len(inputs)}")
    spec = inputs[0]
    sizes = [1 if axis == 0 and isinstance(d, str) else d for axis, d in enumerate(spec.shape)]
    dynamic = [axis for axis, size in enumerate(sizes) if isinstance(size, str)]
    if len(dynamic) > 1:
        raise ServeError("a raw body needs a model with at most one dynamic dimension")
    dtype = np.dtype(spec.dtype)
    known = math.prod(size for size in sizes if isinstance(size, int)) * dtype.itemsize
    if dynamic:
        sizes[dynamic[0]] = len(body) // known if known else 0
    shape = [size for size in sizes if isinstance(size, int)]
    expected = math.prod(shape) * dtype.itemsize
    if expected != len(body):
        raise ServeError(f"a raw body of {len(body)} bytes does not fill shape {shape}")
    try:
        return {spec.name: datatypes.from_bytes(body, dtype, shape)}
    except ValueError as error:
        raise ServeError(f"a raw body: {error}") from error


def _requested(document: dict[str, Any], *, binary: bool) -> tuple[RequestedOutput, ...]:
    found: list[RequestedOutput] = []
    for index, item in enumerate(_list(document, "outputs", required=False)):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            raise ServeError(f"outputs[{index}] must be an object with a 'name'")
        if any(name == output.name for output in found):
            raise ServeError(f"output {name!r} is asked for twice")
        parameters = _parameters(item, f"output {name!r}")
        as_binary = _flag(parameters, "binary_data", default=binary)
        found.append(RequestedOutput(name, as_binary, _whole(parameters, "classification")))
    return tuple(found)


def _list(document: dict[str, Any], key: str, *, required: bool) -> list[Any]:
    value = document.get(key, None if required else [])
    if not isinstance(value, list) or (required and not value):
        raise ServeError(f"'{key}' must be a list{' with an entry' if required else ''}")
    return value


def _parameters(item: dict[str, Any], where: str) -> dict[str, Any]:
    value = item.get("parameters", {})
    if not isinstance(value, dict):
        raise ServeError(f"{where}: parameters must be an object")
    for key, entry in value.items():
        if not isinstance(entry, str | bool | int | float):
            raise ServeError(f"{where}: parameter {key!r} must be a string, number or boolean")
    return value


def _flag(parameters: dict[str, Any], key: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise ServeError(f"parameter {key!r} must be true or false")
    return value


def _whole(parameters: dict[str, Any], key: str) -> int:
    value = parameters.get(key, 0)
    if type(value) is not int or value < 0:
        raise ServeError(f"parameter {key!r} must be a whole number, it is {str(value)[:40]!r}")
    return value


def _id(document: dict[str, Any]) -> str | None:
    value = document.get("id")
    if value is not None and not isinstance(value, str):
        raise ServeError("'id' must be a string")
    return value


def _described(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "datatype": datatypes.datatype(array), "shape": list(array.shape)}


def json_data(name: str, array: Array) -> Any:
    """The elements of an output in row-major order, for orjson.

    Raises:
        ServeError: a value does not fit into JSON.
    """
    if is_float(array.dtype) and not np.isfinite(array).all():
        raise ServeError(
            f"output {name!r} has NaN or infinite values, which JSON cannot carry: "
            "ask for it with binary_data"
        )
    if array.dtype.kind == "O":
        return [item.decode("utf-8", "backslashreplace") for item in array.flat]
    return datatypes.for_json(array)
