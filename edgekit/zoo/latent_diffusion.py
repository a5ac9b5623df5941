"""``zoo:latent-diffusion-mnist``: digits by text (Rombach et al. 2022).

``tokens`` (n, 4), int64, say something like "a small seven"; with ``noise`` (n, 4, 4, 4) they make
``image`` (n, 1, 16, 16) in [0, 1]. An autoencoder makes images of latents (n, 4, 4, 4), a text
encoder states (n, 4, 32) of tokens, a U-Net looks at these by cross-attention, and DDIM samples it.
Each stage is an entry of its own, too, see :mod:`.latent_stages`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._diffusion import learn, velocity_loss
from edgekit.zoo._entry import Loaded, Made
from edgekit.zoo._latent import CHANNELS, Decoder, Pipeline
from edgekit.zoo._prompts import as_prompted, pictures, prompts

__all__ = ["ENTRIES", "pipeline_feeds", "stage_workload", "workload"]

_AUTOENCODER_EPOCHS, _DIVERGENCE = 10, 1e-3
_JUDGED = 300


def _fit(model: nn.Module) -> None:
    """The autoencoder first; then text encoder and U-Net together, in its latents."""
    assert isinstance(model, Pipeline)
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


def _autoencoded(decoder: Decoder, images: torch.Tensor) -> torch.Tensor:
    """Train the autoencoder; the latents of the images, scaled."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 2 * CHANNELS, 3, padding=1),
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


def pipeline_feeds(count: int, seed: int) -> Feeds:
    """``tokens`` and ``noise`` of so many images; the same for a seed."""
    shape = (count, CHANNELS, 4, 4)
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return {"tokens": prompts(*_asked(count), seed=seed), "noise": noise}


def _around(model: nn.Module) -> Workload:
    assert isinstance(model, Pipeline)
    return stage_workload(_ENTRY, model, pipeline_feeds, "image", lambda made, _: made)


def stage_workload(
    entry: Made | Loaded,
    model: nn.Module,
    feeds: Callable[[int, int], Feeds],
    output: str,
    finish: Callable[[Array, Feeds], Array],
) -> Workload:
    """A stage, or all. ``finish(its output, feeds of all)`` makes the images that are judged."""

    def evaluate(predict: Predict) -> dict[str, float]:
        made = predict(feeds(_JUDGED, 0))[output]
        return as_prompted(finish(made, pipeline_feeds(_JUDGED, 0)), *_asked(_JUDGED))

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


_ENTRY = Made(
    name="latent-diffusion-mnist",
    family="generative",
    description='Latent diffusion: small and large digits by text such as "a small seven".',
    bar=0.80,
    source="eight of ten samples recognised as the digit, in the size, asked for",
    build=Pipeline,
    make=_around,
    fit=_fit,
    epochs=40,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
