"""Post-training static quantization to int8."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from edgekit.calibration import MinMaxObserver, Observer, PercentileObserver
from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.compress.quantize.placement import PlacementProfile, plan
from edgekit.compress.quantize.qdq import insert_qdq

__all__ = ["Int8Ptq"]


class Int8Ptq(GraphPass):
    """int8 weights (per-channel, symmetric) and activations (per-tensor) from calibration data.

    Attributes:
        observer_type: ``min-max`` keeps every value, ``percentile`` clips the outliers.
        percentile: share of the values inside the range, in percent, for ``percentile``.
    """

    precision: ClassVar[str] = "int8"

    type: Literal["int8-ptq"]
    observer_type: Literal["min-max", "percentile"] = Field(default="percentile", alias="observer")
    percentile: float = Field(default=99.999, gt=50.0, le=100.0)

    def observer(self) -> Observer:
        if self.observer_type == "min-max":
            return MinMaxObserver()
        return PercentileObserver(self.percentile)

    def observer_name(self) -> str:
        if self.observer_type == "min-max":
            return "min-max"
        return f"percentile {self.percentile:g}"

    def observed(self, model: ir.Model, profile: PlacementProfile) -> AbstractSet[str]:
        return {str(value.name) for node in plan(model, profile) for value in node.tensors}

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        total = len(model.graph)
        nodes = plan(model, context.profile)
        done = insert_qdq(model, nodes, context.table.ranges, context.profile)
        return PassReport(self.type, changed=done, total=total)
