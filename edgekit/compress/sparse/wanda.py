"""Wanda: weights that contribute little to the output on real data go."""

from __future__ import annotations

import torch

from edgekit.compress.sparse.base import Evidence, Method

__all__ = ["Wanda"]


class Wanda(Method):
    """The score is ``|w| * ||x||_2``, compared within an output (Sun et al., 2023,
    arXiv:2306.11695).
    """

    inputs = "squares"
    by_row = True

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        assert evidence.squares is not None
        return weight.abs() * evidence.squares.sqrt().unsqueeze(-2)
