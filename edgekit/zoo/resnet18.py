"""``zoo:resnet18-mnist``: ResNet-18 (He et al., 2015, arXiv:1512.03385) at an eighth of its width.

Four stages of two basic blocks, each twice as wide as the one before and half as high, behind a
stem with max pooling. The stem's convolution is 3x3 and has stride 1, for 28x28 pixels.
"""

from __future__ import annotations

from edgekit.zoo._residual import residual_classifier

__all__ = ["ENTRIES", "workload"]

_ENTRY = residual_classifier(
    "resnet18-mnist",
    "ResNet-18 at an eighth of its width on 5000 MNIST digits.",
    widths=(8, 16, 32, 64),
    blocks=2,
    bar=0.975,
    pool=True,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
