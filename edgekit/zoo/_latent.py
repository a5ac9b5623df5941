"""The networks of latent diffusion by text (Rombach et al. 2022), but for the encoder of images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._diffusion import ddim
from edgekit.zoo._prompts import LENGTH, WORDS
from edgekit.zoo._unet import UNet, sinusoids

__all__ = ["CHANNELS", "Decoder", "Pipeline"]

CHANNELS = 4
_TEXT, _TIME = 32, 32
#: More steps make images that vary more, and that are recognised less: 0.81 and 0.68 with 8.
_STEPS, _CLIP = 4, 4.0


class Text(nn.Module):
    """A transformer of one layer: tokens (n, 4) to states (n, 4, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), _TEXT)
        self.places = nn.Parameter(torch.randn(LENGTH, _TEXT) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(_TEXT) for _ in range(3))
        self.read = nn.Linear(_TEXT, 3 * _TEXT)
        self.write = nn.Linear(_TEXT, _TEXT)
        self.think = nn.Sequential(
            nn.Linear(_TEXT, 2 * _TEXT), nn.GELU(), nn.Linear(2 * _TEXT, _TEXT)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens) + self.places
        query, key, value = self.read(self.norms[0](x)).chunk(3, dim=2)
        x = x + self.write(functional.scaled_dot_product_attention(query, key, value))
        x = x + self.think(self.norms[1](x))
        states: torch.Tensor = self.norms[2](x)
        return states


class Sampler(nn.Module):
    """DDIM in latents: noise (n, 4, 4, 4) and states of a text to latents."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(_TIME, _TIME), nn.SiLU(), nn.Linear(_TIME, _TIME))
        self.unet = UNet(CHANNELS, 24, _TIME, context=_TEXT)

    def velocity(self, x: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        condition = functional.silu(self.time(sinusoids(time, _TIME)))
        velocity: torch.Tensor = self.unet(x, condition, text)
        return velocity

    def forward(self, noise: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return ddim(lambda x, time: self.velocity(x, time, text), noise, _STEPS, _CLIP)


class Decoder(nn.Module):
    """Latents of mean 0 and deviation 1 to images."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, CHANNELS, 1, 1))
        self.register_buffer("deviation", torch.ones(1, CHANNELS, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(CHANNELS, 24, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(24, 24, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(24, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.body(latent * self.deviation + self.mean)
        return image


class Pipeline(nn.Module):
    """All three stages: ``tokens`` and ``noise`` to images."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.sampler, self.decoder = Text(), Sampler(), Decoder()

    def forward(self, tokens: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.decoder(self.sampler(noise, self.text(tokens)))
        return image
