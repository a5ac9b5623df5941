"""``zoo:local-global-recall``: local and global attention in alternate layers.

As in Gemma 2 (2024) and ModernBERT (Warner et al., 2024): every other layer sees a window only, by
blocks, and the ones between see everything. Here two pairs of them read associative recall: the
window of 8 tokens to either side binds what stands together, the whole finds it.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from edgekit.zoo._blocks import NearBias, around, attend, cut
from edgekit.zoo._encoder import Attention, EncoderBlock
from edgekit.zoo._entry import Made
from edgekit.zoo._recall import ASKED, LENGTH, Reader, recall

__all__ = ["ENTRIES", "workload"]

_WIDTH, _HEADS, _BLOCK = 48, 2, 8
_BLOCKS = (ASKED + LENGTH) // _BLOCK


class _Local(Attention):
    """A window of 8 tokens to either side, the questions' among them."""

    def __init__(self) -> None:
        super().__init__(_WIDTH, _HEADS)
        self.near = NearBias(_HEADS, _BLOCK, _BLOCKS, reach=_BLOCK)

    def mix(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        seen = around(key, _BLOCK), around(value, _BLOCK)
        return attend(cut(query, _BLOCK), *seen, self.near()).flatten(2, 3)


def _build() -> nn.Module:
    layers = (_Local(), Attention(_WIDTH, _HEADS), _Local(), Attention(_WIDTH, _HEADS))
    return Reader(_WIDTH, *(EncoderBlock(_WIDTH, layer) for layer in layers))


_NAME = "local-global-recall"
_DESCRIPTION = "Local and global attention in alternate layers, associative recall over 256 tokens."
_ENTRY = Made(
    name=_NAME,
    family="transformers",
    description=_DESCRIPTION,
    build=_build,
    make=partial(recall, _NAME, _DESCRIPTION),
    epochs=8,
    rate=3e-3,
    bar=0.98,
    source="attention solves recall exactly (Zoology, Arora et al., 2023); guessing: 0.004",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
