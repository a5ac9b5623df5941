"""The codec alone: right messages survive, wrong ones are refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import InferInput, service_pb2
from tritonclient.utils import deserialize_bytes_tensor

from edgekit.serve import datatypes
from edgekit.serve.errors import ServeError
from edgekit.serve.grpc_codec import encode_message, parse_message
from edgekit.serve.proto import messages
from edgekit.serve.wanted import InferRequest, RequestedOutput
from tests.serve.test_protocol import tensors

ALL = InferRequest(None, {}, (), binary=True)
FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def _same(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@given(st.lists(tensors, min_size=1, max_size=3))
def test_raw_tensors_arrive_as_they_were(arrays: list[np.ndarray]) -> None:
    message = messages.ModelInferRequest()
    for index, array in enumerate(arrays):
        datatype = datatypes.datatype(array)
        message.inputs.add(name=f"x{index}", datatype=datatype, shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    parsed = parse_message(message)
    for index, array in enumerate(arrays):
        _same(parsed.inputs[f"x{index}"], array)


@given(tensors.filter(lambda array: datatypes.datatype(array) in FIELDS))
def test_typed_tensors_arrive_as_they_were(array: np.ndarray) -> None:
    datatype = datatypes.datatype(array)
    message = messages.ModelInferRequest()
    entry = message.inputs.add(name="x", datatype=datatype, shape=array.shape)
    getattr(entry.contents, FIELDS[datatype]).extend(array.ravel().tolist())
    _same(parse_message(message).inputs["x"], array)


@given(tensors)
def test_a_response_carries_the_outputs_exactly(array: np.ndarray) -> None:
    response = encode_message("m", "1", ALL, {"y": array})
    (output,), (raw,) = response.outputs, response.raw_output_contents
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "")
    dtype = datatypes.dtype(output.datatype)
    _same(datatypes.from_bytes(raw, dtype, list(output.shape)), array)


@pytest.mark.parametrize("raw", [True, False])
def test_bytes_travel_both_ways_as_tritonclient_has_them(raw: bool) -> None:
    texts = np.array([[b"a", "é".encode()], [b"", b"\xff\x00"]], object)
    message = messages.ModelInferRequest()
    entry = message.inputs.add(name="x", datatype="BYTES", shape=[2, 2])
    if raw:
        sent = InferInput("x", [2, 2], "BYTES")
        sent.set_data_from_numpy(texts)
        message.raw_input_contents.append(sent._get_content())
    else:
        entry.contents.bytes_contents.extend(texts.ravel().tolist())
    parsed = parse_message(message)
    assert parsed.inputs["x"].tolist() == texts.tolist()
    (told,) = encode_message("m", "1", ALL, parsed.inputs).raw_output_contents
    assert deserialize_bytes_tensor(told).tolist() == texts.ravel().tolist()


def test_only_the_wanted_outputs_are_sent_and_classes_where_they_are_wanted() -> None:
    outputs = {"a": np.zeros(2, np.float32), "b": np.array([[1.0, 5.0]], np.float32)}
    request = InferRequest("7", {}, (RequestedOutput("b", binary=True, classes=1),), binary=True)
    response = encode_message("m", "1", request, outputs, labels=("cat", "dog"))
    (output,), (raw,) = response.outputs, response.raw_output_contents
    assert (response.id, output.name, output.datatype) == ("7", "b", "BYTES")
    (text,) = deserialize_bytes_tensor(raw)
    assert text.decode().split(":")[1:] == ["1", "dog"]


def test_id_priority_timeout_and_classes_are_read() -> None:
    message = service_pb2.ModelInferRequest(id="a1")
    message.parameters["priority"].uint64_param = 2
    message.parameters["timeout"].int64_param = 1_500_000
    message.outputs.add(name="y").parameters["classification"].int64_param = 3
    message.inputs.add(name="x", datatype="FP32", shape=[0])
    parsed = parse_message(messages.ModelInferRequest.FromString(message.SerializeToString()))
    assert (parsed.id, parsed.priority, parsed.timeout) == ("a1", 2, 1.5)
    assert parsed.outputs == (RequestedOutput("y", binary=True, classes=3),)


def _valid() -> Any:
    message = messages.ModelInferRequest(raw_input_contents=[bytes(8)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    return message


def _typed(datatype: str, field: str, values: list[Any], shape: Sequence[int] = (2,)) -> Any:
    message = messages.ModelInferRequest()
    entry = message.inputs.add(name="x", datatype=datatype, shape=shape)
    getattr(entry.contents, field).extend(values)
    return message


def _edited(**changes: Any) -> Any:
    message = _valid()
    for name, value in changes.items():
        if name == "shape":
            message.inputs[0].shape[:] = value
        elif name == "raw":
            message.raw_input_contents[:] = value
        else:
            setattr(message.inputs[0], name, value)
    return message


def _twice(part: str) -> Any:
    message = _valid()
    if part == "inputs":
        message.inputs.append(message.inputs[0])
        message.raw_input_contents.append(message.raw_input_contents[0])
    else:
        for _ in range(2):
            message.outputs.add(name="y")
    return message


def _both() -> Any:
    message = _valid()
    message.inputs[0].contents.fp32_contents.append(1.0)
    return message


def _parameter(key: str, **value: Any) -> Any:
    message = _valid()
    ((kind, number),) = value.items()
    setattr(message.parameters[key], kind, number)
    return message


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (messages.ModelInferRequest(), "'inputs' must have an entry"),
        (_edited(raw=[bytes(8), b""]), "1 inputs have 2 raw_input_contents"),
        (_edited(raw=[bytes(7)]), "has 7 raw bytes, shape [1, 2] of FP32 has 8"),
        (_edited(shape=[-1, 2]), "shape must be a list of sizes"),
        (_edited(shape=[2**62, 2**62]), "has 8 raw bytes"),
        (_edited(datatype="FP8"), "'FP8' is not supported"),
        (_edited(datatype="BYTES", raw=[bytes(4)]), "cannot reshape"),
        (_edited(shape=[0, 2**62, 8], raw=[b""]), "input 'x'"),
        (_typed("FP32", "fp32_contents", [], [0, 2**62, 8]), "input 'x'"),
        (_edited(datatype="BYTES", raw=[b"\xff\xff\xff\xffab"]), "2 are left"),
        (_both(), "both contents and raw_input_contents"),
        (_twice("inputs"), "'x' is given twice"),
        (_twice("outputs"), "'y' is asked for twice"),
        (_typed("FP16", "fp32_contents", [1, 2]), "FP16 has no typed contents"),
        (_typed("BF16", "fp32_contents", [1, 2]), "BF16 has no typed contents"),
        (_typed("FP32", "int_contents", [1, 2]), "has int_contents, FP32 wants fp32_contents"),
        (_typed("FP32", "fp32_contents", [1]), "has 1 elements"),
        (_typed("INT8", "int_contents", [1, 128]), "out of range of INT8"),
        (_typed("UINT16", "uint_contents", [1, 2**16]), "out of range of UINT16"),
        (_parameter("priority", string_param="high"), "'priority' must be a whole number"),
        (_parameter("timeout", int64_param=-1), "'timeout' must be a whole number"),
    ],
)
def test_a_wrong_message_is_refused_with_the_reason(message: Any, told: str) -> None:
    with pytest.raises(ServeError) as caught:
        parse_message(message)
    assert told in str(caught.value)
    assert caught.value.status == 400


def test_an_unknown_output_is_refused() -> None:
    request = InferRequest(None, {}, (RequestedOutput("z", binary=True),), binary=True)
    with pytest.raises(ServeError, match="unknown output 'z', the model has y"):
        encode_message("m", "1", request, {"y": np.zeros(1)})
