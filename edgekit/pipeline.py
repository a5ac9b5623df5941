"""From a workload to a bundle: build, verify, evaluate, profile, select, write."""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgekit.build import Builder
from edgekit.built import CHANGED, ORIGINAL, SMALLER, Built, Changed
from edgekit.bundle import Bundle, hash_file, seal, writing
from edgekit.clock import ArtifactClock
from edgekit.compress.base import ModuleContext
from edgekit.compress.compressor import Compressor
from edgekit.compress.recipe import Budget, Recipe
from edgekit.compress.search.journal import Journal
from edgekit.errors import GateError
from edgekit.external_data import check_external_data
from edgekit.judge import Judge, Timing, verification_feeds
from edgekit.machine import this_machine
from edgekit.manifest import (
    REFERENCE,
    Accuracy,
    Artifact,
    Decision,
    Manifest,
    PassRecord,
    Spec,
    StateRecord,
    Verification,
)
from edgekit.mixed_precision import MixedPrecision, fingerprint
from edgekit.numerics import InstructionSet, probe
from edgekit.profile.samples import Samples
from edgekit.profile.sizes import require_dimensions, resized
from edgekit.profile.stats import summarize
from edgekit.progress import Progress, Silent
from edgekit.reference import reference_predict
from edgekit.select import decide
from edgekit.shared_weights import share_weights
from edgekit.spec import TensorSpec
from edgekit.state import resolved
from edgekit.targets import EngineSettings, Target
from edgekit.timestamp import timestamp
from edgekit.verify import unusable
from edgekit.workload import Workload

__all__ = ["Timing", "make_bundle"]

#: Store as many of the samples that artifacts were verified on as fit.
_STORED_BYTES = 2 * 2**20

_PACKAGES = (
    "ai-edge-litert", "edgekit", "executorch", "litert-torch", "ncnn", "numpy", "onnx",
    "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "torch",
)  # fmt: skip


def make_bundle(
    workload: Workload,
    out: Path,
    *,
    recipe: Recipe,
    targets: Sequence[Target],
    timing: Timing | None = Timing(),  # noqa: B008, frozen
    machine: InstructionSet | None = None,
    engines: EngineSettings = EngineSettings(),  # noqa: B008
    source: str = "",
    progress: Progress = Silent(),  # noqa: B008
) -> Bundle:
    """Build, check, measure and write a bundle. An old bundle at ``out`` stays until the end.

    Args:
        workload: the model and its data.
        out: where the bundle shall be.
        recipe: how to compress; a recipe without passes only exports.
        targets: the runtimes to build for.
        timing: how to measure latency, None not to.
        machine: the instruction set of the machine that will run it, None for this one's.
        engines: how engines for GPUs are built.
        source: what the user called the model, for the record.
        progress: told what is going on.

    Raises:
        GateError: an uncompressed artifact does not compute what the original does.
        EdgekitError: bad input of any kind, see :mod:`edgekit.errors`.
    """
    require_dimensions(workload.dynamic, timing.sizes if timing is not None else {})
    require_dimensions(workload.dynamic, engines.ranges, "--range")
    beside = out.with_name(f"{out.name}.training")
    with writing(out) as folder, tempfile.TemporaryDirectory(prefix="edgekit-") as scratch:
        work = Path(scratch)
        made_for = machine or probe(this_machine().features)
        context = ModuleContext(folder=beside, progress=progress, target=made_for)
        workload, first = _redefined(workload, recipe, context)
        builder = Builder(workload, targets, folder, work, progress, made_for, ORIGINAL, engines)
        inputs, outputs = builder.export()
        built = builder.originals()
        changed = _changed(workload, builder, recipe, timing, context)
        builder.changed(changed)
        compressor = builder.compressor(recipe)
        built += builder.compressed(compressor) if recipe.passes else []
        journal = _search(workload, builder, compressor, recipe, timing, out, work, built, progress)
        shared = share_weights(folder, builder.model, [one.artifact for one in built])
        built = [replace(one, artifact=new) for one, new in zip(built, shared, strict=True)]
        models = {ORIGINAL: workload, CHANGED: changed.workload}
        others = _smaller(workload, targets, recipe, work, progress, made_for, models, engines)
        with ExitStack() as stack:
            judge = Judge(workload, models, built + others, timing or Timing(), progress, stack)
            verification = judge.verify()
            _require_originals(verification, built)
            accuracy = judge.evaluate(_max_drop(workload, recipe.budget))
            samples = judge.profile() if timing is not None else []
        extras = _save_references(folder, judge, built) + _unlisted(folder, builder.model, shared)
        manifest = _manifest(workload, recipe, compressor, built, inputs, outputs).model_copy(
            update={
                "source": source,
                "target": made_for.name,
                "search": tuple(journal.trials),
                "passes": (*first, *changed.passes),
                "alternatives": tuple(one.artifact for one in others),
                "verification": tuple(verification),
                "accuracy": accuracy,
                "latency": tuple(samples),
                "decisions": _decide(built, verification, accuracy, samples, recipe),
                "notes": (*builder.notes, *compressor.notes, *judge.notes),
            }
        )
        progress.stage("Write the bundle")
        seal(folder, _with_extras(folder, manifest, workload, extras))
    journal.close()
    shutil.rmtree(beside, ignore_errors=True)
    return Bundle.open(out)


