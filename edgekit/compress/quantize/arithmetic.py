"""Affine quantization: ``real = scale * (quantized - zero_point)``.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018 (arXiv:1712.05877), and ONNX ``QuantizeLinear``, which
rounds half to even and saturates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np

from edgekit.calibration import Range
from edgekit.spec import Array

__all__ = [
    "FP16_NORMAL",
    "LARGEST_E4M3",
    "AffineParameters",
    "activation_parameters",
    "along",
    "asymmetric_uint8",
    "dequantize",
    "quantize",
    "quantize_bias",
    "quantize_weight",
    "symmetric_float8",
    "symmetric_int8",
    "weight_scale",
]

#: Below this a float32 scale is denormal, and dividing by it overflows on hardware that flushes
#: denormals to zero.
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)

#: The largest number of float8 with four exponent bits, which has no infinity.
LARGEST_E4M3 = 448

#: The smallest number that fp16 holds with all its bits.
FP16_NORMAL = 2.0**-14

#: Weights that are searched for their scale together.
_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True)
class AffineParameters:
    """Scale and zero point of one tensor (0-d arrays) or of each channel (1-d arrays).

    Attributes:
        scale: float32, positive.
        zero_point: of the quantized dtype (int8, uint8 or float8), the same shape as ``scale``.
    """

    scale: Array
    zero_point: Array


def asymmetric_uint8(observed: Range) -> AffineParameters:
    """uint8 over the observed range, widened to hold zero exactly (padding must be exact)."""
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    scale = _safe_scale(np.float32((high - low) / 255.0))
    zero_point = np.clip(np.rint(-low / scale), 0, 255)
    return AffineParameters(np.asarray(scale), np.asarray(zero_point, dtype=np.uint8))


def symmetric_int8(observed: Range) -> AffineParameters:
    """int8 with zero point 0; the range is +-127 steps, so that -x and x are equally exact."""
    scale = _safe_scale(np.float32(max(abs(observed.low), abs(observed.high)) / 127.0))
    return AffineParameters(np.asarray(scale), np.asarray(0, dtype=np.int8))


def symmetric_float8(observed: Range) -> AffineParameters:
    """float8 (E4M3): the largest observed value becomes the largest number of the format.

    Unless the scale were one that fp16 cannot hold: exponents of float8 make up for it.
    """
    largest = max(abs(observed.low), abs(observed.high))
    scale = np.float32(max(largest / LARGEST_E4M3, FP16_NORMAL))
    return AffineParameters(np.asarray(scale), np.asarray(0, dtype=ml_dtypes.float8_e4m3fn))


def activation_parameters(
    observed: Range, number_format: Literal["asymmetric", "symmetric", "float8"]
) -> AffineParameters:
    """Parameters of an activation in the number format of an engine."""
    make = {
        "asymmetric": asymmetric_uint8,
        "symmetric": symmetric_int8,
        "float8": symmetric_float8,
    }
    return make[number_format](observed)


def weight_scale(
    weight: Array, axis: int, *, levels: int = 127, smallest: Array | None = None, mse: bool = False
) -> Array:
    """The scale of each output channel of a symmetric weight.

    Args:
        weight: float32 array of any rank >= 1.
        axis: the output-channel axis.
        levels: largest quantized magnitude: 127, or 63 where the engine's 16-bit intermediate
            sums would overflow otherwise (see :mod:`edgekit.numerics`).
        smallest: lower bound of each channel's scale, shape ``(weight.shape[axis],)``. A bias is
            stored in units of ``input scale * weight scale``, so a channel with tiny weights and
            a large bias needs a larger scale or its bias overflows int32.
        mse: shrink each scale to where the squared rounding and clipping error is least, instead
            of covering the largest weight.

    Returns:
        float32 of shape ``(weight.shape[axis],)``. A channel of zeros shares the largest scale
        of the others.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    scale = np.abs(rows).max(axis=1, initial=0.0).astype(np.float32) / np.float32(levels)
    scale = np.where(scale >= _SMALLEST_SCALE, scale, scale.max(initial=0.0))
    scale = np.where(scale >= _SMALLEST_SCALE, scale, np.float32(1.0))
    if mse:
        scale = scale * _best_shrink(rows, scale, levels)
    if smallest is not None:
        scale = np.maximum(scale, smallest)
    return scale.astype(np.float32)


def quantize_weight(
    weight: Array, axis: int, scale: Array, levels: int = 127
) -> tuple[Array, AffineParameters]:
    """Symmetric per-channel int8: each slice along ``axis`` has its own scale.

    Returns:
        int8 array of the same shape in +-``levels``, and its parameters.
    """
    parameters = AffineParameters(scale, np.zeros(scale.shape, dtype=np.int8))
    quantized = quantize(weight, parameters, axis)
    return np.clip(quantized, -levels, levels).astype(np.int8), parameters


def _best_shrink(rows: Array, scale: Array, levels: int) -> Array:
    """The share of each row's scale, of those tried, with the least squared error."""
    shares = np.linspace(1.0, 0.7, 9, dtype=np.float32)
    best = np.ones(len(rows), dtype=np.float32)
    # A few rows at a time stay in the processor's cache through all the tries.
    block = max(1, _BLOCK // max(rows.shape[1], 1))
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        errors = []
        for share in shares:
            steps = (scale[start : start + block] * share)[:, None].astype(np.float32)
            rounded = part / steps
            np.rint(rounded, out=rounded)
            np.clip(rounded, -levels, levels, out=rounded)
            rounded *= steps
            rounded -= part
            errors.append(np.einsum("ij,ij->i", rounded, rounded))
        best[start : start + block] = shares[np.argmin(errors, axis=0)]
    return best


def quantize_bias(bias: Array, scale: Array) -> Array:
    """int32 with the scale of the accumulator it is added to (``input scale * weight scale``)."""
    limits = np.iinfo(np.int32)
    return np.clip(np.rint(bias.astype(np.float64) / scale), limits.min, limits.max).astype(
        np.int32
    )


def quantize(values: Array, parameters: AffineParameters, axis: int = 0) -> Array:
    """What ``QuantizeLinear`` computes: round half to even, add the zero point, saturate."""
    scale, zero = (along(p, values.ndim, axis) for p in (parameters.scale, parameters.zero_point))
    limits = np.iinfo(parameters.zero_point.dtype)
    with np.errstate(over="ignore"):  # a quotient beyond float32 saturates as any large one does
        steps = np.rint(values / scale) + zero.astype(np.float32)
    quantized: Array = np.clip(steps, limits.min, limits.max).astype(parameters.zero_point.dtype)
    return quantized


def dequantize(quantized: Array, parameters: AffineParameters, axis: int = 0) -> Array:
    """What ``DequantizeLinear`` computes, in float32."""
    rank = quantized.ndim
    scale, zero = (along(p, rank, axis) for p in (parameters.scale, parameters.zero_point))
    steps = quantized.astype(np.int32) - zero.astype(np.int32)
    return steps.astype(np.float32) * scale


def along(values: Array, rank: int, axis: int) -> Array:
    """Shape a per-channel vector to broadcast along ``axis`` of a tensor of that rank."""
    if values.ndim == 0:
        return values
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def _safe_scale(scale: np.float32) -> np.float32:
    """A tensor that is always zero has no scale; any positive one represents it exactly."""
    return scale if scale >= _SMALLEST_SCALE else np.float32(1.0)
