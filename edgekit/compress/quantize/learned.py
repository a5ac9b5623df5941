"""Hand the scales that quantization-aware training learnt to the placement."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from edgekit.calibration import Range
from edgekit.compress.base import Learned
from edgekit.compress.quantize.placement import Placement
from edgekit.compress.quantize.qdq import output_axis
from edgekit.spec import Array

__all__ = ["apply_learned", "weight_key"]


def weight_key(weight: Array) -> str:
    """The identity of a layer's weight, shape ``(outputs, ...)``, across the export to ONNX.

    Exporters rename and transpose weights, but keep every value.
    """
    return hashlib.sha256(np.ascontiguousarray(weight, dtype=np.float32).tobytes()).hexdigest()


def apply_learned(
    placement: Placement, ranges: Mapping[str, Range], learned: Mapping[str, Learned]
) -> tuple[dict[str, Range], dict[str, tuple[Array, Array]]]:
    """Ranges and integer weights with the learnt ones in the place of the calibrated ones.

    Returns:
        Ranges by tensor name, and ``(int8 weight, scale)`` by operator name.
    """
    merged = dict(ranges)
    fixed: dict[str, tuple[Array, Array]] = {}
    for chosen in placement.nodes if learned else ():
        if chosen.weight is None or chosen.weight.const_value is None:
            continue
        weight = chosen.weight.const_value.numpy()
        axis = output_axis(chosen.node, weight.ndim)
        layer = learned.get(weight_key(np.moveaxis(weight, axis, 0)))
        if layer is None:
            continue
        merged[str(chosen.tensors[0].name)] = Range(low=layer.low, high=layer.high)
        shape = [1] * weight.ndim
        shape[axis] = -1
        steps = np.rint(weight / layer.weight_scale.reshape(shape))
        fixed[str(chosen.node.name)] = (
            np.clip(steps, -127, 127).astype(np.int8),
            layer.weight_scale.astype(np.float32),
        )
    return merged, fixed
