"""``zoo:ddim-digits`` and ``zoo:ddpm-digits``: one diffusion model of 8x8 digits, sampled two ways.

Trained as DDPM (Ho et al. 2020), with the class as a condition. DDIM (Song et al. 2021) samples it
in eight steps without noise: all of them are one call, ``noise`` (n, 1, 8, 8) and ``label`` (n,)
in, ``image`` (n, 1, 8, 8) in [0, 1] out. DDPM's ancestral sampling is one call a step, with that
step's noise as an input, and the loop is the caller's: :func:`sample` shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._classification import digits
from edgekit.zoo._diffusion import ancestral, ddim, learn, times, velocity_loss
from edgekit.zoo._entry import Loaded, Made
from edgekit.zoo._judge import digits_judge
from edgekit.zoo._unet import UNet, sinusoids

__all__ = ["ENTRIES", "sample", "workload"]

_STEPS, _ANCESTRAL_STEPS = 8, 50
_CONDITION = 64
_JUDGED = 400


class _Diffusion(nn.Module):
    """The velocity of images in [-1, 1], by time and class."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Embedding(10, _CONDITION)
        self.time = nn.Sequential(
            nn.Linear(_CONDITION, _CONDITION), nn.SiLU(), nn.Linear(_CONDITION, _CONDITION)
        )
        self.unet = UNet(1, 24, _CONDITION)

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        condition = self.time(sinusoids(time, _CONDITION)) + self.classes(label)
        velocity: torch.Tensor = self.unet(x, functional.silu(condition))
        return velocity


class _Sampler(nn.Module):
    """DDIM, its loop unrolled: noise (n, 1, 8, 8) and int64 labels (n,) to images in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.diffusion = _Diffusion()

    def forward(self, noise: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        found = ddim(lambda x, time: self.diffusion(x, time, label), noise, _STEPS, clip=1.0)
        return (found + 1) / 2


class _Step(nn.Module):
    """One step of DDPM: ``x`` and ``noise`` (n, 1, 8, 8), ``now``, ``then`` and ``label`` (n,)."""

    def __init__(self, diffusion: _Diffusion) -> None:
        super().__init__()
        self.diffusion = diffusion

    def forward(
        self,
        x: torch.Tensor,
        noise: torch.Tensor,
        now: torch.Tensor,
        then: torch.Tensor,
        label: torch.Tensor,
    ) -> torch.Tensor:
        return ancestral(lambda y, t: self.diffusion(y, t, label), x, now, then, 1.0, noise)


def sample(predict: Predict, labels: Array, seed: int) -> Iterator[tuple[Feeds, Array]]:
    """Sample by DDPM's step, as every caller of it has to: what each call takes and gives."""
    generator = np.random.default_rng(seed)
    visited = np.array(times(_ANCESTRAL_STEPS), dtype=np.float32)
    x = _normal(generator, len(labels))
    for now, then in pairwise(visited):
        feeds = {"x": x, "noise": _normal(generator, len(labels)), "label": labels}
        feeds |= {"now": np.full(len(labels), now), "then": np.full(len(labels), then)}
        x = predict(feeds)["x_next"]
        yield feeds, x


def _around(model: nn.Module) -> Workload:
    assert isinstance(model, _Sampler)
    return Workload(
        name="ddim-digits",
        model=model,
        example_inputs=_noise_and_labels(2, seed=1),
        output_names=["image"],
        calibration=lambda: iter([_noise_and_labels(50, seed) for seed in (2, 3)]),
        evaluate=_evaluate,
        metric=Metric("recognised"),
        finetune=_fit,
        description=_ENTRY.description,
    )


def _step_workload() -> Workload:
    sampler = _ENTRY.workload().model
    assert isinstance(sampler, _Sampler)
    model = _Step(sampler.diffusion).eval()
    labels = np.arange(10, dtype=np.int64)

    def predict(feeds: Feeds) -> dict[str, Array]:
        order = ("x", "noise", "now", "then", "label")
        with torch.no_grad():
            return {"x_next": model(*(torch.from_numpy(feeds[name]) for name in order)).numpy()}

    def evaluate(predict: Predict) -> dict[str, float]:
        labels = np.arange(_JUDGED // 2, dtype=np.int64) % 10
        *_, (_, last) = sample(predict, labels, seed=0)
        return digits_judge().asked((last + 1) / 2, labels)

    return Workload(
        name="ddpm-digits",
        model=model,
        example_inputs=next(sample(predict, labels[:2], seed=1))[0],
        output_names=["x_next"],
        calibration=lambda: (feeds for feeds, _ in sample(predict, labels, seed=2)),
        evaluate=evaluate,
        metric=Metric("recognised"),
        description=ENTRIES[1].description,
    )


def _evaluate(predict: Predict) -> dict[str, float]:
    feeds = _noise_and_labels(_JUDGED, seed=0)
    return digits_judge().asked(predict(feeds)["image"], feeds["label"])


def _noise_and_labels(count: int, seed: int) -> Feeds:
    noise = _normal(np.random.default_rng(seed), count)
    return {"noise": noise, "label": np.arange(count, dtype=np.int64) % 10}


def _normal(generator: np.random.Generator, count: int) -> Array:
    return generator.standard_normal((count, 1, 8, 8), dtype=np.float32)


def _fit(model: nn.Module, epochs: int) -> None:
    assert isinstance(model, _Sampler)
    data = digits((1, 8, 8))
    images, labels = (
        torch.from_numpy(data.train_inputs) * 2 - 1,
        torch.from_numpy(data.train_labels),
    )

    def loss(chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        label = labels[chosen]
        return velocity_loss(
            lambda x, time: model.diffusion(x, time, label), images[chosen], generator
        )

    learn([model], images, loss, epochs)


_ENTRY = Made(
    name="ddim-digits",
    family="generative",
    description="DDIM sampler of 8 steps as one call, class-conditional, on 8x8 digits.",
    bar=0.80,
    source="eight of ten samples recognised as the class asked for",
    build=_Sampler,
    make=_around,
    epochs=120,
)
ENTRIES = (
    _ENTRY,
    Loaded(
        name="ddpm-digits",
        family="generative",
        description="One step of DDPM's ancestral sampling, by the network of ddim-digits.",
        bar=0.80,
        source="eight of ten samples recognised as the class asked for",
        make=_step_workload,
    ),
)
workload = _ENTRY.workload
