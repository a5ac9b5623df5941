"""Tucker-2 of a kxk convolution: 1x1, kxk on fewer channels, 1x1.

Y. Kim et al., Compression of deep convolutional neural networks for fast and low power mobile
applications, ICLR 2016 (arXiv 1511.06530). Truncation starts at the higher-order SVD and is refined
by higher-order orthogonal iteration (De Lathauwer et al. 2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from edgekit.compress.lowrank.base import Candidate
from edgekit.compress.lowrank.layers import Layer, LayerSite, conv_part
from edgekit.compress.lowrank.weighting import Weighting

__all__ = ["TuckerSite", "compose", "hosvd", "tucker2"]


def compose(core: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The kernel ``core x_1 left x_2 right``, shape ``(outputs, inputs, height, width)``."""
    return torch.einsum("pqhw,op,iq->oihw", core, left, right)


def hosvd(kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bases of the output and the input channels, the most important directions first.

    Args:
        kernel: shape ``(outputs, inputs, height, width)``, float64.

    Returns:
        Orthonormal, shapes ``(outputs, outputs)`` and ``(inputs, inputs)``.
    """
    return _basis(kernel.flatten(1)), _basis(kernel.transpose(0, 1).flatten(1))


def tucker2(
    kernel: torch.Tensor, ranks: tuple[int, int], iterations: int = 20
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The kernel at fewer output and input channels.

    Args:
        kernel: shape ``(outputs, inputs, height, width)``, float64.
        ranks: of the output channels, of the input channels.
        iterations: at most; each one lowers the error.

    Returns:
        Core ``(*ranks, height, width)``, and orthonormal bases ``(outputs, ranks[0])`` and
        ``(inputs, ranks[1])``.
    """
    left, right = (basis[:, :rank] for basis, rank in zip(hosvd(kernel), ranks, strict=True))
    kept = 0.0
    for _ in range(iterations):
        left = _basis(torch.einsum("oihw,iq->oqhw", kernel, right).flatten(1))[:, : ranks[0]]
        half = torch.einsum("oihw,op->iphw", kernel, left)
        right = _basis(half.flatten(1))[:, : ranks[1]]
        energy = float(torch.einsum("iphw,iq->pqhw", half, right).square().sum())
        if energy <= kept * (1 + 1e-9):
            break
        kept = energy
    return torch.einsum("oihw,op,iq->pqhw", kernel, left, right), left, right


def _basis(unfolded: torch.Tensor) -> torch.Tensor:
    """All left singular vectors, the largest singular value first."""
    vectors: torch.Tensor = torch.linalg.eigh(unfolded @ unfolded.T)[1]
    return vectors.flip(1)


class TuckerSite(LayerSite):
    """A kxk convolution as 1x1, kxk and 1x1.

    A side whose rank is all its channels has no 1x1 convolution.
    """

    def __init__(self, layer: Layer, weighting: Weighting) -> None:
        super().__init__(layer)
        self._weighting = weighting

    @cached_property
    def _weighted(self) -> torch.Tensor:
        return self._weighting.apply(self.layer.weight)

    def candidates(self, multiple: int) -> Sequence[Candidate]:
        outputs, inputs = self.layer.weight.shape[:2]
        left, right = hosvd(self._weighted)
        energy = torch.einsum("oihw,op,iq->pqhw", self._weighted, left, right).square().sum((2, 3))
        kept = energy.cumsum(0).cumsum(1)
        total = max(float(kept[-1, -1]), 1e-300)
        return self.cheaper(
            self._candidate(p, q, max(0.0, 1.0 - float(kept[p - 1, q - 1]) / total) ** 0.5)
            for p in [*range(multiple, outputs, multiple), outputs]
            for q in [*range(multiple, inputs, multiple), inputs]
        )

    def _candidate(self, p: int, q: int, error: float) -> Candidate:
        """Of the higher-order SVD: iteration makes the error a little smaller still."""
        outputs, inputs, *kernel = self.layer.weight.shape
        reduce = inputs * q if q < inputs else 0
        expand = outputs * p if p < outputs else 0
        core = p * q * torch.Size(kernel).numel()
        at_input, at_output = self.layer.input_positions, self.layer.output_positions
        macs = at_input * reduce + at_output * (core + expand)
        return Candidate((p, q), error, macs, reduce + core + expand)

    def build(self, ranks: tuple[int, ...]) -> nn.Sequential:
        like = self.layer.module
        assert isinstance(like, nn.Conv2d)
        outputs, inputs = self.layer.weight.shape[:2]
        p, q = ranks
        core, left, right = tucker2(self._weighted, (p, q))
        left, right = self._weighting.unscale_rows(left), self._weighting.unroot(right.T)
        if p == outputs:
            core = torch.einsum("pqhw,op->oqhw", core, left)
        if q == inputs:
            core = torch.einsum("pqhw,qi->pihw", core, right)
        bias = like.bias
        parts = [conv_part(like, core, bias if p == outputs else None, along=(True, True))]
        if q < inputs:
            parts.insert(0, conv_part(like, right[:, :, None, None], None))
        if p < outputs:
            parts.append(conv_part(like, left[:, :, None, None], bias))
        return nn.Sequential(*parts)
