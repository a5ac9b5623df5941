"""edgekit: from a trained PyTorch model to a verified, measured deployment on an edge device."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.compress.recipe import Recipe, load_recipe
    from edgekit.pipeline import make_bundle
    from edgekit.spec import TensorSpec
    from edgekit.workload import Metric, Training, Workload

__all__ = [
    "Bundle",
    "Metric",
    "Recipe",
    "TensorSpec",
    "Training",
    "Workload",
    "__version__",
    "load_recipe",
    "make_bundle",
]

__version__ = "0.1.0"

# ONNX Runtime's packages report to their maker from a thread of their own unless told not to. A
# device does not call home on our account; whoever wants it to sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

#: Loaded on first use, so that ``import edgekit`` and the command line stay light.
_HOMES = {
    "Bundle": "edgekit.bundle",
    "Metric": "edgekit.workload",
    "Recipe": "edgekit.compress.recipe",
    "TensorSpec": "edgekit.spec",
    "Training": "edgekit.workload",
    "Workload": "edgekit.workload",
    "load_recipe": "edgekit.compress.recipe",
    "make_bundle": "edgekit.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
