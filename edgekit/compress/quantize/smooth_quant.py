"""SmoothQuant: move the outliers of activations into the weights before quantizing both.

``X W = (X / s) (s W)`` for any positive per-channel ``s``. Source: Xiao et al., "SmoothQuant:
Accurate and Efficient Post-Training Quantization for Large Language Models", 2023
(arXiv:2211.10438), with ``s = max|X|^alpha / max|W|^(1 - alpha)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from edgekit.calibration import ChannelRange, Range, RowSample, Several
from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.compress.quantize.arithmetic import (
    asymmetric_uint8,
    dequantize,
    quantize,
    quantize_weight,
    weight_scale,
)
from edgekit.compress.quantize.linears import linear_groups
from edgekit.spec import Array

__all__ = ["SmoothQuant"]

_SAMPLES = 32

#: Least gain where the division costs nothing, because constants before the layer absorb it.
_FREE_GAIN = 1.05


class SmoothQuant(GraphPass):
    """Choose for each input of linear layers how much of its outliers its weights take over.

    The migration strength ``alpha`` of each layer is the one with the least error of the layer's
    quantized output, measured on calibration rows. Where a LayerNormalization can absorb the
    scaling it is free; elsewhere it costs an element-wise operator, and a layer that gains too
    little is left alone.

    Attributes:
        alphas: strengths to try.
        least_gain: where the scaling costs an operator, change a layer only when its squared output
            error falls by this factor.
    """

    undoes: ClassVar[frozenset[str]] = frozenset({"palette", "learnt scales"})

    type: Literal["smooth-quant"]
    alphas: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    least_gain: float = 1.5

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        groups = linear_groups(model)
        if len(groups) <= sum(node.op_type == "Conv" for node in model.graph):
            # A CNN with a linear head has no transformer's outliers; leave its data alone.
            return PassReport(self.type, 0, len(groups))
        ranges = {str(g.source.name): ChannelRange(-1) for g in groups}
        rows = {name: RowSample() for name in ranges}
        both = {name: Several(found, rows[name]) for name, found in ranges.items()}
        context.calibrator.observe(model, both, _SAMPLES)
        details = []
        for group in groups:
            name = str(group.source.name)
            if not rows[name].count:
                continue
            found = self._best(rows[name].rows, ranges[name].largest, group.weights)
            if found is not None and (found[2] >= self.least_gain or group.absorbing()):
                alpha, scale, gain = found
                group.scale_by(model.graph, scale)
                details.append(f"{group.nodes[0].name}: alpha {alpha:g}, error {gain:.2f}x smaller")
        return PassReport(self.type, len(details), len(groups), tuple(details))

    def _best(
        self, rows: Array, largest: Array, weights: Sequence[Array]
    ) -> tuple[float, Array, float] | None:
        """Alpha, per-channel divisor and gain of the best strength; None when none is worth it."""
        exact = [rows @ weight for weight in weights]
        before = _error(rows, weights, exact, np.ones_like(largest))
        tried = [(alpha, _divisor(largest, weights, alpha)) for alpha in self.alphas]
        errors = [_error(rows, weights, exact, scale) for _, scale in tried]
        best = int(np.argmin(errors))
        gain = before / max(errors[best], 1e-30)
        return (*tried[best], gain) if gain > _FREE_GAIN else None


def _divisor(largest: Array, weights: Sequence[Array], alpha: float) -> Array:
    """``s`` of the paper, its geometric mean 1; channels that are always zero keep theirs."""
    heaviest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    usable = (largest > 1e-8) & (heaviest > 1e-8)
    safe_x, safe_w = np.where(usable, largest, 1.0), np.where(usable, heaviest, 1.0)
    scale = safe_x**alpha / safe_w ** (1.0 - alpha)
    scale /= np.exp(np.log(scale[usable]).mean()) if usable.any() else 1.0
    divisor: Array = np.where(usable, np.clip(scale, 1e-3, 1e3), 1.0).astype(np.float32)
    return divisor


def _error(rows: Array, weights: Sequence[Array], exact: Sequence[Array], divisor: Array) -> float:
    """Squared error of the quantized products against the exact ones, relative to their power."""
    smooth = rows / divisor
    parameters = asymmetric_uint8(Range(low=float(smooth.min()), high=float(smooth.max())))
    activations = dequantize(quantize(smooth, parameters), parameters)
    total = 0.0
    for weight, wanted in zip(weights, exact, strict=True):
        scaled = weight * divisor[:, None]
        steps, affine = quantize_weight(scaled, 1, weight_scale(scaled, 1))
        got = activations @ dequantize(steps, affine, 1)
        power = float(np.square(wanted, dtype=np.float64).sum())
        total += float(np.square(wanted - got, dtype=np.float64).sum()) / max(power, 1e-30)
    return total
