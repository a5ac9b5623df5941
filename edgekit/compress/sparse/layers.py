"""The layers that become sparse, and their weights as matrices.

A weight is seen as ``(groups, rows, columns)``: rows are output channels, and columns are ordered
by kernel position first and input channel second. So consecutive columns of a convolution are input
channels at one position, which is the axis along which TensorRT wants 2 of 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from edgekit.compress.base import Change
from edgekit.compress.modules import excluded
from edgekit.compress.sparse.masks import Pattern
from edgekit.errors import CompressError

__all__ = ["Choice", "SparseLayer", "choose_layers", "from_matrix", "to_matrix"]

SparseLayer: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d


@dataclass(frozen=True, slots=True)
class Choice:
    """Layers to make sparse by dotted name, and why the others stay dense."""

    layers: dict[str, SparseLayer]
    left: tuple[Change, ...]


def to_matrix(layer: SparseLayer, values: torch.Tensor) -> torch.Tensor:
    """``values``, of the shape of the layer's weight, as ``(groups, rows, columns)``."""
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    return values.movedim(1, -1).reshape(groups, values.shape[0] // groups, -1)


def from_matrix(layer: SparseLayer, matrix: torch.Tensor) -> torch.Tensor:
    """The way back: a tensor of the shape of the layer's weight."""
    shape = layer.weight.shape
    last = matrix.reshape(shape[0], *shape[2:], shape[1])
    return last.movedim(-1, 1).contiguous()


def choose_layers(
    model: nn.Module,
    exclude: Sequence[str] | None,
    pattern: Pattern | None,
    *,
    ends: tuple[bool, bool] = (True, True),
) -> Choice:
    """Every Linear, Conv1d and Conv2d that can become sparse.

    Args:
        model: the model.
        exclude: globs of module names that stay dense; None for the usual ones, see ``ends``.
        pattern: whose length has to divide the layer's input channels; None without one.
        ends: whether the first layer, if it is a convolution, and the last one are usually left
            dense. Their order is that of ``named_modules``.

    Raises:
        CompressError: a glob matches no layer (names the nearest), or no layer is left.
    """
    found: dict[str, SparseLayer] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    if exclude is None:
        named = _ends(found, ends)
    else:
        barred = excluded(exclude, found, "layer", "the model")
        named = {name: f"excluded by {glob!r}" for name, glob in barred.items()}
    shared = _shared(model)
    layers: dict[str, SparseLayer] = {}
    left = []
    for name, layer in found.items():
        why = named.get(name) or _why_dense(layer, shared, pattern)
        if why:
            left.append(Change(name, "dense", "dense", kept=False, why=why))
        else:
            layers[name] = layer
    if not layers:
        raise CompressError(
            "has no layer that can become sparse" + (f": {left[0].why}" if left else ""),
            where="the model" if not left else f"module {left[0].where!r}",
            fix="Name fewer layers in exclude, or leave this pass out",
        )
    return Choice(layers, tuple(left))


def _ends(found: dict[str, SparseLayer], ends: tuple[bool, bool]) -> dict[str, str]:
    names = list(found)
    left = {}
    if len(names) > 1 and ends[0] and not isinstance(found[names[0]], nn.Linear):
        left[names[0]] = "the first convolution usually stays dense; exclude decides"
    if len(names) > 1 and ends[1]:
        left[names[-1]] = "the last layer usually stays dense; exclude decides"
    return left


def _shared(model: nn.Module) -> Counter[int]:
    """How many modules hold each parameter."""
    modules = model.modules()
    return Counter(id(one) for module in modules for one in module.parameters(recurse=False))


def _why_dense(layer: SparseLayer, shared: Counter[int], pattern: Pattern | None) -> str:
    if not isinstance(layer.weight, nn.Parameter):
        return "its weight is computed from other parameters"
    if layer.weight.dtype != torch.float32:
        return f"its weight is {str(layer.weight.dtype).removeprefix('torch.')}, not float32"
    if not bool(torch.isfinite(layer.weight).all()):
        return "its weight has NaN or infinity"
    if shared[id(layer.weight)] > 1:
        return "another module has the same weight"
    if pattern is not None and layer.weight.shape[1] % pattern.of:
        return f"its {layer.weight.shape[1]} input channels are not a multiple of {pattern.of}"
    return ""
