from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.client.codec import decode, encode
from edgekit.client.errors import ClientError
from edgekit.serve.datatypes import DATATYPES
from edgekit.serve.protocol import HEADER_LENGTH
from edgekit.spec import Array
from tests.client.servers import Request, echo

OPTIONS: dict[str, Any] = {"outputs": None, "id": None, "parameters": None, "where": "here"}

WORDS = np.array([b"edge", b"", b"\xc3\xbc"], object)


def arrays() -> dict[str, Array]:
    """One of each datatype that the protocol has."""
    made: dict[str, Array] = {"bool": np.array([[True, False]]), "object": WORDS}
    for name in DATATYPES:
        if name not in made:
            kind = ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
            made[name] = np.array([[0, 1, 7], [2, 3, 100]]).astype(kind)
    return made


def roundtrip(inputs: dict[str, Any], *, binary: bool) -> dict[str, Array]:
    """Through the server's own reader and writer."""
    encoded = encode(inputs, binary=binary, **OPTIONS)
    headers = {name.lower(): value for name, value in encoded.headers.items()}
    _, answered, body = echo(Request("POST", "/", headers, b"".join(encoded.parts)))
    return decode(answered, body, "here")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", DATATYPES)
def test_every_datatype_arrives_and_returns(name: str, binary: bool) -> None:
    array = arrays()[name]
    found = roundtrip({"x": array}, binary=binary)["x"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(10, dtype=np.int16)[::-2],
        np.float32(2.5),
        np.zeros((0, 3), np.float32),
        np.arange(3, dtype=">f8"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
    ids=["transposed", "strided", "scalar", "empty", "big-endian", "fortran"],
)
def test_how_an_array_lies_in_memory_does_not_matter(array: Any, binary: bool) -> None:
    found = roundtrip({"x": array}, binary=binary)["x"]
    assert found.shape == np.shape(array)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "words",
    [["edge", "", "ü"], np.array(["edge", "", "ü"]), WORDS, np.array(["edge", b"", "ü"], object)],
)
def test_strings_are_bytes(words: Any, binary: bool) -> None:
    assert roundtrip({"x": words}, binary=binary)["x"].tolist() == WORDS.tolist()


def test_any_bytes_pass_as_binary_and_are_refused_as_json() -> None:
    raw = np.array([b"\xff\x00"], object)
    assert roundtrip({"x": raw}, binary=True)["x"].tolist() == [b"\xff\x00"]
    with pytest.raises(ClientError, match=r"input 'x': JSON carries text only.*binary=False"):
        roundtrip({"x": raw}, binary=False)


@pytest.mark.parametrize("kind", [np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_pass_as_binary_and_are_refused_as_json(kind: Any, value: float) -> None:
    array = np.array([value, 1], kind)
    assert roundtrip({"x": array}, binary=True)["x"].tobytes() == array.tobytes()
    with pytest.raises(ClientError, match="JSON has no NaN"):
        roundtrip({"x": array}, binary=False)


@pytest.mark.parametrize("array", [np.array([1j]), np.array(["2026"], "M8[D]"), [[1], [2, 3]]])
def test_a_dtype_without_a_datatype_is_refused(array: Any) -> None:
    with pytest.raises(ClientError, match="input 'x'"):
        encode({"x": array}, binary=True, **OPTIONS)


def test_large_contiguous_arrays_are_sent_without_a_copy() -> None:
    array = np.arange(6000, dtype=np.float32)
    encoded = encode({"x": array, "y": array}, binary=True, **OPTIONS)
    for part in encoded.parts[1:]:
        assert np.shares_memory(np.frombuffer(part, np.float32), array)


def test_answers_are_arrays_of_their_own() -> None:
    inputs = {"a": np.arange(3, dtype=np.uint8), "b": np.arange(3.0)}  # b lies askew in the body
    for array in roundtrip(inputs, binary=True).values():
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.owndata


def test_what_else_a_request_has_is_where_the_protocol_wants_it() -> None:
    encoded = encode(
        {"x": np.zeros(2, np.float32)},
        binary=True,
        outputs=["a", "b"],
        id="7",
        parameters={"priority": 1},
        where="here",
    )
    head = encoded.parts[0]
    assert encoded.headers[HEADER_LENGTH] == str(len(head))
    document = orjson.loads(head)
    assert document["id"] == "7"
    binary = {"binary_data": True}
    assert document["outputs"] == [{"name": name, "parameters": binary} for name in ("a", "b")]
    assert document["parameters"] == {"priority": 1, "binary_data_output": True}
    plain = encode({"x": np.zeros(2, np.float32)}, binary=False, **OPTIONS)
    assert set(orjson.loads(plain.parts[0])) == {"inputs"}


def test_json_from_other_servers_may_be_nested_and_hold_strings() -> None:
    entries = [
        {"name": "a", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]},
        {"name": "b", "datatype": "BYTES", "shape": [1, 2], "data": [["x", "y"]]},
        {"name": "c", "datatype": "BYTES", "shape": [0], "data": []},
    ]
    found = decode({}, orjson.dumps({"model_name": "m", "outputs": entries}), "here")
    assert found["a"].tolist() == [[1, 2], [3, 4]]
    assert found["a"].dtype == np.float32
    assert found["b"].tolist() == [[b"x", b"y"]]
    assert found["c"].shape == (0,)


GOOD = {"name": "a", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}


@pytest.mark.parametrize(
    ("document", "tail", "length"),
    [
        ([], b"", None),
        ({}, b"", None),
        ({"outputs": [1]}, b"", None),
        ({"outputs": [{"name": "a"}]}, b"", None),
        ({"outputs": [{**GOOD, "datatype": "FP4"}]}, b"1234", None),
        ({"outputs": [{**GOOD, "shape": [2]}]}, b"1234", None),
        ({"outputs": [{**GOOD, "parameters": {"binary_data_size": 5}}]}, b"12345", None),
        ({"outputs": [{**GOOD, "parameters": {"binary_data_size": "4"}}]}, b"1234", None),
        ({"outputs": [{**GOOD, "parameters": None}]}, b"1234", None),
        ({"outputs": [GOOD]}, b"123", None),
        ({"outputs": [GOOD]}, b"1234", "x"),
        ({"outputs": [GOOD]}, b"1234", "-1"),
        ({"outputs": [GOOD]}, b"1234", "9" * 30),
        ({"outputs": [{**GOOD, "parameters": {}, "data": [1, 2]}]}, b"", None),
        ({"outputs": [{**GOOD, "parameters": {}, "data": ["x"]}]}, b"", None),
        ({"outputs": [{**GOOD, "datatype": "BYTES", "parameters": {}, "data": [1]}]}, b"", None),
        ({"outputs": [{**GOOD, "datatype": "INT8", "parameters": {}, "data": [999]}]}, b"", None),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_one_line(
    document: Any, tail: bytes, length: str | None
) -> None:
    head = json.dumps(document).encode()
    with pytest.raises(ClientError, match=r"^here: the answer breaks the protocol: ") as caught:
        decode({HEADER_LENGTH: length or str(len(head))}, head + tail, "here")
    assert caught.value.status == 200


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*GOOD, "data", "outputs"]), inner, max_size=5)
        ),
        max_leaves=20,
    ),
    st.binary(max_size=10),
)
def test_any_answer_is_read_or_refused(entry: Any, tail: bytes) -> None:
    head = json.dumps({"outputs": [entry, {**GOOD, **(entry if isinstance(entry, dict) else {})}]})
    try:
        found = decode({HEADER_LENGTH: str(len(head))}, head.encode() + tail, "here")
    except ClientError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.values())
