"""``zoo:alexnet-mnist``: AlexNet (Krizhevsky, Sutskever and Hinton, 2012) in miniature.

Its stages in its order: five convolutions, of which the second, fourth and fifth are split into
two groups (the paper's two GPUs), local response normalization after the first and the second,
overlapping 3x3 pooling with stride 2 after the first, second and fifth, two dense layers with
dropout of one half, and the classes. At 28x28 pixels the first kernel is 5x5 with stride 1 and not
11x11 with stride 4; widths are an eighth. Weights start as He et al. (2015) have it: the paper's
Gaussians of 0.01 fit its own widths only.
"""

from __future__ import annotations

from torch import nn

from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]

_DENSE = 128


def _norm() -> nn.Module:
    return nn.LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2.0)  # section 3.3


def _pool() -> nn.Module:
    return nn.MaxPool2d(kernel_size=3, stride=2)


def _build() -> nn.Module:
    convolutions = [
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), _norm(), _pool(),
        nn.Conv2d(12, 32, 5, padding=2, groups=2), nn.ReLU(), _norm(), _pool(),
        nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(),
        nn.Conv2d(48, 48, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(48, 32, 3, padding=1, groups=2), nn.ReLU(), _pool(),
    ]  # fmt: skip
    dense = [
        nn.Flatten(),
        nn.Dropout(), nn.Linear(32 * 2 * 2, _DENSE), nn.ReLU(),
        nn.Dropout(), nn.Linear(_DENSE, _DENSE), nn.ReLU(),
        nn.Linear(_DENSE, 10),
    ]  # fmt: skip
    model = nn.Sequential(*convolutions, *dense)
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return model


_ENTRY = mnist_classifier(
    "alexnet-mnist",
    "AlexNet's stages, grouped convolutions and response normalization, on 5000 MNIST digits.",
    _build,
    bar=0.97,
    epochs=15,
    rate=2e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
