"""AWQ: scale the input channels that matter up before rounding, and the activations down.

Source: Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and
Acceleration", 2023 (arXiv:2306.00978): ``s = mean|x|^alpha``, the ``alpha`` of the least output
error. As ``X W = (X / s) (s W)``, nothing changes before rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.calibration import Gram
from edgekit.compress.quantize.weight_only.grid import Grid
from edgekit.compress.quantize.weight_only.rtn import round_to_nearest
from edgekit.spec import Array

__all__ = ["ALPHAS", "channel_scale"]

#: Strengths to try; 0 is rounding to nearest.
ALPHAS: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def channel_scale(
    weights: Sequence[Array], gram: Gram, grid: Grid, *, least_gain: float = 1.0
) -> tuple[Array, float] | None:
    """The scale of each input channel of layers that read one tensor.

    Args:
        weights: float32, each of shape ``(inputs, outputs)``.
        gram: seen on that tensor.
        grid: what the weights will be rounded to.
        least_gain: by which factor the squared output error has to fall.

    Returns:
        float32 of shape ``(inputs,)`` to multiply the weights by and divide the tensor by, and the
        gain; None when no strength gains enough.
    """
    importance = gram.magnitude / max(gram.rows, 1)
    moment = gram.matrix.astype(np.float32)
    before = _error(weights, moment, grid, np.ones(len(importance), np.float32))
    scales = [_scale(importance, alpha) for alpha in ALPHAS]
    errors = [_error(weights, moment, grid, scale) for scale in scales]
    best = int(np.argmin(errors))
    gain = before / max(errors[best], 1e-30)
    return (scales[best], gain) if gain > least_gain else None


def _scale(importance: Array, alpha: float) -> Array:
    """``mean|x|^alpha``, its geometric mean 1; channels that are always zero keep theirs."""
    used = importance > 1e-8
    power = np.where(used, importance, 1.0) ** alpha
    power /= np.exp(np.log(power[used]).mean()) if used.any() else 1.0
    scale: Array = np.where(used, np.clip(power, 1e-3, 1e3), 1.0).astype(np.float32)
    return scale


def _error(weights: Sequence[Array], moment: Array, grid: Grid, scale: Array) -> float:
    """Squared error of the outputs, each layer's relative to the power of its output."""
    total = 0.0
    for weight in weights:
        rounded = round_to_nearest(weight * scale[:, None], grid).dequantized()
        error = rounded / scale[:, None] - weight
        power = float(np.sum(weight * (moment @ weight)))
        total += float(np.sum(error * (moment @ error))) / max(power, 1e-30)
    return total
