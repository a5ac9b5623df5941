"""The constants of a graph that weight-only quantization stores in fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit.compress.quantize.linears import has_factors, is_linear, transposed
from edgekit.spec import Array

__all__ = ["Constant", "linear_weights", "tables"]

#: Smaller tables are not worth the operators that read them.
_SMALLEST_TABLE = 1 << 12


@dataclass(frozen=True, slots=True)
class Constant:
    """A stored tensor and the operators that read it in the same way.

    Attributes:
        value: float32, two-dimensional.
        nodes: at least one.
        swapped: whether they read it as ``(outputs, inputs)``.
    """

    value: ir.Value
    nodes: list[ir.Node]
    swapped: bool = False

    @property
    def name(self) -> str:
        """A name for what is made of it."""
        return f"{self.value.name}_swapped" if self.swapped else str(self.value.name)

    @property
    def array(self) -> Array:
        """``(inputs, outputs)`` of a linear layer, ``(rows, columns)`` of a table."""
        assert self.value.const_value is not None
        array = self.value.const_value.numpy()
        return array.T if self.swapped else array

    @property
    def sources(self) -> dict[str, int]:
        """The tensors that are multiplied by it, with their number of channels."""
        return {str(node.inputs[0].name): len(self.array) for node in self.nodes}  # type: ignore[union-attr]


def linear_weights(model: ir.Model, keep_float: AbstractSet[str]) -> list[Constant]:
    """The weights of MatMul and Gemm. One that several layers share is there once."""
    found: dict[tuple[ir.Value, bool], list[ir.Node]] = {}
    for node in model.graph:
        if is_linear(node) and node.name not in keep_float and _has_kernel(node):
            weight = node.inputs[1]
            assert weight is not None
            found.setdefault((weight, transposed(node)), []).append(node)
    return [Constant(value, nodes, swapped) for (value, swapped), nodes in found.items()]


def tables(model: ir.Model, keep_float: AbstractSet[str]) -> Iterator[Constant]:
    """Embedding tables: only read by Gather, row by row."""
    for value in list(model.graph.initializers.values()):
        uses = tuple(value.uses())
        if (
            uses
            and value.dtype == ir.DataType.FLOAT
            and value.const_value is not None
            and len(value.const_value.shape) == 2
            and value.const_value.size >= _SMALLEST_TABLE
            and all(_gathers_rows(*use) and use.node.name not in keep_float for use in uses)
        ):
            yield Constant(value, [use.node for use in uses])


def _has_kernel(node: ir.Node) -> bool:
    source = node.inputs[0]
    vector = source is not None and source.shape is not None and len(source.shape) < 2
    return not vector and not has_factors(node) and bool(np.prod(node.inputs[1].shape))  # type: ignore[union-attr,arg-type]


def _gathers_rows(node: ir.Node, position: int) -> bool:
    return node.op_type == "Gather" and position == 0 and node.attributes.get_int("axis", 0) == 0
