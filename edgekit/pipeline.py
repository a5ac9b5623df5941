"""From a workload to a bundle: build, verify, evaluate, profile, select, write."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edgekit import runtimes
from edgekit.build import Builder, Built, Target
from edgekit.bundle import Bundle, hash_file, seal, writing
from edgekit.compress.compressor import Compressor
from edgekit.compress.recipe import Budget, Recipe
from edgekit.compress.search.journal import Journal
from edgekit.errors import GateError
from edgekit.machine import this_machine
from edgekit.manifest import Accuracy, Decision, Manifest, Spec, Verification
from edgekit.mixed_precision import MixedPrecision, fingerprint
from edgekit.numerics import InstructionSet, probe
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.samples import Samples
from edgekit.profile.stats import summarize
from edgekit.progress import Progress, Silent
from edgekit.reference import divisible, reference_predict, take_samples
from edgekit.runtimes import Session, SessionOptions
from edgekit.select import decide
from edgekit.spec import Feeds, TensorSpec
from edgekit.verify import Reference, unusable, verify_artifact
from edgekit.workload import Workload

__all__ = ["Timing", "make_bundle"]

#: Verify on this many samples; store as many of them as fit for ``edgekit verify``.
_VERIFY_SAMPLES = 32
_STORED_BYTES = 2 * 2**20

_PACKAGES = ("edgekit", "numpy", "onnx", "onnxruntime", "openvino", "tensorrt-rtx", "torch")


@dataclass(frozen=True, slots=True)
class Timing:
    """How to measure latency.

    Attributes:
        threads: intra-op threads of every session, None for all cores.
        rounds: least and most rounds of the interleaved run.
        seconds: stop after this time once the least rounds are done.
    """

    threads: int | None = None
    rounds: tuple[int, int] = (50, 1000)
    seconds: float = 20.0


def make_bundle(
    workload: Workload,
    out: Path,
    *,
    recipe: Recipe,
    targets: Sequence[Target],
    timing: Timing | None = Timing(),
    machine: InstructionSet | None = None,
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
        source: what the user called the model, for the record.
        progress: told what is going on.

    Raises:
        GateError: an uncompressed artifact does not compute what the original does.
        EdgekitError: bad input of any kind, see :mod:`edgekit.errors`.
    """
    with writing(out) as folder, tempfile.TemporaryDirectory(prefix="edgekit-") as work:
        made_for = machine or probe(this_machine().features)
        builder = Builder(workload, targets, folder, Path(work), progress, made_for)
        inputs, outputs = builder.export()
        compressor = builder.compressor(recipe)
        built = builder.originals()
        built += builder.compressed(compressor) if recipe.passes else []
        journal = _search(
            workload, builder, compressor, recipe, timing, out, Path(work), built, progress
        )
        with ExitStack() as stack:
            judge = _Judge(workload, folder, built, timing or Timing(), progress, stack)
            verification = judge.verify()
            _require_originals(verification, built)
            accuracy = judge.evaluate(recipe.budget)
            samples = judge.profile() if timing is not None else []
        judge.reference.save(folder / "reference.npz", _STORED_BYTES)
        manifest = _manifest(workload, recipe, compressor, built, inputs, outputs).model_copy(
            update={
                "source": source,
                "target": made_for.name,
                "search": tuple(journal.trials),
                "verification": tuple(verification),
                "accuracy": accuracy,
                "latency": tuple(samples),
                "decisions": _decide(built, verification, accuracy, samples, recipe),
                "notes": (*compressor.notes, *judge.notes),
            }
        )
        progress.stage("Write the bundle")
        seal(folder, _with_extras(folder, manifest, workload))
    journal.close()
    return Bundle.open(out)


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
    settings = recipe.search
    if timing is None:
        settings = settings.model_copy(update={"latency": False})
    beside = out.with_name(f"{out.name}.search.jsonl")
    data = compressor.table.data if compressor.table is not None else ""
    journal = Journal(
        beside, fingerprint(builder.model, recipe, workload, compressor.target.name, data)
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
        sample=_verification_feeds(workload)[0],
        threads=(timing or Timing()).threads or this_machine().cores,
        journal=journal,
        folder=work,
        progress=progress,
    )
    for target in builder.profiled:
        if not unusable(target.runtime):
            found = search.run(target, score)
            built += [found] if found is not None else []
    return journal


def _max_drop(workload: Workload, budget: Budget) -> float:
    """The recipe's largest drop, or its share of the workload's own."""
    if budget.max_drop is not None:
        return budget.max_drop
    return budget.share * workload.metric.max_drop if workload.metric is not None else 0.0


def _verification_feeds(workload: Workload) -> list[Feeds]:
    """Single samples, and second a batch of two: an engine may have another form for it."""
    samples: list[Feeds] = []
    if workload.calibration is not None:
        samples = take_samples(workload, workload.feeds(), _VERIFY_SAMPLES)
    if not samples:
        example = {name: np.asarray(value) for name, value in workload.example_inputs.items()}
        samples = take_samples(workload, [example], _VERIFY_SAMPLES)
    first, *others = samples
    if divisible(workload) and others and _same_shapes(first, others[0]):
        others.insert(0, {name: np.concatenate([first[name], others[0][name]]) for name in first})
    return [first, *others]


