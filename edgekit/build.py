"""Make every artifact of a model: one ONNX graph, then one form for each runtime and precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from edgekit import exporters
from edgekit.bundle import hash_file
from edgekit.calibration import Calibrator, default_cache
from edgekit.compress.base import GraphPass, Learned
from edgekit.compress.compressor import Compressor
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.compress.recipe import Recipe
from edgekit.errors import RuntimeUnavailableError
from edgekit.exporters import ExportOptions, ShapeRange
from edgekit.exporters.graph import specs_of
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.tensorrt_engine import check_gpu
from edgekit.machine import this_machine
from edgekit.manifest import Artifact, PassRecord
from edgekit.numerics import InstructionSet, probe
from edgekit.progress import Progress
from edgekit.reference import divisible
from edgekit.spec import BATCH, TensorSpec
from edgekit.workload import Workload

__all__ = [
    "CHANGED",
    "ORIGINAL",
    "SMALLER",
    "Builder",
    "Built",
    "Changed",
    "Target",
    "parse_targets",
]

#: Which PyTorch model an artifact was made from: the workload's, what the recipe's passes made of
#: it, or the smaller variant that the workload offers.
ORIGINAL, CHANGED, SMALLER = "original", "changed", "smaller"

_CHANGED_REFERENCE = "reference-changed.npz"

#: Calibrate artifacts that are only timed on so many samples.
_DRAFT_SAMPLES = 16

#: The largest batch that a TensorRT engine accepts; other dynamic dimensions scale likewise.
_LARGEST_DIM = 8


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime to build for, and the GPU generation for an engine that is tied to one."""

    runtime: str
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """One artifact.

    Attributes:
        artifact: what the bundle says of it.
        onnx: the graph it was made from, which can be run to check it.
        path: the file to load.
        model: the PyTorch model it was made from.
    """

    artifact: Artifact
    onnx: Path
    path: Path
    model: str = ORIGINAL


