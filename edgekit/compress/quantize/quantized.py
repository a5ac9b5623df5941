"""What tells a quantized graph from a float one."""

from __future__ import annotations

import onnx_ir as ir

from edgekit.errors import CompressError

__all__ = ["refuse_quantized"]

_QUANTIZED_OPS = frozenset(
    {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv",
        "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulNBits", "DynamicQuantizeLSTM",
    }
)  # fmt: skip


def refuse_quantized(model: ir.Model) -> None:
    """Quantizing twice loses accuracy in silence.

    Raises:
        CompressError: ``model`` has quantized operators; names the first.
    """
    found = next((n for n in model.graph if n.op_type in _QUANTIZED_OPS), None)
    if found is not None:
        raise CompressError(
            f"is quantized already: it has {found.op_type} operators",
            where=f"operator {found.name!r}",
            fix="Start from the float model, or use the recipe fp32 to export it as it is",
        )
