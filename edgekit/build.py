"""Make every artifact of a model: one ONNX graph, then one form for each runtime and precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common

from edgekit import exporters
from edgekit.bundle import hash_file
from edgekit.calibration import CalibrationTable, collect, rows
from edgekit.compress.base import GraphContext, GraphPass
from edgekit.compress.quantize.placement import PROFILES
from edgekit.compress.recipe import Recipe
from edgekit.errors import ExportError, RuntimeUnavailableError
from edgekit.exporters import ExportOptions, ShapeRange
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.tensorrt_engine import check_gpu
from edgekit.manifest import Artifact
from edgekit.progress import Progress
from edgekit.spec import Feeds, TensorSpec
from edgekit.workload import Workload

__all__ = ["Builder", "Built", "Target", "parse_targets"]

#: The largest batch that a TensorRT engine accepts; other dynamic dimensions scale likewise.
_LARGEST_DIM = 8


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime to build for, and the GPU generation for an engine that is tied to one."""

    runtime: str
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """One artifact, and the ONNX graph it was made from (which can be run to check it)."""

    artifact: Artifact
    onnx: Path


def parse_targets(names: Sequence[str], gpu: str | None) -> tuple[Target, ...]:
    """The targets that ``--runtime`` and ``--gpu`` ask for.

    Args:
        names: runtimes; empty for ONNX Runtime and OpenVINO.
        gpu: compute capability such as ``sm89``; asks for a TensorRT-RTX engine, too.

    Raises:
        RuntimeUnavailableError: a runtime is unknown, or TensorRT-RTX was named without a GPU.
        ExportError: the GPU is unknown.
    """
    wanted = list(names) or ["onnxruntime", "openvino"]
    if gpu is not None and not any(exporters.get(name).needs_gpu_target for name in wanted):
        wanted.append("tensorrt-rtx")
    return tuple(_target(name, gpu) for name in dict.fromkeys(wanted))


def _target(name: str, gpu: str | None) -> Target:
    if not exporters.get(name).needs_gpu_target:
        return Target(name)
    if gpu is None:
        raise RuntimeUnavailableError(
            "an engine is built for one GPU generation",
            where=f"runtime {name}",
            fix="Name it with --gpu, for example --gpu sm89",
        )
    return Target(name, check_gpu(gpu))