def _same_shapes(one: Feeds, other: Feeds) -> bool:
    return all(one[name].shape == other[name].shape for name in one)


class _Judge:
    """Runs every artifact that this machine can run, on the same samples as the original."""

    def __init__(
        self,
        workload: Workload,
        folder: Path,
        built: Sequence[Built],
        timing: Timing,
        progress: Progress,
        stack: ExitStack,
    ) -> None:
        self._workload = workload
        self._built = built
        self._timing = timing
        self._progress = progress
        self._sessions: dict[str, Session] = {}
        for one in built:
            if not unusable(one.artifact.runtime):
                path = folder / one.artifact.files[0].path
                options = SessionOptions(threads=timing.threads or this_machine().cores)
                session = runtimes.require(one.artifact.runtime).load(path, options)
                self._sessions[one.artifact.id] = stack.enter_context(session)
        self._original = stack.enter_context(reference_predict(workload))
        progress.stage("Run the original")
        self.reference = Reference.record(self._original, _verification_feeds(workload))
        self.notes: tuple[str, ...] = ()

    def verify(self) -> list[Verification]:
        """Compare each artifact with the original; of one that cannot run here, its graph."""
        self._progress.stage("Verify")
        records = []
        for one in self._built:
            artifact = one.artifact
            if artifact.id in self._sessions:
                run = self._sessions[artifact.id].run
                records.append(
                    verify_artifact(artifact.id, artifact.precision, run, self.reference)
                )
            else:
                records.append(self._verify_graph(one))
        return records

    def _verify_graph(self, one: Built) -> Verification:
        """Check the ONNX graph that an engine for absent hardware was built from."""
        artifact = one.artifact
        with runtimes.require("onnxruntime").load(one.onnx) as session:
            record = verify_artifact(artifact.id, artifact.precision, session.run, self.reference)
        graph = "its ONNX graph was verified on ONNX Runtime"
        why = f"{unusable(artifact.runtime)}; {graph if record.passed else record.reason}"
        return record.model_copy(update={"ran": False, "reason": why})

    def evaluate(self, budget: Budget) -> Accuracy | None:
        """The workload's metric of the original and of each artifact.

        Args:
            budget: the recipe's.
        """
        workload = self._workload
        if workload.evaluate is None or workload.metric is None:
            self.notes = ("No evaluate function: artifacts were judged by verification only.",)
            return None
        self._progress.stage("Evaluate")
        self._progress.update("original")
        reference = workload.score(self._original)
        scores = {}
        for name, session in self._sessions.items():
            self._progress.update(name)
            scores[name] = workload.score(session.run)
        return Accuracy(
            metric=workload.metric.name,
            higher_is_better=workload.metric.higher_is_better,
            max_drop=_max_drop(workload, budget),
            reference=reference,
            artifacts=scores,
        )

    def profile(self) -> list[Samples]:
        """Latency of every artifact on one sample, all in one interleaved run."""
        self._progress.stage("Profile")
        entries = [
            Timed(one.artifact.id, one.artifact.runtime, self._sessions[one.artifact.id])
            for one in self._built
            if one.artifact.id in self._sessions
        ]
        if not entries:
            return []
        least, most = self._timing.rounds
        return profile_interleaved(
            entries,
            self.reference.feeds[0],
            threads=self._timing.threads or this_machine().cores,
            min_rounds=least,
            max_rounds=most,
            max_seconds=self._timing.seconds,
        )


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
    """One decision a runtime, the runtime whose choice is fastest first."""
    by_runtime: dict[str, list[Built]] = {}
    for one in built:
        by_runtime.setdefault(one.artifact.runtime, []).append(one)
    latency = {record.artifact: record for record in samples}
    decisions = [
        decide(
            runtime,
            [one.artifact for one in group],
            verification={record.artifact: record for record in verification},
            accuracy=accuracy,
            samples=latency,
            budget=recipe.budget,
        )
        for runtime, group in by_runtime.items()
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
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=tuple(Spec.of(spec) for spec in inputs),
        outputs=tuple(Spec.of(spec) for spec in outputs),
        artifacts=tuple(one.artifact for one in built),
        recipe=recipe.model_dump(mode="json", by_alias=True),
        calibration=compressor.table.model_dump(mode="json") if compressor.table else None,
        versions=_versions(),
        machine=this_machine(),
    )


def _with_extras(folder: Path, manifest: Manifest, workload: Workload) -> Manifest:
    """Add the files beside the artifacts: reference samples and labels."""
    extras = [hash_file(folder, folder / "reference.npz")]
    labels = None
    if workload.labels:
        labels = "labels.txt"
        (folder / labels).write_text("".join(f"{label}\n" for label in workload.labels))
        extras.append(hash_file(folder, folder / labels))
    return manifest.model_copy(
        update={"extras": tuple(extras), "labels": labels, "reference": "reference.npz"}
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
