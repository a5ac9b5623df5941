"""The contract of a sparsity method: which weights of a layer go, and what becomes of the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from edgekit.compress.sparse.masks import Pattern, Sparsity, mask_pattern, mask_ratio

__all__ = ["Evidence", "Method"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a method may know of a layer beside its weight. See :mod:`.layers` for the shapes.

    Attributes:
        squares: sum of squares of each input, float32 of shape ``(groups, columns)``.
        moment: ``X^T X`` of the inputs, float32 of shape ``(groups, columns, columns)``.
        rows: how many rows ``X`` has.
        movement: ``-weight * gradient``, summed over training, of the weight's shape.
    """

    squares: torch.Tensor | None = None
    moment: torch.Tensor | None = None
    rows: int = 0
    movement: torch.Tensor | None = None


class Method(ABC):
    """Scores the weights of a layer; the lowest scores go."""

    #: What it needs from calibration data.
    inputs: ClassVar[Literal["none", "squares", "moment"]] = "none"
    #: Whether it needs gradients of training.
    gradients: ClassVar[bool] = False
    #: Whether the weights of a row (an output channel) are compared with each other only.
    by_row: ClassVar[bool] = False
    #: Whether scores of different layers can be compared.
    across_layers: ClassVar[bool] = False

    @abstractmethod
    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """The worth of each weight, of the shape of ``weight``: ``(groups, rows, columns)``."""

    def sparsify(
        self, weight: torch.Tensor, evidence: Evidence, sparsity: Sparsity
    ) -> torch.Tensor:
        """The weight with its zeros; those that stay may have changed, too."""
        scores = self.score(weight, evidence)
        if isinstance(sparsity, Pattern):
            mask = mask_pattern(scores, sparsity)
        else:
            mask = mask_ratio(scores, sparsity, by_row=self.by_row)
        return torch.where(mask, weight, 0.0)
