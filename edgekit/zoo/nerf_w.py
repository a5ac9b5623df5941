"""``zoo:nerf-w-balls``: a neural radiance field from photographs of changing light and passers-by.

NeRF-W, Martin-Brualla et al. 2021. Each training view has a tint of its own and a coloured patch
that stands before the scene. An embedding of each image holds its light; a second head, with an
embedding too, holds what is in this image only, and how unsure each pixel is. What is judged is
the scene without the patches, from where no photograph was taken, in the light of one that was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import torch
from torch import nn

from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._rays import (
    Field,
    along,
    composite,
    edges,
    encode,
    finer,
    render,
    shuffled,
    some,
)
from edgekit.zoo._scene import (
    HELD_OUT,
    SIZE,
    TRAINED,
    psnr,
    rays_of,
    tinted,
    view,
    wild_view,
)

__all__ = ["ENTRIES", "workload"]

_COARSE, _FINE = 24, 24
_PLACE, _LOOK, _LIGHT, _PASSING = 6, 2, 8, 16
_WIDTH = 64
#: The least uncertainty of a pixel, which is 0.03 in the paper, and what transient density costs.
#: Before so many epochs the scene alone is to explain everything: a short training would take a
#: ball for something that passed by, else.
_LEAST, _COST, _ALONE = 0.1, 0.01, 4
#: The training images in whose light the held-out views are judged.
_LIGHTS = (3, 17, 31)


class _Wild(nn.Module):
    """Takes rays (n, 6) and the image that each belongs to (n,), int64.

    Gives the colour of the scene in that image's light (n, 3); the same from the coarse field; the
    colour with what stood before the scene; its uncertainty (n, 1); and the mean transient density
    along the ray (n, 1).
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = 3 + 6 * _PLACE, 3 + 6 * _LOOK + _LIGHT, _WIDTH
        self.coarse, self.fine = Field(*sizes), Field(*sizes)
        self.light = nn.Embedding(len(TRAINED), _LIGHT)
        self.passing = nn.Embedding(len(TRAINED), _PASSING)
        self.sky = nn.Linear(_LIGHT, 3)
        last = nn.Linear(_WIDTH // 2, 5)
        # At first there is next to no density: fog would be driven out at once, and never return.
        nn.init.constant_(last.bias[:1], -4.0)
        self.transient = nn.Sequential(nn.Linear(_WIDTH + _PASSING, _WIDTH // 2), nn.ReLU(), last)

    def forward(self, rays: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        light = self.light(image)
        sky = torch.sigmoid(self.sky(light))
        seen = torch.cat([encode(rays[:, 3:], _LOOK), light], 1).unsqueeze(1)
        borders = edges(rays, _COARSE, jitter=self.training)
        middle = (borders[:, 1:] + borders[:, :-1]) / 2
        place = encode(along(rays, middle), _PLACE)
        density, colour = self.coarse(place, seen.expand(-1, _COARSE, -1))
        coarse, weights = composite(density, colour, borders[:, 1:] - borders[:, :-1], sky)
        distances, lengths = finer(borders, weights, _FINE, jitter=self.training)
        features = self.fine.trunk(encode(along(rays, distances), _PLACE))
        density, colour = self.fine.heads(features, seen.expand(-1, _COARSE + _FINE, -1))
        scene, _ = composite(density, colour, lengths, sky)
        return scene, coarse, *self._photograph(features, image, density, colour, lengths, sky)

    def _photograph(
        self,
        features: torch.Tensor,
        image: torch.Tensor,
        density: torch.Tensor,
        colour: torch.Tensor,
        lengths: torch.Tensor,
        sky: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The scene with what stood before it: both hide what is behind."""
        passing = self.passing(image).unsqueeze(1).expand(-1, lengths.shape[1], -1)
        head = self.transient(torch.cat([features, passing], -1))
        positive = nn.functional.softplus(head[..., :2])
        transient = positive[..., 0]
        total = density + transient
        share = (transient / (total + 1e-6)).unsqueeze(-1)
        mixed = (1 - share) * colour + share * torch.sigmoid(head[..., 2:])
        photograph, weights = composite(total, mixed, lengths, sky)
        unsure = _LEAST + (weights * share.squeeze(-1) * positive[..., 1]).sum(1, keepdim=True)
        return photograph, unsure, transient.mean(1, keepdim=True)


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The paper's equation 13, a Gaussian whose width the model says itself; first of the scene
    alone, of the least width.
    """
    scene, coarse, photograph = (
        ((outputs[name] - batch["true"]) ** 2).mean(1, keepdim=True)
        for name in ("colour", "coarse", "photograph")
    )
    unsure = outputs["uncertainty"]
    surprise = photograph / (2 * unsure**2) + torch.log(unsure / _LEAST)
    surprise = surprise + _COST * outputs["transient"]
    loss: torch.Tensor = torch.where(batch["alone"], scene / (2 * _LEAST**2), surprise).mean()
    return loss + coarse.mean() / (2 * _LEAST**2)


@cache
def _inputs() -> Feeds:
    return {
        "rays": np.concatenate([rays_of(pose) for pose in TRAINED]),
        "image": np.arange(len(TRAINED)).repeat(SIZE**2),
    }


@cache
def _photographs() -> Array:
    return np.concatenate([wild_view(image) for image in range(len(TRAINED))])


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    true = _photographs()
    alone = np.full((len(true), 1), epoch < _ALONE)
    return shuffled({**_inputs(), "true": true, "alone": alone}, epoch)


def _evaluate(predict: Predict) -> dict[str, float]:
    views = list(zip(HELD_OUT, _LIGHTS, strict=True))
    rays = np.concatenate([rays_of(pose) for pose, _ in views])
    shown = render(predict, {"rays": rays, "image": np.repeat(_LIGHTS, SIZE**2)})
    true = np.concatenate([tinted(view(pose), image) for pose, image in views])
    return {"psnr": psnr(shown, true)}


def _around(model: nn.Module) -> Workload:
    example = {name: torch.from_numpy(values[:2]) for name, values in _inputs().items()}
    return Workload(
        name="nerf-w-balls",
        model=model,
        example_inputs=example,
        output_names=["colour", "coarse", "photograph", "uncertainty", "transient"],
        calibration=lambda: some(_inputs()),
        evaluate=_evaluate,
        metric=Metric("psnr", max_drop=0.25),  # dB: 1 %
        training=Training(_batches, _loss),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="nerf-w-balls",
    family="neural fields",
    description="NeRF-W from tinted photographs with patches before the scene; PSNR without them.",
    bar=25.0,
    source="as for NeRF; the perfect scene has 21 in the mean light, the nearest photograph 18",
    build=_Wild,
    make=_around,
    epochs=8,
    rate=5e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
