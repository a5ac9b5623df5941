"""Movement: weights that training moves towards zero go."""

from __future__ import annotations

import torch

from edgekit.compress.sparse.base import Evidence, Method

__all__ = ["Movement"]


class Movement(Method):
    """The score is ``-w * dL/dw``, summed over training (Sanh et al., 2020, arXiv:2005.07683).

    It is positive where training moves a weight away from zero.
    """

    gradients = True
    across_layers = True

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:  # noqa: ARG002
        assert evidence.movement is not None
        return evidence.movement
