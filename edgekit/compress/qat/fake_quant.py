"""Quantize and dequantize in the forward pass, with learned step sizes.

Sources: Esser et al., "Learned Step Size Quantization", 2020 (arXiv:1902.08153) for the gradients;
Bhalgat et al., "LSQ+", 2020 (arXiv:2004.09576) for the offset of asymmetric activations.

What is trained is a tenth of the logarithm of each scale (or end of a range) over its first value:

* the scale stays positive, and zero stays inside the range, whatever the optimizer does;
* a step of Adam is a relative change, the same for a scale of 1e-4 as for one of 10;
* weight decay pulls towards the calibrated value (ratio 1), not towards a scale of 0 or 1.

With plain SGD the scales hardly move, as their gradient carries the factor ``scale``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from edgekit.calibration import Range
from edgekit.compress.quantize.arithmetic import asymmetric_uint8, weight_scale

__all__ = ["InputFakeQuant", "WeightFakeQuant", "fake_quantize"]

#: Adam moves a weight of 0.1 by ten times its learning rate, as a share of the weight. LSQ wants
#: scales and weights to move by like shares of themselves. Measured on mlp-digits with ranges that
#: clip at 0.3 of the right ones, three epochs from accuracy 0.876: 0.931 with 1, 0.935 with 10,
#: 0.963 with 100; with calibrated ranges none of them costs mlp-digits or resnet8-mnist anything.
_GAIN = 10.0


class _LearnedStep(torch.autograd.Function):
    """Rounding with the straight-through estimator and the gradients of LSQ and LSQ+."""

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        scale: torch.Tensor,
        offset: torch.Tensor,
        limits: tuple[int, int],
        factor: float,
    ) -> torch.Tensor:
        # The zero point is rounded before it is used, so that a real zero is exact.
        zero_point = _zero_point(scale, offset, limits)
        ctx.save_for_backward(values, scale, offset, zero_point)
        ctx.limits, ctx.factor = limits, factor
        # In place, here and below: activations are large, and fresh memory costs more than sums.
        steps = (values / scale).round_().add_(zero_point).clamp_(*limits)
        return steps.sub_(zero_point).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        values, scale, offset, zero_point = ctx.saved_tensors
        lowest, highest = ctx.limits
        real = values / scale
        slope = torch.round(real).sub_(real)
        position = real.add_(zero_point)
        below, above = position <= lowest, position >= highest
        slope.masked_fill_(below, lowest).masked_fill_(above, highest)
        to_scale = slope.mul_(gradient).sum_to_size(scale.shape) * ctx.factor
        outside = below.logical_or_(above)
        to_offset = None
        if ctx.needs_input_grad[2]:
            to_offset = (gradient * outside).sum_to_size(offset.shape) * ctx.factor
        return gradient.masked_fill(outside, 0.0), to_scale, to_offset, None, None


def fake_quantize(
    values: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    limits: tuple[int, int],
    sharing: int,
) -> torch.Tensor:
    """Round ``values`` to the grid ``offset + scale * step``, shifted so that it holds zero.

    Args:
        values: float32 of any shape.
        scale: float32, positive, broadcastable to ``values``.
        offset: float32, the real value of step 0; not positive. Its gradient is that of LSQ+.
        limits: the smallest and the largest step.
        sharing: how many values of one sample share a scale. Their gradients add up, so LSQ
            divides the sum by ``sqrt(sharing * largest step)``.

    Returns:
        float32 of the shape of ``values``, bit for bit what ``QuantizeLinear`` followed by
        ``DequantizeLinear`` gives.
    """
    factor = 1.0 / math.sqrt(max(sharing, 1) * limits[1])
    result: torch.Tensor = _LearnedStep.apply(values, scale, offset, limits, factor)  # type: ignore[no-untyped-call]
    return result


class WeightFakeQuant(nn.Module):
    """Per-channel symmetric int8 weights as a parametrization.

    Args:
        weight: float32 of shape (out channels, ...). Each channel starts with the scale that
            post-training quantization gives it: its largest magnitude over ``levels``.
        levels: steps are -``levels`` .. ``levels``; see :attr:`.InstructionSet.levels`.
    """

    initial: torch.Tensor

    def __init__(self, weight: torch.Tensor, levels: int = 127) -> None:
        super().__init__()
        self.limits = (-levels, levels)
        scale = weight_scale(weight.detach().cpu().numpy(), axis=0, levels=levels)
        initial = torch.from_numpy(scale).to(weight.device)
        self.register_buffer("initial", initial, persistent=False)
        self.learned = nn.Parameter(torch.zeros_like(initial))

    def scale(self) -> torch.Tensor:
        """The scales, shape (out channels,)."""
        return _moved(self.initial, self.learned)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        scale = self.scale().reshape(-1, *[1] * (weight.dim() - 1))
        sharing = weight[0].numel()
        return fake_quantize(weight, scale, torch.zeros_like(scale), self.limits, sharing)


class InputFakeQuant(nn.Module):
    """Per-tensor asymmetric uint8 activations.

    Both ends of the range are learned, which is LSQ+ in other coordinates (scale and offset are
    linear in them). An end at zero, as behind a ReLU, stays there.

    Args:
        low: smallest value of the calibrated range; widened to 0.
        high: largest value of the calibrated range; widened to 0.
    """

    limits = (0, 255)
    initial: torch.Tensor

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        # A tensor of zeros has no scale of its own: take the range of PTQ's scale for it.
        scale = float(asymmetric_uint8(Range(low=low, high=high)).scale)
        low, high = min(low, 0.0), max(high, 0.0)
        if high - low < 0.5 * scale * self.limits[1]:
            low, high = 0.0, scale * self.limits[1]
        initial = torch.tensor([low, high], dtype=torch.float32)
        self.register_buffer("initial", initial, persistent=False)
        self.learned = nn.Parameter(torch.zeros(2))

    def scale_and_offset(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The scale and the real value of step 0 before rounding to the grid, both 0-d."""
        low, high = _moved(self.initial, self.learned).unbind()
        return (high - low) / self.limits[1], low

    def parameters_of_grid(self) -> tuple[float, int]:
        """The scale (a float32 value) and the zero point that the forward pass uses."""
        with torch.no_grad():
            scale, offset = self.scale_and_offset()
            return float(scale), int(_zero_point(scale, offset, self.limits))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        scale, offset = self.scale_and_offset()
        sharing = values.numel() // max(values.shape[0], 1) if values.dim() else 1
        # Under autocast values may come in half precision, too coarse to find 255 steps in.
        full = values.to(scale.dtype)
        return fake_quantize(full, scale, offset, self.limits, sharing).to(values.dtype)


def _moved(initial: torch.Tensor, learned: torch.Tensor) -> torch.Tensor:
    """What ``initial`` has become; both of one shape, ``learned`` 0 to begin with."""
    return initial * torch.exp(_GAIN * learned)


def _zero_point(scale: torch.Tensor, offset: torch.Tensor, limits: tuple[int, int]) -> torch.Tensor:
    """The step of a real zero. It is 0 for a symmetric grid, whose offset is 0."""
    return torch.clamp(torch.round(-offset / scale), *limits)
