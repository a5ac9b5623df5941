"""Merge inference-mode BatchNorm into the Conv or Linear before it, in the PyTorch module.

Training on the int8 grid needs the weights that will be quantized, and those are the folded ones.
``edgekit.exporters.passes.fold_batch_norm`` does the same to an ONNX graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import fx, nn

__all__ = ["LAYERS", "Layer", "fold_batch_norm"]

Layer: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

#: The modules whose weight has its output channels on axis 0.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

#: Float32 rounding leaves about 1e-7; anything above this share of the output is another function.
_TOLERANCE = 1e-4


def fold_batch_norm(model: nn.Module) -> int:
    """Fold every eval-mode BatchNorm into the layer before it, in place.

    ``gamma * (W x + b - mean) / sqrt(var + eps) + beta`` is again a layer of the same kind; the
    norm becomes an ``nn.Identity`` of the same name. Which layer comes before is read off the
    data flow (``torch.fx``). A module that cannot be traced is searched child by child, and
    neighbours in an ``nn.Sequential`` are taken to follow each other.

    A norm stays where folding would change the result: in training mode, without running
    statistics, behind a layer with other readers or with shared weights, or where either module
    computes more than its class promises (each fold is tried on random data).

    Returns:
        How many were folded.
    """
    sharing = _Sharing(model)
    folded = 0
    for layer, norm in list(_pairs(model)):
        if sharing.alone(layer) and sharing.alone(norm) and _foldable(layer, norm):
            folded += _fold_checked(layer, norm) and _replace(model, norm)
    return folded


class _Sharing:
    """Which modules and parameters go by one name only."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
        self._tensors = Counter(id(p) for m in model.modules() for p in m._parameters.values())  # noqa: SLF001

    def alone(self, module: nn.Module) -> bool:
        return self._modules[id(module)] == 1 and all(
            self._tensors[id(tensor)] == 1 for tensor in module.parameters(recurse=False)
        )


class _Tracer(fx.Tracer):
    """Keeps layers and norms whole, subclasses of them from other packages, too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*LAYERS, *_NORMS)) or super().is_leaf_module(m, module_qualified_name)


def _pairs(module: nn.Module) -> Iterator[tuple[Layer, _Norm]]:
    """Each norm inside ``module`` with the layer whose output only it reads."""
    try:
        graph = _Tracer().trace(module)
    except Exception:  # noqa: BLE001, tracing runs the user's forward on proxies
        if type(module).forward is nn.Sequential.forward:
            yield from (
                (layer, norm)
                for layer, norm in pairwise(module.children())
                if isinstance(layer, LAYERS) and isinstance(norm, _NORMS)
            )
        for child in module.children():
            yield from _pairs(child)
    else:
        yield from _traced_pairs(module, graph)


def _traced_pairs(module: nn.Module, graph: fx.Graph) -> Iterator[tuple[Layer, _Norm]]:
    called = [node for node in graph.nodes if node.op == "call_module"]
    targets = {node: module.get_submodule(str(node.target)) for node in called}
    calls = Counter(id(target) for target in targets.values())
    for node, norm in targets.items():
        source: Any = node.args[0] if node.args else None
        layer = targets.get(source)
        if (
            isinstance(norm, _NORMS)
            and isinstance(layer, LAYERS)
            and len(source.users) == 1
            and calls[id(norm)] == calls[id(layer)] == 1
        ):
            yield layer, norm


def _foldable(layer: Layer, norm: _Norm) -> bool:
    return (
        not norm.training
        and norm.running_mean is not None
        and norm.running_var is not None
        and norm.num_features == layer.weight.shape[0]
        and isinstance(layer.weight, nn.Parameter)  # not made by weight_norm and its kind
        and not hasattr(layer, "parametrizations")
    )


@torch.no_grad()
def _fold_checked(layer: Layer, norm: _Norm) -> bool:
    """Fold, and undo it when the layer then computes something else than both before."""
    old_weight, old_bias = layer.weight, layer.bias
    sample = _sample_input(layer)
    try:
        wanted = norm(layer(sample))
        _fold(layer, norm)
        error = float((layer(sample) - wanted).norm() / wanted.norm())
    except Exception:  # noqa: BLE001, a subclass may want another input: it stays as it is
        error = float("nan")
    if error <= _TOLERANCE:
        return True
    layer.weight, layer.bias = old_weight, old_bias
    return False


def _fold(layer: Layer, norm: _Norm) -> None:
    assert norm.running_mean is not None  # _foldable checked both
    assert norm.running_var is not None
    weight, mean = layer.weight.double(), norm.running_mean.double()
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias.double()
    factor = torch.rsqrt(norm.running_var.double() + norm.eps)
    shift = torch.zeros_like(mean)
    if norm.affine:
        factor, shift = factor * norm.weight.double(), norm.bias.double()
    kind = layer.weight.dtype
    scaled = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
    layer.weight = nn.Parameter(scaled.to(kind), layer.weight.requires_grad)
    layer.bias = nn.Parameter(((bias - mean) * factor + shift).to(kind), layer.weight.requires_grad)


def _sample_input(layer: Layer) -> torch.Tensor:
    """Random data of the smallest shape that ``layer`` gives a few outputs for."""
    shape = [4, layer.in_features] if isinstance(layer, nn.Linear) else [4, layer.in_channels]
    if not isinstance(layer, nn.Linear):
        extents = zip(layer.kernel_size, layer.dilation, strict=True)
        shape += [(kernel - 1) * dilation + 4 for kernel, dilation in extents]
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator)
    return values.to(layer.weight.device, layer.weight.dtype)


def _replace(model: nn.Module, norm: _Norm) -> bool:
    name = next(name for name, module in model.named_modules() if module is norm)
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    return True
