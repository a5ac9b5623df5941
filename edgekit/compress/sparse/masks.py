"""From scores to masks: True where a weight stays.

Scores are float tensors of shape ``(groups, rows, columns)``, see :mod:`.layers`; higher ones stay.
Of equal scores the later one stays, always the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch

__all__ = ["Pattern", "Sparsity", "dropped", "mask_layers", "mask_pattern", "mask_ratio"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """``keep`` of every ``of`` consecutive columns: 2:4 is ``Pattern(2, 4)``."""

    keep: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read ``"2:4"``."""
        keep, of = text.split(":")
        return cls(int(keep), int(of))

    def __str__(self) -> str:
        return f"{self.keep}:{self.of}"


#: The share of weights that goes, at least 0 and below 1, or a pattern.
Sparsity: TypeAlias = float | Pattern


def dropped(ratio: float, count: int) -> int:
    """How many of ``count`` weights go: ``ratio`` of them, rounded down, so never all."""
    exact = int(ratio * count + 1e-9)  # 0.29 * 100 is a little less than 29
    return min(exact, max(count - 1, 0))


def mask_ratio(scores: torch.Tensor, ratio: float, *, by_row: bool = False) -> torch.Tensor:
    """Drop the lowest ``ratio`` of all scores of a layer, or of every row of it by itself."""
    if by_row:
        return _without_lowest(scores, dropped(ratio, scores.shape[-1]))
    return _without_lowest(scores.flatten(), dropped(ratio, scores.numel())).view(scores.shape)


def mask_pattern(scores: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Keep the highest of every ``pattern.of`` columns, whose number it has to divide."""
    groups = scores.reshape(*scores.shape[:-1], -1, pattern.of)
    return _without_lowest(groups, pattern.of - pattern.keep).view(scores.shape)


def mask_layers(scores: Mapping[str, torch.Tensor], ratio: float) -> dict[str, torch.Tensor]:
    """Drop the lowest ``ratio`` of the scores of all layers together."""
    flat = torch.cat([one.flatten() for one in scores.values()])
    parts = torch.split(mask_ratio(flat, ratio), [one.numel() for one in scores.values()])
    return {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def _without_lowest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """True but for the ``count`` lowest along the last axis."""
    order = torch.argsort(scores, dim=-1, stable=True)
    mask = torch.ones_like(scores, dtype=torch.bool)
    return mask.scatter_(-1, order[..., :count], value=False)
