"""Attention to a learned low-rank summary of keys and values."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.compress.attention.window import MASKED
from edgekit.errors import WorkloadError

__all__ = ["LinformerAttention"]


class LinformerAttention(nn.Module):
    """Attention to ``rank`` weighted means of the keys and values, at a cost of O(n * rank).

    After Linformer (Wang et al., 2020, arXiv:2006.04768), keys and values with one projection
    each, which the heads share. Before any training each mean is that of a segment of the
    sequence. A mean is taken over the positions that are there and not masked, and counts in the
    softmax by the share of its weight that they have: log(share) is added to its score, as
    proportional attention does (Bolya et al., 2022, arXiv:2210.09461). So it equals full
    attention while ``rank`` is ``max_length``, and padding changes nothing.

    Args:
        rank: how many means.
        max_length: the longest sequence; shorter ones use the first rows of the projections.

    Raises:
        ValueError: not ``1 <= rank <= max_length``.
    """

    def __init__(self, rank: int, max_length: int) -> None:
        super().__init__()
        if not 1 <= rank <= max_length:
            raise ValueError(f"rank {rank} of at most {max_length} positions")
        self.rank = rank
        self.max_length = max_length
        segment = torch.arange(max_length) * rank // max_length
        pooling = nn.functional.one_hot(segment, rank).float()
        self.key_projection = nn.Parameter(pooling / pooling.sum(0))
        self.value_projection = nn.Parameter(pooling / pooling.sum(0))

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        keep: torch.Tensor | None,
    ) -> torch.Tensor:
        """Attend.

        Args:
            query: scaled, shape (batch, heads, n, size).
            key: shape (batch, heads, n, size).
            value: shape (batch, heads, n, size).
            keep: True for positions that may be seen, shape (batch, n); None for all.

        Returns:
            Shape (batch, heads, n, size).

        Raises:
            WorkloadError: the sequence is longer than ``max_length``.
        """
        length = query.shape[2]
        if length > self.max_length:
            raise WorkloadError(
                f"a sequence of {length} positions is longer than max_length {self.max_length}",
                where="linformer attention",
                fix="Raise max_length of the efficient-attention pass, or shorten the input",
            )
        keys, share = _means(self.key_projection, key, keep)
        values, _ = _means(self.value_projection, value, keep)
        there = share > 0
        weight = torch.where(there, share.clamp(min=1e-6).log(), MASKED)
        scores = query @ keys.transpose(-1, -2) + weight[:, None, None]
        return scores.softmax(-1) @ values


def _means(
    projection: torch.Tensor, states: torch.Tensor, keep: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted means of ``states`` along the sequence, over what there is of it.

    Args:
        projection: weights of the positions, shape (max_length, rank).
        states: shape (batch, heads, n, size).
        keep: shape (batch, n), or None.

    Returns:
        The means, shape (batch, heads, rank, size), and the share of each one's weight that the
        positions have, shape (batch or 1, rank).
    """
    weights = projection[: states.shape[2]]
    total = projection.abs().sum(0)
    if keep is None:
        present = weights.abs().sum(0)[None]
    else:
        kept = keep.to(states.dtype)
        states = states * kept[:, None, :, None]
        present = kept @ weights.abs()
    # What is missing is made up for, as in a mean over fewer positions.
    scale = total / present.clamp(min=1e-6)
    means = weights.transpose(0, 1) @ states
    return means * scale[:, None, :, None], present / total.clamp(min=1e-6)