class Builder:
    """Builds artifacts into a bundle's folder.

    Args:
        workload: the model and its data.
        targets: what to build for.
        folder: the bundle's folder.
        work: a scratch folder that does not end up in the bundle.
        progress: told what is going on.

    Attributes:
        model: the uncompressed ONNX file, once :meth:`export` has run.
        table: the calibration table, once :meth:`compressed` has run with a pass that needs one.
        notes: what the passes did, for the report.
    """

    def __init__(
        self,
        workload: Workload,
        targets: Sequence[Target],
        folder: Path,
        work: Path,
        progress: Progress,
    ) -> None:
        self._workload = workload
        self._targets = targets
        self._profiled = [target for target in targets if target.runtime in PROFILES]
        self._folder = folder
        self._work = work
        self._progress = progress
        self._opset = exporters.opset_for(target.runtime for target in targets)
        self.model = folder / "model.onnx"
        self.table: CalibrationTable | None = None
        self.notes: list[str] = []

    def export(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Write ``model.onnx``, the uncompressed model.

        Returns:
            Its inputs and outputs.
        """
        self._progress.stage("Export to ONNX")
        source = self._workload.model
        if not isinstance(source, Path):
            source = self._export_torch()
        prepare_onnx(source, self.model)
        graph = ir.load(self.model)
        self._opset = graph.opset_imports[""]
        return _specs(graph.graph.inputs), _specs(graph.graph.outputs)

    def originals(self) -> list[Built]:
        """The uncompressed artifact of every target. ONNX Runtime reads ``model.onnx`` itself."""
        return [self._artifact(target, "fp32", self.model) for target in self._targets]

    def compressed(self, recipe: Recipe) -> list[Built]:
        """The artifacts that the recipe makes, for every target that has a placement profile.

        What each pass did to each graph is added to :attr:`notes`.

        Raises:
            CalibrationError: a pass needs data and the workload has none, or the data is bad.
        """
        if not recipe.passes:
            return []
        tables = self._calibrate(recipe.passes)
        built: list[Built] = []
        for target in self._profiled:
            self._progress.stage(f"Compress for {target.runtime}")
            model = ir.load(self.model)
            reports = [
                step.apply(model, GraphContext(PROFILES[target.runtime], table))
                for step, table in zip(recipe.passes, tables, strict=True)
            ]
            self.notes += [
                f"{target.runtime}: {done.name} changed {done.changed} of {done.total} operators."
                for done in reports
            ]
            if any(report.changed for report in reports):
                precision = recipe.passes[-1].precision
                path = self._work / f"{target.runtime}-{precision}.onnx"
                common.RemoveUnusedNodesPass()(model)
                ir.save(model, path)
                built.append(self._artifact(target, precision, path))
        return built

    def _export_torch(self) -> Path:
        import torch  # only for PyTorch models

        from edgekit.exporters.torch_onnx import export_onnx

        workload = self._workload
        assert isinstance(workload.model, torch.nn.Module)
        return export_onnx(
            workload.model,
            {name: torch.as_tensor(x) for name, x in workload.example_inputs.items()},
            self._work / "exported.onnx",
            dynamic=workload.dynamic,
            output_names=workload.output_names,
            opset=self._opset,
        )

    def _calibrate(self, passes: Sequence[GraphPass]) -> list[CalibrationTable]:
        self._progress.stage("Calibrate")
        model = ir.load(self.model)
        tables = []
        for step in passes:
            tensors: set[str] = set()
            for target in self._profiled:
                tensors |= step.observed(model, PROFILES[target.runtime])
            self.table = collect(
                self.model,
                tensors,
                _limited(self._workload.feeds(), step.samples),
                step.observer,
                observer_name=step.observer_name(),
                progress=lambda count: self._progress.update(f"{count} samples"),
            )
            tables.append(self.table)
        return tables

    def _artifact(self, target: Target, precision: str, onnx: Path) -> Built:
        self._progress.stage(f"Build {precision} for {target.runtime}")
        files = self._write(target, precision, onnx)
        suffix = f"-{target.gpu}" if target.gpu else ""
        artifact = Artifact(
            id=f"{target.runtime}-{precision}{suffix}",
            runtime=target.runtime,
            precision=precision,
            format=exporters.get(target.runtime).format,
            files=tuple(hash_file(self._folder, file) for file in files),
            target=target.gpu,
            opset=self._opset,
        )
        return Built(artifact, onnx)

    def _write(self, target: Target, precision: str, onnx: Path) -> list[Path]:
        """The files of the target's form of ``onnx``, inside the bundle."""
        exporter = exporters.get(target.runtime)
        if exporter.format == "onnx" and onnx == self.model:
            return [onnx]
        suffix = f"-{target.gpu}" if target.gpu else ""
        stem = self._folder / target.runtime / f"{precision}{suffix}"
        stem.parent.mkdir(exist_ok=True)
        return exporter.export(onnx, stem, ExportOptions(target.gpu, self._shapes(onnx)))

    def _shapes(self, onnx: Path) -> dict[str, ShapeRange]:
        """Shape ranges from the example inputs: batch 1 is typical, eight times is the limit."""
        specs = _specs(ir.load(onnx).graph.inputs)
        sizes = {
            dim: 1 if dim == "batch" else size
            for spec in specs
            for dim, size in zip(
                spec.shape, self._workload.example_inputs[spec.name].shape, strict=True
            )
            if isinstance(dim, str)
        }
        largest = {dim: _LARGEST_DIM * size for dim, size in sizes.items()}
        return {
            spec.name: ShapeRange(spec.concrete({}), spec.concrete(sizes), spec.concrete(largest))
            for spec in specs
            if spec.dynamic
        }


def _limited(feeds: Iterable[Feeds], samples: int) -> Iterator[Feeds]:
    """Batches until ``samples`` rows have been given."""
    seen = 0
    for batch in feeds:
        if seen >= samples:
            return
        yield batch
        seen += rows(batch)


def _specs(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    """Names, dtypes and shapes of a graph's inputs or outputs."""
    specs = []
    for value in values:
        if value.dtype is None or value.shape is None:
            raise ExportError(
                "has no known dtype and rank",
                where=f"tensor {value.name!r}",
                fix="Give the graph's inputs and outputs a type and a shape",
            )
        shape = tuple(
            dim if isinstance(dim, int) else dim.value or f"{value.name}_{axis}"
            for axis, dim in enumerate(value.shape)
        )
        specs.append(TensorSpec(str(value.name), value.dtype.numpy().name, shape))
    return tuple(specs)
