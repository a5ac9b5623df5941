"""``zoo:denoiser-mnist``: a denoising autoencoder with transposed convolutions.

It gives back the digit under Gaussian noise of 0.3 (Vincent et al., 2010, JMLR 11, section 3).
Convolutions with strides encode 28x28 pixels as 7x7 of 48 channels; transposed convolutions (4x4,
stride 2: each pixel has the same number of taps) bring them back. Nothing goes around the code.

Its input is ``noisy`` (n, 1, 28, 28) float32, about 0 to 1; its output ``clean`` likewise, in
[0, 1]. The metric is the mean PSNR, in dB, of 1000 held-out digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._entry import Made
from edgekit.zoo._mnist import augment, mnist

__all__ = ["ENTRIES", "psnr", "workload"]

_NOISE = 0.3
_BATCH = 50
_CALIBRATED = 500


def psnr(images: Array, truth: Array) -> float:
    """Mean over images (n, 1, h, w) in [0, 1] of the peak signal-to-noise ratio, in dB."""
    error = np.square(images - truth).mean(axis=(1, 2, 3))
    return float((-10 * np.log10(error)).mean())


def _unpool(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels_in, channels, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def _build() -> nn.Module:
    return nn.Sequential(
        conv_bn(1, 12, 3),
        conv_bn(12, 32, 3, stride=2),
        conv_bn(32, 48, 3, stride=2),
        conv_bn(48, 48, 3),
        _unpool(48, 32),
        _unpool(32, 12),
        nn.Conv2d(12, 1, 3, padding=1),
        nn.Sigmoid(),
    )


@cache
def _noisy(*, held_out: bool) -> tuple[Array, Array]:
    """Digits with noise and without: those to calibrate by, or those held out."""
    data = mnist()
    clean = data.test_inputs if held_out else data.train_inputs[:_CALIBRATED]
    noise = np.random.default_rng(int(held_out)).standard_normal(clean.shape, np.float32)
    return clean + np.float32(_NOISE) * noise, clean


def _feeds(*, held_out: bool) -> Iterator[Feeds]:
    noisy, _ = _noisy(held_out=held_out)
    for start in range(0, len(noisy), _BATCH):
        yield {"noisy": noisy[start : start + _BATCH]}


def _evaluate(predict: Predict) -> dict[str, float]:
    images = np.concatenate([predict(feeds)["clean"] for feeds in _feeds(held_out=True)])
    return {"psnr": psnr(images, _noisy(held_out=True)[1])}


def _training() -> Training:
    """Shuffled, augmented digits with noise of their own in each epoch; mean squared error."""
    clean = torch.from_numpy(mnist().train_inputs)

    def batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(epoch)
        for chosen in torch.split(torch.randperm(len(clean), generator=generator), _BATCH):
            batch = augment(clean[chosen], generator)
            noise = torch.randn(batch.shape, generator=generator)
            yield {"noisy": batch + _NOISE * noise, "truth": batch}

    return Training(
        batches, lambda outputs, batch: functional.mse_loss(outputs["clean"], batch["truth"])
    )


def _around(model: nn.Module) -> Workload:
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={"noisy": torch.from_numpy(_noisy(held_out=False)[0][:2])},
        output_names=["clean"],
        calibration=lambda: _feeds(held_out=False),
        evaluate=_evaluate,
        metric=Metric("psnr", max_drop=0.2),  # dB: 1 % of it
        training=_training(),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="denoiser-mnist",
    family="feed-forward and convolutional",
    description="Denoising autoencoder with transposed convolutions on 5000 MNIST digits.",
    bar=21.9,
    source="two decibels above the best linear estimate, a Wiener filter on principal components "
    "of the same digits (19.9 dB)",
    build=_build,
    make=_around,
    epochs=16,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
