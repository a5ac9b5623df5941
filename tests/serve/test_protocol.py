"""The codec alone: right requests survive, wrong ones are refused with the reason."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgekit.serve.datatypes import DATATYPES
from edgekit.serve.errors import ServeError
from edgekit.serve.protocol import encode_response, parse_request
from edgekit.serve.wanted import InferRequest
from edgekit.spec import DTYPES, TensorSpec


def _tensors(dtype: str) -> st.SearchStrategy[np.ndarray]:
    """Any values of that type; hypothesis makes no bfloat16, the first half of float32."""
    made = "float32" if dtype == "bfloat16" else dtype
    limits = {"allow_nan": False, "allow_infinity": False}
    if dtype == "bfloat16":
        limits |= {"min_value": -(2.0**120), "max_value": 2.0**120}
    shape = array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
    found = arrays(made, shape, elements=limits if "float" in dtype else None)
    return found.map(lambda array: array.astype(dtype))


tensors = st.sampled_from(DTYPES).flatmap(_tensors)
ONE = [TensorSpec("x", "float32", ("batch", 2))]
ALL = InferRequest(None, {}, (), binary=False)


def _entry(name: str, array: np.ndarray, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": DATATYPES[array.dtype.name],
        **more,
    }


def _body(entry: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": [entry], **more}).encode()


def _same(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@given(tensors)
def test_json_nested_and_flat_give_the_same_tensor(array: np.ndarray) -> None:
    listed = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    for data in (listed.tolist(), listed.ravel().tolist()):
        parsed = parse_request(_body(_entry("x", array, data=data)), None, ONE)
        _same(parsed.inputs["x"], array)


@given(st.lists(tensors, min_size=1, max_size=3))
def test_binary_tensors_are_taken_in_order(given_arrays: list[np.ndarray]) -> None:
    entries = [
        _entry(f"x{i}", a, parameters={"binary_data_size": a.nbytes})
        for i, a in enumerate(given_arrays)
    ]
    head = json.dumps({"inputs": entries}).encode()
    body = head + b"".join(a.tobytes() for a in given_arrays)
    parsed = parse_request(body, str(len(head)), ONE)
    for index, array in enumerate(given_arrays):
        _same(parsed.inputs[f"x{index}"], array)


@given(tensors, st.booleans())
def test_a_response_carries_the_outputs_exactly(array: np.ndarray, binary: bool) -> None:
    request = InferRequest("7", {}, (), binary=binary)
    body, length = encode_response("m", "1", request, {"y": array})
    head = json.loads(body[:length])
    (output,) = head["outputs"]
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "1", "7")
    assert output["shape"] == list(array.shape)
    assert output["datatype"] == DATATYPES[array.dtype.name]
    if binary:
        assert length is not None
        assert output["parameters"]["binary_data_size"] == array.nbytes
        _same(np.frombuffer(body[length:], array.dtype).reshape(array.shape), array)
    else:
        assert length is None
        _same(np.array(output["data"], array.dtype).reshape(array.shape), array)


@given(st.binary(max_size=200), st.one_of(st.none(), st.text(max_size=8)))
def test_any_bytes_are_parsed_or_refused_but_never_crash(body: bytes, header: str | None) -> None:
    with contextlib.suppress(ServeError):
        assert parse_request(body, header, ONE).inputs


GOOD = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datatype": "FP8"}, "'FP8' is not supported"),
        ({"datatype": "BYTES"}, "of type float, not BYTES"),
        ({"datatype": None}, "datatype None"),
        ({"shape": [-1, 2]}, "shape must be a list of sizes"),
        ({"shape": [1.0, 2]}, "shape must be a list of sizes"),
        ({"shape": "1x2"}, "shape must be a list of sizes"),
        ({"shape": [2, 2]}, "has 2 elements, shape [2, 2] needs 4"),
        ({"shape": [2**62, 2**62]}, "needs"),
        ({"data": None}, "has no 'data'"),
        ({"data": ["a", "b"]}, "of type str"),
        ({"data": [True, 1.0]}, "of type bool"),
        ({"data": [1.0, None]}, "of type NoneType"),
        ({"data": [[1.0], 2.0]}, "mixes numbers and lists"),
        ({"datatype": "INT32"}, "of type float, not INT32"),
        ({"datatype": "UINT8", "data": [1, 256]}, "out of range of UINT8"),
        ({"datatype": "INT64", "data": [1, 2**63]}, "out of range of INT64"),
        ({"datatype": "BOOL", "data": [1, 0]}, "of type int, not BOOL"),
        ({"name": ""}, "with a 'name'"),
        ({"parameters": []}, "parameters must be an object"),
        ({"parameters": {"a": {}}}, "must be a string, number or boolean"),
        ({"parameters": {"binary_data_size": 8}}, "both 'data' and binary_data_size"),
    ],
)
def test_a_wrong_input_is_refused_with_the_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ServeError) as caught:
        parse_request(_body({**GOOD, **change}), None, ONE)
    assert message in str(caught.value)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "'inputs' must be a list"),
        (b'{"inputs": []}', "'inputs' must be a list with an entry"),
        (b'{"inputs": [3]}', "inputs[0] must be an object"),
        (b"[" * 100_000, "not valid JSON"),
        (_body({**GOOD, "data": [math.nan, 1]}), "not valid JSON"),
        (_body(GOOD, id=3), "'id' must be a string"),
        (_body(GOOD, outputs=[{"name": "y"}, {"name": "y"}]), "asked for twice"),
        (_body(GOOD, outputs=[{}]), "outputs[0]"),
        (_body(GOOD, parameters={"binary_data_output": 1}), "must be true or false"),
        (json.dumps({"inputs": [GOOD, GOOD]}).encode(), "given twice"),
    ],
)
def test_a_wrong_document_is_refused_with_the_reason(body: bytes, message: str) -> None:
    with pytest.raises(ServeError) as caught:
        parse_request(body, None, ONE)
    assert message in str(caught.value)


BINARY = {**GOOD, "parameters": {"binary_data_size": 8}}
del BINARY["data"]
HEAD = _body(BINARY)


@pytest.mark.parametrize(
    ("header", "tail", "message"),
    [
        ("x", b"", "must be a whole number"),
        ("-5", b"", "must be a whole number"),
        ("9" * 30, b"", "must be a whole number"),
        (str(len(HEAD) + 100), b"", "the whole body has"),
        (str(len(HEAD)), b"1234", "the body has 4 left"),
        (str(len(HEAD)), b"123456789", "1 bytes behind the last tensor"),
    ],
)
def test_binary_lengths_have_to_add_up(header: str, tail: bytes, message: str) -> None:
    with pytest.raises(ServeError, match=message):
        parse_request(HEAD + tail, header, ONE)


def test_binary_size_has_to_match_the_shape() -> None:
    body = _body({**BINARY, "parameters": {"binary_data_size": 4}})
    with pytest.raises(ServeError, match=r"shape \[1, 2\] of FP32 has 8 bytes"):
        parse_request(body + b"1234", str(len(body)), ONE)


def test_a_raw_body_is_the_one_tensor() -> None:
    values = np.array([[1.0, 2.0]], np.float32)
    parsed = parse_request(values.tobytes(), "0", ONE)
    _same(parsed.inputs["x"], values)
    assert parsed.binary
    with pytest.raises(ServeError, match="does not fill"):
        parse_request(b"123", "0", ONE)
    with pytest.raises(ServeError, match="one input"):
        parse_request(values.tobytes(), "0", [*ONE, *ONE])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_json_cannot_carry_points_to_binary(bad: float) -> None:
    outputs = {"y": np.array([bad], np.float32)}
    with pytest.raises(ServeError, match="binary_data"):
        encode_response("m", "1", ALL, outputs)
    body, length = encode_response("m", "1", InferRequest(None, {}, (), binary=True), outputs)
    assert length is not None
    assert not np.isfinite(np.frombuffer(body[length:], np.float32)).any()
