"""``zoo:linformer-mnist``: attention of low rank, linear in the length.

"Linformer: Self-Attention with Linear Complexity" (Wang et al., 2020): keys and values are
projected along the sequence, from 196 tokens to 32, before the tokens look at them. As in the
paper's variant of shared projections, all heads share one for keys and one for values.
The tokens are a digit's overlapping 4x4 patches, two pixels apart.
"""

from __future__ import annotations

import torch
from torch import nn

from edgekit.zoo._classification import Classifier
from edgekit.zoo._encoder import Attention, EncoderBlock
from edgekit.zoo._mnist import augment, mnist

__all__ = ["ENTRIES", "workload"]

_TOKENS, _RANK = 196, 32


class _LowRank(Attention):
    """Attention of 196 tokens to 32 mixtures of them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.keys = nn.Linear(_TOKENS, _RANK, bias=False)
        self.values = nn.Linear(_TOKENS, _RANK, bias=False)

    def mix(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return super().mix(query, _along(self.keys, key), _along(self.values, value))


def _along(linear: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(n, heads, tokens, d) to (n, heads, rank, d)."""
    projected: torch.Tensor = linear(x.transpose(2, 3)).transpose(2, 3)
    return projected


class _Linformer(nn.Module):
    """Images (n, 1, 28, 28), float32 in [0, 1], to scores (n, 10)."""

    def __init__(self, width: int = 48, heads: int = 2, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 4, stride=2, padding=1)
        self.positions = nn.Parameter(torch.randn(1, _TOKENS, width) * 0.02)
        self.blocks = nn.Sequential(
            *(EncoderBlock(width, _LowRank(width, heads)) for _ in range(depth))
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        patches = self.embed(image).flatten(2).transpose(1, 2)
        logits: torch.Tensor = self.head(self.blocks(patches + self.positions).mean(1))
        return logits


_ENTRY = Classifier(
    name="linformer-mnist",
    family="transformers",
    description="Linformer, low-rank attention over 196 overlapping patches of MNIST digits.",
    input_name="image",
    build=_Linformer,
    load_data=mnist,
    augment=augment,
    epochs=20,
    rate=3e-3,
    bar=0.96,
    source="a support vector machine on the same 4,000 digits: 0.954",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
