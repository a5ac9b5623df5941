"""``zoo:longformer-recall`` and ``zoo:bigbird-recall``: attention that is linear in the length.

Both have a window and a few global tokens, which see all and are seen by all; here these are the
questions, as in Longformer's question answering.

- Longformer (Beltagy et al., 2020): a sliding window, and projections of its own for what
  global tokens ask for.
- BigBird (Zaheer et al., 2020): a window of whole blocks, and blocks drawn at random, the same
  for all sequences.

Each token of the sequence looks at 41 (Longformer) or 88 (BigBird) of 264 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._blocks import NearBias, around, attend, cut
from edgekit.zoo._encoder import Attention, EncoderBlock
from edgekit.zoo._entry import Made
from edgekit.zoo._recall import ASKED, LENGTH, Reader, recall

__all__ = ["ENTRIES"]

_WIDTH, _HEADS, _BLOCK = 48, 2, 16
_BLOCKS = LENGTH // _BLOCK


class _Longformer(Attention):
    """A sliding window of 16 tokens to either side, and global tokens."""

    def __init__(self) -> None:
        super().__init__(_WIDTH, _HEADS)
        self.near = NearBias(_HEADS, _BLOCK, _BLOCKS, reach=_BLOCK)
        self.project_global = nn.Linear(_WIDTH, 3 * _WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (self.split(part) for part in self.project(x).chunk(3, dim=-1))
        local = _local(query, key, value, self.near())
        query, key, value = (self.split(part) for part in self.project_global(x).chunk(3, dim=-1))
        asked = functional.scaled_dot_product_attention(query[:, :, :ASKED], key, value)
        mixed: torch.Tensor = self.out(torch.cat([asked, local], 2).transpose(1, 2).flatten(2))
        return mixed


class _BigBird(Attention):
    """A window of three blocks, two more blocks at random, and global tokens."""

    def __init__(self) -> None:
        super().__init__(_WIDTH, _HEADS)
        self.near = NearBias(_HEADS, _BLOCK, _BLOCKS)
        self.register_buffer("drawn", _draw(_BLOCKS, 2), persistent=False)
        # What is drawn would drown the window if it began as near as the token itself.
        self.far = nn.Parameter(torch.full((_HEADS, 1, 1, 1), -4.0))

    def mix(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        asked = functional.scaled_dot_product_attention(query[:, :, :ASKED], key, value)
        assert isinstance(self.drawn, torch.Tensor)
        near = self.near()
        far = self.far.expand(*near.shape[:3], self.drawn.shape[1] * _BLOCK)
        local = _local(query, key, value, torch.cat([near, far], dim=3), self.drawn)
        return torch.cat([asked, local], dim=2)


def _local(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    drawn: torch.Tensor | None = None,
) -> torch.Tensor:
    """What the tokens behind the global ones take from these and from what is near or drawn."""
    keys, values = (_seen(part, drawn) for part in (key, value))
    blocks = cut(query[:, :, ASKED:], _BLOCK)
    return attend(blocks, keys, values, functional.pad(bias, (ASKED, 0))).flatten(2, 3)


def _seen(part: torch.Tensor, drawn: torch.Tensor | None) -> torch.Tensor:
    """What each block sees, (n, heads, blocks, seen, d): the global tokens, its window, others."""
    everywhere = part[:, :, None, :ASKED].expand(-1, -1, _BLOCKS, -1, -1)
    found = [everywhere, around(part[:, :, ASKED:], _BLOCK)]
    if drawn is not None:
        found.append(cut(part[:, :, ASKED:], _BLOCK)[:, :, drawn].flatten(3, 4))
    return torch.cat(found, dim=3)


def _draw(blocks: int, count: int) -> torch.Tensor:
    """For each block ``count`` others that are not in its window: (blocks, count)."""
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(blocks, blocks, generator=generator)
    index = torch.arange(blocks)
    order[(index[:, None] - index[None]).abs() <= 1] = 2.0
    return order.argsort(1)[:, :count]


def _build(attention: Callable[[], Attention]) -> nn.Module:
    return Reader(_WIDTH, *(EncoderBlock(_WIDTH, attention()) for _ in range(2)))


def _entry(name: str, description: str, attention: Callable[[], Attention]) -> Made:
    return Made(
        name=name,
        family="transformers",
        description=description,
        build=partial(_build, attention),
        make=partial(recall, name, description),
        epochs=8,
        rate=3e-3,
        bar=0.98,
        source="attention solves recall exactly (Zoology, Arora et al., 2023); guessing: 0.004",
    )


ENTRIES = (
    _entry(
        "longformer-recall",
        "Longformer's window and global attention, associative recall over 256 tokens.",
        _Longformer,
    ),
    _entry(
        "bigbird-recall",
        "BigBird's window, global and random attention, associative recall over 256 tokens.",
        _BigBird,
    ),
)
