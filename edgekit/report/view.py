"""What a report is about, put together once: every section and every format reads it from here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.manifest import Manifest
from edgekit.profile.diagnosis import Finding, diagnose
from edgekit.profile.records import Profile, Result
from edgekit.profile.samples import Samples
from edgekit.report.layers import LayerComparison
from edgekit.report.marks import Mark, marks_of
from edgekit.report.table import Row, rows

__all__ = ["View", "comparable", "view_of"]


@dataclass(frozen=True, slots=True)
class View:
    """A bundle and what was measured of it.

    Attributes:
        manifest: of the bundle.
        path: how the bundle is called on the command line.
        profile: what ``edgekit profile`` measured, None where it did not.
        rows: the artifacts, with latencies of the profile where there is one.
        samples: that the rows' latencies are of: one interleaved run.
        results: of the profile that belong to ``samples``; empty without a profile.
        findings: what the figures say in words.
        marks: how each artifact is drawn.
        noise: the selected artifacts beside the uncompressed ones, layer by layer.
    """

    manifest: Manifest
    path: str
    profile: Profile | None
    rows: tuple[Row, ...]
    samples: tuple[Samples, ...]
    results: tuple[Result, ...]
    findings: tuple[Finding, ...]
    marks: Mapping[str, Mark]
    noise: tuple[LayerComparison, ...] = ()

    @property
    def measure(self) -> str:
        """The command that measures what this view lacks."""
        return f"edgekit profile {shlex.quote(self.path)}"

    @property
    def metric(self) -> str:
        """Name of the workload's metric for people."""
        return (
            self.manifest.accuracy.metric.replace("_", " ") if self.manifest.accuracy else "metric"
        )

    def row(self, artifact: str) -> Row:
        """Of an artifact by its id (StopIteration when there is none)."""
        return next(row for row in self.rows if row.artifact.id == artifact)

    @property
    def others(self) -> tuple[Result, ...]:
        """Results under other settings and scenarios than the rows' latencies."""
        if self.profile is None:
            return ()
        return tuple(one for one in self.profile.results if one not in self.results)


def view_of(
    manifest: Manifest,
    *,
    path: Path | str | None = None,
    profile: Profile | None = None,
    noise: Sequence[LayerComparison] = (),
) -> View:
    """Put together what a report shows.

    Args:
        manifest: of the bundle.
        path: of the bundle, for the commands that the report names.
        profile: of this very bundle.
        noise: see :attr:`View.noise`.
    """
    results = comparable(profile) if profile is not None else ()
    samples = tuple(one.samples for one in results) or manifest.latency
    built = (*manifest.artifacts, *manifest.alternatives)
    shown = rows(manifest, samples)
    return View(
        manifest=manifest,
        path=Path(path).name if path is not None else f"{manifest.name}.edge",
        profile=profile,
        rows=tuple(shown),
        samples=tuple(samples),
        results=tuple(results),
        findings=tuple(diagnose(profile)) if profile is not None else (),
        marks=marks_of([artifact.id for artifact in built] + [s.artifact for s in samples]),
        noise=tuple(noise),
    )


def comparable(profile: Profile) -> tuple[Result, ...]:
    """The results of the one interleaved run that has most artifacts; of several, the first.

    Single-stream runs come before others: their latencies are the model's own, without a queue.
    """
    runs: dict[str, list[Result]] = {}
    for result in profile.results:
        runs.setdefault(result.samples.run, []).append(result)
    if not runs:
        return ()

    def worth(results: list[Result]) -> tuple[bool, int]:
        names = {result.samples.artifact for result in results}
        return all(one.samples.scenario == "single-stream" for one in results), len(names)

    best = max(runs.values(), key=worth)  # the first of equals
    kept: dict[str, Result] = {}
    for result in best:
        kept.setdefault(result.samples.artifact, result)
    return tuple(kept.values())