def _redefined(
    workload: Workload, recipe: Recipe, context: ModuleContext
) -> tuple[Workload, tuple[PassRecord, ...]]:
    """The workload after the passes whose result is the original, and what they did."""
    steps = [step for step in recipe.module_passes if step.redefines]
    if not steps:
        return workload, ()
    from edgekit.module_passes import run_module_passes  # needs torch

    found = run_module_passes(workload, steps, context)
    return found.workload, found.passes


def _changed(
    workload: Workload,
    builder: Builder,
    recipe: Recipe,
    timing: Timing | None,
    context: ModuleContext,
) -> Changed:
    """What the other module passes make of it; with latency to go by where it is measured."""
    steps = [step for step in recipe.module_passes if not step.redefines]
    if not steps:
        return Changed(workload)
    from edgekit.module_passes import run_module_passes  # needs torch

    clock = None
    if timing is not None and ArtifactClock.available(builder):
        threads = timing.threads or this_machine().cores
        clock = ArtifactClock(builder, workload, recipe.graph_passes, threads, timing.sizes)
    teacher = None if isinstance(workload.model, Path) else workload.model
    return run_module_passes(workload, steps, replace(context, teacher=teacher, clock=clock))


def _smaller(
    workload: Workload,
    targets: Sequence[Target],
    recipe: Recipe,
    work: Path,
    progress: Progress,
    machine: InstructionSet,
    models: dict[str, Workload],
    engines: EngineSettings,
) -> list[Built]:
    """The artifacts of the smaller variant, where there is one and the recipe makes models smaller.

    The variant itself is added to ``models``.
    """
    if workload.smaller is None or not recipe.module_passes:
        return []
    smaller = workload.smaller()
    scratch = work / SMALLER
    scratch.mkdir()
    builder = Builder(
        smaller, targets, scratch / "built", scratch, progress, machine, SMALLER, engines
    )
    builder.export()
    models[SMALLER] = smaller
    built = builder.originals()
    return built + builder.compressed(builder.compressor(recipe))


def _save_references(folder: Path, judge: Judge, built: Sequence[Built]) -> list[Path]:
    """Write the samples that ``edgekit verify`` and the server compare with."""
    wanted = {ORIGINAL: REFERENCE} | {
        one.model: one.artifact.reference for one in built if one.artifact.reference
    }
    for model, name in wanted.items():
        judge.references[model].save(folder / name, _STORED_BYTES)
    return [folder / name for name in wanted.values()]


