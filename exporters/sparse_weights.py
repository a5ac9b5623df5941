"""Whether a graph's weights have the zeros that an engine can skip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from edgekit.exporters.graph import stored

from edgekit.spec import Array

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["SPARSE_RATE", "has_sparse_int8", "has_two_of_four"]

#: OpenVINO packs a weight of which at least this share is zero: 2:4, and anything sparser.
SPARSE_RATE = 0.5

#: OpenVINO packs matrices whose sides are multiples of this.
_TILE = 64


def has_two_of_four(model: ir.Model) -> bool:
    """Whether a Conv, Gemm or MatMul has at most 2 of 4 consecutive input channels that count.

    That is what the sparse tensor cores of NVIDIA GPUs take, float or int8.
    """
    return any(_two_of_four(node) for node in model.graph if node.op_type in _INPUT_AXIS)


def has_sparse_int8(model: ov.Model) -> bool:
    """Whether a matrix in int8 is sparse enough, and of a shape, that OpenVINO's CPU plugin packs.

    The plugin does that on CPUs with AMX, by the option ``CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE``.
    """
    return any(_packs(op) for op in model.get_ops() if op.get_type_name() == "Constant")


def _packs(constant: ov.Node) -> bool:
    shape = list(constant.get_output_shape(0))
    if len(shape) != 2 or any(side % _TILE for side in shape):
        return False
    if constant.get_output_element_type(0).get_type_name() != "i8":
        return False
    return float((constant.data == 0).mean()) >= SPARSE_RATE


#: Which axis of the weight counts input channels, by operator.
_INPUT_AXIS = {"Conv": 1, "Gemm": 0, "MatMul": -2}


def _two_of_four(node: ir.Node) -> bool:
    weight = _weight(node.inputs[1])
    if weight is None or weight.ndim < 2:
        return False
    axis = _INPUT_AXIS[node.op_type]
    if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0:
        axis = 1
    last = np.moveaxis(weight, axis, -1)
    if last.shape[-1] % 4 or not last.any():
        return False
    return bool((np.count_nonzero(last.reshape(-1, 4), axis=1) <= 2).all())


def _weight(value: ir.Value | None) -> Array | None:
    """A stored weight, also behind a DequantizeLinear; zeros of symmetric int8 are zeros."""
    node = None if value is None else value.producer()
    if node is not None and node.op_type == "DequantizeLinear":
        value = node.inputs[0]
    return stored(value)
