"""Attention that looks only where it may, at what was before, or at another sequence."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._encoder import Attention, EncoderBlock, feed_forward

__all__ = ["Block", "Cross"]

#: Keys and values of what was before, (batch, heads, past, size of a head) each.
_Past = tuple[torch.Tensor, torch.Tensor]


class Block(EncoderBlock):
    """The block of an encoder or a decoder, with a mask and, if need be, with a past.

    Args:
        width: of the sequence (batch, sequence, width).
        heads: of the attention.
        times: how many times as wide the second half is within.
    """

    attention: Attention

    def __init__(self, width: int, heads: int, times: int = 2) -> None:
        super().__init__(width, Attention(width, heads), partial(feed_forward, times=times))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """``mask``, for (batch, heads, sequence, sequence): True where it looks, or a bias."""
        return self.fed(self.attended(x, mask)[0])

    def attended(
        self, x: torch.Tensor, mask: torch.Tensor | None, past: _Past | None = None
    ) -> tuple[torch.Tensor, _Past]:
        """The first half, which looks at what was before, too; and keys and values of all."""
        inner = self.attention
        parts = inner.project(self.before_attention(x)).chunk(3, dim=-1)
        query, key, value = (inner.split(part) for part in parts)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return x + inner.out(mixed.transpose(1, 2).flatten(2)), (key, value)

    def fed(self, x: torch.Tensor) -> torch.Tensor:
        """The second half."""
        made: torch.Tensor = x + self.feed_forward(self.before_forward(x))
        return made


class Cross(nn.Module):
    """Attention of a sequence to another one of the same width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.ask = nn.Linear(width, width)
        self.project = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: torch.Tensor, other: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``mask`` for (batch, heads, sequence, other sequence), True where it looks."""
        return x + self.found(x, other, mask)

    def found(
        self, x: torch.Tensor, other: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What it adds to x."""
        parts = (self.ask(self.before(x)), *self.project(other).chunk(2, dim=-1))
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        made: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return made
