"""Bring any ONNX file into the form that the graph passes expect."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from edgekit.exporters.attention import simplify_attention
from edgekit.exporters.fold_batch_norm import fold_batch_norm
from edgekit.exporters.fold_constants import fold_constants
from edgekit.exporters.graph import drop_identities
from edgekit.exporters.recurrent import simplify_recurrent
from edgekit.exporters.static_shapes import plain_pooling, static_reshapes
from onnx_ir.passes import common

from edgekit.errors import ExportError, ModelReferenceError
from edgekit.external_data import check_external_data

__all__ = ["load_onnx", "prepare_onnx"]

#: The first operator set whose DequantizeLinear has a per-channel axis.
_OLDEST_OPSET = 13


def prepare_onnx(source: Path, target: Path) -> Path:
    """Copy an ONNX file with functions inlined, constants lifted, types inferred, BN folded,
    and the detours of exported attention and recurrent layers removed.

    Args:
        source: an ONNX file; weights in external files are found beside it.
        target: the file to write.

    Returns:
        ``target``.

    Raises:
        ModelReferenceError: ``source`` is missing or is not an ONNX file.
        ExportError: it is not a valid ONNX graph.
    """
    model = load_onnx(source)
    for step in (
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.NameFixPass(),
    ):
        step(model)
    drop_identities(model.graph)
    fold_batch_norm(model.graph)
    fold_constants(model.graph)
    common.RemoveUnusedNodesPass()(model)
    common.ShapeInferencePass()(model)
    simplify_attention(model.graph)
    common.RemoveUnusedNodesPass()(model)  # what the first round left unread hides the scale
    for simplify in (simplify_attention, simplify_recurrent, static_reshapes, plain_pooling):
        simplify(model.graph)
    common.RemoveUnusedNodesPass()(model)
    ir.save(model, target)
    return target


def load_onnx(source: Path) -> ir.Model:
    """Read and check an ONNX file; an operator set too old for Q/DQ pairs is converted.

    Raises:
        ModelReferenceError: ``source`` is missing or is not an ONNX file.
        ExternalDataError: it wants weights from outside its folder.
        ExportError: it is not a valid ONNX graph.
    """
    if not source.is_file():
        raise ModelReferenceError(
            "no such file", where=str(source), fix="Check the path of the ONNX file"
        )
    check_external_data(source)
    try:
        proto = onnx.load(source)
        onnx.checker.check_model(str(source))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ExportError(
            f"is not a valid ONNX model: {str(error).splitlines()[0][:200]}",
            where=str(source),
            fix="Export it again",
        ) from error
    except Exception as error:  # protobuf's DecodeError has no stable public home
        raise ModelReferenceError(
            "is not an ONNX file", where=str(source), fix="Give a file written by an ONNX exporter"
        ) from error
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    if versions.get("", versions.get("ai.onnx", _OLDEST_OPSET)) < _OLDEST_OPSET:
        proto = onnx.version_converter.convert_version(proto, _OLDEST_OPSET)
    return ir.from_proto(proto)
