"""The protocol's tensors as a client makes and reads them: JSON, binary, from metadata.

Written from the protocol and apart from ``edgekit.serve`` on purpose: a mistake in the server's
codec must not be in the suite that judges it, too.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from edgekit.conformance.clause import Unmet, as_list, expect

__all__ = [
    "DATATYPES",
    "Array",
    "binary_tensor",
    "datatype_of",
    "json_tensor",
    "make_array",
    "read_binary",
    "read_json",
    "same",
    "to_bytes",
]

Array = npt.NDArray[Any]

#: Every datatype and the dtype that holds it. BF16 is Triton's addition.
DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "BYTES": np.dtype(np.object_),
}


def datatype_of(array: Array) -> str:
    """The datatype of an array; strings and objects are BYTES.

    Raises:
        KeyError: the protocol has no such type.
    """
    if array.dtype.kind in "OSU":
        return "BYTES"
    return next(name for name, dtype in DATATYPES.items() if dtype == array.dtype)


def make_array(shape: Sequence[int], datatype: str, size: int) -> Array:
    """Valid values for a model's input, the same ones each time.

    Args:
        shape: of the metadata.
        datatype: of the metadata.
        size: of every dynamic dimension but the first, which is the batch, of 1.
    """
    sizes = [(1 if axis == 0 else size) if dim == -1 else dim for axis, dim in enumerate(shape)]
    dtype = DATATYPES[datatype]
    if datatype == "BYTES":
        made: Array = np.full(sizes, b"edgekit", dtype)
        return made
    values = np.random.default_rng(0).random(sizes)
    # Whole numbers stay tiny: they may be token ids or indices.
    return values.astype(dtype) if dtype.kind in "fV" else (values > 0.5).astype(dtype)


def json_tensor(name: str, array: Array, *, nested: bool = False) -> dict[str, Any]:
    """The tensor as an entry of ``inputs`` with its data in JSON."""
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    values = (array if nested else array.ravel()).tolist()
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype_of(array),
        "data": _texts(values),
    }


def binary_tensor(name: str, array: Array) -> tuple[dict[str, Any], bytes]:
    """The tensor as an entry of ``inputs``, and its data for behind the JSON."""
    data = to_bytes(array)
    entry = {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype_of(array),
        "parameters": {"binary_data_size": len(data)},
    }
    return entry, data


def to_bytes(array: Array) -> bytes:
    """Little-endian and row-major; BYTES with a length before each element."""
    if datatype_of(array) != "BYTES":
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel())


def read_json(entry: Mapping[str, Any]) -> Array:
    """An output whose data is in the JSON.

    Raises:
        Unmet: datatype, shape and data do not fit together.
    """
    dtype, shape = _declared(entry)
    data = entry.get("data")
    expect(isinstance(data, list), "'data' to be a list", entry)
    if dtype.kind == "O":
        data = _encoded(data)
    try:
        array: Array = np.array(data, dtype)
        return array.reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise Unmet(f"data of shape {shape} and datatype {entry['datatype']}", error) from error


def read_binary(entry: Mapping[str, Any], data: bytes) -> Array:
    """An output whose data came behind the JSON.

    Raises:
        Unmet: it does not fill the shape.
    """
    dtype, shape = _declared(entry)
    if dtype.kind == "O":
        items = np.empty(shape, dtype)
        items.ravel()[:] = _split(data, items.size)
        return items
    wanted = math.prod(shape) * dtype.itemsize
    expect(len(data) == wanted, f"{wanted} bytes for shape {shape}", f"{len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def same(left: Array, right: Array) -> bool:
    """Whether two answers are equal, up to the rounding that two runs of a model may differ by."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if left.dtype.kind not in "fV":
        return bool((left == right).all())
    scale = float(np.abs(left.astype(np.float64)).max(initial=1.0))
    close = np.isclose(
        left.astype(np.float64), right.astype(np.float64), 1e-3, 1e-4 * scale, equal_nan=True
    )
    return bool(close.all())


def _declared(entry: Mapping[str, Any]) -> tuple[np.dtype[Any], list[int]]:
    datatype = str(entry.get("datatype"))
    expect(datatype in DATATYPES, "a known datatype", entry)
    shape = as_list(entry.get("shape"), "'shape' to be a list of sizes")
    whole = all(type(dim) is int and dim >= 0 for dim in shape)
    expect(whole, "'shape' to be a list of sizes", entry)
    return DATATYPES[datatype], shape


def _split(data: bytes, count: int) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data.ljust(at + 4, b"\0"), at)
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    expect(at == len(data) and len(found) == count, f"{count} elements of BYTES", data[:80])
    return found


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(value) for value in values]
    return values.decode() if isinstance(values, bytes) else values


def _encoded(values: Any) -> Any:
    if isinstance(values, list):
        return [_encoded(value) for value in values]
    return values.encode() if isinstance(values, str) else values
