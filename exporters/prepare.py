"""Bring any ONNX file into the form that the graph passes expect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import onnx
import onnx_ir as ir
from edgekit.exporters.graph import drop_identities, tensor_specs
from edgekit.exporters.opset import OLDEST, opset_of, raise_opset
from edgekit.exporters.passes.activations import fuse_activations
from edgekit.exporters.passes.attention import simplify_attention
from edgekit.exporters.passes.base import Rewrite, rewrite, warn_of_undone
from edgekit.exporters.passes.fold_batch_norm import fold_batch_norm
from edgekit.exporters.passes.fold_constants import fold_constants
from edgekit.exporters.passes.group_norm import norm_groups_as_instances
from edgekit.exporters.passes.layer_norm import fuse_layer_norm
from edgekit.exporters.passes.recurrent import simplify_recurrent
from edgekit.exporters.passes.reshapes import simplify_reshapes
from edgekit.exporters.passes.scattered import CombineInOrder
from edgekit.exporters.passes.static_shapes import plain_pooling, static_reshapes
from edgekit.exporters.passes.transposes import simplify_transposes
from edgekit.exporters.save import save_onnx
from onnx_ir.passes import common

from edgekit.errors import ExportError, ModelReferenceError
from edgekit.external_data import check_external_data
from edgekit.state import STATE, resolved, to_text

__all__ = ["load_onnx", "prepare_onnx"]

#: Equal constants of at most so many numbers (axes, shapes, scalars) become one.
_SMALL = 8

#: The one way in which passes find things said, and engines compute them rightly.
_FORM: tuple[ir.passes.PassBase, ...] = (
    common.InlinePass(),
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.RemoveInitializersFromInputsPass(),
    common.NameFixPass(),
    Rewrite("drop-identities", drop_identities),
    CombineInOrder(),
)

_DEAD_CODE = common.RemoveUnusedNodesPass()

#: In the order in which one makes work for the next.
_PASSES: tuple[ir.passes.PassBase, ...] = (
    Rewrite("fold-batch-norm", fold_batch_norm),
    Rewrite("fold-constants", partial(fold_constants, tied=False)),
    _DEAD_CODE,
    common.ShapeInferencePass(),
    Rewrite("simplify-attention", simplify_attention),
    _DEAD_CODE,  # what the first round left unread hides the scale
    Rewrite("simplify-attention", simplify_attention),
    Rewrite("simplify-recurrent", simplify_recurrent),
    Rewrite("static-reshapes", static_reshapes),
    Rewrite("plain-pooling", plain_pooling),
    _DEAD_CODE,
    common.DeduplicateInitializersPass(size_limit=_SMALL),
    common.CommonSubexpressionEliminationPass(),
    Rewrite("fuse-layer-norm", fuse_layer_norm),
    Rewrite("norm-groups-as-instances", norm_groups_as_instances),
    Rewrite("fuse-activations", fuse_activations),
    Rewrite("simplify-transposes", simplify_transposes),
    Rewrite("simplify-reshapes", simplify_reshapes),
    _DEAD_CODE,
)


def prepare_onnx(
    source: Path,
    target: Path,
    *,
    told: Callable[[str], None] | None = warn_of_undone,
    opset: int = OLDEST,
    state: Mapping[str, str] | None = None,
) -> Path:
    """Copy an ONNX file with functions inlined and constants lifted, after all graph passes.

    The passes are proven together: the graph is run before and after on random inputs. One that
    changes a result beyond rounding is undone.

    Weights that several operators read stay one tensor.

    Args:
        source: an ONNX file; weights in external files are found beside it.
        target: the file to write; weights over 2 GB go to a sibling ``.data`` file.
        told: called with what was undone, which is a Python warning if it is not given; None for a
            graph that is only timed, and not proven.
        opset: an older graph is brought to this operator set first.
        state: ``{input: output that replaces it}``, noted in the file's metadata; without it the
            file keeps the note that it has.

    Returns:
        ``target``.

    Raises:
        ModelReferenceError: ``source`` is missing or is not an ONNX file.
        ExportError: it is not a valid ONNX graph, or cannot be brought to that operator set.
        SpecError: the graph has no such state.
    """
    model = load_onnx(source)
    if opset_of(model.opset_imports) < opset:
        common.InlinePass()(model)  # the converter leaves functions as they are
        raise_opset(model, opset)
    prepared = rewrite(model, _PASSES, told, _FORM)
    if state:
        graph = prepared.graph
        found = resolved(state, tensor_specs(graph.inputs), tensor_specs(graph.outputs))
        prepared.metadata_props[STATE] = to_text(found)
    save_onnx(prepared, target)
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
    if versions.get("", versions.get("ai.onnx", OLDEST)) < OLDEST:
        proto = onnx.version_converter.convert_version(onnx.load(source), OLDEST)
        return ir.from_proto(proto)
    return ir.load(source)
