"""How an engine reads compressed weights, written into the graph.

All forms were checked on ONNX Runtime 1.31, OpenVINO 2026.4 and TensorRT-RTX's builder.
"""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir

from edgekit.compress.quantize.weight_only.grid import Grid, GroupedWeight
from edgekit.exporters.graph import add_constant, append
from edgekit.spec import Array

__all__ = [
    "decompressed",
    "dequantized_table",
    "gathered_rows",
    "matmul_nbits",
    "nbits_constants",
    "openvino_grid",
    "pack_nibbles",
    "replace_by_add",
    "replace_outputs",
]

_GROUPS = (256, 128, 64, 32, 16)
#: What MatMulNBits takes for one group of all inputs, the preferred first. Activations are
#: quantized in the same groups, so that 256 would cost accuracy.
_BLOCKS = (128, 64, 32, 16)
_MICROSOFT = "com.microsoft"
_NIBBLES = {np.dtype(np.int8): ml_dtypes.int4, np.dtype(np.uint8): ml_dtypes.uint4}


def openvino_grid(grid: Grid, inputs: int) -> Grid:
    """The grid nearest to the wanted one that OpenVINO computes rightly with.

    Its operators take no short last group. Measured with OpenVINO 2026.4 on AVX512-VNNI against
    float64: groups of 16, 32, 64, 128 and 256 that divide the inputs are right, others (17, 40, 48,
    100) give silently wrong products, and so do 4 bits with an odd number of inputs. One group of
    all inputs is right in 8 bits for any number, in 4 bits for multiples of 16.
    """
    rows = next((size for size in _GROUPS if size <= grid.rows and inputs % size == 0), 0)
    bits = grid.bits if inputs % 16 == 0 else 8
    return Grid(bits, rows if rows < inputs else 0, grid.symmetric)


def pack_nibbles(values: Array) -> Array:
    """Two 4-bit values a byte along the last axis, the first in the low half; odd ends get 0."""
    odd = values.shape[-1] % 2
    padded = np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, odd)]).astype(np.uint8)
    return padded[..., 0::2] | (padded[..., 1::2] << 4)


