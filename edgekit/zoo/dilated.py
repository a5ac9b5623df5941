"""``zoo:dilated-mnist``: a network that sees far by dilation, without pooling.

The front end halves 28x28 pixels once. Behind it the context module of Yu and Koltun (2016,
arXiv:1511.07122), with dilations 1, 1, 2, 4 and 1, sees 41 pixels and stays at 14x14; a 1x1
convolution makes a map of each class, and their means are the scores, as in dilated residual
networks (Yu, Koltun and Funkhouser, 2017, arXiv:1705.09914). With batch norm.
"""

from __future__ import annotations

from torch import nn

from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]

_CHANNELS = 24
_DILATIONS = (1, 1, 2, 4, 1)


def _build() -> nn.Module:
    return nn.Sequential(
        conv_bn(1, 12, 3),
        conv_bn(12, _CHANNELS, 3, stride=2),
        *[conv_bn(_CHANNELS, _CHANNELS, 3, dilation=dilation) for dilation in _DILATIONS],
        nn.Conv2d(_CHANNELS, 10, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


_ENTRY = mnist_classifier(
    "dilated-mnist",
    "Dilated convolutions in place of pooling, on 5000 MNIST digits.",
    _build,
    bar=0.975,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
