"""Make every artifact of a model: one ONNX graph, then one form for each runtime and precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgekit import exporters
from edgekit.built import CHANGED, ORIGINAL, Built, Changed, Source
from edgekit.bundle import hash_file
from edgekit.calibration import Calibrator, default_cache
from edgekit.compress.base import GraphPass
from edgekit.compress.compressor import Compressor
from edgekit.compress.half import HalfPrecision
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.compress.recipe import Recipe
from edgekit.engine_file import read_engine_file
from edgekit.errors import ExportError, UnsupportedGpuError
from edgekit.exporters import ExportOptions
from edgekit.exporters.graph import tensor_specs
from edgekit.exporters.opset import opset_of, raised_file
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.tensorrt_engine import builder_flags
from edgekit.external_data import check_external_data
from edgekit.machine import this_machine
from edgekit.manifest import Artifact, EngineRecord, Shapes
from edgekit.numerics import InstructionSet, probe
from edgekit.progress import Progress
from edgekit.reference import divisible
from edgekit.spec import TensorSpec
from edgekit.targets import EngineSettings, Target
from edgekit.workload import Workload

__all__ = ["Builder"]

_CHANGED_REFERENCE = "reference-changed.npz"

#: Calibrate artifacts that are only timed on so many samples.
_DRAFT_SAMPLES = 16

#: Look for values that fp16 cannot hold in so many samples, where no recipe says.
_HALF_SAMPLES = 128


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
        engines: how engines for GPUs are built.

    Attributes:
        model: the uncompressed ONNX file, once :meth:`export` has run.
        profiled: the targets that can be compressed for.
        notes: what was built otherwise than asked for, and which graph passes were undone, one
            line each.
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
        engines: EngineSettings = EngineSettings(),  # noqa: B008, frozen
    ) -> None:
        self._workload = workload
        self._targets = targets
        folder.mkdir(exist_ok=True)
        self.profiled = [target for target in targets if target.runtime in PROFILES]
        self._folder = folder
        self._work = work
        self._progress = progress
        newest = exporters.opset_for(target.runtime for target in targets)
        self._opset = min(target.opset or newest for target in targets)
        self._machine = machine
        self.model = folder / "model.onnx"
        label = "" if model == ORIGINAL else model
        self._source = Source(self.model, label, model=model)
        self._engines = engines
        self._built: set[str] = set()
        self.notes: list[str] = []

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
        prepare_onnx(
            source,
            self.model,
            told=self._tell,
            opset=self._least_opset(),
            state=self._workload.state,
        )
        graph = ir.load(self.model)
        self._opset = opset_of(graph.opset_imports)
        self._check_opset()
        return tensor_specs(graph.graph.inputs), tensor_specs(graph.graph.outputs)

    def originals(self) -> list[Built]:
        """The uncompressed artifact of every target. ONNX Runtime reads ``model.onnx`` itself."""
        precision = "-".join(filter(None, (self._source.label, "fp32")))
        return [self._artifact(target, precision, self.model) for target in self._targets]

    def changed(self, changed: Changed) -> None:
        """Make every compressed artifact from the module that the recipe's passes made."""
        if not changed.anything:
            return
        path, program = self._work / "changed.onnx", self._program(CHANGED)
        exported = self._export_torch(changed.workload, self._work, program)
        prepare_onnx(exported, path, told=self._tell, state=self._workload.state)
        self._source = Source(path, changed.label, changed.learned, CHANGED, program)

    def compressor(self, recipe: Recipe) -> Compressor:
        """What applies the recipe's graph passes, for the engines of this run."""
        source = self._source
        engines = list(dict.fromkeys(target.runtime for target in self.profiled))
        calibrator = self._calibrator(recipe.samples)
        return Compressor(
            source.onnx, recipe.graph_passes, engines, calibrator, self._machine, source.learned
        )

    def _calibrator(self, samples: int) -> Calibrator:
        return Calibrator(
            self._workload.feeds,
            samples=samples,
            divisible=divisible(self._workload),
            cache=default_cache(),
            progress=lambda count: self._progress.update(f"{count} samples"),
        )

    def draft(
        self, workload: Workload, passes: Sequence[GraphPass], target: Target, folder: Path
    ) -> Path:
        """The file to load of an artifact like those of the recipe, calibrated on few samples.

        Its speed is that of the real one; its values are not to be trusted.
        """
        source, graph = folder / "source.onnx", folder / "graph.onnx"
        exported = self._export_torch(workload, folder, None)
        prepare_onnx(exported, source, told=None, state=workload.state)
        calibrator = Calibrator(
            workload.feeds, samples=_DRAFT_SAMPLES, divisible=divisible(workload), cache=None
        )
        made = Compressor(source, passes, [target.runtime], calibrator, self._machine)
        graph = graph if made.build(target.runtime, graph) else source
        return self._export(target, graph, folder / "artifact", of=workload)[0]

    def compressed(self, compressor: Compressor) -> list[Built]:
        """The artifacts that the recipe makes for every target.

        One without a placement profile gets what the module passes made, and nothing else.

        Raises:
            EdgekitError: a pass needs data and the workload has none, or the data is bad.

        What a GPU cannot compute is left out, and :attr:`notes` says so.
        """
        built: list[Built | None] = []
        for target in self._targets:
            if self._source.model == CHANGED and self._source.label:
                precision = f"{self._source.label}-fp32"
                built.append(self._artifact(target, precision, self._source.onnx))
            if target not in self.profiled:
                continue
            half = compressor.half_for(target.runtime)
            for wanted in dict.fromkeys([None, half]):
                try:
                    built.append(self.variant(compressor, target, half=wanted))
                except UnsupportedGpuError as error:
                    self._tell(f"Left out: {error.where}: {error.what}.")
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

        None, too, when it is what the target already has in place of float32.

        Args:
            compressor: from :meth:`compressor`.
            target: what to build for.
            keep_float: operators that stay float.
            half: half precision that the float operators shall compute in.
            suffix: added to the precision, to tell variants apart.
        """
        made = compressor.precision_for(target.runtime)
        parts = [self._source.label, made, half, suffix]
        precision = "-".join(dict.fromkeys(filter(None, parts)))
        if _identity(target, precision) in self._built:
            return None
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
        try:
            files = self._write(target, precision, onnx)
        except UnsupportedGpuError as error:
            if error.instead is None or error.instead in precision.split("-"):
                raise
            replaced = precision.removesuffix("fp32").removesuffix("-")
            self._tell(f"{target.runtime} in {error.instead}: {error.what}.")
            precision = "-".join(filter(None, (replaced, error.instead)))
            onnx = self._in_half(target, precision, onnx, error.instead)
            try:
                files = self._write(target, precision, onnx)
            except UnsupportedGpuError as again:
                what = f"{again.what}, and operators that need one cannot be {error.instead}"
                fix = f"Leave {target.gpu} out of --gpu"
                raise ExportError(what, where=error.where, fix=fix) from again
        identity = _identity(target, precision)
        self._built.add(identity)
        artifact = Artifact(
            id=identity,
            runtime=target.runtime,
            precision=precision,
            format=exporters.get(target.runtime).format,
            files=tuple(hash_file(self._folder, file) for file in files),
            target=target.gpu,
            opset=max(opset_of(ir.load(onnx).opset_imports), target.opset or 0),
            reference=_CHANGED_REFERENCE if self._source.model == CHANGED else None,
            engine=self._engine_record(target, onnx, files[0]),
        )
        return Built(artifact, onnx, files[0], self._source.model)

    def _in_half(self, target: Target, precision: str, onnx: Path, half: str) -> Path:
        """The graph with float operators in half precision as far as its values allow."""
        path = self._work / f"{target.runtime}-{precision}-half.onnx"
        step = HalfPrecision.model_validate({"type": "half", "dtype": half})
        calibrator = self._calibrator(_HALF_SAMPLES)
        made = Compressor(onnx, [step], [target.runtime], calibrator, self._machine)
        made.build(target.runtime, path)
        return path

    def _write(self, target: Target, precision: str, onnx: Path) -> list[Path]:
        """The files of the target's form of ``onnx``, inside the bundle."""
        exporter = exporters.get(target.runtime)
        same = target.opset in {None, self._opset}
        if exporter.format == "onnx" and onnx == self.model and same:
            return [onnx, *check_external_data(onnx)]
        if exporter.format == "onnx":  # whose weights may lie beside it or below, never above
            stem = self._folder / _identity(target, precision)
        else:
            suffix = f"-{target.gpu}" if target.gpu else ""
            stem = self._folder / target.runtime / f"{precision}{suffix}"
            stem.parent.mkdir(exist_ok=True)
        return self._export(target, onnx, stem, self._tell)

    def _export(
        self,
        target: Target,
        onnx: Path,
        stem: Path,
        told: Callable[[str], None] | None = None,
        of: Workload | None = None,
    ) -> list[Path]:
        """The files of a graph of the workload, or of another one."""
        onnx = raised_file(onnx, target.opset, self._work)
        options = self._options(target, onnx, told, of)
        return exporters.get(target.runtime).export(onnx, stem, options)

    def _least_opset(self) -> int:
        """What a given ONNX file is brought to, where every target asks for as much."""
        return min(target.opset or 0 for target in self._targets)

    def _check_opset(self) -> None:
        """See that no target asked for an older operator set than the model is written in."""
        for target in self._targets:
            if target.opset is not None and target.opset < self._opset:
                raise ExportError(
                    f"the model is written in operator set {self._opset}, which cannot be taken "
                    f"back to {target.opset}",
                    where=f"--opset {target.opset}",
                    fix=f"Give {self._opset} or more, or leave it out",
                )

    def _tell(self, note: str) -> None:
        """Keep for the bundle what was done otherwise, and show it meanwhile."""
        if note not in self.notes:
            self.notes.append(note)
            self._progress.update(note)

    def _options(
        self,
        target: Target,
        onnx: Path,
        told: Callable[[str], None] | None = None,
        of: Workload | None = None,
    ) -> ExportOptions:
        inputs = (of or self._workload).example_inputs
        example = {name: np.shape(x) for name, x in inputs.items()}
        return ExportOptions(
            target.gpu,
            self._engines.shapes(tensor_specs(ir.load(onnx).graph.inputs), example),
            told=told,
            workspace=self._engines.workspace,
            refit=self._engines.refit,
            program=self._source.program,
            native=self._machine == probe(this_machine().features),
        )

    def _engine_record(self, target: Target, onnx: Path, file: Path) -> EngineRecord | None:
        if exporters.get(target.runtime).format != "tensorrt-engine":
            return None
        head, options = read_engine_file(file), self._options(target, onnx)
        return EngineRecord(
            builder=head.builder,
            version=head.version,
            gpus=head.gpus,
            shapes={name: Shapes(**asdict(shape)) for name, shape in options.shapes.items()},
            flags=builder_flags(onnx, options),
            workspace=options.workspace,
        )


def _identity(target: Target, precision: str) -> str:
    return "-".join(filter(None, (target.runtime, precision, target.gpu)))
