"""ONNX to OpenVINO IR (``.xml`` and ``.bin``), weights kept in their own precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.fourier import transform_first_axis
from edgekit.exporters.graph import INFERENCE_PRECISION, MODULE
from edgekit.exporters.openvino_weights import digests, turn_back
from edgekit.exporters.reductions import part_reductions
from edgekit.exporters.sparse_weights import SPARSE_RATE, has_sparse_int8

from edgekit.errors import ExportError
from edgekit.spec import BATCH

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["OpenVinoExporter"]


class OpenVinoExporter:
    """Writes ``stem.xml`` and ``stem.bin``; Q/DQ pairs become low-precision operators.

    Three wishes go into the ``rt_info``, where edgekit's OpenVINO runtime finds them: half
    precision, if the graph asks for it (see :data:`~.graph.INFERENCE_PRECISION`), and then the
    weights are fp16, too; the shapes at batch 1, which are worth a compiled form of their own; and
    packing of sparse weights, where there are some that it can pack. So does the PyTorch module
    that each tensor comes from, where the graph has notes of it.
    """

    format: Format = "openvino-ir"
    newest_opset = 21  # OpenVINO 2025.0
    needs_gpu_target = False
    needs_program = False

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:  # noqa: ARG002
        try:
            import openvino as ov  # heavy and optional
            from openvino._offline_transformations import apply_moc_transformations
        except ImportError as error:
            raise ExportError(
                "openvino is not installed", fix="Run: pip install 'edgekit[openvino]'"
            ) from error
        path = stem.with_suffix(".xml")
        try:
            # What ov.convert_model does, without a preprocessing stage that takes thrice as long.
            model = _read(onnx_path)
            names = [port.get_names() for port in model.inputs]
            stored = digests(model)
            apply_moc_transformations(model, cf=True, smart_reshape=False)
            turn_back(model, stored)
            for port, own in zip(model.inputs, names, strict=True):
                port.get_tensor().set_names(own)  # not those of what was removed behind it, too
            proto = onnx.load(onnx_path, load_external_data=False)
            half = {p.key: p.value for p in proto.metadata_props}.get(INFERENCE_PRECISION)
            if half is not None:
                model.set_rt_info(half, ["edgekit", "inference_precision"])
            shapes = _usual_shapes(proto.graph)
            if shapes and _takes(model, shapes):
                model.set_rt_info(json.dumps(shapes), ["edgekit", "usual_shapes"])
            modules = _modules(proto.graph)
            if modules:
                model.set_rt_info(json.dumps(modules), ["edgekit", "modules"])
            if has_sparse_int8(model):
                model.set_rt_info(str(SPARSE_RATE), ["edgekit", "sparse_rate"])
            ov.save_model(model, path, compress_to_fp16=half is not None)
        except ExportError:
            raise
        except Exception as error:  # the frontend raises bare RuntimeError and its own types
            raise ExportError(
                f"OpenVINO cannot convert the graph: {' '.join(str(error).split())[:300]}",
                where=onnx_path.name,
                fix="Leave openvino out with --runtime, or rewrite the operator it names",
            ) from error
        return [path, path.with_suffix(".bin")]


def _read(onnx_path: Path) -> ov.Model:
    """The ONNX file as OpenVINO reads it right."""
    import openvino as ov

    graph = ir.load(onnx_path)
    if not transform_first_axis(graph) + part_reductions(graph):
        return ov.Core().read_model(onnx_path)
    ir.external_data.load_to_model(graph)  # no file is beside what is read from memory
    return ov.Core().read_model(ir.to_proto(graph).SerializeToString())


def _usual_shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """The input shapes at batch 1, -1 for other dynamic dimensions; empty without a batch."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    if not any(dim.dim_param == BATCH for dims in shapes.values() for dim in dims):
        return {}
    return {
        name: [
            dim.dim_value if dim.HasField("dim_value") else 1 if dim.dim_param == BATCH else -1
            for dim in dims
        ]
        for name, dims in shapes.items()
    }


def _modules(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """The tensors that each PyTorch module computes, as far as the graph says so."""
    modules: dict[str, list[str]] = {}
    for node in graph.node:
        for entry in node.metadata_props:
            if entry.key == MODULE:
                modules.setdefault(entry.value, []).extend(filter(None, node.output))
    return modules


def _takes(model: ov.Model, shapes: dict[str, list[int]]) -> bool:
    """Whether the graph works at these shapes: one may have a batch size written into it."""
    try:
        model.clone().reshape(shapes)
    except RuntimeError:
        return False
    return True