@dataclass(frozen=True, slots=True)
class Changed:
    """What the module passes of a recipe made.

    Attributes:
        workload: the given one with the changed module.
        label: what its artifacts are called (``pruned``), empty when nothing names them.
        learned: see :class:`~edgekit.compress.base.Trained`.
        passes: what each did; empty when no pass changed anything.
    """

    workload: Workload
    label: str = ""
    learned: Mapping[str, Learned] = field(default_factory=dict)
    passes: tuple[PassRecord, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether any pass changed anything."""
        return any(record.changed for record in self.passes)


@dataclass(frozen=True, slots=True)
class _Source:
    """The ONNX file that compressed artifacts are made from.

    Attributes:
        onnx: the file.
        label: what their precision is called besides.
        learned: see :class:`~edgekit.compress.base.Trained`.
        model: the PyTorch model it is.
        program: what it was traced to, where an exporter wants that.
    """

    onnx: Path
    label: str = ""
    learned: Mapping[str, Learned] = field(default_factory=dict)
    model: str = ORIGINAL
    program: Path | None = None


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
        machine: the instruction set that the artifacts will run on.
        model: which model this is, :data:`ORIGINAL` or :data:`SMALLER`.

    Attributes:
        model: the uncompressed ONNX file, once :meth:`export` has run.
        profiled: the targets that can be compressed for.
    """

    def __init__(
        self,
        workload: Workload,
        targets: Sequence[Target],
        folder: Path,
        work: Path,
        progress: Progress,
        machine: InstructionSet,
        model: str = ORIGINAL,
    ) -> None:
        self._workload = workload
        self._targets = targets
        folder.mkdir(exist_ok=True)
        self.profiled = [target for target in targets if target.runtime in PROFILES]
        self._folder = folder
        self._work = work
        self._progress = progress
        self._opset = exporters.opset_for(target.runtime for target in targets)
        self._machine = machine
        self.model = folder / "model.onnx"
        label = "" if model == ORIGINAL else model
        self._source = _Source(self.model, label, model=model)

    def export(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Write ``model.onnx``, the uncompressed model.

        Returns:
            Its inputs and outputs.
        """
        self._progress.stage("Export to ONNX")
        source = self._workload.model
        if not isinstance(source, Path):
            program = self._program(ORIGINAL)
            source = self._export_torch(self._workload, self._work, program)
            self._source = replace(self._source, program=program)
        prepare_onnx(source, self.model)
        graph = ir.load(self.model)
        self._opset = graph.opset_imports[""]
        return specs_of(graph.graph.inputs), specs_of(graph.graph.outputs)

    def originals(self) -> list[Built]:
        """The uncompressed artifact of every target. ONNX Runtime reads ``model.onnx`` itself."""
        precision = "-".join(filter(None, (self._source.label, "fp32")))
        return [self._artifact(target, precision, self.model) for target in self._targets]

    def changed(self, changed: Changed) -> None:
        """Make every compressed artifact from the module that the recipe's passes made."""
        if not changed.anything:
            return
        path, program = self._work / "changed.onnx", self._program(CHANGED)
        prepare_onnx(self._export_torch(changed.workload, self._work, program), path)
        self._source = _Source(path, changed.label, changed.learned, CHANGED, program)

    def compressor(self, recipe: Recipe) -> Compressor:
        """What applies the recipe's graph passes, for the engines of this run."""
        source = self._source
        engines = [target.runtime for target in self.profiled]
        calibrator = Calibrator(
            self._workload.feeds,
            samples=recipe.samples,
            divisible=divisible(self._workload),
            cache=default_cache(),
            progress=lambda count: self._progress.update(f"{count} samples"),
        )
        return Compressor(
            source.onnx, recipe.graph_passes, engines, calibrator, self._machine, source.learned
        )

    def draft(
        self, workload: Workload, passes: Sequence[GraphPass], target: Target, folder: Path
    ) -> Path:
        """The file to load of an artifact like those of the recipe, calibrated on few samples.

        Its speed is that of the real one; its values are not to be trusted.
        """
        source, graph = folder / "source.onnx", folder / "graph.onnx"
        prepare_onnx(self._export_torch(workload, folder, None), source)
        calibrator = Calibrator(
            workload.feeds, samples=_DRAFT_SAMPLES, divisible=divisible(workload), cache=None
        )
        made = Compressor(source, passes, [target.runtime], calibrator, self._machine)
        graph = graph if made.build(target.runtime, graph) else source
        return self._export(target, graph, folder / "artifact")[0]

    def compressed(self, compressor: Compressor) -> list[Built]:
        """The artifacts that the recipe makes for every target.

        One without a placement profile gets what the module passes made, and nothing else.

        Raises:
            EdgekitError: a pass needs data and the workload has none, or the data is bad.
        """
        built: list[Built | None] = []
        for target in self._targets:
            if self._source.model == CHANGED and self._source.label:
                precision = f"{self._source.label}-fp32"
                built.append(self._artifact(target, precision, self._source.onnx))
            if target not in self.profiled:
                continue
            built.append(self.variant(compressor, target))
            half = compressor.half_for(target.runtime)
            if half is not None:
                built.append(self.variant(compressor, target, half=half))
        return [one for one in built if one is not None]

    def variant(
        self,
        compressor: Compressor,
        target: Target,
        keep_float: frozenset[str] = frozenset(),
        *,
        half: str | None = None,
        suffix: str = "",
    ) -> Built | None:
        """One compressed artifact; None when the recipe changes nothing for that target.

        Args:
            compressor: from :meth:`compressor`.
            target: what to build for.
            keep_float: operators that stay float.
            half: half precision that the float operators shall compute in.
            suffix: added to the precision, to tell variants apart.
        """
        parts = [self._source.label, compressor.precision, half, suffix]
        precision = "-".join(dict.fromkeys(filter(None, parts)))
        self._progress.stage(f"Compress for {target.runtime}")
        path = self._work / f"{target.runtime}-{precision}.onnx"
        if not compressor.build(
            target.runtime, path, keep_float, half=half, note=not keep_float and half is None
        ):
            return None
        return self._artifact(target, precision, path)

    def trial(
        self,
        compressor: Compressor,
        target: Target,
        keep_float: frozenset[str],
        folder: Path,
        *,
        half: str | None,
    ) -> Path | None:
        """The file to load of an artifact that will not be in the bundle; None as above."""
        path = folder / "trial.onnx"
        if not compressor.build(target.runtime, path, keep_float, half=half, note=False):
            return None
        return self._export(target, path, folder / "artifact")[0]

    def _program(self, name: str) -> Path | None:
        """Where to write what a model is traced to; None when no exporter of this run wants it."""
        wanted = any(exporters.get(target.runtime).needs_program for target in self._targets)
        return self._work / f"{name}.pt2" if wanted else None

    def _export_torch(self, workload: Workload, folder: Path, program: Path | None) -> Path:
        import torch  # only for PyTorch models

        from edgekit.exporters.torch_onnx import export_onnx

        assert not isinstance(workload.model, Path)
        return export_onnx(
            workload.model,
            {name: torch.as_tensor(x) for name, x in workload.example_inputs.items()},
            folder / "exported.onnx",
            dynamic=workload.dynamic,
            output_names=workload.output_names,
            opset=self._opset,
            program=program,
        )

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
            reference=_CHANGED_REFERENCE if self._source.model == CHANGED else None,
        )
        return Built(artifact, onnx, files[0], self._source.model)

    def _write(self, target: Target, precision: str, onnx: Path) -> list[Path]:
        """The files of the target's form of ``onnx``, inside the bundle."""
        exporter = exporters.get(target.runtime)
        if exporter.format == "onnx" and onnx == self.model:
            return [onnx]
        suffix = f"-{target.gpu}" if target.gpu else ""
        stem = self._folder / target.runtime / f"{precision}{suffix}"
        stem.parent.mkdir(exist_ok=True)
        return self._export(target, onnx, stem)

    def _export(self, target: Target, onnx: Path, stem: Path) -> list[Path]:
        exporter = exporters.get(target.runtime)
        shapes = self._shapes(onnx) if exporter.needs_gpu_target else {}
        native = self._machine == probe(this_machine().features)
        options = ExportOptions(target.gpu, shapes, self._source.program, native)
        return exporter.export(onnx, stem, options)

    def _shapes(self, onnx: Path) -> dict[str, ShapeRange]:
        """Shape ranges from the example inputs: batch 1 is typical, eight times is the limit."""
        specs = specs_of(ir.load(onnx).graph.inputs)
        sizes = {
            dim: 1 if dim == BATCH else size
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
