"""The server's gRPC side: calls, messages from tensors and tensors from messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np

from edgekit.conformance.clause import NotApplicable, Unmet, expect
from edgekit.conformance.target import Target
from edgekit.conformance.tensors import DATATYPES, Array, datatype_of, read_binary, to_bytes
from edgekit.serve.proto import METHODS, messages

__all__ = ["call", "read_response", "refused", "request", "stream"]

#: The field of ``InferTensorContents`` for each datatype; FP16 and BF16 have none.
_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

#: Seconds until a call counts as unanswered.
_TIMEOUT = 60


def call(target: Target, method: str, message: Any = None, **options: Any) -> Any:
    """Call a unary method.

    Raises:
        NotApplicable: no gRPC address is known.
        Unmet: the status is not OK.
    """
    try:
        return _invoke(target, method, message, **options)
    except grpc.RpcError as error:
        raise Unmet("status OK", f"{error.code().name} {error.details()}") from error


def refused(target: Target, method: str, message: Any) -> grpc.StatusCode:
    """The status of a call that must fail.

    Raises:
        Unmet: it succeeds.
    """
    try:
        answer = _invoke(target, method, message)
    except grpc.RpcError as error:
        status: grpc.StatusCode = error.code()
        return status
    raise Unmet("another status than OK", answer)


def stream(target: Target, requests: list[Any]) -> list[Any]:
    """All answers of one ``ModelStreamInfer``.

    Raises:
        NotApplicable: the server does not implement it.
        Unmet: the stream fails.
    """
    method = METHODS["ModelStreamInfer"]
    with _channel(target) as channel:
        streamed = channel.stream_stream(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        try:
            return list(streamed(iter(requests), timeout=_TIMEOUT, metadata=_metadata(target)))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise NotApplicable("the server does not implement ModelStreamInfer") from error
            raise Unmet("status OK", f"{error.code().name} {error.details()}") from error


def request(target: Target, *, raw: bool = True, **fields: Any) -> Any:
    """A valid ``ModelInferRequest`` with the model's feeds, raw or typed.

    Raises:
        NotApplicable: a feed's datatype has no typed form.
    """
    message = messages.ModelInferRequest(model_name=target.model, **fields)
    for name, array in target.feeds.items():
        datatype = datatype_of(array)
        entry = message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            message.raw_input_contents.append(to_bytes(array))
        elif datatype in _FIELDS:
            getattr(entry.contents, _FIELDS[datatype]).extend(array.ravel().tolist())
        else:
            raise NotApplicable(f"{datatype} has no typed form")
    return message


def read_response(message: Any) -> dict[str, Array]:
    """The outputs of a ``ModelInferResponse``.

    Raises:
        Unmet: shapes, datatypes and contents do not fit together.
    """
    raw = list(message.raw_output_contents)
    if raw:
        expect(len(raw) == len(message.outputs), f"{len(message.outputs)} raw outputs", len(raw))
    outputs = {}
    for index, entry in enumerate(message.outputs):
        if raw:
            expect(not entry.contents.ByteSize(), "raw or typed contents, not both", entry.name)
            declared = {"datatype": entry.datatype, "shape": list(entry.shape)}
            outputs[entry.name] = read_binary(declared, raw[index])
        else:
            outputs[entry.name] = _typed(entry)
    return outputs


def _typed(entry: Any) -> Array:
    expect(entry.datatype in _FIELDS, "a datatype with a typed form", entry.datatype)
    values = list(getattr(entry.contents, _FIELDS[entry.datatype]))
    try:
        return np.array(values, DATATYPES[entry.datatype]).reshape(list(entry.shape))
    except (ValueError, OverflowError) as error:
        raise Unmet(f"contents of shape {list(entry.shape)}", error) from error


def _invoke(target: Target, name: str, message: Any, **options: Any) -> Any:
    method = METHODS[name]
    with _channel(target) as channel:
        unary = channel.unary_unary(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        sent = message if message is not None else method.request()
        return unary(sent, timeout=_TIMEOUT, metadata=_metadata(target), **options)


def _channel(target: Target) -> Any:
    if target.grpc is None:
        raise NotApplicable("no gRPC address was given: say it with --grpc HOST:PORT")
    return grpc.insecure_channel(target.grpc, [("grpc.max_receive_message_length", -1)])


def _metadata(target: Target) -> list[tuple[str, str]]:
    headers: Mapping[str, str] = target.headers
    return [(name.lower(), value) for name, value in headers.items()]
