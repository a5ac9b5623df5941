"""``zoo:vgg16-mnist``: VGG-16 (Simonyan and Zisserman, 2015, arXiv:1409.1556), narrow.

Configuration D: 13 convolutions of 3x3 in five stages, a 2x2 max pooling after each, and three
dense layers with dropout. 28x28 pixels are padded to 32x32, so that five poolings end at one
pixel. With batch norm, as everybody trains it since; the paper has none and starts from a
shallower network.
"""

from __future__ import annotations

from torch import nn

from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._mnist import mnist_classifier

__all__ = ["ENTRIES", "workload"]

#: Channels of each stage (the paper: 64, 128, 256, 512, 512), and its convolutions.
_STAGES = ((8, 2), (16, 2), (32, 3), (48, 3), (48, 3))
_DENSE = 96


def _build() -> nn.Module:
    layers: list[nn.Module] = [nn.ZeroPad2d(2)]
    before = 1
    for channels, convolutions in _STAGES:
        for _ in range(convolutions):
            layers.append(conv_bn(before, channels, 3))
            before = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(before, _DENSE),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(_DENSE, _DENSE),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(_DENSE, 10),
    )


_ENTRY = mnist_classifier(
    "vgg16-mnist", "VGG-16 at an eighth of its width on 5000 MNIST digits.", _build, bar=0.975
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
