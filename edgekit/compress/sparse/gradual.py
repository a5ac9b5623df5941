"""Sparsity that grows during fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from edgekit.compress.sparse.base import Evidence, Method
from edgekit.compress.sparse.layers import SparseLayer, from_matrix, to_matrix
from edgekit.compress.sparse.masks import Pattern, Sparsity, mask_layers, mask_pattern, mask_ratio
from edgekit.compress.sparse.schedule import at, is_update

__all__ = ["Gradual", "choose_masks"]


def choose_masks(
    scores: Mapping[str, torch.Tensor], method: Method, sparsity: Sparsity, *, across: bool
) -> dict[str, torch.Tensor]:
    """Masks of all layers, each by itself or all ``across`` layers together."""
    if isinstance(sparsity, Pattern):
        return {name: mask_pattern(one, sparsity) for name, one in scores.items()}
    if across:
        return mask_layers(scores, sparsity)
    return {name: mask_ratio(one, sparsity, by_row=method.by_row) for name, one in scores.items()}


class Gradual:
    """Called after each step of the optimizer: zeros where the mask is, more of them step by step.

    A weight that goes is remembered as it was and may come back when masks are chosen again. Its
    gradient is that of the sparse model, and counts for movement.

    Args:
        layers: by name.
        method: one that scores.
        evidence: by name; what the method needs of calibration data.
        sparsity: in the end.
        across: compare the scores of all layers.
    """

    def __init__(
        self,
        layers: Mapping[str, SparseLayer],
        method: Method,
        evidence: Mapping[str, Evidence],
        sparsity: Sparsity,
        *,
        across: bool,
    ) -> None:
        self._layers = layers
        self._method = method
        self._sparsity = sparsity
        self._across = across
        self._values = {name: _matrix(layer) for name, layer in layers.items()}
        self._masks = {
            name: torch.ones_like(values, dtype=torch.bool) for name, values in self._values.items()
        }
        self._evidence = {
            name: replace(evidence.get(name, Evidence()), movement=torch.zeros_like(values))
            for name, values in self._values.items()
        }

    @torch.no_grad()
    def __call__(self, step: int, steps: int) -> None:
        for name, layer in self._layers.items():
            self._watch(name, layer)
        if is_update(step, steps):
            scores = {
                name: self._method.score(self._values[name], self._evidence[name])
                for name in self._layers
            }
            now = at(self._sparsity, step, steps)
            self._masks = choose_masks(scores, self._method, now, across=self._across)
        for name, layer in self._layers.items():
            kept = torch.where(self._masks[name], self._values[name], 0.0)
            layer.weight.copy_(from_matrix(layer, kept))

    def _watch(self, name: str, layer: SparseLayer) -> None:
        """Add up movement at the weights that the step began with, and take over the trained."""
        values, movement = self._values[name], self._evidence[name].movement
        assert movement is not None
        if self._method.gradients and layer.weight.grad is not None:
            movement -= values * to_matrix(layer, layer.weight.grad)
        torch.where(self._masks[name], _matrix(layer), values, out=values)


def _matrix(layer: SparseLayer) -> torch.Tensor:
    return to_matrix(layer, layer.weight.detach()).clone()