def _search(
    workload: Workload,
    builder: Builder,
    compressor: Compressor,
    recipe: Recipe,
    timing: Timing | None,
    out: Path,
    work: Path,
    built: list[Built],
    progress: Progress,
) -> Journal:
    """Add what the recipe's search finds to ``built``; its journal lies beside ``out`` meanwhile.

    A search that was killed goes on from its journal when the same command is given again.
    """
    if recipe.search is None or not recipe.passes:
        return Journal(None, "")
    settings, measured = recipe.search, timing or Timing()
    if timing is None:
        settings = settings.model_copy(update={"latency": False})
    beside = out.with_name(f"{out.name}.search.jsonl")
    data = compressor.table.data if compressor.table is not None else ""
    data += str(dict(measured.sizes) or "")  # trials of other sizes are not comparable
    journal = Journal(
        beside, fingerprint(compressor.source, recipe, workload, compressor.target.name, data)
    )
    score = None
    if workload.evaluate is not None:
        with reference_predict(workload) as predict:
            score = workload.score(predict)
    search = MixedPrecision(
        workload,
        builder,
        compressor,
        settings,
        max_drop=_max_drop(workload, recipe.budget),
        sample=resized(verification_feeds(workload)[0], workload.dynamic, measured.sizes),
        threads=measured.threads or this_machine().cores,
        journal=journal,
        folder=work,
        progress=progress,
    )
    for target in builder.profiled:
        if not unusable(target.runtime, target.gpu):
            found = search.run(target, score)
            built += [found] if found is not None else []
    return journal


def _max_drop(workload: Workload, budget: Budget) -> float:
    """The recipe's largest drop, or its share of the workload's own."""
    if budget.max_drop is not None:
        return budget.max_drop
    return budget.share * workload.metric.max_drop if workload.metric is not None else 0.0


def _require_originals(verification: Iterable[Verification], built: Sequence[Built]) -> None:
    """An export that changes the model is refused: nothing built on it could be trusted."""
    precision = {one.artifact.id: one.artifact.precision for one in built}
    for record in verification:
        if not record.passed and precision[record.artifact] == "fp32":
            raise GateError(
                f"does not compute what the original model does: {record.reason}",
                where=f"artifact {record.artifact}",
                fix="Nothing was written; leave that runtime out with --runtime, or report it",
            )


def _decide(
    built: Sequence[Built],
    verification: Sequence[Verification],
    accuracy: Accuracy | None,
    samples: Sequence[Samples],
    recipe: Recipe,
) -> tuple[Decision, ...]:
    """One decision a runtime (and GPU), the one whose choice is fastest first."""
    groups: dict[tuple[str, str | None], list[Built]] = {}
    for one in built:
        groups.setdefault((one.artifact.runtime, one.artifact.target), []).append(one)
    latency = {record.artifact: record for record in samples}
    decisions = [
        decide(
            runtime,
            [one.artifact for one in group],
            verification={record.artifact: record for record in verification},
            accuracy=accuracy,
            samples=latency,
            budget=recipe.budget,
        ).model_copy(update={"target": gpu})
        for (runtime, gpu), group in groups.items()
    ]
    return tuple(sorted(decisions, key=lambda decision: _median_ns(latency, decision.selected)))


def _median_ns(latency: Mapping[str, Samples], artifact: str) -> float:
    return summarize(latency[artifact]).p50 if artifact in latency else float("inf")


def _manifest(
    workload: Workload,
    recipe: Recipe,
    compressor: Compressor,
    built: Sequence[Built],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> Manifest:
    return Manifest(
        name=workload.name,
        created=timestamp(),
        inputs=tuple(Spec.of(spec) for spec in inputs),
        outputs=tuple(Spec.of(spec) for spec in outputs),
        state=tuple(StateRecord.of(s) for s in resolved(workload.state, inputs, outputs)),
        pad=dict(workload.pad),
        artifacts=tuple(one.artifact for one in built),
        recipe=recipe.model_dump(mode="json", by_alias=True),
        calibration=compressor.table.model_dump(mode="json") if compressor.table else None,
        versions=_versions(),
        machine=this_machine(),
    )


def _unlisted(folder: Path, model: Path, artifacts: Sequence[Artifact]) -> list[Path]:
    """The files of the uncompressed ONNX graph, where no artifact consists of them."""
    listed = {folder / entry.path for artifact in artifacts for entry in artifact.files}
    return [path for path in (model, *check_external_data(model)) if path not in listed]


def _with_extras(
    folder: Path, manifest: Manifest, workload: Workload, files: Sequence[Path]
) -> Manifest:
    """Add the files beside the artifacts, and the labels."""
    extras = [hash_file(folder, path) for path in files]
    labels = None
    if workload.labels:
        labels = "labels.txt"
        (folder / labels).write_text("".join(f"{label}\n" for label in workload.labels))
        extras.append(hash_file(folder, folder / labels))
    return manifest.model_copy(
        update={"extras": tuple(extras), "labels": labels, "reference": REFERENCE}
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
