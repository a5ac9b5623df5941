"""Sliding-window attention with global tokens and random blocks, computed block by block.

The pattern is that of Longformer (Beltagy et al., 2020, arXiv:2004.05150) and BigBird (Zaheer et
al., 2020, arXiv:2007.14062): the sequence is cut in blocks; a block sees itself, its neighbours,
the first few (global) tokens and some blocks chosen at random. No (n, n) matrix is ever made: the
cost is O(n * window).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["MASKED", "WindowAttention"]

#: The score of a pair that may not attend: its softmax weight is 0, and half precision holds it.
MASKED = -1e4

#: A prime and multipliers below 2**12: OpenVINO computes integers in 32 bits.
_PRIME = 4093


class WindowAttention(nn.Module):
    """Attention of blocks of ``window`` positions to their surroundings.

    It equals full attention for sequences of at most two blocks.

    Args:
        window: positions in a block.
        global_tokens: how many of the first positions attend to all and are seen by all; in
            causal attention they are seen by all that come later. At most ``window``.
        random_blocks: blocks that each block sees beside; the choice depends on the seed and on
            the number of blocks alone.
        causal: no position sees a later one.
        seed: of the choice of random blocks.

    Raises:
        ValueError: ``window`` is not positive, or ``global_tokens`` exceeds it.
    """

    def __init__(
        self,
        window: int,
        *,
        global_tokens: int = 0,
        random_blocks: int = 0,
        causal: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if window < 1 or not 0 <= global_tokens <= window:
            raise ValueError(f"a window of {window} with {global_tokens} global tokens")
        self.window = window
        self.global_tokens = global_tokens
        self.random_blocks = random_blocks
        self.causal = causal
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randint(1, _PRIME, (2, random_blocks), generator=generator)
        self.factors, self.offsets = numbers.tolist()

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
        """
        length = query.shape[2]
        blocks = self._blocks(length)
        padding = blocks * self.window - length
        query, key, value = (
            functional.pad(tensor, (0, 0, 0, padding)) for tensor in (query, key, value)
        )
        if keep is None:
            keep = query.new_ones(query.shape[0], length, dtype=torch.bool)
        keep = functional.pad(keep, (0, padding))
        attended = self._local(query, key, value, keep, blocks)
        if self.global_tokens and not self.causal:
            everything = self._global(query, key, value, keep)
            attended = torch.cat([everything, attended[:, :, self.global_tokens :]], 2)
        return attended[:, :, :length]

    def _blocks(self, length: int | torch.SymInt) -> int:
        """How many blocks ``length`` positions make."""
        blocks: Any = (length + self.window - 1) // self.window
        if isinstance(length, int):
            return int(blocks)
        # torch.export would fix what it can work out of the length: whether there is one block,
        # whether the last one is full. It takes a number read from a tensor as it comes.
        blocks = torch.scalar_tensor(blocks, dtype=torch.int64).item()
        torch._check(blocks >= 1)  # noqa: SLF001, documented for this
        torch._check(blocks * self.window >= length)  # noqa: SLF001
        return blocks  # type: ignore[no-any-return]

    def _local(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        keep: torch.Tensor,
        blocks: int,
    ) -> torch.Tensor:
        """What each block sees; shape (batch, heads, blocks * window, size)."""
        batch, heads, _, size = query.shape
        cut = (batch, heads, blocks, self.window, size)
        slots, valid = self._slots(blocks, query.device)
        chosen, count = slots.flatten(), slots.shape[1] * self.window
        seen = (batch, heads, blocks, count, size)
        keys = key.reshape(cut).index_select(2, chosen).reshape(seen)
        values = value.reshape(cut).index_select(2, chosen).reshape(seen)
        query = query.reshape(cut)
        scores = query @ keys.transpose(-1, -2)
        if self.global_tokens:  # they stand before the block's own keys
            first = key[:, :, None, : self.global_tokens]
            scores = torch.cat([query @ first.transpose(-1, -2), scores], -1)
        weights = scores.masked_fill(~self._allowed(keep, slots, valid), MASKED).softmax(-1)
        attended = weights[..., self.global_tokens :] @ values
        if self.global_tokens:
            first = value[:, :, None, : self.global_tokens]
            attended = attended + weights[..., : self.global_tokens] @ first
        return attended.reshape(batch, heads, blocks * self.window, size)

    def _slots(self, blocks: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Which blocks each block sees, and which of these entries count.

        Returns:
            Indices of shape (blocks, slots), and booleans of that shape: False for a block before
            the first, after the last, or that an earlier slot has already.
        """
        own = torch.arange(blocks, device=device)
        near = [own - 1, own] if self.causal else [own - 1, own, own + 1]
        choices, valid = list(near), [(slot >= 0) & (slot < blocks) for slot in near]
        for factor, offset in zip(self.factors, self.offsets, strict=True):
            mixed = (own * factor + offset) % _PRIME
            slot = mixed % ((own if self.causal else own[-1:]) + 1)
            valid.append(torch.stack([slot != earlier for earlier in choices]).all(0))
            choices.append(slot)
        return torch.stack(choices, 1).clamp(0, blocks - 1), torch.stack(valid, 1)

    def _allowed(
        self, keep: torch.Tensor, slots: torch.Tensor, valid: torch.Tensor
    ) -> torch.Tensor:
        """Which keys count, for the global tokens and then for each slot of each block.

        Returns:
            Booleans that broadcast to (batch, 1, blocks, window, global_tokens + keys).
        """
        blocks, batch = slots.shape[0], keep.shape[0]
        count = slots.shape[1] * self.window
        inside = torch.arange(self.window, device=keep.device)
        where = (slots[:, :, None] * self.window + inside).reshape(blocks, count)
        chosen = keep.reshape(batch, blocks, self.window).index_select(1, slots.flatten())
        counts = valid[:, :, None].expand(*valid.shape, self.window).reshape(blocks, count)
        counts = counts & (where >= self.global_tokens)  # those are counted once, as global
        allowed = (chosen.reshape(batch, blocks, count) & counts)[:, None, :, None]
        if self.global_tokens:
            first = torch.arange(self.global_tokens, device=keep.device)
            where = torch.cat([first.expand(blocks, -1), where], 1)
            ahead = keep[:, None, None, None, : self.global_tokens]
            allowed = torch.cat([ahead.expand(-1, -1, blocks, -1, -1), allowed], -1)
        if self.causal:
            own = torch.arange(blocks, device=keep.device)[:, None] * self.window + inside
            allowed = allowed & (where[:, None] <= own[:, :, None])
        return allowed

    def _global(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keep: torch.Tensor
    ) -> torch.Tensor:
        """What the global tokens see: everything; shape (batch, heads, global_tokens, size)."""
        scores = query[:, :, : self.global_tokens] @ key.transpose(-1, -2)
        return scores.masked_fill(~keep[:, None, None], MASKED).softmax(-1) @ value
