"""Models with real weights, real data and real metrics, to try everything on."""

from __future__ import annotations

import importlib

from edgekit.errors import ModelReferenceError, nearest
from edgekit.workload import Workload

__all__ = ["describe", "load", "names"]

#: Module of each model (it has a function ``workload``), and what it is in one line.
_MODELS = {
    "mlp-digits": ("mlp_digits", "MLP on scikit-learn's 8x8 digits; accuracy"),
    "resnet8-mnist": ("resnet8_mnist", "MLPerf Tiny's ResNet-8 on MNIST; accuracy"),
    "resnet14-mnist": ("resnet14_mnist", "ResNet-14 of 0.3 GMACs on MNIST; accuracy"),
    "lstm-digits": ("lstm_digits", "LSTM over the rows of 8x8 digits; accuracy"),
    "efficientnet-lite0": (
        "efficientnet_lite0",
        "EfficientNet-Lite0 with ImageNet weights; top-1 agreement with fp32 on photos",
    ),
    "minilm": ("minilm", "all-MiniLM-L6-v2 sentence embeddings; cosine to fp32"),
}


def names() -> tuple[str, ...]:
    """Names of the models, without the ``zoo:`` before them."""
    return tuple(_MODELS)


def describe(name: str) -> str:
    """What a model is, in one line."""
    return _MODELS[name][1]


def load(name: str) -> Workload:
    """Build the model of that name with its weights and data.

    Raises:
        ModelReferenceError: the name is unknown, or a package with weights or data is missing.
    """
    if name not in _MODELS:
        guess = nearest(name, _MODELS)
        hint = f", did you mean 'zoo:{guess}'" if guess else ""
        raise ModelReferenceError(
            f"unknown zoo model {name!r}{hint}", fix=f"Choose from {', '.join(_MODELS)}"
        )
    try:
        module = importlib.import_module(f"edgekit.zoo.{_MODELS[name][0]}")
    except ModuleNotFoundError as error:
        raise ModelReferenceError(
            f"needs the package {error.name!r}",
            where=f"zoo:{name}",
            fix="Run: pip install 'edgekit[torch,zoo]'",
        ) from error
    workload: Workload = module.workload()
    return workload
