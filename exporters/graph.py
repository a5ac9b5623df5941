"""Small edits that several graph passes make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgekit.errors import ExportError
from edgekit.spec import Array, TensorSpec

__all__ = [
    "DEQUANTIZED",
    "INFERENCE_PRECISION",
    "MODULE",
    "add_constant",
    "append",
    "bypass",
    "must",
    "read_instead",
    "specs_of",
    "stored",
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
    unique, number = name, 0
    while unique in graph.initializers:
        number += 1
        unique = f"{name}_{number}"
    tensor = ir.tensor(array, name=unique)
    value = ir.Value(
        name=unique,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )
    graph.initializers[unique] = value
    return value


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


def read_instead(graph: ir.Graph, node: ir.Node, made: ir.Node, label: str) -> bool:
    """Put ``made`` before ``node`` and let the readers of ``node`` read its result, see above."""
    old, new = node.outputs[0], made.outputs[0]
    new.name, new.type, new.shape = f"{old.name}_{label}", old.type, old.shape
    graph.insert_before(node, made)
    return bypass(old, new)


def specs_of(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    """Names, dtypes and shapes of a graph's inputs or outputs.

    Raises:
        ExportError: one has no type or no rank.
    """
    specs = []
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
        specs.append(TensorSpec(str(value.name), value.dtype.numpy().name, shape))
    return tuple(specs)
