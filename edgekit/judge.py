"""Run every artifact of a run on the same samples: verify, evaluate, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from edgekit import runtimes
from edgekit.built import ORIGINAL, Built
from edgekit.emulation import emulated
from edgekit.extremes import extreme_inputs
from edgekit.machine import this_machine
from edgekit.manifest import Accuracy, Artifact, Verification
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.samples import Samples
from edgekit.profile.sizes import resized
from edgekit.progress import Progress
from edgekit.reference import divisible, in_pieces, reference_predict, take_samples
from edgekit.runtimes import Session, SessionOptions
from edgekit.spec import Feeds
from edgekit.tensors import as_array
from edgekit.verify import Reference, unusable, verify_artifact
from edgekit.workload import Predict, Workload

__all__ = ["Judge", "Timing", "verification_feeds"]

#: Verify on this many samples.
_VERIFY_SAMPLES = 32


@dataclass(frozen=True, slots=True)
class Timing:
    """How to measure latency.

    Attributes:
        threads: intra-op threads of every session, None for all cores.
        rounds: least and most rounds of the interleaved run.
        seconds: stop after this time once the least rounds are done.
        sizes: of dynamic dimensions of the timed sample, by name; the others are as in the data.
    """

    threads: int | None = None
    rounds: tuple[int, int] = (50, 1000)
    seconds: float = 20.0
    sizes: Mapping[str, int] = field(default_factory=dict)


class Judge:
    """Runs every artifact that this machine can run, on the same samples as its PyTorch model.

    Args:
        workload: the original.
        models: the models that artifacts were made from, by the names that ``built`` gives them.
        built: the artifacts.
        timing: how to measure latency.
        progress: told what is going on.
        stack: closes the sessions.

    Attributes:
        references: samples and what each of the models computes for them.
    """

    def __init__(
        self,
        workload: Workload,
        models: Mapping[str, Workload],
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
            if not unusable(one.artifact.runtime, one.artifact.target):
                options = SessionOptions(threads=timing.threads or this_machine().cores)
                session = runtimes.require(one.artifact.runtime).load(one.path, options)
                self._sessions[one.artifact.id] = stack.enter_context(session)
        progress.stage("Run the original")
        self.references: dict[str, Reference] = {}
        feeds = verification_feeds(workload)
        extremes = extreme_inputs(feeds[0], workload.dynamic, workload.growing)
        for name in {ORIGINAL: None} | {one.model: None for one in built}:
            with reference_predict(models[name]) as predict:
                self.references[name] = Reference.record(predict, feeds, extremes)
        self.notes: tuple[str, ...] = ()

    def verify(self) -> list[Verification]:
        """Compare each artifact with its model; of one that cannot run here, its graph."""
        self._progress.stage("Verify")
        records = []
        for one in self._built:
            artifact = one.artifact
            if artifact.id in self._sessions:
                run = self._sessions[artifact.id].run
                reference = self.references[one.model]
                records.append(verify_artifact(artifact.id, artifact.precision, run, reference))
            else:
                records.append(self._verify_graph(one))
        return records

    def _verify_graph(self, one: Built) -> Verification:
        """Check the ONNX graph that an engine for absent hardware was built from."""
        artifact = one.artifact
        graph = emulated(one.onnx)
        # ONNX Runtime would take the roundings out again.
        options = SessionOptions(optimize=graph == one.onnx)
        with runtimes.require("onnxruntime").load(graph, options) as session:
            reference = self.references[one.model]
            record = verify_artifact(artifact.id, artifact.precision, session.run, reference)
        checked = "its ONNX graph was verified on ONNX Runtime"
        reason = unusable(artifact.runtime, artifact.target)
        why = f"{reason}; {checked if record.passed else record.reason}"
        return record.model_copy(update={"ran": False, "reason": why})

    def evaluate(self, max_drop: float) -> Accuracy | None:
        """The workload's metric of the original and of each artifact.

        Args:
            max_drop: what an artifact may lose.
        """
        workload = self._workload
        if workload.evaluate is None or workload.metric is None:
            self.notes = ("No evaluate function: artifacts were judged by verification only.",)
            return None
        self._progress.stage("Evaluate")
        self._progress.update("original")
        with reference_predict(workload) as predict:
            reference = workload.score(predict)
        scores = {}
        for one in self._built:
            name = one.artifact.id
            if name in self._sessions:
                self._progress.update(name)
                scores[name] = workload.score(self._any_batch(one.artifact))
        return Accuracy(
            metric=workload.metric.name,
            higher_is_better=workload.metric.higher_is_better,
            max_drop=max_drop,
            reference=reference,
            artifacts=scores,
        )

    def _any_batch(self, artifact: Artifact) -> Predict:
        """Runs the artifact on batches that may be larger than those its engine takes."""
        session = self._sessions[artifact.id]
        if not session.limits or not divisible(self._workload):
            return session.run
        return in_pieces(session.run, min(most[0] for _, most in session.limits.values()))

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
            resized(self.references[ORIGINAL].feeds[0], self._workload.dynamic, self._timing.sizes),
            threads=self._timing.threads or this_machine().cores,
            min_rounds=least,
            max_rounds=most,
            max_seconds=self._timing.seconds,
        )


def verification_feeds(workload: Workload) -> list[Feeds]:
    """Single samples, and second a batch of two: an engine may have another form for it."""
    samples: list[Feeds] = []
    if workload.calibration is not None:
        samples = take_samples(workload, workload.feeds(), _VERIFY_SAMPLES)
    if not samples:
        example = {name: as_array(value) for name, value in workload.example_inputs.items()}
        samples = take_samples(workload, [example], _VERIFY_SAMPLES)
    first, *others = samples
    if divisible(workload) and others and _same_shapes(first, others[0]):
        others.insert(0, {name: np.concatenate([first[name], others[0][name]]) for name in first})
    return [first, *others]


def _same_shapes(one: Feeds, other: Feeds) -> bool:
    return all(one[name].shape == other[name].shape for name in one)
