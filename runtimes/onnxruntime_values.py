"""Arrays as ONNX Runtime's values and back; its Python binding has no bfloat16 arrays."""

from __future__ import annotations

import ctypes
import math

import ml_dtypes
import numpy as np
import onnxruntime as ort
from onnx import TensorProto

from edgekit.spec import Array

__all__ = ["as_value", "from_value"]


def as_value(array: Array) -> ort.OrtValue:
    """A value that reads and writes the memory of a C-contiguous ``array``."""
    if array.dtype != ml_dtypes.bfloat16:
        return ort.OrtValue.ortvalue_from_numpy(array)
    bits = array.view(np.uint16)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)


def from_value(value: ort.OrtValue) -> Array:
    """An array of the caller's own."""
    if value.data_type() != "tensor(bfloat16)":
        return np.asarray(value.numpy())
    shape = value.shape()
    bits = (ctypes.c_uint16 * math.prod(shape)).from_address(value.data_ptr())
    return np.ctypeslib.as_array(bits).reshape(shape).copy().view(ml_dtypes.bfloat16)
