"""Truncated SVD of a Linear or a 1x1 convolution, plain or weighted.

Activation-aware: W. Wang et al., SVD-LLM, ICLR 2025 (arXiv 2403.07378). Fisher-weighted: Y. Hsu et
al., Language model compression with weighted low-rank factorization, ICLR 2022 (arXiv 2207.00112).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from edgekit.compress.lowrank.base import Candidate
from edgekit.compress.lowrank.layers import Layer, LayerSite, conv_part, linear_part
from edgekit.compress.lowrank.weighting import Weighting

__all__ = ["SvdSite", "balanced", "decompose", "factors", "left_vectors", "relative_errors"]

#: Singular values below this share of the largest are not used to balance the factors.
_SMALLEST = 1e-6


def decompose(weight: torch.Tensor, weighting: Weighting) -> tuple[torch.Tensor, torch.Tensor]:
    """The left singular vectors and singular values of a weight in its norm.

    Args:
        weight: shape ``(outputs, inputs)``.
        weighting: the norm.

    Returns:
        Float64, shapes ``(outputs, k)`` and ``(k,)`` with ``k = min(outputs, inputs)``, largest
        first.
    """
    return left_vectors(weighting.apply(weight))


def left_vectors(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Left singular vectors and singular values of a float64 matrix, largest first.

    By the eigenvectors of the smaller Gram matrix, which takes a tenth of the time of an SVD;
    singular values are good to 1e-8 of the largest.
    """
    if matrix.shape[0] > matrix.shape[1]:
        basis, triangle = torch.linalg.qr(matrix)
        left, values = left_vectors(triangle)
        return basis @ left, values
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return vectors.flip(1), squares.clamp(min=0).sqrt().flip(0)


def factors(
    weight: torch.Tensor, left: torch.Tensor, values: torch.Tensor, weighting: Weighting
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two factors with the least weighted error.

    The truncation is the projection ``U U^T`` of the weighted rows, so the inputs' moment is never
    inverted: one that is singular does no harm, and at full rank the product is the weight. The
    singular values are shared out evenly, which keeps the values between the factors at like sizes
    for int8.

    Args:
        weight: shape ``(outputs, inputs)``.
        left: the first ``rank`` left singular vectors, shape ``(outputs, rank)``.
        values: their singular values.
        weighting: the norm.

    Returns:
        Float64, shapes ``(outputs, rank)`` and ``(rank, inputs)``.
    """
    second, first = balanced(left, values, weighting.scale_rows(weight.double()))
    return weighting.unscale_rows(second), first


def balanced(
    left: torch.Tensor, values: torch.Tensor, matrix: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """``left left^T matrix`` as two factors that share the singular values."""
    balance = values.clamp(min=max(_SMALLEST * float(values[0]), 1e-30)).sqrt()
    return left * balance, (left.T @ matrix) / balance[:, None]


class SvdSite(LayerSite):
    """A Linear or 1x1 convolution as two of them with ``rank`` values between."""

    def __init__(self, layer: Layer, weighting: Weighting) -> None:
        super().__init__(layer)
        self._weighting = weighting
        self._weight = layer.weight.flatten(1)

    @cached_property
    def _decomposed(self) -> tuple[torch.Tensor, torch.Tensor]:
        return decompose(self._weight, self._weighting)

    def candidates(self, multiple: int) -> Sequence[Candidate]:
        outputs, inputs = self._weight.shape
        tail = relative_errors(self._decomposed[1])
        made = [
            Candidate(
                (rank,),
                tail[rank],
                rank * self.layer.positions(inputs, outputs),
                rank * (inputs + outputs),
            )
            for rank in range(multiple, min(outputs, inputs) + 1, multiple)
        ]
        return self.cheaper(made)

    def build(self, ranks: tuple[int, ...]) -> nn.Sequential:
        left, values = self._decomposed
        (rank,) = ranks
        second, first = factors(self._weight, left[:, :rank], values[:rank], self._weighting)
        module = self.layer.module
        if isinstance(module, nn.Linear):
            return nn.Sequential(
                linear_part(module, first, None), linear_part(module, second, module.bias)
            )
        # the first of them strides, so that the second has less to do
        return nn.Sequential(
            conv_part(module, first[:, :, None, None], None, along=(True, True)),
            conv_part(module, second[:, :, None, None], module.bias),
        )


def relative_errors(values: torch.Tensor) -> list[float]:
    """The relative error at every rank from 0 to full."""
    squares = values.flip(0).square().cumsum(0).flip(0)
    total = max(float(squares[0]), 1e-300)
    return [float(one / total) ** 0.5 for one in squares] + [0.0]
