"""Sparse training from scratch with a fixed budget: static, SET and RigL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
from torch import nn

from edgekit.compress.sparse.layers import SparseLayer

__all__ = ["DynamicSparsity", "Grow", "reset_weights"]

#: ``static`` keeps the random mask that it began with; ``set`` grows connections at random (Mocanu
#: et al., 2018, arXiv:1707.04780), ``rigl`` where the gradient is largest (Evci et al., 2020,
#: arXiv:1911.11134).
Grow: TypeAlias = Literal["static", "set", "rigl"]

#: The share of a layer's connections that the first update moves; it falls to 0 as a cosine.
_FRACTION = 0.3
#: Connections stay where they are in the rest of training.
_END = 0.75
#: A training of few steps has about this many times :data:`_END` updates.
_UPDATES = 12


class DynamicSparsity:
    """Called after each step of the optimizer: keeps the zeros, and moves connections at times.

    An update drops the smallest weights of a layer and grows as many others from zero. RigL grows
    by the gradient (weights that are zero have one, too) summed over the steps since the last
    update: the paper's is that of one batch, of thousands of images.

    Args:
        layers: by name; their weights are made sparse at once, by masks drawn at random.
        counts: how many weights each has.
        grow: how connections are grown.
        interval: steps between updates; None for 100 as the papers have it, or a twelfth of a
            training that is shorter than 1200 steps.
        seed: of masks and random growth.
    """

    def __init__(
        self,
        layers: Mapping[str, SparseLayer],
        counts: Mapping[str, int],
        grow: Grow,
        interval: int | None,
        seed: int,
    ) -> None:
        self._layers = layers
        self._grow = grow
        self._interval = interval
        self._generator = torch.Generator().manual_seed(seed)
        self._masks = {name: self._draw(layer, counts[name]) for name, layer in layers.items()}
        self._gradients: dict[str, torch.Tensor] = {}
        self._apply()

    def __call__(self, step: int, steps: int) -> None:
        end = _END * steps
        if self._grow == "rigl":
            self._watch()
        interval = self._interval or min(max(steps // _UPDATES, 1), 100)
        if self._grow != "static" and step % interval == 0 and step < end:
            fraction = _FRACTION / 2 * (1 + math.cos(math.pi * step / end))
            for name, layer in self._layers.items():
                self._masks[name] = self._moved(name, layer.weight.detach(), fraction)
            self._gradients.clear()
        self._apply()

    def _watch(self) -> None:
        for name, layer in self._layers.items():
            assert layer.weight.grad is not None
            seen = self._gradients.get(name)
            gradient = layer.weight.grad
            self._gradients[name] = gradient.clone() if seen is None else seen.add_(gradient)

    @torch.no_grad()
    def _apply(self) -> None:
        for name, layer in self._layers.items():
            layer.weight.masked_fill_(~self._masks[name], 0.0)

    def _draw(self, layer: SparseLayer, count: int) -> torch.Tensor:
        scores = torch.rand(layer.weight.shape, generator=self._generator)
        return _highest(scores.to(layer.weight.device), count)

    def _moved(self, name: str, weight: torch.Tensor, fraction: float) -> torch.Tensor:
        """The mask after one update. What was dropped may grow again, as RigL has it."""
        mask = self._masks[name]
        count = int(mask.sum())
        moved = min(int(fraction * count), mask.numel() - count)
        kept = _highest(weight.abs().masked_fill(~mask, -1.0), count - moved)
        if self._grow == "rigl":
            worth = self._gradients[name].abs()
        else:
            worth = torch.rand(mask.shape, generator=self._generator).to(mask.device)
        return kept | _highest(worth.masked_fill(kept, -1.0), moved)


def reset_weights(model: nn.Module, seed: int) -> list[str]:
    """Initialize every module of ``model`` anew, in place, as its own ``reset_parameters`` does.

    Returns:
        Names of modules with parameters of their own but no such function; they stay as they are.
    """
    left = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(module.parameters(recurse=False), None) is not None:
                left.append(name)
    return left


def _highest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """True for the ``count`` highest; of equal ones the earlier, always the same."""
    order = torch.argsort(scores.flatten(), descending=True, stable=True)
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[order[:count]] = True
    return mask.view(scores.shape)
