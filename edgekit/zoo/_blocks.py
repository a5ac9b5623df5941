"""Attention by blocks: what a token looks at is gathered, so the cost grows with the length.

Masks that are added to the scores of a full attention would cost the square of it.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["HIDDEN", "NearBias", "around", "attend", "cut"]

#: Added to a score that is not to count; finite, so that half precision has it, too.
HIDDEN = -1e4


def cut(x: torch.Tensor, block: int) -> torch.Tensor:
    """(n, heads, tokens, d) to (n, heads, blocks, block, d)."""
    return x.unflatten(2, (-1, block))


def around(x: torch.Tensor, block: int) -> torch.Tensor:
    """Each block with the one before and the one behind it: (n, heads, blocks, 3 * block, d).

    Before the first and behind the last there are zeros, which :class:`NearBias` hides.
    """
    padded = functional.pad(cut(x, block), (0, 0, 0, 0, 1, 1))
    return torch.cat([padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]], dim=3)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """What each block (n, heads, blocks, block, d) takes from what it sees.

    Key and value are (n, heads, blocks, seen, d); bias, (heads, blocks, block, seen), is added to
    the scores, and None stands for a causal mask. Blocks pass for heads: ONNX has attention of four
    axes only.
    """
    q, k, v = (part.flatten(1, 2) for part in (query, key, value))
    mask = None if bias is None else bias.flatten(0, 1)
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return mixed.unflatten(1, query.shape[1:3])


class NearBias(nn.Module):
    """What is added to the scores of a block with those :func:`around` it.

    A learnt figure for each head and distance (as in T5, Raffel et al., 2019), which begins as
    a penalty that grows with the distance (as in ALiBi, Press et al., 2021).

    Args:
        heads: of the attention.
        block: tokens of a block.
        blocks: of the sequence.
        reach: farthest distance that counts, to either side; by default all that is around.
    """

    index: torch.Tensor
    hidden: torch.Tensor

    def __init__(self, heads: int, block: int, blocks: int, reach: int | None = None) -> None:
        super().__init__()
        distance = torch.arange(3 * block)[None] - block - torch.arange(block)[:, None]
        offsets = torch.arange(1 - 2 * block, 2 * block)
        ahead = torch.arange(heads) % 2
        side = torch.where((offsets[None] > 0) == (ahead[:, None] == 1), 1.0, 3.0)
        self.table = nn.Parameter(-side * offsets.abs())
        self.register_buffer("index", distance + 2 * block - 1, persistent=False)
        far = torch.zeros(block, 3 * block)
        if reach is not None:
            far[distance.abs() > reach] = HIDDEN
        hidden = far.repeat(blocks, 1, 1)
        hidden[0, :, :block] = HIDDEN
        hidden[-1, :, -block:] = HIDDEN
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(self) -> torch.Tensor:
        """(heads, blocks, block, 3 * block)."""
        bias: torch.Tensor = self.table[:, self.index].unsqueeze(1) + self.hidden
        return bias
