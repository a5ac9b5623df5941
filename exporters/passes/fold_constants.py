"""Compute what depends on constants only, so that passes and engines see plain weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from edgekit.exporters.graph import add_constant
from onnx.reference import ReferenceEvaluator

from edgekit.spec import Array

__all__ = ["fold_constants"]

#: Operators that only move or select data: folding them changes no rounding.
_FOLDED = frozenset(
    {
        "Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip


def fold_constants(graph: ir.Graph, *, tied: bool = True) -> int:
    """Replace data movement over constants by its result.

    ``torch.export`` writes the gate order of an LSTM's weights as Slice and Concat operators;
    folded, they are one weight that can be quantized.

    Args:
        graph: changed in place.
        tied: fold weights that something else reads as well (an embedding that is the output
            layer, too), so that both forms are stored.

    Returns:
        How many operators were folded.
    """
    folded = 0
    for node in list(graph):
        if not _is_foldable(node) or not (tied or _frees_its_weights(node)):
            continue
        value = add_constant(graph, f"{node.outputs[0].name}_folded", _computed(node, graph))
        ir.convenience.replace_all_uses_with(node.outputs[0], value)
        graph.remove(node, safe=True)
        folded += 1
    return folded


def _is_foldable(node: ir.Node) -> bool:
    inputs = [value for value in node.inputs if value is not None]
    constant = bool(inputs) and all(value.const_value is not None for value in inputs)
    moves = node.op_type in _FOLDED and not node.domain
    return moves and constant and len(node.outputs) == 1 and not node.outputs[0].is_graph_output()


def _frees_its_weights(node: ir.Node) -> bool:
    """Whether nothing reads the weights that it moves once all that can be folded is."""
    weights = [v for v in node.inputs if v is not None and v.shape is not None and len(v.shape) > 1]
    return all(_is_foldable(reader) for value in weights for reader in value.consumers())


def _computed(node: ir.Node, graph: ir.Graph) -> Array:
    """The result of one operator with constant inputs."""
    proto = ir.to_proto(node)
    arrays: dict[str, Array] = {
        str(v.name): v.const_value.numpy() for v in node.inputs if v is not None and v.const_value
    }
    made = onnx.helper.make_graph(
        [proto],
        "folding",
        [onnx.helper.make_tensor_value_info(n, _kind(a), a.shape) for n, a in arrays.items()],
        [onnx.helper.make_empty_tensor_value_info(proto.output[0])],
    )
    opset = onnx.helper.make_opsetid("", graph.opset_imports.get("", 20))
    model = onnx.helper.make_model(made, opset_imports=[opset])
    results = ReferenceEvaluator(model).run(None, arrays)
    assert isinstance(results, list)
    return np.asarray(results[0])


def _kind(array: Array) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
