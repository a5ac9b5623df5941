"""The protocol's datatypes and the bytes of their tensors: little-endian, row-major, no padding."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import ml_dtypes  # noqa: F401, makes numpy know bfloat16
import numpy as np

from edgekit.spec import Array, is_float

__all__ = ["BYTES", "DATATYPES", "datatype", "dtype", "for_json", "from_bytes", "to_bytes"]

#: The datatype of strings: an object array of ``bytes``.
BYTES = "BYTES"

#: Protocol datatype of each dtype.
DATATYPES: Mapping[str, str] = MappingProxyType(
    {
        "bool": "BOOL",
        "bfloat16": "BF16", "float16": "FP16", "float32": "FP32", "float64": "FP64",
        "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
        "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
        "object": BYTES,
    }
)  # fmt: skip

#: Bytes of a tensor that are copied sooner than looked at by a view.
_SMALL = 4096

_NAMES = {np.dtype(kind): name for kind, name in DATATYPES.items()}
_DTYPES = {name: np.dtype(kind) for kind, name in DATATYPES.items()}


def dtype(name: object) -> np.dtype[Any]:
    """The dtype of a datatype.

    Raises:
        ValueError: there is no such datatype; the message lists those there are.
    """
    found = _DTYPES.get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"datatype {name!r} is not supported, use one of {', '.join(_DTYPES)}")
    return found


def datatype(array: Array) -> str:
    """The datatype of an array."""
    return _NAMES.get(array.dtype) or DATATYPES[array.dtype.name]  # of another byte order


def from_bytes(data: bytes | memoryview, kind: np.dtype[Any], shape: Sequence[int]) -> Array:
    """A tensor out of its bytes, without a copy where the machine is little-endian.

    A BOOL is one byte, and any byte but 0 is true.

    Raises:
        ValueError: the bytes do not fill the shape.
    """
    if kind.kind == "O":
        elements = np.array([*_elements(data), None], dtype=object)[:-1]
        return elements.reshape(shape)
    if kind.kind == "b":
        stored: Array = np.frombuffer(data, np.uint8) != 0
    else:
        stored = np.frombuffer(data, kind.newbyteorder("<")).astype(kind, copy=False)
    return stored.reshape(shape)


def to_bytes(array: Array) -> bytes | memoryview:
    """The bytes of a tensor; a view of a large contiguous one."""
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(item)) + item for item in _flat(array))
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.nbytes <= _SMALL:
        return little.tobytes()
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data


def for_json(array: Array) -> Array:
    """The numbers of a tensor in row-major order, as orjson writes them.

    It writes float16 with the digits of its float32 neighbour, and knows no bfloat16, no arrays
    without axes and no other byte order than the machine's.
    """
    kind = array.dtype.newbyteorder("=")
    if is_float(kind) and kind.itemsize == 2:
        kind = np.dtype(np.float32)
    return np.ascontiguousarray(array, kind).reshape(-1)


def _flat(array: Array) -> Iterable[bytes]:
    return (item if isinstance(item, bytes) else str(item).encode() for item in array.flat)


def _elements(data: bytes | memoryview) -> Iterable[bytes]:
    """Each element has its length in four bytes before it."""
    offset, total = 0, len(data)
    while offset < total:
        if total - offset < 4:
            raise ValueError(f"{total - offset} bytes are left where a BYTES length of 4 should be")
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if length > total - offset:
            raise ValueError(f"a BYTES element has {length} bytes, {total - offset} are left")
        yield bytes(data[offset : offset + length])
        offset += length
