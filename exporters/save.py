"""Write ONNX files of any size."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

__all__ = ["INLINE_BYTES", "save_onnx"]

#: Weights beyond this many bytes lie beside the ONNX file. A protobuf message holds at most 2 GiB,
#: and the operators, names and shapes need some of it.
INLINE_BYTES = 2**31 - 2**26

#: Smaller tensors (shapes, axes) stay inside: whoever infers shapes reads them.
_SMALL = 1024


def save_onnx(model: ir.Model, path: Path, *, inline_bytes: int | None = None) -> list[Path]:
    """Write the model; its weights into the same file as long as they fit.

    Args:
        model: its tensors may lie in files of another model, which are read then.
        path: the ONNX file; weights beside it go into one file with the suffix ``.data``.
        inline_bytes: most bytes of weights inside, :data:`INLINE_BYTES` by default.

    Returns:
        The files written, the ONNX file first.
    """
    data = path.with_suffix(".data")
    if _weight_bytes(model) > (INLINE_BYTES if inline_bytes is None else inline_bytes):
        ir.save(model, path, external_data=data.name, size_threshold_bytes=_SMALL)
        return [path, data]
    ir.external_data.load_to_model(model)
    ir.save(model, path)
    data.unlink(missing_ok=True)  # of a larger model that was here before
    return [path]


def _weight_bytes(model: ir.Model) -> int:
    """Bytes of all stored tensors, those of subgraphs too."""
    return sum(
        value.const_value.nbytes
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None
    )
