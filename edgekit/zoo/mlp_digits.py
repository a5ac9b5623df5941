"""``zoo:mlp-digits``: the smallest model that means something."""

from __future__ import annotations

from torch import nn

from edgekit.zoo._classification import Classifier, digits

__all__ = ["CLASSIFIER", "workload"]


def _build() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )


CLASSIFIER = Classifier(
    name="mlp-digits",
    description="MLP 64-128-64-10 on scikit-learn's 8x8 digits.",
    input_name="pixels",
    build=_build,
    load_data=lambda: digits((64,)),
)
workload = CLASSIFIER.workload
