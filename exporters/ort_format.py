"""ONNX to the ORT format, which ONNX Runtime's minimal builds read."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import onnxruntime as ort
from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.onnx_file import OnnxFileExporter

from edgekit.errors import ExportError
from edgekit.quiet import quiet

__all__ = ["OrtFormatExporter"]


class OrtFormatExporter:
    """Writes ``stem.ort``, optimized, and ``stem.required_operators_and_types.config``.

    The second is for whoever builds ONNX Runtime for the device: ``--include_ops_by_config`` leaves
    all other operators out. Convolutions read their weights in blocks that fit the processor, where
    the artifact is for one like this: a minimal build cannot rearrange them itself. Measured on
    AVX512: without blocks EfficientNet-Lite0 takes 2.4 times as long.
    """

    format: Format = "ort"
    newest_opset = OnnxFileExporter.newest_opset
    needs_gpu_target = False
    needs_program = False

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:
        path = stem.with_suffix(".ort")
        config = stem.with_suffix(".required_operators_and_types.config")
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            fused, *_ = OnnxFileExporter().export(onnx_path, Path(folder) / "fused", options)
            made = Path(folder) / path.name
            try:
                _optimize(fused, made, blocked=options.native)
                _list_operators(made, config)
            except Exception as error:  # ORT raises a dozen unrelated types out of its C++ binding
                raise ExportError(
                    f"ONNX Runtime cannot write the ORT format: {str(error).splitlines()[0][:300]}",
                    where=onnx_path.name,
                    fix="Leave onnxruntime-minimal out with --runtime, or export the model again",
                ) from error
            shutil.move(made, path)
        return [path, config]


def _optimize(source: Path, target: Path, *, blocked: bool) -> None:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.optimized_model_filepath = str(target)
    settings.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(
        str(source),
        settings,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[] if blocked else ["NchwcTransformer"],
    )


def _list_operators(model: Path, config: Path) -> None:
    """Write what the build scripts of ONNX Runtime read, without the folder of ``model``."""
    handlers = logging.root.handlers[:]
    from onnxruntime.tools.ort_format_model import create_config_from_models

    logging.root.handlers[:] = handlers  # importing it configures logging for the whole process
    with quiet():
        create_config_from_models([model], config, enable_type_reduction=True)
    config.write_text(config.read_text().replace(str(model), model.name))
