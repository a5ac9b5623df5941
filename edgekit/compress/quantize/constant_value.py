"""The value of a tensor that only constants go into."""

from __future__ import annotations

import numpy as np
import onnx.reference
import onnx_ir as ir

from edgekit.spec import Array

__all__ = ["constant_value"]

#: Operators that move data: what the exporter leaves between a parameter and an LSTM.
_MOVES = frozenset({"Concat", "Reshape", "Slice", "Transpose", "Unsqueeze"})


def constant_value(value: ir.Value | None) -> Array | None:
    """The stored array, or what operators that move data make of stored ones; None otherwise.

    The exporter folds only small constants, so the gates of a larger LSTM stay apart.
    """
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is None or node.op_type not in _MOVES:
        return None
    arrays = {str(one.name): constant_value(one) for one in node.inputs if one is not None}
    if any(array is None for array in arrays.values()):
        return None
    evaluator = onnx.reference.ReferenceEvaluator(ir.to_proto(node))
    (made,) = evaluator.run(None, arrays)
    return np.asarray(made)
