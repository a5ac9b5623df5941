"""Weights of OpenVINO models in the bytes that the ONNX graph has them in."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from edgekit.spec import Array

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["digests", "turn_back"]


def digests(model: ov.Model) -> set[bytes]:
    """What matrices of float32 hold."""
    return {
        _digest(node.data)
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and _is_matrix(node)
    }


def turn_back(model: ov.Model, stored: Collection[bytes]) -> None:
    """Transpose the weights of products back, where that makes them one of ``stored`` again.

    OpenVINO's common optimizations transpose all weights of products, and its CPU plugin those that
    still lie the other way, so nothing else is computed. But only the same bytes as in the ONNX
    file can be kept in a bundle once.
    """
    from openvino import opset13 as ops

    for node in model.get_ops():
        if node.get_type_name() != "MatMul" or not node.get_attributes()["transpose_b"]:
            continue
        weights = node.input_value(1).get_node()
        if weights.get_type_name() != "Constant" or not _is_matrix(weights):
            continue
        turned = np.ascontiguousarray(np.swapaxes(weights.data, -1, -2))
        if _digest(weights.data) in stored or _digest(turned) not in stored:
            continue
        plain = ops.constant(turned, name=weights.get_friendly_name())
        product = ops.matmul(
            node.input_value(0),
            plain,
            node.get_attributes()["transpose_a"],
            transpose_b=False,
            name=node.get_friendly_name(),
        )
        product.output(0).set_names(node.output(0).get_names())
        node.output(0).replace(product.output(0))


def _is_matrix(constant: ov.Node) -> bool:
    """Whether it is one of float32, or several: nothing else is transposed."""
    kind = constant.get_element_type().get_type_name()
    return bool(kind == "f32" and len(constant.get_output_shape(0)) > 1)


def _digest(data: Array) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(data).data).digest()
