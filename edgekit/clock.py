"""Time PyTorch modules as the artifacts that a recipe would make of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import numpy as np

from edgekit import runtimes
from edgekit.build import Builder
from edgekit.compress.base import GraphPass, Measured
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.samples import Samples
from edgekit.profile.sizes import dimensions, resized
from edgekit.profile.stats import compare, percentile, summarize
from edgekit.reference import take_samples
from edgekit.runtimes import SessionOptions
from edgekit.spec import Feeds
from edgekit.targets import Target
from edgekit.tensors import as_array
from edgekit.verify import unusable
from edgekit.workload import Workload

__all__ = ["ArtifactClock"]

_ROUNDS, _SECONDS, _ATTEMPTS = (25, 200), 1.5, 3


class ArtifactClock:
    """Exports a module, applies the recipe's graph passes from few samples, loads and times it.

    It times on one engine: the one on which the original is fastest in the recipe's final
    precision, as that is what will be served.

    Args:
        builder: exports and builds.
        workload: the original, to choose the engine by.
        passes: the recipe's graph passes.
        threads: of every session.
        sizes: of dynamic dimensions, by name; the others are as in the data.
    """

    def __init__(
        self,
        builder: Builder,
        workload: Workload,
        passes: Sequence[GraphPass],
        threads: int,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self._builder = builder
        self._passes = passes
        self._threads = threads
        self._original = workload
        self._sizes = sizes or {}

    @property
    def name(self) -> str:
        """The engine and the precision."""
        labels = [step.label for step in self._passes if step.label]
        return " ".join([self._target.runtime, *labels])

    @staticmethod
    def available(builder: Builder) -> bool:
        """Whether any of the builder's engines can run here."""
        return any(not unusable(target.runtime, target.gpu) for target in builder.profiled)

    def compare(self, baseline: Workload, candidate: Workload) -> Measured:
        """Time two workloads' models in one interleaved run.

        Where that cannot tell which is faster, as other work on the machine or unlucky memory may
        cause, both are loaded and timed again, up to three times.

        Raises:
            EdgekitError: one of them cannot be exported or built.
        """
        for _ in range(_ATTEMPTS):
            before, after = self._run([(baseline, self._target), (candidate, self._target)])
            found = compare(before, after)
            if found.low > 1.0 or found.high < 1.0:
                break
        return Measured(found.ratio, found.low)

    def seconds(self, workloads: Sequence[Workload]) -> list[float]:
        """The 10th percentile of each, in one interleaved run."""
        timed = self._run([(workload, self._target) for workload in workloads])
        return [percentile(samples.latencies_ns, 10) / 1e9 for samples in timed]

    @cached_property
    def _target(self) -> Target:
        usable = [
            target for target in self._builder.profiled if not unusable(target.runtime, target.gpu)
        ]
        if len(usable) == 1:
            return usable[0]
        medians = [summarize(one).p50 for one in self._run([(self._original, t) for t in usable])]
        return usable[int(np.argmin(medians))]

    def _run(self, entries: Sequence[tuple[Workload, Target]]) -> list[Samples]:
        with tempfile.TemporaryDirectory(prefix="edgekit-clock-") as work, ExitStack() as stack:
            timed = []
            for index, (workload, target) in enumerate(entries):
                folder = Path(work) / str(index)
                folder.mkdir()
                path = self._builder.draft(workload, self._passes, target, folder)
                runtime = runtimes.require(target.runtime)
                session = runtime.load(path, SessionOptions(threads=self._threads))
                stack.enter_context(session)
                timed.append(Timed(str(index), target.runtime, session, self._feeds(workload)))
            least, most = _ROUNDS
            return profile_interleaved(
                timed,
                {},
                threads=self._threads,
                min_rounds=least,
                max_rounds=most,
                max_seconds=_SECONDS,
                warmup=5,
            )

    def _feeds(self, workload: Workload) -> Feeds:
        """Its sample in the sizes that were asked for; single layers have no such dimensions."""
        known = dimensions(workload.dynamic)
        sizes = {name: size for name, size in self._sizes.items() if name in known}
        return resized(_sample(workload), workload.dynamic, sizes)


def _sample(workload: Workload) -> Feeds:
    """One sample of the calibration data, else of the example."""
    if workload.calibration is not None:
        found = take_samples(workload, workload.feeds(), 1)
        if found:
            return found[0]
    example = {name: as_array(value) for name, value in workload.example_inputs.items()}
    return take_samples(workload, [example], 1)[0]
