"""The U-Net of the diffusion models and of image-to-image (Ronneberger 2015, Ho et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

__all__ = ["UNet", "sinusoids"]

_GROUPS = 8


class UNet(nn.Module):
    """Two resolutions, residual blocks with group norm, attention in the lower one.

    ``forward(image, condition)`` takes images (n, channels, h, w) with even h and w and a vector
    (n or 1, condition) that every block adds to its channels, such as time and class; returns
    images of the same size. With ``context`` it also looks at states (n, length, context), such as
    those of a text, by cross-attention (Rombach et al. 2022).
    """

    def __init__(self, channels: int, width: int, condition: int, context: int = 0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.high = _Block(width, width, condition)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.low = _Block(2 * width, 2 * width, condition)
        self.attention = _Attention(2 * width, 2 * width)
        self.cross = _Attention(2 * width, context) if context else None
        self.lowest = _Block(2 * width, 2 * width, condition)
        self.up = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.merged = _Block(2 * width, width, condition)
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.head = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(
        self, image: torch.Tensor, condition: torch.Tensor, context: torch.Tensor | None = None
    ) -> torch.Tensor:
        high = self.high(self.stem(image), condition)
        low = self.attention(self.low(self.down(high), condition))
        if self.cross is not None:
            low = self.cross(low, context)
        up = self.up(self.lowest(low, condition))
        merged = self.merged(torch.cat([up, high], dim=1), condition)
        out: torch.Tensor = self.head(functional.silu(self.norm(merged)))
        return out


def sinusoids(time: torch.Tensor, size: int) -> torch.Tensor:
    """Times in [0, 1] of shape (n,) as (n, size) sines and cosines (Vaswani et al. 2017)."""
    frequencies = torch.exp(torch.arange(size // 2) * (-math.log(1000.0) / (size // 2)))
    angles = time[:, None] * 1000.0 * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, condition: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(_GROUPS, channels_in)
        self.first = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.condition = nn.Linear(condition, channels)
        self.second_norm = nn.GroupNorm(_GROUPS, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # a block begins as its shortcut
        self.shortcut = (
            nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)
        )

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        inner = self.first(functional.silu(self.first_norm(x)))
        inner = inner + self.condition(condition)[:, :, None, None]
        inner = self.second(functional.silu(self.second_norm(inner)))
        out: torch.Tensor = self.shortcut(x) + inner
        return out


class _Attention(nn.Module):
    """Every place looks at every other one, or at each of other states, with one head."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.ask = nn.Linear(channels, channels)
        self.read = nn.Linear(context, 2 * channels)
        self.write = nn.Linear(channels, channels)
        nn.init.zeros_(self.write.weight)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        places = self.norm(x).flatten(2).transpose(1, 2)
        key, value = self.read(places if context is None else context).chunk(2, dim=2)
        seen = functional.scaled_dot_product_attention(self.ask(places), key, value)
        return x + self.write(seen).transpose(1, 2).reshape(x.shape)
