"""Check graphs in number formats that no CPU kernel takes: in float32, rounded as they would be."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from edgekit.exporters.save import save_onnx

__all__ = ["emulated"]

_BF16, _FLOAT = ir.DataType.BFLOAT16, ir.DataType.FLOAT


def emulated(onnx: Path) -> Path:
    """The graph itself, or where it computes in bfloat16 one beside it that a CPU can run.

    Every bfloat16 operator computes in float32 there, and its result is rounded to bfloat16: what
    an engine does that accumulates in float32.
    """
    model = ir.load(onnx)
    graph = model.graph
    narrow = [node for node in graph if any(value.dtype == _BF16 for value in node.outputs)]
    if not narrow:
        return onnx
    for value in graph.initializers.values():
        if value.dtype == _BF16 and value.const_value is not None:
            wide = value.const_value.numpy().astype("float32")
            value.const_value = ir.tensor(wide, name=value.name)
            value.type = ir.TensorType(_FLOAT)
    for node in narrow:
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(_FLOAT))
        for value in node.outputs:
            if value.dtype == _BF16:
                _round(graph, value)
    graph.sort()
    path = onnx.with_name(f"{onnx.stem}-emulated.onnx")
    save_onnx(model, path)
    return path


def _round(graph: ir.Graph, value: ir.Value) -> None:
    """Let all that reads ``value`` read it rounded."""
    value.type = ir.TensorType(_FLOAT)
    uses, source = tuple(value.uses()), value
    for kind in (_BF16, _FLOAT):
        name = f"{value.name}_as_{kind.name}"
        cast = ir.node("Cast", [source], {"to": int(kind)}, name=f"Cast_{name}")
        source = cast.outputs[0]
        source.name, source.type, source.shape = name, ir.TensorType(kind), value.shape
        graph.append(cast)
    for use in uses:
        use.node.replace_input_with(use.idx, source)
