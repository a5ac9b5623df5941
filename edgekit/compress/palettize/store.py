"""Weights of few values, stored as a palette and small numbers that look them up."""

from __future__ import annotations

from typing import ClassVar, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

from edgekit.compress.base import GraphContext, GraphPass, PassReport
from edgekit.exporters.graph import MODULE, add_constant, append
from edgekit.spec import Array

__all__ = ["StorePalettes"]

#: Smaller constants are not worth two operators.
_SMALLEST = 256
#: ONNX has four-bit integers since this opset.
_UINT4_OPSET = 21


class StorePalettes(GraphPass):
    """Store each weight that has at most 256 values as its palette and an index a weight.

    ONNX Runtime looks the weights up once, while it loads: the file is a quarter or an eighth as
    large, and what runs is the same. Engines with a file format of their own keep their weights.
    The step ``palettize`` makes such weights; int8 steps after it replace them.
    """

    precision: ClassVar[str | None] = "palette"
    per_engine: ClassVar[bool] = True
    makes: ClassVar[frozenset[str]] = frozenset({"stored palettes"})
    undoes: ClassVar[frozenset[str]] = frozenset({"half precision"})

    type: Literal["store-palettes"]

    def apply(self, model: ir.Model, context: GraphContext) -> PassReport:
        weights = [value for value in list(model.graph.initializers.values()) if _worth(value)]
        changed = 0
        if context.profile.half_form == "storage":  # the engine that folds constants as it loads
            opset = model.graph.opset_imports.get("", 0)
            changed = sum(_store(model.graph, weight, opset) for weight in weights)
            model.graph.sort()
            for node in model.graph if changed else ():
                node.metadata_props.pop(MODULE, None)  # the bundle's model.onnx has these notes
        return PassReport(self.type, changed, len(weights))


def _worth(value: ir.Value) -> bool:
    return (
        value.dtype == ir.DataType.FLOAT
        and value.const_value is not None
        and value.const_value.size >= _SMALLEST
        and not value.is_graph_output()
    )


def _store(graph: ir.Graph, weight: ir.Value, opset: int) -> bool:
    """Replace a constant; False when it has too many values."""
    assert weight.const_value is not None
    palette, index = np.unique(weight.const_value.numpy(), return_inverse=True)
    if len(palette) > 256 or palette.nbytes * 4 > weight.const_value.nbytes:
        return False
    small: type = np.uint8
    if len(palette) <= 16 and opset >= _UINT4_OPSET:
        small = ml_dtypes.uint4
    numbers: Array = index.reshape(weight.const_value.shape.numpy()).astype(small)
    name = str(weight.name)
    uses = tuple(weight.uses())
    stored = add_constant(graph, f"{name}_index", numbers)
    # Gather takes no smaller integers
    wide = append(graph, "Cast", [stored], f"{name}_index_wide", {"to": int(ir.DataType.INT32)})
    values = add_constant(graph, f"{name}_palette", palette)
    looked_up = append(graph, "Gather", [values, wide], f"{name}_looked_up", {"axis": 0})
    for use in uses:
        use.node.replace_input_with(use.idx, looked_up)
    del graph.initializers[name]
    return True
