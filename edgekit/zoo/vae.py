"""``zoo:vae-digits``: a variational autoencoder (Kingma and Welling 2013) of 8x8 digits.

Inputs ``image`` (n, 1, 8, 8) in [0, 1] and ``noise`` (n, 16), normal, which draws the code around
its ``mean``. Outputs ``logits`` (n, 17, 8, 8) of the level of each pixel, ``mean`` and
``log_variance`` (n, 16): with the levels these make the bound of the likelihood.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._levels import LEVELS, PIXELS, likelihood

__all__ = ["ENTRIES", "workload"]

_CODE = 16


class _Decoder(nn.Module):
    """Codes (n, 16) to logits (n, 17, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(_CODE, 32 * 16),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, LEVELS, 1),
        )
        self.place = nn.Parameter(torch.zeros(1, LEVELS, 8, 8))

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(code) + self.place
        return logits


class _Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(32 * 16, 2 * _CODE),
        )
        self.decoder = _Decoder()

    def forward(
        self, image: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, log_variance = self.encoder(image * 2 - 1).chunk(2, dim=1)
        code = mean + (log_variance / 2).exp() * noise
        return self.decoder(code), mean, log_variance


def _bits(outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The negative bound of the likelihood (their equation 10), in bits a pixel."""
    levels, mean, log_variance = batch["levels"][:, 0], outputs["mean"], outputs["log_variance"]
    missed = functional.cross_entropy(outputs["logits"], levels, reduction="sum")
    divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
    return (missed + divergence) / (len(levels) * PIXELS * math.log(2))


def _feeds(levels: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
    noise = torch.randn(len(levels), _CODE, generator=generator)
    return {"image": levels.float() / (LEVELS - 1), "noise": noise}


_ENTRY = likelihood(
    "vae-digits",
    "Variational autoencoder with 16 codes of 8x8 digits.",
    _Autoencoder,
    outputs=["logits", "mean", "log_variance"],
    feeds=_feeds,
    bits=_bits,
    bar=2.1,
    source="a third of a bit below a histogram of each pixel, 2.44 on the same split",
    epochs=100,
    rate=2e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
