"""How many operations an operator takes, from the shapes of one call.

A multiply-accumulate counts as two. An elementwise operator counts as one an element, whatever it
computes; what only moves data counts as none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from edgekit.runtimes.timer import Operator, Tensor

__all__ = ["HEAVY", "MOVES", "flops"]

_Shape: TypeAlias = tuple[int, ...]
_Rule: TypeAlias = Callable[[Operator, Sequence[_Shape | None], _Shape], int | None]

#: Operators, as ONNX and OpenVINO call them, that compute nothing.
MOVES = {
    "Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Convert", "ConvertLike",
    "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad",
    "Range", "Reshape", "ScatterND", "ScatterUpdate", "Shape", "ShapeOf", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "StridedSlice", "Tile", "Broadcast", "Transpose", "Unsqueeze",
    "VariadicSplit",
}  # fmt: skip
#: Operators of which nothing is known that would give a number.
_UNKNOWN = {"If", "Loop", "Scan", "TensorIterator", "DFT", "STFT", "Einsum", "NonMaxSuppression"}


def flops(operator: Operator, tensors: Mapping[str, Tensor]) -> int | None:
    """Operations of one call; None where they are not known."""
    inputs = [tensors[name].shape if name in tensors else None for name in operator.inputs]
    result = tensors.get(operator.outputs[0]) if operator.outputs else None
    if operator.op in MOVES:
        return 0
    if result is None or operator.op in _UNKNOWN:
        return None
    rule = _RULES.get(operator.op)
    if rule is not None:
        return rule(operator, inputs, result.shape or ()) if result.shape is not None else None
    if operator.op.startswith(("Reduce", "Global")) or operator.op in {"Softmax", "TopK"}:
        return None if not inputs or inputs[0] is None else math.prod(inputs[0])
    return result.size


def _convolution(operator: Operator, inputs: Sequence[_Shape | None], out: _Shape) -> int | None:
    """Each result takes one filter; a filter is the weight without its output channels.

    Weights are ``(out, in / groups, ...)`` in ONNX, ``(groups, out, in, ...)`` where OpenVINO says
    GroupConvolution: either way, all of it over the number of channels.
    """
    weight = _at(inputs, 3 if operator.op == "QLinearConv" else 1)
    if weight is None or len(out) < 2 or not out[1]:
        return None
    return 2 * math.prod(out) * math.prod(weight) // out[1]


def _transposed(operator: Operator, inputs: Sequence[_Shape | None], out: _Shape) -> int | None:
    """Each element of the input meets one filter: the weight without its input channels."""
    del operator, out
    source, weight = _at(inputs, 0), _at(inputs, 1)
    if source is None or weight is None or not source[1]:
        return None
    return 2 * math.prod(source) * math.prod(weight) // source[1]


def _product(operator: Operator, inputs: Sequence[_Shape | None], out: _Shape) -> int | None:
    """Each result takes the length of a row of the left side."""
    left = _at(inputs, 0)
    if not left:
        return None
    attributes = operator.attributes
    turned = attributes.get("transA", attributes.get("transpose_a", 0))
    return 2 * math.prod(out) * (left[-2] if turned and len(left) > 1 else left[-1])


def _recurrent(operator: Operator, inputs: Sequence[_Shape | None], out: _Shape) -> int | None:
    """Each step of each sample meets both matrices; the gates themselves are left out."""
    del out
    first = {"LSTMSequence": 4, "GRUSequence": 3, "RNNSequence": 3}.get(operator.op, 1)
    x, matrices = _at(inputs, 0), [_at(inputs, first), _at(inputs, first + 1)]
    if x is None or len(x) != 3 or any(matrix is None for matrix in matrices):
        return None
    return 2 * x[0] * x[1] * sum(math.prod(matrix or ()) for matrix in matrices)


def _attention(operator: Operator, inputs: Sequence[_Shape | None], out: _Shape) -> int | None:
    """Scores of all pairs, and the sums that they weigh; either is a product of its own."""
    del operator, out
    query, key, value = (_at(inputs, index) for index in range(3))
    if not query or not key or not value or not query[-1]:
        return None
    steps = key[-2]
    return 2 * math.prod(query) * steps + 2 * math.prod(query[:-1]) * steps * value[-1]


def _at(inputs: Sequence[_Shape | None], index: int) -> _Shape | None:
    return inputs[index] if index < len(inputs) else None


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(
        ("Conv", "Convolution", "GroupConvolution", "QLinearConv", "ConvInteger", "FusedConv"),
        _convolution,
    ),
    **dict.fromkeys(
        ("ConvTranspose", "ConvolutionBackpropData", "GroupConvolutionBackpropData"), _transposed
    ),
    **dict.fromkeys(
        ("MatMul", "Gemm", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul",
         "QGemm", "MatMulNBits", "DynamicQuantizeMatMul"),
        _product,
    ),
    **dict.fromkeys(
        ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "LSTMSequence", "GRUSequence",
         "RNNSequence"),
        _recurrent,
    ),
    **dict.fromkeys(
        ("Attention", "MultiHeadAttention", "ScaledDotProductAttention"), _attention
    ),
}  # fmt: skip

#: What an engine makes a kernel of, to which it adds what is light beside it.
HEAVY = frozenset(_RULES)
