"""The contract of a compress pass, and the checks that are run around every one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import ClassVar

import onnx_ir as ir
from pydantic import BaseModel, ConfigDict

from edgekit.calibration import CalibrationTable, Observer
from edgekit.compress.quantize.placement import PlacementProfile

__all__ = ["GraphContext", "GraphPass", "PassReport", "pass_types"]


@dataclass(frozen=True, slots=True)
class PassReport:
    """What a pass did.

    Attributes:
        name: the pass.
        changed: how many operators it changed; 0 means the model is as it was.
        total: how many operators it could have changed.
    """

    name: str
    changed: int
    total: int


@dataclass(frozen=True, slots=True)
class GraphContext:
    """What a graph pass may use beside the graph: never a runtime, only its placement profile."""

    profile: PlacementProfile
    table: CalibrationTable


class GraphPass(BaseModel, ABC):
    """One step of a recipe that rewrites the ONNX graph.

    Its fields are its keys in the recipe. A vendor adds a pass by registering a subclass under
    the entry-point group ``edgekit.passes``, named as its ``type``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The precision label of the artifacts that this pass makes.
    precision: ClassVar[str]

    type: str
    #: Calibrate on at most this many samples.
    samples: int = 512

    @abstractmethod
    def observer(self) -> Observer:
        """A fresh range estimator for one tensor."""

    @abstractmethod
    def observer_name(self) -> str:
        """The estimator and its parameter, for the calibration table."""

    @abstractmethod
    def observed(self, model: ir.Model, profile: PlacementProfile) -> AbstractSet[str]:
        """Names of the tensors whose ranges :meth:`apply` needs under ``profile``."""

    @abstractmethod
    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        """Rewrite ``model`` in place."""


@cache
def pass_types() -> dict[str, type[GraphPass]]:
    """Every registered pass by the ``type`` a recipe calls it."""
    return {point.name: point.load() for point in entry_points(group="edgekit.passes")}
