"""Arrays as OpenVINO's tensors and back; its Python binding takes bfloat16 for float16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from edgekit.spec import Array

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["as_tensor", "dtype_of", "from_tensor"]


def dtype_of(value: Any) -> str:
    """The dtype of a tensor or a port, by numpy name."""
    if value.element_type.get_type_name() == "bf16":
        return "bfloat16"
    dtype: np.dtype[Any] = np.dtype(value.element_type.to_dtype())
    return dtype.name


def as_tensor(array: Array) -> ov.Tensor:
    """A tensor that reads, and where it may also writes, the memory of a contiguous ``array``."""
    import openvino as ov  # heavy and optional

    if array.dtype != ml_dtypes.bfloat16:
        return ov.Tensor(array, shared_memory=array.flags.writeable)
    return ov.Tensor(array.view(np.uint16), array.shape, ov.Type.bf16)


def from_tensor(tensor: ov.Tensor) -> Array:
    """The memory of a tensor as an array."""
    data: Array = tensor.data
    return data.view(ml_dtypes.bfloat16) if dtype_of(tensor) == "bfloat16" else data
