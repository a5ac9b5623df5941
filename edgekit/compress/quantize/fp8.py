"""Post-training quantization of matrix products to float8 (E4M3)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from edgekit.calibration import Estimator
from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.compress.quantize.arithmetic import (
    FP16_NORMAL,
    LARGEST_E4M3,
    along,
    weight_scale,
)
from edgekit.compress.quantize.placement import PlacementProfile, QuantizedNode, plan
from edgekit.compress.quantize.qdq import WeightOptions, insert_qdq, output_axis
from edgekit.compress.quantize.quantized import refuse_quantized
from edgekit.errors import CompressError
from edgekit.exporters.graph import must
from edgekit.spec import Array

__all__ = ["Fp8Ptq"]

#: What every release of TensorRT and TensorRT-RTX documents for float8.
_PRODUCTS = ("Gemm", "MatMul")

#: The first opset whose QuantizeLinear knows float8.
_OPSET = 19


class Fp8Ptq(GraphPass):
    """float8 weights (a scale for each output) and activations (one scale) of matrix products.

    Four exponent bits hold outliers that int8 would have to clip. Engines without float8 are left
    as they are.

    Source: Micikevicius et al., "FP8 Formats for Deep Learning", 2022 (arXiv:2209.05433).
    """

    precision: ClassVar[str] = "fp8"
    per_engine: ClassVar[bool] = True
    makes: ClassVar[frozenset[str]] = frozenset({"quantized weights"})
    undoes: ClassVar[frozenset[str]] = frozenset(
        {"quantized weights", "half precision", "stored palettes", "learnt scales"}
    )

    type: Literal["fp8-ptq"]

    def suits(self, profile: PlacementProfile) -> bool:
        return profile.fp8

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        total = len(model.graph)
        refuse_quantized(model)
        if (opset := model.opset_imports[""] or 0) < _OPSET:
            raise CompressError(
                f"float8 came with opset {_OPSET}, the graph has {opset}",
                where=self.type,
                fix="Export the model again, or convert the graph with onnx.version_converter",
            )
        rules = {name: context.profile.ops[name] for name in _PRODUCTS}
        profile = replace(context.profile, ops=rules, activation="float8")
        placement = plan(model, profile, context.keep_float)
        table = context.calibrator.table(model, placement.tensors, Estimator(name="min-max"))
        fixed = {str(chosen.node.name): _weight(chosen) for chosen in placement.nodes}
        options = WeightOptions(fixed=fixed)
        done = insert_qdq(model, placement, table.ranges, profile, options)
        return PassReport(self.type, len(done), total, table=table)


def _weight(chosen: QuantizedNode) -> tuple[Array, Array]:
    """The float8 weight and the scale of each of its outputs, as in :func:`.symmetric_float8`."""
    weight = must(chosen.weight)
    axis = output_axis(chosen.node, weight.ndim)
    least = np.full(weight.shape[axis], FP16_NORMAL, np.float32)
    scale = weight_scale(weight, axis, levels=LARGEST_E4M3, smallest=least)
    steps = weight / along(scale, weight.ndim, axis)
    return steps.astype(ml_dtypes.float8_e4m3fn), scale
