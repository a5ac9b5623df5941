"""``zoo:condconv-mnist``: convolutions whose kernels every image mixes for itself.

CondConv (Yang et al., 2019, arXiv:1904.04971): a layer has several kernels, the experts. A routing
function of the layer's input gives each a weight, sigmoid(pooled input x matrix), and one
convolution with the weighted sum of the kernels follows. So every image of a batch has a kernel of
its own. Frameworks run that as a convolution with a group for each image, whose count is then
fixed in the exported graph; here it is a product of matrices, for any batch.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]

_EXPERTS = 4
_STEM = 16
#: Channels and stride of each layer.
_LAYERS = ((24, 1), (40, 2), (48, 2))
_KERNEL = 3


class _CondConv(nn.Module):
    """A 3x3 convolution: (n, channels_in, h, w) -> (n, channels, h / stride, w / stride)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        size = channels_in * _KERNEL**2
        self.route = nn.Linear(channels_in, _EXPERTS)
        self.experts = nn.Parameter(torch.randn(_EXPERTS, channels * size) * (2 / size) ** 0.5)

    def kernels(self, x: torch.Tensor) -> torch.Tensor:
        """Those of each image: (n, channels, 9 * channels_in)."""
        weights = torch.sigmoid(self.route(x.mean((2, 3))))
        return (weights @ self.experts).unflatten(1, (self.channels, -1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sides = [-(-side // self.stride) for side in x.shape[2:]]
        return (self.kernels(x) @ _windows(x, self.stride)).unflatten(2, sides)


def _windows(x: torch.Tensor, stride: int) -> torch.Tensor:
    """What each position sees: (n, c, h, w) -> (n, 9 * c, positions).

    By slices: ``functional.unfold`` becomes gathers in ONNX, which are slower.
    """
    height, width = x.shape[2:]
    padded = functional.pad(x, [_KERNEL // 2] * 4)
    taps = [
        padded[:, :, row : row + height : stride, column : column + width : stride]
        for row in range(_KERNEL)
        for column in range(_KERNEL)
    ]
    return torch.cat(taps, 1).flatten(2)


def _build() -> nn.Module:
    before = _STEM
    layers: list[nn.Module] = [conv_bn(1, before, 3), nn.MaxPool2d(2)]
    for channels, stride in _LAYERS:
        layers += [_CondConv(before, channels, stride), nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


_ENTRY = mnist_classifier(
    "condconv-mnist",
    "CondConv, four kernels mixed anew for each image, on 5000 MNIST digits.",
    _build,
    bar=0.97,
    epochs=16,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
