"""Self-attention whose core can be exchanged, called as the module that it stands in for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgekit.compress.attention.projections import Projections
from edgekit.compress.attention.window import MASKED
from edgekit.errors import WorkloadError

__all__ = ["AttentionBlock", "FullAttention", "SelfAttention", "refused_arguments"]

#: Arguments that make a call more than self-attention over one sequence.
_REFUSED = (
    "past_key_values",
    "past_key_value",
    "layer_past",
    "encoder_hidden_states",
    "key_value_states",
    "position_embeddings",
    "position_bias",
)


@dataclass(frozen=True, slots=True)
class AttentionBlock:
    """How a module computes self-attention, and how it is called.

    Attributes:
        projections: its linear layers.
        heads: how many.
        scale: of the products of queries and keys.
        causal: no position sees a later one.
        parameters: names of the positional parameters of ``forward``; the states come first.
        mask: the parameter that masks keys, if there is one.
        excludes: a boolean mask is True for what may not be seen, not for what may.
        batch_first: states are (batch, n, width), not (n, batch, width).
        results: length of the returned tuple, the states and then None; 0 for the states alone.
    """

    projections: Projections
    heads: int
    scale: float
    causal: bool
    parameters: tuple[str, ...]
    mask: str | None
    excludes: bool
    batch_first: bool
    results: int


def refused_arguments(arguments: Mapping[str, Any]) -> list[str]:
    """Names of arguments, given as something, that plain self-attention has no use for."""
    refused = [name for name in _REFUSED if arguments.get(name) is not None]
    others = [arguments.get("key"), arguments.get("value")]
    query = arguments.get("query")
    if query is not None and any(one is not None and one is not query for one in others):
        refused.append("keys or values of another sequence")
    return refused


class SelfAttention(nn.Module):
    """Self-attention around a core that computes ``core(query, key, value, keep)``.

    The linear layers are the original's own where it had separate ones. Dropout of attention
    weights is gone.
    """

    #: Read by nn.TransformerEncoderLayer, which has a fused path that knows nn.MultiheadAttention
    #: alone; without a packed bias it takes the other one.
    in_proj_bias = None

    def __init__(self, block: AttentionBlock, core: nn.Module) -> None:
        super().__init__()
        self.query = block.projections.query
        self.key = block.projections.key
        self.value = block.projections.value
        self.out = block.projections.out
        self.core = core
        self.heads = block.heads
        self.scale = block.scale
        self.causal = block.causal
        self.parameter_names = block.parameters
        self.mask = block.mask
        self.excludes = block.excludes
        self.batch_first = block.batch_first
        self.results = block.results

    def forward(self, *positional: Any, **keywords: Any) -> Any:
        """Take what the replaced module took; see :class:`AttentionBlock`.

        Raises:
            WorkloadError: a cache, another sequence's states or a mask for each query is given.
        """
        given = {**dict(zip(self.parameter_names, positional, strict=False)), **keywords}
        refused = refused_arguments(given)
        if refused:
            raise WorkloadError(
                f"was called with {', '.join(refused)}",
                where="efficient attention",
                fix="Call the model without, use_cache=False for a cache, or exclude this module",
            )
        states = given[self.parameter_names[0]]
        if not self.batch_first:
            states = states.transpose(0, 1)
        batch, length, _ = states.shape
        query, key, value = (
            layer(states).view(batch, length, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        keep = None if self.mask is None else self._keep(given.get(self.mask))
        attended = self.core(query * self.scale, key, value, keep)
        attended = attended.transpose(1, 2).reshape(batch, length, -1)
        if self.out is not None:
            attended = self.out(attended)
        if not self.batch_first:
            attended = attended.transpose(0, 1)
        return (attended, *[None] * (self.results - 1)) if self.results else attended

    def _keep(self, mask: torch.Tensor | None) -> torch.Tensor | None:
        """The mask as booleans of shape (batch or 1, n), True for positions that may be seen."""
        if mask is None:
            return None
        if mask.dim() == 4:
            mask = mask[:, 0, -1]  # the last query sees all that any query sees
        if mask.dim() != 2:
            raise WorkloadError(
                f"has a mask of {mask.dim()} dimensions",
                where="efficient attention",
                fix="Give a mask of shape (batch, n) or (batch, 1, queries, n), or exclude it",
            )
        if mask.is_floating_point():
            return mask > -1.0  # additive: 0 for what may be seen, a very low number else
        seen = mask.bool()
        return ~seen if self.excludes else seen


class FullAttention(nn.Module):
    """Every position attends to every other: what the others are compared with.

    Args:
        causal: no position sees a later one.
    """

    def __init__(self, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        keep: torch.Tensor | None,
    ) -> torch.Tensor:
        """Attend; shapes as those of :class:`.window.WindowAttention`."""
        scores = query @ key.transpose(-1, -2)
        if keep is not None:
            scores = scores.masked_fill(~keep[:, None, None], MASKED)
        if self.causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, MASKED)
        return scores.softmax(-1) @ value
