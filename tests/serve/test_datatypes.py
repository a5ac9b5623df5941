from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.serve import datatypes
from edgekit.serve.datatypes import from_bytes, to_bytes


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_bytes_elements_survive_the_round_trip(elements: list[bytes]) -> None:
    array = np.array([*elements, None], dtype=object)[:-1]
    back = from_bytes(to_bytes(array), np.dtype(object), [len(elements)])
    assert list(back) == elements


def test_text_is_sent_as_utf8() -> None:
    assert to_bytes(np.array(["é"], dtype=object)) == b"\x02\x00\x00\x00\xc3\xa9"


@given(st.binary(max_size=40))
def test_any_bytes_are_elements_or_an_error(data: bytes) -> None:
    try:
        array = from_bytes(data, np.dtype(object), [-1])
    except ValueError:
        return
    assert to_bytes(array) == data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x05\x00\x00\x00abc", "has 5 bytes, 3 are left"),
        (b"\x01\x00\x00", "3 bytes are left"),
        (b"\xff\xff\xff\xffabc", "has 4294967295 bytes"),
    ],
)
def test_a_length_past_the_end_is_told(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_bytes(data, np.dtype(object), [1])


def test_numbers_are_little_endian_and_read_without_a_copy() -> None:
    data = np.arange(4, dtype="<i4").tobytes()
    array = from_bytes(data, np.dtype("int32"), [2, 2])
    assert array.tolist() == [[0, 1], [2, 3]]
    assert array.base is not None
    assert bytes(to_bytes(array)) == data


def test_a_strided_array_is_sent_in_row_major_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert bytes(to_bytes(array)) == np.ascontiguousarray(array).tobytes()


def test_any_byte_but_0_is_true() -> None:
    assert from_bytes(b"\x00\x01\x02", np.dtype(bool), [3]).tolist() == [False, True, True]


def test_every_datatype_is_found_by_its_name() -> None:
    assert {datatypes.dtype(name).name for name in datatypes.DATATYPES.values()} == set(
        datatypes.DATATYPES
    )
    with pytest.raises(ValueError, match="'FP8' is not supported, use one of BOOL"):
        datatypes.dtype("FP8")
