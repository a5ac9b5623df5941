"""``zoo:mobilenet-mnist`` and ``zoo:mobilenetv3-mnist``: depthwise separable convolutions.

The first is MobileNet (Howard et al., 2017, arXiv:1704.04861) at a quarter of its width: a 3x3
convolution for each channel alone, then a 1x1 over all of them. The second is MobileNetV3-Small
(Howard et al., 2019, arXiv:1905.02244), thin: inverted residuals whose channels are weighted by
what the image is (squeeze and excitation), hard swish, and a head behind the pooling. Both have
fewer strides than the papers, for 28x28 pixels, and two blocks fewer.
"""

from __future__ import annotations

import torch
from torch import nn

from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES"]

#: MobileNet's blocks: channels and stride.
_SEPARABLE = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5)
#: MobileNetV3's: kernel, expanded channels, channels, stride, activation, channel weights.
_INVERTED = (
    (3, 16, 8, 1, nn.ReLU, True),
    (3, 36, 16, 1, nn.ReLU, False),
    (3, 44, 16, 1, nn.ReLU, False),
    (5, 64, 24, 2, nn.Hardswish, True),
    (5, 96, 24, 1, nn.Hardswish, True),
    (5, 72, 32, 1, nn.Hardswish, True),
    (5, 96, 32, 1, nn.Hardswish, True),
    (5, 128, 40, 2, nn.Hardswish, True),
    (5, 160, 40, 1, nn.Hardswish, True),
)


def _mobilenet() -> nn.Module:
    before = 8
    layers = [conv_bn(1, before, 3)]
    for channels, stride in _SEPARABLE:
        layers += [conv_bn(before, before, 3, stride, groups=before), conv_bn(before, channels, 1)]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


class _ChannelWeights(nn.Module):
    """Each channel times a factor in [0, 1] that two layers make of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.factor = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weighted: torch.Tensor = x * self.factor(x)
        return weighted


class _Inverted(nn.Module):
    """Narrow, expanded, depthwise, weighted, narrow: (n, channels_in, h, w) -> (n, channels, ...).

    The sum with its input is taken where the shapes agree; the narrow ends are linear.
    """

    def __init__(
        self,
        channels_in: int,
        kernel: int,
        expanded: int,
        channels: int,
        stride: int,
        activation: type[nn.Module],
        *,
        weighted: bool,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(channels_in, expanded, 1, activation=activation),
            conv_bn(expanded, expanded, kernel, stride, groups=expanded, activation=activation),
            _ChannelWeights(expanded) if weighted else nn.Identity(),
            conv_bn(expanded, channels, 1, activation=None),
        )
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(x)
        return x + y if self.residual else y


def _mobilenet_v3() -> nn.Module:
    before, last = 8, 160
    layers: list[nn.Module] = [conv_bn(1, before, 3, stride=2, activation=nn.Hardswish)]
    for kernel, expanded, channels, stride, activation, weighted in _INVERTED:
        block = _Inverted(before, kernel, expanded, channels, stride, activation, weighted=weighted)
        layers.append(block)
        before = channels
    return nn.Sequential(
        *layers,
        conv_bn(before, last, 1, activation=nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(last, 128),
        nn.Hardswish(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    )


ENTRIES = (
    mnist_classifier(
        "mobilenet-mnist",
        "MobileNet of depthwise separable convolutions on 5000 MNIST digits.",
        _mobilenet,
        bar=0.97,
    ),
    mnist_classifier(
        "mobilenetv3-mnist",
        "MobileNetV3-Small, whose channels are weighted by the image, on 5000 MNIST digits.",
        _mobilenet_v3,
        bar=0.97,
    ),
)