def nbits_constants(graph: ir.Graph, name: str, weight: GroupedWeight) -> list[ir.Value]:
    """The stored inputs of ``MatMulNBits``: integers, scales and, if asymmetric, zero points.

    Integers are unsigned, of shape ``(outputs, groups, bytes of a group)``; signed ones are stored
    8 or 128 higher, which is the operator's zero point when it is given none.
    """
    bits, rows = weight.grid.bits, _block(weight)
    groups = -(-weight.inputs // rows)
    offset = 2 ** (bits - 1) if weight.grid.symmetric else 0
    missing = groups * rows - weight.inputs
    steps = np.pad(weight.steps.astype(np.int16) + offset, [(0, missing), (0, 0)])
    scale = np.broadcast_to(weight.scale.T, (weight.outputs, groups))
    constants = [
        add_constant(
            graph, f"{name}_steps", _bytes(steps.T.reshape(weight.outputs, groups, rows), bits)
        ),
        add_constant(graph, f"{name}_scales", np.ascontiguousarray(scale)),
    ]
    if not weight.grid.symmetric:
        zero = np.broadcast_to(weight.zero_point.T, (weight.outputs, groups))
        constants.append(add_constant(graph, f"{name}_zero_points", _bytes(zero, bits)))
    return constants


def matmul_nbits(
    graph: ir.Graph,
    node: ir.Node,
    weight: GroupedWeight,
    constants: Sequence[ir.Value],
    accuracy: int,
) -> None:
    """Replace a MatMul or Gemm by ONNX Runtime's ``MatMulNBits``.

    Args:
        graph: the graph.
        node: the operator, see :func:`~edgekit.compress.quantize.linears.is_linear`.
        weight: its weight.
        constants: from :func:`nbits_constants`.
        accuracy: ``accuracy_level``: 1 computes in float32, 4 quantizes activations to int8.
    """
    attributes = {
        "K": weight.inputs, "N": weight.outputs, "bits": weight.grid.bits,
        "block_size": _block(weight), "accuracy_level": accuracy,
    }  # fmt: skip
    inputs = [node.inputs[0], *constants]
    made = ir.node("MatMulNBits", inputs, attributes, domain=_MICROSOFT, name=f"{node.name}_nbits")
    graph.opset_imports.setdefault(_MICROSOFT, 1)
    replace_by_add(graph, node, made)


def replace_by_add(graph: ir.Graph, node: ir.Node, product: ir.Node) -> None:
    """Put ``product`` in the place of a MatMul or Gemm, with an Add for what a Gemm adds."""
    added = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
    nodes = [product]
    if added is not None:
        product.outputs[0].name = f"{node.name}_product"
        product.outputs[0].type = node.outputs[0].type
        nodes.append(ir.node("Add", [product.outputs[0], added], name=f"{node.name}_add"))
    _replace(graph, node, nodes)


def decompressed(graph: ir.Graph, name: str, weight: GroupedWeight, *, swapped: bool) -> ir.Value:
    """The real weight, out of a DequantizeLinear that reads the stored integers.

    They are stored as ``(outputs, inputs)``, the layout of the kernels, with a Transpose for an
    operator that wants the other one: OpenVINO folds both into the operator and holds no float
    copy.

    Args:
        graph: the graph.
        name: of the weight.
        weight: its integers.
        swapped: whether the operator reads ``(outputs, inputs)``.
    """
    bits, one = weight.grid.bits, weight.grid.rows == 0
    arrays = [_stored(weight.steps.T, bits), weight.scale.T, _stored(weight.zero_point.T, bits)]
    if weight.grid.symmetric:
        arrays.pop()
    if one:
        arrays[1:] = [array[:, 0] for array in arrays[1:]]
    constants = [
        add_constant(graph, f"{name}_{part}", np.ascontiguousarray(array))
        for part, array in zip(("steps", "scales", "zero_points"), arrays, strict=False)
    ]
    attributes = {"axis": 0} if one else {"axis": 1, "block_size": weight.grid.rows}
    value = append(graph, "DequantizeLinear", constants, f"{name}_real", attributes)
    return value if swapped else append(graph, "Transpose", [value], f"{name}_real_transposed")


def dequantized_table(
    graph: ir.Graph, name: str, steps: Array, scale: Array, nodes: Sequence[ir.Node]
) -> None:
    """Let Gathers along axis 0 read a table of int8 rows through a DequantizeLinear.

    OpenVINO and TensorRT turn the two into one operator that dequantizes what it gathers.
    """
    constants = [
        add_constant(graph, f"{name}_steps", steps), add_constant(graph, f"{name}_scales", scale)
    ]  # fmt: skip
    value = append(graph, "DequantizeLinear", constants, f"{name}_real", {"axis": 0})
    for node in nodes:
        node.replace_input_with(0, value)


def gathered_rows(
    graph: ir.Graph, name: str, steps: Array, scale: Array, nodes: Sequence[ir.Node]
) -> None:
    """Gather int8 rows and their scales, then multiply.

    ONNX Runtime would dequantize the whole table in each run of :func:`dequantized_table`.
    """
    columns = scale.reshape(-1, *[1] * (steps.ndim - 1))
    table = add_constant(graph, f"{name}_steps", steps)
    scales = add_constant(graph, f"{name}_scales", columns)
    for node in nodes:
        ids, to = node.inputs[1], int(ir.DataType.FLOAT)
        rows = append(graph, "Gather", [table, ids], f"{node.name}_rows", {"axis": 0})
        factor = append(graph, "Gather", [scales, ids], f"{node.name}_row_scales", {"axis": 0})
        real = append(graph, "Cast", [rows], f"{node.name}_rows_float", {"to": to})
        _replace(graph, node, [ir.node("Mul", [real, factor], name=f"{node.name}_scaled")])


def _replace(graph: ir.Graph, node: ir.Node, nodes: Sequence[ir.Node]) -> None:
    """Put ``nodes`` in the place of ``node``; the last makes its result."""
    for made in nodes[:-1]:
        made.metadata_props.update(node.metadata_props)
    graph.insert_after(node, nodes[:-1])
    replace_outputs(graph, node, nodes[-1])


def replace_outputs(graph: ir.Graph, node: ir.Node, made: ir.Node) -> None:
    """Put ``made`` in the place of ``node``: its results keep their names, types and readers."""
    graph.insert_after(node, made)
    made.metadata_props.update(node.metadata_props)
    for old, new in zip(node.outputs, made.outputs, strict=True):
        new.type, new.shape = old.type, old.shape
        for use in tuple(old.uses()):
            use.node.replace_input_with(use.idx, new)
        for index, value in enumerate(graph.outputs):
            if value is old:
                graph.outputs[index] = new
    names = [value.name for value in node.outputs]
    graph.remove(node, safe=True)
    for value, name in zip(made.outputs, names, strict=True):
        value.name = name


def _block(weight: GroupedWeight) -> int:
    """The operator's group; one group of all inputs is several of them with one scale."""
    return weight.grid.rows or min(_BLOCKS, key=lambda size: -weight.inputs % size)


def _bytes(values: Array, bits: int) -> Array:
    return pack_nibbles(values) if bits == 4 else values.astype(np.uint8)


def _stored(steps: Array, bits: int) -> Array:
    """The array in the element type that its bits need."""
    return steps.astype(_NIBBLES[steps.dtype]) if bits == 4 else steps
