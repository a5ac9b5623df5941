"""Post-training static quantization to int8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from edgekit.calibration import CalibrationTable, Estimator, EstimatorName, Range
from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.compress.quantize.adaround import learn_rounding
from edgekit.compress.quantize.bias_correction import channel_axes, correct_biases
from edgekit.compress.quantize.learned import apply_learned
from edgekit.compress.quantize.placement import Placement, plan
from edgekit.compress.quantize.qdq import WeightOptions, insert_qdq
from edgekit.compress.quantize.quantized import refuse_quantized
from edgekit.compress.quantize.switchable import make_switchable
from edgekit.errors import CompressError
from edgekit.spec import Array

__all__ = ["Int8Ptq"]


class Int8Ptq(GraphPass):
    """int8 weights (per-channel, symmetric) and activations (per-tensor) from calibration data.

    Attributes:
        observer: the range estimator, see :class:`~edgekit.calibration.Estimator`.
        percentile: share of the values inside the range, in percent, for ``percentile``.
        weights: ``max`` covers the largest weight of each channel, ``mse`` minimizes the squared
            error.
        rounding: ``nearest``, or ``adaround``, which learns for each weight whether to round up
            or down.
        settle: stop calibrating when another 32 samples move the ranges by less than this share of
            their width; 0 uses every sample.
        bias_correction: take the mean error that weight rounding causes out of the bias.
    """

    precision: ClassVar[str] = "int8"
    per_engine: ClassVar[bool] = True
    makes: ClassVar[frozenset[str]] = frozenset({"quantized weights"})
    undoes: ClassVar[frozenset[str]] = frozenset(
        {"quantized weights", "half precision", "stored palettes"}
    )

    type: Literal["int8-ptq"]
    observer: EstimatorName = "percentile"
    percentile: float = Field(default=99.999, gt=50.0, le=100.0)
    weights: Literal["max", "mse"] = "max"
    rounding: Literal["nearest", "adaround"] = "nearest"
    settle: float = Field(default=0.0, ge=0.0, lt=1.0)
    bias_correction: bool = False

    @property
    def estimator(self) -> Estimator:
        """The range estimator that these settings ask for."""
        return Estimator(name=self.observer, percentile=self.percentile)

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        total = len(model.graph)
        prepared = self._prepare(model, context)
        correct = (
            correct_biases(model, prepared.placement, prepared.means)
            if self.bias_correction
            else None
        )
        done = insert_qdq(
            model, prepared.placement, prepared.ranges, context.profile, prepared.options
        )
        corrected = correct(done) if correct else 0
        return PassReport(
            self.type,
            changed=len(done),
            total=total,
            details=(f"{corrected} biases corrected",) if corrected else (),
            table=prepared.table,
        )

    def make_switchable(self, model: ir.Model, context: GraphContext) -> list[str]:
        """Instead of quantizing ``model``, make every quantization in it a switch.

        Returns:
            Names of the operators in the order of the switches, see :mod:`.switchable`.
        """
        prepared = self._prepare(model, context)
        return make_switchable(
            model, prepared.placement, prepared.ranges, context.profile, prepared.options
        )

    def _prepare(self, model: ir.Model, context: GraphContext) -> _Prepared:
        refuse_quantized(model)
        placement = plan(model, context.profile, context.keep_float)
        table, means = self._observed(model, context)
        ranges, fixed = apply_learned(placement, table.ranges, context.learned)
        if any(np.abs(steps).max() > context.target.levels for steps, _ in fixed.values()):
            raise CompressError(
                f"training learnt the full int8 range, which {context.target.name} cannot add up",
                where="int8-ptq",
                fix="Use the recipe int8, which reduces the range, or another --target",
            )
        options = WeightOptions(context.target.levels, self.weights == "mse", fixed)
        if self.rounding == "adaround":
            # For all operators, so that a build with others left float finds its own.
            if "rounding" not in context.memo:
                everything = plan(model, context.profile)
                context.memo["rounding"] = learn_rounding(
                    model, everything, options, context.calibrator
                )
            options = context.memo["rounding"]
        return _Prepared(placement, ranges, options, table, means)

    def _observed(
        self, model: ir.Model, context: GraphContext
    ) -> tuple[CalibrationTable, Mapping[str, Array]]:
        """Ranges, and means where biases are corrected: one calibration for all engines."""
        tensors: set[str] = set()
        axes: dict[str, int] = {}
        for profile in context.profiles:
            placement = plan(model, profile)
            tensors |= placement.tensors
            axes |= channel_axes(placement) if self.bias_correction else {}
        calibrator = context.calibrator
        table = calibrator.table(model, tensors, self.estimator, self.settle, axes)
        return table, calibrator.means(model, axes, table)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything that has to be known before the graph is rewritten."""

    placement: Placement
    ranges: dict[str, Range]
    options: WeightOptions
    table: CalibrationTable
    means: Mapping[str, Array]
