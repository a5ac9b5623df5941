"""``zoo:espcn-photos``: doubles the resolution of photographs of any size.

ESPCN (Shi et al., 2016): all convolutions are at the low resolution, and the last one computes the
four pixels of each 2x2 block as channels that are shuffled into place. As in the paper it sees
luminance only, and no photograph that it was trained on is among those that judge it. Its
activation is ReLU, not tanh: a minute of training is too short for tanh to leave its linear part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._entry import Made
from edgekit.zoo._photos import luminance

__all__ = ["ENTRIES", "bicubic", "psnr", "workload"]

_SCALE = 2
_PATCH = 24
_BATCH = 16
_TRAINED, _CALIBRATED = 2000, 128


class _Espcn(nn.Module):
    """Float32 luminance (n, 1, h, w) in [0, 1] to (n, 1, 2 h, 2 w)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 64, 5, padding=2), nn.ReLU(),
            nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.pixels = nn.Conv2d(32, _SCALE**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(_SCALE)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # What is added to the pixel is learnt, not the pixel (Kim et al., 2016, VDSR): that takes
        # a minute of training instead of days.
        made: torch.Tensor = self.shuffle(image + self.pixels(self.features(image - 0.5)))
        return made


def bicubic(image: Array, height: int, width: int) -> Array:
    """Float32 (h, w) resampled to that size."""
    source = Image.fromarray(image, mode="F")
    return np.asarray(source.resize((width, height), Image.Resampling.BICUBIC))


def psnr(got: Array, wanted: Array) -> float:
    """Decibels of an image (h, w) in [0, 1], without the two pixels nearest to the border."""
    error = (np.clip(got, 0, 1) - wanted)[_SCALE:-_SCALE, _SCALE:-_SCALE]
    return float(-10 * np.log10(np.square(error).mean()))


@cache
def _pairs(*, held_out: bool) -> tuple[tuple[Array, Array], ...]:
    """Photographs at half and at full resolution."""
    found = []
    for photo in luminance(held_out=held_out):
        height, width = (size // _SCALE for size in photo.shape)
        full = photo[: height * _SCALE, : width * _SCALE]
        found.append((np.clip(bicubic(full, height, width), 0, 1), full))
    return tuple(found)


def _patches(count: int, seed: int) -> dict[str, Array]:
    """Patches of the photographs to train on: ``image``, and ``wanted`` of twice its size."""
    generator = np.random.default_rng(seed)
    pairs = _pairs(held_out=False)
    image = np.empty((count, 1, _PATCH, _PATCH), np.float32)
    wanted = np.empty((count, 1, _PATCH * _SCALE, _PATCH * _SCALE), np.float32)
    for index in range(count):
        half, full = pairs[generator.integers(len(pairs))]
        top, left = (generator.integers(size - _PATCH + 1) for size in half.shape)
        turn, mirror = int(generator.integers(4)), generator.choice((-1, 1))
        for made, source, scale in ((image, half, 1), (wanted, full, _SCALE)):
            rows, columns = (slice(at * scale, (at + _PATCH) * scale) for at in (top, left))
            made[index, 0] = np.rot90(source[rows, columns], turn)[:, ::mirror]
    return {"image": image, "wanted": wanted}


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    yield from shuffled(_patches(_TRAINED, epoch), _BATCH, epoch)


def _evaluate(predict: Predict) -> dict[str, float]:
    """Mean over the held-out photographs, and how much better that is than bicubic."""
    pairs = _pairs(held_out=True)
    ours = [
        psnr(predict({"image": half[None, None]})["enlarged"][0, 0], full) for half, full in pairs
    ]
    plain = [psnr(bicubic(half, *full.shape), full) for half, full in pairs]
    return {
        "psnr": float(np.mean(ours)),
        "gain_over_bicubic": float(np.mean(ours) - np.mean(plain)),
    }


def _around(model: nn.Module) -> Workload:
    return Workload(
        name="espcn-photos",
        model=model,
        example_inputs={"image": torch.zeros(2, 1, _PATCH, _PATCH)},
        output_names=["enlarged"],
        dynamic_shapes={"image": {0: BATCH, 2: "height", 3: "width"}},
        calibration=lambda: in_order({"image": _patches(_CALIBRATED, seed=1000)["image"]}, _BATCH),
        evaluate=_evaluate,
        metric=Metric("psnr", max_drop=0.3),  # 1 % of it
        training=Training(
            _batches,
            lambda outputs, batch: functional.mse_loss(outputs["enlarged"], batch["wanted"]),
        ),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="espcn-photos",
    family="dense prediction",
    description="ESPCN with sub-pixel convolution, doubles photographs of any size.",
    bar=31.7,
    source="the best linear filter of as many pixels, 9x9, has 31.6; bicubic has 30.7",
    build=_Espcn,
    make=_around,
    epochs=14,
    rate=6e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
