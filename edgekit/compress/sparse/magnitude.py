"""Magnitude: small weights go. The baseline of everything."""

from __future__ import annotations

import torch

from edgekit.compress.sparse.base import Evidence, Method

__all__ = ["Magnitude"]


class Magnitude(Method):
    """The score is ``|w|`` (Han et al., 2015, arXiv:1506.02626)."""

    across_layers = True

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:  # noqa: ARG002
        return weight.abs()
