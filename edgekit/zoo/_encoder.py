"""What the transformers of the zoo share: attention with several heads, and the block around it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Attention", "EncoderBlock", "feed_forward"]


class Attention(nn.Module):
    """Self-attention of ``heads`` heads (Vaswani et al., 2017): (n, tokens, width) to the same.

    A variant of it overrides :meth:`mix`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (self.split(part) for part in self.project(x).chunk(3, dim=-1))
        mixed: torch.Tensor = self.out(self.mix(query, key, value).transpose(1, 2).flatten(2))
        return mixed

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width) to (n, heads, tokens, width / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def mix(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """What each token takes from the others; all are (n, heads, tokens, width / heads)."""
        return functional.scaled_dot_product_attention(query, key, value)


def feed_forward(width: int, times: int = 2) -> nn.Module:
    """The layer of each token by itself, that many times as wide within."""
    hidden = times * width
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class EncoderBlock(nn.Module):
    """Attention, then a layer of each token by itself; both normalize first and add to x."""

    def __init__(
        self,
        width: int,
        attention: nn.Module,
        forward: Callable[[int], nn.Module] = feed_forward,
    ) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = attention
        self.before_forward = nn.LayerNorm(width)
        self.feed_forward = forward(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.before_attention(x))
        fed: torch.Tensor = x + self.feed_forward(self.before_forward(x))
        return fed
