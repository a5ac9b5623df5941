"""Profile the artifacts of a bundle on the samples it carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import edgekit
from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.defaults import defaults_of
from edgekit.errors import BundleError, RuntimeUnavailableError, SpecError
from edgekit.machine import this_machine
from edgekit.manifest import Defaults
from edgekit.profile.journal import Journal
from edgekit.profile.points import Point, Unseen, View, measure_points
from edgekit.profile.records import Profile, Settings
from edgekit.profile.sizes import resized
from edgekit.profile.sweep import Sweep, planned
from edgekit.spec import Feeds
from edgekit.verify import Reference, unusable

__all__ = ["profile_bundle"]

_SECONDS = 20.0
_POINT_SECONDS = 5.0


def profile_bundle(
    bundle: Bundle,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    device: str | None = None,
    batch: int | None = None,
    streams: int | None = None,
    sizes: Mapping[str, int] | None = None,
    seconds: float | None = None,
    sweep: Sweep | None = None,
    journal: Journal | None = None,
    view: View | None = None,
) -> Profile:
    """Latency of every artifact that this machine can run, all in one interleaved run.

    Args:
        bundle: an opened bundle.
        runtime: only the artifacts of this runtime.
        threads: intra-op threads of every session. None for what the bundle says of each runtime
            (:func:`~edgekit.defaults.defaults_of`), else all cores; so with the next three.
        device: where every session runs, see :class:`~edgekit.runtimes.SessionOptions`.
        batch: samples in one inference: the first stored one, repeated [default: 1].
        streams: sessions of each artifact that run at the same time [default: 1].
        sizes: of dynamic dimensions by name, such as ``{"sequence": 128}``.
        seconds: time limit of the run [default: 20]; of each point, in a sweep [default: 5].
        sweep: other settings to measure, see :func:`~edgekit.profile.sweep.planned`; the others
            are for what it does not say.
        journal: where what is measured is written as it happens, and what was before.
        view: watches between rounds.

    Raises:
        RuntimeUnavailableError: the bundle has nothing for ``runtime``, or nothing that this
            machine can run.
        SpecError: the model's batch is fixed, or no dynamic dimension has that name.
    """
    if runtime is not None:
        bundle.selected(runtime)
    artifacts = [a for a in bundle.manifest.artifacts if runtime in {None, a.runtime}]
    reasons = {artifact.id: unusable(artifact.runtime, artifact.target) for artifact in artifacts}
    usable = [artifact for artifact in artifacts if not reasons[artifact.id]]
    if not usable:
        told = dict.fromkeys(f"{a.runtime}: {reasons[a.id]}" for a in artifacts)
        raise RuntimeUnavailableError(
            "; ".join(told),
            where=str(bundle.path),
            fix="Profile it on the machine that it was built for",
        )
    given = _Given(threads, streams, batch, device, dict(sizes or {}))
    impossible: list[Point] = []
    if sweep is None:
        points = [Point(one, given.settings(defaults_of(bundle, one.runtime))) for one in usable]
    else:
        points, impossible = planned(bundle, sweep, given.settings(Defaults()))
    view = view or Unseen()
    for point in impossible:
        view.skips(point, point.reason)
    results, refused = measure_points(
        bundle,
        points,
        lambda one: _feeds(bundle, one.batch, one.sizes),
        seconds=(seconds or _POINT_SECONDS) if sweep else (seconds or _SECONDS) / len(points),
        min_rounds=10 if sweep else 50,
        journal=journal or Journal(),
        view=view,
        skip=sweep is not None,
    )
    skipped = {point.name: point.reason for point in impossible} | refused
    if not results:
        raise RuntimeUnavailableError(
            "; ".join(f"{name}: {reason}" for name, reason in skipped.items()),
            where=str(bundle.path),
            fix="Sweep other settings",
        )
    measured = {point.artifact.id: point.artifact for point in points}
    names = sorted({artifact.runtime for artifact in measured.values()})
    return Profile(
        edgekit=edgekit.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=bundle.manifest.name,
        artifacts={artifact.id: artifact.files[0].sha256 for artifact in measured.values()},
        versions={name: runtimes.require(name).status().version or "" for name in names},
        machine=this_machine(),
        results=tuple(results),
        skipped=skipped,
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """What the caller asks for; None leaves it to the bundle's defaults."""

    threads: int | None
    streams: int | None
    batch: int | None
    device: str | None
    sizes: dict[str, int]

    def settings(self, known: Defaults) -> Settings:
        return Settings(
            threads=self.threads or known.threads or this_machine().cores,
            streams=self.streams or known.streams or 1,
            batch=self.batch or known.batch or 1,
            device=self.device or known.device,
            sizes=self.sizes,
        )


def _feeds(bundle: Bundle, batch: int, sizes: Mapping[str, int]) -> Feeds:
    manifest = bundle.manifest
    if manifest.reference is None:
        raise BundleError(
            "holds no reference samples", where=str(bundle.path), fix="Build the bundle again"
        )
    axes = {
        spec.name: {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
        for spec in manifest.inputs
    }
    wanted = dict(sizes)
    if batch != 1:
        for spec in manifest.inputs:
            if 0 not in axes[spec.name]:
                raise SpecError(
                    f"its first dimension is fixed to {spec.shape[0] if spec.shape else 'nothing'}",
                    where=f"input {spec.name!r}",
                    fix="Leave --batch out, or export the model with a dynamic batch",
                )
            wanted[axes[spec.name][0]] = batch
    return resized(Reference.load(bundle.path / manifest.reference).feeds[0], axes, wanted)
