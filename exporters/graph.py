"""Small edits that several graph passes make."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import onnx_ir as ir

from edgekit.spec import Array

__all__ = [
    "DEQUANTIZED",
    "INFERENCE_PRECISION",
    "MODULE",
    "add_constant",
    "append",
    "bypass",
    "drop_identities",
    "must",
    "read_instead",
    "stored",
    "unused_name",
]

#: Key of an ONNX model's metadata that asks an engine to compute its float operators in ``fp16``
#: or ``bf16``; the exporter of an engine that can passes it on inside the artifact.
INFERENCE_PRECISION = "edgekit.inference_precision"
#: What the name of a tensor gets once it was quantized and dequantized.
DEQUANTIZED = "_dequantized"
#: Key of a node's metadata: path and class of the PyTorch module that it comes from.
MODULE = "edgekit.module"


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
    graph.insert_before(node, made)
    return bypass(old, new)
