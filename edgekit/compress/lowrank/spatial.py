"""A kxk convolution as kx1 and 1xk.

M. Jaderberg et al., Speeding up convolutional neural networks with low rank expansions, BMVC 2014
(arXiv 1405.3866).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from edgekit.compress.lowrank.base import Candidate
from edgekit.compress.lowrank.layers import Layer, LayerSite, conv_part
from edgekit.compress.lowrank.svd import balanced, left_vectors, relative_errors
from edgekit.compress.lowrank.weighting import Weighting

__all__ = ["SpatialSite"]


class SpatialSite(LayerSite):
    """A kxk convolution as kx1 to ``rank`` channels and 1xk."""

    def __init__(self, layer: Layer, weighting: Weighting) -> None:
        super().__init__(layer)
        self._weighting = weighting

    @cached_property
    def _decomposed(self) -> tuple[torch.Tensor, torch.Tensor]:
        return left_vectors(_matrix(self._weighting.apply(self.layer.weight)))

    def candidates(self, multiple: int) -> Sequence[Candidate]:
        outputs, inputs, height, width = self.layer.weight.shape
        read, written = self.layer.input_positions, self.layer.output_positions
        # between the two, rows are strided and columns are not yet
        vertical = round((read * written) ** 0.5) * inputs * height
        errors = relative_errors(self._decomposed[1])
        return self.cheaper(
            Candidate(
                (rank,),
                errors[rank],
                rank * (vertical + written * outputs * width),
                rank * (inputs * height + outputs * width),
            )
            for rank in range(multiple, len(errors), multiple)
        )

    def build(self, ranks: tuple[int, ...]) -> nn.Sequential:
        like = self.layer.module
        assert isinstance(like, nn.Conv2d)
        outputs, inputs, height, width = self.layer.weight.shape
        left, values = (one[..., : ranks[0]] for one in self._decomposed)
        rows = _matrix(self._weighting.scale_rows(self.layer.weight.double()))
        second, first = balanced(left, values, rows)
        second = second.reshape(outputs, width, -1).transpose(1, 2)
        return nn.Sequential(
            conv_part(like, first.reshape(-1, inputs, height, 1), None, along=(True, False)),
            conv_part(
                like,
                self._weighting.unscale_rows(second)[:, :, None],
                like.bias,
                along=(False, True),
            ),
        )


def _matrix(kernel: torch.Tensor) -> torch.Tensor:
    """Shape ``(outputs * width, inputs * height)``."""
    outputs, _, _, width = kernel.shape
    return kernel.permute(0, 3, 1, 2).reshape(outputs * width, -1)
