"""Where the time of an inference goes: each operator that the engine executed, by module."""

from __future__ import annotations

from edgekit.profile.layers.bundle import artifact_layers
from edgekit.profile.layers.measure import measure_layers

__all__ = ["artifact_layers", "measure_layers"]
