"""Put fake quantization on a model for the time of its training, and take it off again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from edgekit.compress.qat.fake_quant import InputFakeQuant, WeightFakeQuant
from edgekit.compress.qat.fold import Layer
from edgekit.compress.qat.observe import layers
from edgekit.errors import WorkloadError
from edgekit.spec import Array

__all__ = ["LearnedLayer", "QatHandle", "attach"]

_CHILD = "input_fake_quant"


@dataclass(frozen=True, slots=True)
class LearnedLayer:
    """What training found out about one Linear or Conv.

    Attributes:
        name: dotted name of the module.
        weight: float32 of shape (out channels, ...), each value ``weight_scale`` times an integer
            in -levels .. levels of :func:`attach`.
        weight_scale: float32 of shape (out channels,), positive.
        low: real value of step 0 of the input. ``asymmetric_uint8(Range(low=low, high=high))``
            gives back exactly ``scale`` and ``zero_point``.
        high: real value of step 255 of the input.
        scale: of the input, positive, a float32 value.
        zero_point: the step (0 .. 255) that stands for a real zero in the input.
    """

    name: str
    weight: Array
    weight_scale: Array
    low: float
    high: float
    scale: float
    zero_point: int

    @property
    def steps(self) -> Array:
        """The weight in int8: ``weight == steps * weight_scale`` along axis 0, exactly."""
        scale = self.weight_scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        steps: Array = np.rint(self.weight / scale).astype(np.int8)
        return steps


class QatHandle:
    """The fake quantization on a model.

    Attributes:
        names: the layers that train on the int8 grid.
    """

    def __init__(self, model: nn.Module, quantized: Mapping[str, Layer]) -> None:
        self._layers = dict(quantized)
        hooks = [
            layer.register_forward_pre_hook(_quantize_input, with_kwargs=True)
            for layer in self._layers.values()
        ]
        self._hooks = [*hooks, model.register_forward_pre_hook(self._check)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._layers)

    def require_finite(self) -> None:
        """Stop a training that has gone wrong.

        Raises:
            WorkloadError: a scale or a quantized weight is NaN or infinite.
        """
        for name, layer in self._layers.items():
            learned = [*_input_quantizer(layer).parameters(), *layer.parameters()]
            if not all(bool(torch.isfinite(tensor).all()) for tensor in learned):
                raise _diverged(name)

    def finish(self) -> list[LearnedLayer]:
        """Leave a plain model whose weights are the quantized ones, and tell what was learned.

        Nothing of the fake quantization stays: no hook, parametrization, child or buffer. The
        inputs of the layers are not rounded any more; their ranges are in the result.

        Raises:
            WorkloadError: a scale or a weight is NaN or infinite.
        """
        self.require_finite()
        # All are read before any is changed, as two layers may share one weight.
        learned = [_learned(name, layer) for name, layer in self._layers.items()]
        for hook in self._hooks:
            hook.remove()
        for result, layer in zip(learned, self._layers.values(), strict=True):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            delattr(layer, _CHILD)
            _set_weight(layer, result.weight)
        self._layers, self._hooks = {}, []
        return learned

    def _check(self, model: nn.Module, _: Any) -> None:
        """Before each step: NaN in a loss reaches every scale, so looking at those will do."""
        if model.training and self._layers:
            inputs = (_input_quantizer(layer) for layer in self._layers.values())
            ratios = torch.cat([quantizer.learned.detach() for quantizer in inputs])
            if not bool(torch.isfinite(ratios).all()):
                self.require_finite()


def attach(
    model: nn.Module,
    ranges: Mapping[str, tuple[float, float]],
    shared: Iterable[Sequence[str]] = (),
    levels: int = 127,
) -> QatHandle:
    """Fake-quantize the weight and the input of every Linear and Conv that has a range.

    The scales become parameters of ``model``, so make the optimizer afterwards.

    Args:
        model: changed in place until :meth:`QatHandle.finish`.
        ranges: calibrated range (low, high) of the input, by dotted module name. A layer without
            one stays float: calibration never came by there.
        shared: groups of layers that read one tensor and learn one range for it, the widest of
            theirs to begin with; see :func:`edgekit.compress.qat.shared_inputs`.
        levels: the largest step of a weight.
    """
    found = {name: layer for name, layer in layers(model).items() if name in ranges}
    groups = {name: tuple(n for n in group if n in found) for group in shared for name in group}
    quantizers: dict[tuple[str, ...], InputFakeQuant] = {}
    for name, layer in found.items():
        group = groups.get(name, (name,))
        if group not in quantizers:
            low = min(ranges[member][0] for member in group)
            high = max(ranges[member][1] for member in group)
            quantizers[group] = InputFakeQuant(low, high).to(layer.weight.device)
        layer.add_module(_CHILD, quantizers[group])
        parametrize.register_parametrization(layer, "weight", WeightFakeQuant(layer.weight, levels))
    return QatHandle(model, found)


def _quantize_input(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    # It asks the layer for its child, so that a deep copy made while training uses its own.
    quantizer = _input_quantizer(layer)
    if args:
        return (quantizer(args[0]), *args[1:]), kwargs
    name = next(iter(kwargs))
    return args, {**kwargs, name: quantizer(kwargs[name])}


def _input_quantizer(layer: nn.Module) -> InputFakeQuant:
    quantizer = getattr(layer, _CHILD)
    assert isinstance(quantizer, InputFakeQuant)
    return quantizer


def _set_weight(layer: Layer, weight: Array) -> None:
    old = layer.weight
    values = torch.from_numpy(weight.copy()).to(old.device)
    layer.weight = nn.Parameter(values, old.requires_grad)
    # The parametrization has put it last; what lists parameters by position wants it first.
    parameters = layer._parameters  # noqa: SLF001, there is no public way to order them
    for name in [name for name in parameters if name != "weight"]:
        parameters[name] = parameters.pop(name)


@torch.no_grad()
def _learned(name: str, layer: Layer) -> LearnedLayer:
    (weight_quantizer,) = layer.parametrizations["weight"]  # type: ignore[index]
    scale, zero_point = _input_quantizer(layer).parameters_of_grid()
    lowest, highest = InputFakeQuant.limits
    return LearnedLayer(
        name=name,
        weight=layer.weight.detach().cpu().numpy(),
        weight_scale=weight_quantizer.scale().cpu().numpy(),
        # Exact in float64: a float32 times eight bits. So the scale can be had back from them.
        low=(lowest - zero_point) * scale,
        high=(highest - zero_point) * scale,
        scale=scale,
        zero_point=zero_point,
    )


def _diverged(name: str) -> WorkloadError:
    return WorkloadError(
        "training diverged, the weights or scales are NaN or infinite",
        where=f"finetune, layer {name!r}" if name else "finetune",
        fix="Lower the learning rate in finetune",
    )
