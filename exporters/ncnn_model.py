"""ONNX to ncnn, by its converter pnnx."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
from edgekit.exporters.base import ExportOptions, Format
from edgekit.exporters.graph import tensor_specs

from edgekit.errors import ExportError, UnsupportedOperatorError
from edgekit.spec import TensorSpec, to_rows

__all__ = ["NcnnExporter"]

_LEAVE_OUT = "Leave ncnn out with --runtime"


class NcnnExporter:
    """Writes ``stem.param``, ``stem.bin`` and ``stem.json``, the names and shapes of its tensors.

    ncnn's tensors have no batch: the graph is converted for one sample, and edgekit's runtime runs
    the samples of a batch one after the other. So only the batch may be dynamic.
    """

    format: Format = "ncnn"
    newest_opset = 21  # pnnx 20261020
    needs_gpu_target = False
    needs_program = False

    def export(self, onnx_path: Path, stem: Path, options: ExportOptions) -> list[Path]:  # noqa: ARG002
        graph = ir.load(onnx_path).graph
        inputs, outputs = tensor_specs(graph.inputs), tensor_specs(graph.outputs)
        for spec in (*inputs, *outputs):
            _check(spec, inputs[0], onnx_path.name)
        param, weights, specs = (stem.with_suffix(end) for end in (".param", ".bin", ".json"))
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            made = _convert(Path(shutil.copy(onnx_path, Path(folder) / "model.onnx")), inputs)
            _check_layers(made.read_text(), len(inputs), len(outputs), onnx_path.name)
            shutil.move(made, param)
            shutil.move(made.with_suffix(".bin"), weights)
        specs.write_text(json.dumps([to_rows(inputs), to_rows(outputs)]))
        return [param, weights, specs]


def _check(spec: TensorSpec, first: TensorSpec, where: str) -> None:
    """See that it is float32, has the batch of the first input, and is of fixed shape else."""
    fixed = all(isinstance(size, int) for size in spec.shape[1:])
    batch = spec.shape[0] if spec.shape else None
    one = batch == 1 or (isinstance(batch, str) and batch == first.shape[0])
    if spec.dtype == "float32" and fixed and one and 2 <= len(spec.shape) <= 5:
        return
    shape = ", ".join(map(str, spec.shape))
    raise ExportError(
        f"tensor {spec.name!r} is {spec.dtype} [{shape}]; ncnn takes float32 with a batch and one "
        "to four fixed dimensions",
        where=where,
        fix=f"{_LEAVE_OUT}, or fix the shapes of the model",
    )


def _convert(model: Path, inputs: Sequence[TensorSpec]) -> Path:
    """Run pnnx beside ``model``; the ``.param`` file that it makes, with a ``.bin`` beside it."""
    found = importlib.util.find_spec("pnnx")  # importing it would import torch
    if found is None or found.origin is None or importlib.util.find_spec("ncnn") is None:
        raise ExportError("ncnn or pnnx is not installed", fix="Run: pip install 'edgekit[pnnx]'")
    program = Path(found.origin).with_name("pnnx.exe" if sys.platform == "win32" else "pnnx")
    shapes = [f"[{','.join(map(str, (1, *spec.shape[1:])))}]f32" for spec in inputs]
    made = model.with_name("made.param")
    done = subprocess.run(
        [
            str(program),
            model.name,
            f"inputshape={','.join(shapes)}",
            "fp16=0",
            f"ncnnparam={made.name}",
            f"ncnnbin={made.with_suffix('.bin').name}",
        ],
        cwd=model.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not made.is_file():
        told = " ".join(done.stderr.split())[-200:]
        raise ExportError(f"pnnx cannot convert the graph: {told}", fix=_LEAVE_OUT)
    return made


def _check_layers(param: str, inputs: int, outputs: int, where: str) -> None:
    """See that ncnn has every operator; pnnx writes down those that it has not under its own names.

    A line is: type, name, numbers of inputs and outputs, their names, settings.
    """
    import ncnn  # optional, as pnnx

    lines = [line.split() for line in param.splitlines()[2:]]
    for kind, *_ in lines:
        if ncnn.layer_to_index(kind) < 0:
            raise UnsupportedOperatorError(kind, "", "ncnn")
    words = {word for line in lines for word in line}
    wanted = {f"in{i}" for i in range(inputs)} | {f"out{i}" for i in range(outputs)}
    if not wanted <= words:
        lost = ", ".join(sorted(wanted - words))
        raise ExportError(f"pnnx lost {lost} of the graph", where=where, fix=_LEAVE_OUT)
