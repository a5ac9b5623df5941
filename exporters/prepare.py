"""Bring any ONNX file into the form that the graph passes expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir
from edgekit.exporters.attention import simplify_attention
from edgekit.exporters.fold_batch_norm import fold_batch_norm
from edgekit.exporters.fold_constants import fold_constants
from edgekit.exporters.graph import tensor_specs
from edgekit.exporters.recurrent import simplify_recurrent
from edgekit.exporters.save import save_onnx
from edgekit.exporters.static_shapes import plain_pooling, static_reshapes
from onnx_ir.passes import common

from edgekit.errors import ExportError, ModelReferenceError
from edgekit.external_data import check_external_data
from edgekit.state import STATE, resolved, to_text

__all__ = ["load_onnx", "prepare_onnx"]

#: The first operator set whose DequantizeLinear has a per-channel axis.
_OLDEST_OPSET = 13


def prepare_onnx(source: Path, target: Path, *, state: Mapping[str, str] | None = None) -> Path:
    """Copy an ONNX file with functions inlined, constants lifted, types inferred, BN folded,
    and the detours of exported attention and recurrent layers removed.

    Weights that several operators read stay one tensor.

    Args:
        source: an ONNX file; weights in external files are found beside it.
        target: the file to write; weights over 2 GB go to a sibling ``.data`` file.
        state: ``{input: output that replaces it}``, noted in the file's metadata; without it the
            file keeps the note that it has.

    Returns:
        ``target``.

    Raises:
        ModelReferenceError: ``source`` is missing or is not an ONNX file.
        ExportError: it is not a valid ONNX graph.
        SpecError: the graph has no such state.
    """
    model = load_onnx(source)
    for step in (
        common.InlinePass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.IdentityEliminationPass(),
        common.NameFixPass(),
    ):
        step(model)
    fold_batch_norm(model.graph)
    fold_constants(model.graph, tied=False)
    common.RemoveUnusedNodesPass()(model)
    common.ShapeInferencePass()(model)
    simplify_attention(model.graph)
    common.RemoveUnusedNodesPass()(model)  # what the first round left unread hides the scale
    for simplify in (simplify_attention, simplify_recurrent, static_reshapes, plain_pooling):
        simplify(model.graph)
    common.RemoveUnusedNodesPass()(model)
    if state:
        inputs, outputs = tensor_specs(model.graph.inputs), tensor_specs(model.graph.outputs)
        model.metadata_props[STATE] = to_text(resolved(state, inputs, outputs))
    save_onnx(model, target)
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
        proto = onnx.load(source, load_external_data=False)
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
        proto = onnx.version_converter.convert_version(onnx.load(source), _OLDEST_OPSET)
        return ir.from_proto(proto)
    return ir.load(source)
