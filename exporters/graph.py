"""Small edits that several graph passes make."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from typing import TypeAlias

import onnx_ir as ir

from edgekit.errors import ExportError
from edgekit.spec import Array, TensorSpec

__all__ = [
    "DEQUANTIZED",
    "ELEMENTWISE",
    "INFERENCE_PRECISION",
    "MODULE",
    "add_constant",
    "append",
    "bypass",
    "drop_identities",
    "must",
    "permutation",
    "private",
    "producer",
    "read_instead",
    "remove_unread",
    "same_dims",
    "scalar",
    "stored",
    "take_place",
    "tensor_specs",
    "unused_name",
]

_Dims: TypeAlias = ir.Shape | Sequence[int | ir.SymbolicDim]

#: Key of an ONNX model's metadata that asks an engine to compute its float operators in ``fp16``
#: or ``bf16``; the exporter of an engine that can passes it on inside the artifact.
INFERENCE_PRECISION = "edgekit.inference_precision"
#: What the name of a tensor gets once it was quantized and dequantized.
DEQUANTIZED = "_dequantized"
#: Key of a node's metadata: path and class of the PyTorch module that it comes from.
MODULE = "edgekit.module"
#: Operators that treat each element alone, constants broadcast: a transpose may stand before or
#: behind them.
ELEMENTWISE = frozenset(
    {
        "Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu",
        "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Min", "Mul", "Neg", "Pow",
        "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
    }
)  # fmt: skip


def add_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Add a stored tensor to the graph, as ``name`` or, when that is taken, ``name_1`` and so on.

    Passes derive names from the constant that they change, and one constant may be read in many
    places and be changed differently for each.
    """
    unique = unused_name(graph.initializers, name)
    tensor = ir.tensor(array, name=unique)
    value = ir.Value(
        name=unique,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )
    graph.initializers[unique] = value
    return value


def unused_name(taken: Container[str], name: str) -> str:
    """``name``, or the first of ``name_1``, ``name_2`` and so on that is not taken."""
    unique, number = name, 0
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique


def append(
    graph: ir.Graph,
    op: str,
    inputs: Sequence[ir.Value | None],
    output: str,
    attributes: Mapping[str, int] | None = None,
) -> ir.Value:
    """A new operator's result, named ``output``; the graph has to be sorted afterwards."""
    node = ir.node(op, inputs, attributes, name=f"{op}_{output}")
    node.outputs[0].name = output
    graph.append(node)
    return node.outputs[0]


def stored(value: ir.Value | None) -> Array | None:
    """The array of a constant; None for a computed tensor and for none at all."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def must(value: ir.Value | None) -> Array:
    """The array of what is known to be a constant."""
    array = stored(value)
    assert array is not None
    return array


def bypass(old: ir.Value, new: ir.Value) -> bool:
    """Let the readers of ``old`` read ``new``; False for a graph output, which stays as it is."""
    if old.is_graph_output():
        return False
    ir.convenience.replace_all_uses_with(old, new)
    return True


def drop_identities(graph: ir.Graph) -> int:
    """Remove Identity operators, but not those that give one tensor a second output name.

    Returns:
        How many were removed.
    """
    removed = 0
    for node in list(graph):
        if node.op_type != "Identity" or node.domain:
            continue
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        if result.is_graph_output():
            if source.is_graph_output() or source.producer() is None:
                continue
            name, result.name = result.name, None
            ir.convenience.replace_all_uses_with(result, source, replace_graph_outputs=True)
            source.name = name
        else:
            ir.convenience.replace_all_uses_with(result, source)
        graph.remove(node, safe=True)
        removed += 1
    return removed


def read_instead(graph: ir.Graph, node: ir.Node, made: ir.Node, label: str) -> bool:
    """Put ``made`` before ``node`` and let the readers of ``node`` read its result, see above."""
    old, new = node.outputs[0], made.outputs[0]
    new.name, new.type, new.shape = f"{old.name}_{label}", old.type, old.shape
    made.metadata_props.update(node.metadata_props)
    graph.insert_before(node, made)
    return bypass(old, new)


def take_place(graph: ir.Graph, node: ir.Node, made: ir.Node) -> None:
    """Put ``made`` where ``node`` is, and remove that; the result keeps its name and readers."""
    old, new = node.outputs[0], made.outputs[0]
    new.type, new.shape = old.type, old.shape
    new.name, old.name = old.name, f"{old.name}_replaced"
    made.metadata_props.update(node.metadata_props)
    graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def producer(value: ir.Value | None, op: str) -> ir.Node | None:
    """The operator that makes ``value``, when it is that one."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op else None


def permutation(node: ir.Node) -> tuple[int, ...]:
    """The order that a Transpose says; empty when it reverses all axes without saying so."""
    return tuple(node.attributes.get_ints("perm", ()))


def scalar(value: ir.Value | None) -> float | None:
    """A constant of one element that widens nothing it is combined with."""
    array = stored(value)
    return float(array.item()) if array is not None and array.shape in {(), (1,)} else None


def same_dims(one: _Dims | None, other: _Dims | None) -> bool:
    """Whether both are known and equal; two unknown dimensions are not."""
    if one is None or other is None or len(one) != len(other):
        return False
    return all(
        a == b and (isinstance(a, int) or a.value is not None)
        for a, b in zip(one, other, strict=True)
    )


def remove_unread(graph: ir.Graph, node: ir.Node) -> None:
    """Remove an operator when nothing reads its only result."""
    result = node.outputs[0]
    if not result.uses() and not result.is_graph_output():
        graph.remove(node, safe=True)


def private(nodes: Collection[ir.Node], result: ir.Value) -> bool:
    """Whether nothing outside reads what these operators compute, but for ``result``."""
    return all(
        value is result
        or (not value.is_graph_output() and all(user in nodes for user in value.consumers()))
        for node in nodes
        for value in node.outputs
    )


def tensor_specs(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    """Names, dtypes and shapes of a graph's inputs or outputs.

    Raises:
        ExportError: one has no known dtype or rank.
    """
    found = []
    for value in values:
        if value.dtype is None or value.shape is None:
            raise ExportError(
                "has no known dtype and rank",
                where=f"tensor {value.name!r}",
                fix="Give the graph's inputs and outputs a type and a shape",
            )
        shape = tuple(
            dim if isinstance(dim, int) else dim.value or f"{value.name}_{axis}"
            for axis, dim in enumerate(value.shape)
        )
        found.append(TensorSpec(str(value.name), value.dtype.numpy().name, shape))
    return tuple(found)
