"""``zoo:mlp-digits``: the smallest model that means something."""

from __future__ import annotations

from torch import nn

from edgekit.zoo._classification import Classifier, digits

__all__ = ["ENTRIES", "workload"]


def _build() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )


_ENTRY = Classifier(
    name="mlp-digits",
    family="feed-forward and convolutional",
    description="MLP 64-128-64-10 on scikit-learn's 8x8 digits.",
    input_name="pixels",
    build=_build,
    load_data=lambda: digits((64,)),
    bar=0.97,
    source="scikit-learn's example of digits with a support vector machine",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
