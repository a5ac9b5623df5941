"""``zoo:latent-diffusion-mnist``: digits by text (Rombach et al. 2022), and its stages.

``tokens`` (n, 4), int64, say something like "a small seven"; with ``noise`` (n, 4, 4, 4) they make
``image`` (n, 1, 16, 16) in [0, 1]. An autoencoder makes images of latents (n, 4, 4, 4), a text
encoder states (n, 4, 32) of tokens, a U-Net looks at these by cross-attention, and DDIM samples it.
The stages are entries of their own, which an ensemble of the server runs one after the other:
``latent-diffusion-text``, ``latent-diffusion-sampler`` and ``latent-diffusion-decoder``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._diffusion import ddim, learn, velocity_loss
from edgekit.zoo._entry import Loaded, Made
from edgekit.zoo._prompts import LENGTH, WORDS, as_prompted, pictures, prompts
from edgekit.zoo._unet import UNet, sinusoids

__all__ = ["ENTRIES", "workload"]

_CHANNELS, _TEXT, _TIME = 4, 32, 32
#: More steps make images that vary more, and that are recognised less: 0.81 and 0.68 with 8.
_STEPS, _CLIP = 4, 4.0
_AUTOENCODER_EPOCHS, _DIVERGENCE = 10, 1e-3
_JUDGED = 300


class _Text(nn.Module):
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


class _Sampler(nn.Module):
    """DDIM in latents: noise (n, 4, 4, 4) and states of a text to latents."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(_TIME, _TIME), nn.SiLU(), nn.Linear(_TIME, _TIME))
        self.unet = UNet(_CHANNELS, 24, _TIME, context=_TEXT)

    def velocity(self, x: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        condition = functional.silu(self.time(sinusoids(time, _TIME)))
        velocity: torch.Tensor = self.unet(x, condition, text)
        return velocity

    def forward(self, noise: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return ddim(lambda x, time: self.velocity(x, time, text), noise, _STEPS, _CLIP)


class _Decoder(nn.Module):
    """Latents of mean 0 and deviation 1 to images."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, _CHANNELS, 1, 1))
        self.register_buffer("deviation", torch.ones(1, _CHANNELS, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(_CHANNELS, 24, 3, padding=1),
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


class _Pipeline(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.sampler, self.decoder = _Text(), _Sampler(), _Decoder()

    def forward(self, tokens: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.decoder(self.sampler(noise, self.text(tokens)))
        return image


def _fit(model: nn.Module) -> None:
    """The autoencoder first; then text encoder and U-Net together, in its latents."""
    assert isinstance(model, _Pipeline)
    images, digits, sizes = pictures(held_out=False)
    latents = _autoencoded(model.decoder, images)
    asked = iter(range(10**9))

    def loss(chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        said = prompts(digits[chosen].numpy(), sizes[chosen].numpy(), seed=next(asked))
        text = model.text(torch.from_numpy(said))
        return velocity_loss(
            lambda x, time: model.sampler.velocity(x, time, text), latents[chosen], generator
        )

    learn([model.text, model.sampler], images, loss, _ENTRY.epochs, batch=128)


def _autoencoded(decoder: _Decoder, images: torch.Tensor) -> torch.Tensor:
    """Train the autoencoder; the latents of the images, scaled."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 2 * _CHANNELS, 3, padding=1),
    )

    def loss(chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        mean, log_variance = encoder(images[chosen]).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator)
        made = decoder(mean + (log_variance / 2).exp() * noise)
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).mean() / 2
        return functional.binary_cross_entropy(made, images[chosen]) + _DIVERGENCE * divergence

    learn([encoder, decoder], images, loss, _AUTOENCODER_EPOCHS)
    with torch.no_grad():
        latents = encoder(images).chunk(2, dim=1)[0]
        decoder.mean = latents.mean((0, 2, 3), keepdim=True)
        decoder.deviation = latents.std((0, 2, 3), keepdim=True)
        scaled: torch.Tensor = (latents - decoder.mean) / decoder.deviation
    return scaled


