"""Open Inference Protocol v2 over gRPC: messages to tensors and back. No server in here.

A request's tensors are raw or typed, never both. A response's are always raw, as Triton's: every
datatype has a raw form, and it needs no copy of each element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.serve import datatypes
from edgekit.serve.errors import ServeError
from edgekit.serve.proto import messages
from edgekit.serve.wanted import InferRequest, RequestedOutput, wanted
from edgekit.spec import Array, Outputs

__all__ = ["encode_message", "parse_message"]

#: The typed field of each datatype, and how it is held there. FP16 and BF16 have none.
_TYPED: Mapping[str, tuple[str, str]] = {
    "BOOL": ("bool_contents", "bool"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), ("int_contents", "int32")),
    "INT64": ("int64_contents", "int64"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), ("uint_contents", "uint32")),
    "UINT64": ("uint64_contents", "uint64"),
    "FP32": ("fp32_contents", "float32"),
    "FP64": ("fp64_contents", "float64"),
    "BYTES": ("bytes_contents", "object"),
}


def parse_message(message: Any) -> InferRequest:
    """The tensors and wishes in a ``ModelInferRequest``.

    Raises:
        ServeError: it breaks the protocol, with a message that says where.
    """
    if not message.inputs:
        raise ServeError("'inputs' must have an entry")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise ServeError(f"{len(message.inputs)} inputs have {len(raw)} raw_input_contents")
    inputs: dict[str, Array] = {}
    for index, entry in enumerate(message.inputs):
        if entry.name in inputs:
            raise ServeError(f"input {entry.name!r} is given twice")
        inputs[entry.name] = _tensor(entry, raw[index] if raw else None)
    timeout = _whole(message.parameters, "timeout")
    return InferRequest(
        id=message.id or None,
        inputs=inputs,
        outputs=_requested(message.outputs),
        binary=True,
        priority=_whole(message.parameters, "priority"),
        timeout=timeout / 1e6 or None,
    )


def encode_message(
    model: str,
    version: str,
    request: InferRequest,
    outputs: Outputs,
    labels: Sequence[str] = (),
) -> Any:
    """The ``ModelInferResponse``; see :func:`edgekit.serve.protocol.encode_response`.

    Raises:
        ServeError: an unknown output was asked for.
    """
    response = messages.ModelInferResponse(
        model_name=model, model_version=version, id=request.id or ""
    )
    for output, array in wanted(request, outputs, labels):
        response.outputs.add(
            name=output.name, datatype=datatypes.datatype(array), shape=array.shape
        )
        response.raw_output_contents.append(bytes(datatypes.to_bytes(array)))
    return response


def _tensor(entry: Any, raw: bytes | None) -> Array:
    where = f"input {entry.name!r}"
    shape = list(entry.shape)
    if any(size < 0 for size in shape):
        raise ServeError(f"{where}: shape must be a list of sizes, it is {shape}")
    try:
        dtype = datatypes.dtype(entry.datatype)
        if raw is None:
            return _typed(entry, where, dtype).reshape(shape)
        _check_raw(entry, where, dtype, raw)
        return datatypes.from_bytes(raw, dtype, shape)
    except ValueError as error:
        raise ServeError(f"{where}: {error}") from error


def _check_raw(entry: Any, where: str, dtype: np.dtype[Any], raw: bytes) -> None:
    if entry.contents.ByteSize():
        raise ServeError(f"{where} has both contents and raw_input_contents: give one of them")
    expected = math.prod(entry.shape) * dtype.itemsize
    if dtype.kind != "O" and len(raw) != expected:
        raise ServeError(
            f"{where} has {len(raw)} raw bytes, shape {list(entry.shape)} of {entry.datatype} "
            f"has {expected}"
        )


def _typed(entry: Any, where: str, dtype: np.dtype[Any]) -> Array:
    """The typed contents, flat."""
    if entry.datatype not in _TYPED:
        raise ServeError(f"{where}: {entry.datatype} has no typed contents, send it raw")
    field, held = _TYPED[entry.datatype]
    given = {descriptor.name for descriptor, _ in entry.contents.ListFields()}
    if given - {field}:
        raise ServeError(f"{where} has {', '.join(given)}, {entry.datatype} wants {field}")
    values = getattr(entry.contents, field)
    if len(values) != math.prod(entry.shape):
        raise ServeError(
            f"{where} has {len(values)} elements, shape {list(entry.shape)} needs "
            f"{math.prod(entry.shape)}"
        )
    stored = np.fromiter(values, dtype=held, count=len(values))
    tensor: Array = stored.astype(dtype)
    if dtype.kind in "iu" and (tensor != stored).any():
        raise ServeError(f"{where}: an element is out of range of {entry.datatype}")
    return tensor


def _requested(outputs: Any) -> tuple[RequestedOutput, ...]:
    found: dict[str, RequestedOutput] = {}
    for output in outputs:
        if output.name in found:
            raise ServeError(f"output {output.name!r} is asked for twice")
        classes = _whole(output.parameters, "classification")
        found[output.name] = RequestedOutput(output.name, binary=True, classes=classes)
    return tuple(found.values())


def _whole(parameters: Any, key: str) -> int:
    """A whole number among the parameters, 0 where it is not given."""
    if key not in parameters:
        return 0
    parameter = parameters[key]
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in {"int64_param", "uint64_param"} else -1
    if value < 0:
        raise ServeError(f"parameter {key!r} must be a whole number")
    return int(value)