def _asked(count: int) -> tuple[Array, Array]:
    """Each digit in both sizes again and again."""
    return np.arange(count) % 10, np.arange(count) // 10 % 2


def _feeds(count: int, seed: int) -> Feeds:
    shape = (count, _CHANNELS, 4, 4)
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return {"tokens": prompts(*_asked(count), seed=seed), "noise": noise}


def _around(model: nn.Module) -> Workload:
    assert isinstance(model, _Pipeline)
    return _workload(_ENTRY, model, _feeds, "image", lambda made, _: made)


def _workload(
    entry: Made | Loaded,
    model: nn.Module,
    feeds: Callable[[int, int], Feeds],
    output: str,
    finish: Callable[[Array, Feeds], Array],
) -> Workload:
    """A stage, or all. ``finish(its output, feeds of all)`` makes the images that are judged."""

    def evaluate(predict: Predict) -> dict[str, float]:
        made = predict(feeds(_JUDGED, 0))[output]
        return as_prompted(finish(made, _feeds(_JUDGED, 0)), *_asked(_JUDGED))

    return Workload(
        name=entry.name,
        model=model.eval(),
        example_inputs=feeds(2, 1),
        output_names=[output],
        calibration=lambda: (feeds(60, seed) for seed in (2, 3)),
        evaluate=evaluate,
        metric=Metric("as_prompted"),
        description=entry.description,
    )


def _stage(name: str) -> Workload:
    """One stage; the others are PyTorch's where it is judged."""
    pipeline = _pipeline()

    @torch.no_grad()
    def feeds(count: int, seed: int) -> Feeds:
        every = _feeds(count, seed)
        text = pipeline.text(torch.from_numpy(every["tokens"]))
        if name == "text":
            return {"tokens": every["tokens"]}
        if name == "sampler":
            return {"noise": every["noise"], "text": text.numpy()}
        return {"latent": pipeline.sampler(torch.from_numpy(every["noise"]), text).numpy()}

    @torch.no_grad()
    def finish(made: Array, every: Feeds) -> Array:
        found = torch.from_numpy(np.array(made))
        if name == "text":
            found = pipeline.sampler(torch.from_numpy(every["noise"]), found)
        if name in {"text", "sampler"}:
            found = pipeline.decoder(found)
        image: Array = found.numpy()
        return image

    entry = next(one for one in ENTRIES if one.name.endswith(name))
    output = {"text": "text", "sampler": "latent", "decoder": "image"}[name]
    # A copy: what prunes the stage in place must not change what judges it.
    return _workload(entry, deepcopy(pipeline.get_submodule(name)), feeds, output, finish)


@cache
def _pipeline() -> _Pipeline:
    model = _ENTRY.workload().model
    assert isinstance(model, _Pipeline)
    return model


def _stage_entry(name: str, description: str) -> Loaded:
    return Loaded(
        name=f"latent-diffusion-{name}",
        family="generative",
        description=description,
        bar=_ENTRY.bar,
        source=_ENTRY.source,
        make=partial(_stage, name),
    )


_ENTRY = Made(
    name="latent-diffusion-mnist",
    family="generative",
    description='Latent diffusion: small and large digits by text such as "a small seven".',
    bar=0.80,
    source="eight of ten samples recognised as the digit, in the size, asked for",
    build=_Pipeline,
    make=_around,
    fit=_fit,
    epochs=40,
)
ENTRIES: tuple[Made | Loaded, ...] = (
    _ENTRY,
    _stage_entry("text", "The text encoder of latent-diffusion-mnist."),
    _stage_entry("sampler", "DDIM in 4 steps in the latents of latent-diffusion-mnist."),
    _stage_entry("decoder", "The decoder of latent-diffusion-mnist."),
)
workload = _ENTRY.workload
