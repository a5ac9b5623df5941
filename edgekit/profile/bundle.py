"""Profile the artifacts of a bundle on the samples it carries."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import RootModel

from edgekit.bundle import Bundle
from edgekit.defaults import defaults_of
from edgekit.errors import OutputError, RuntimeUnavailableError
from edgekit.machine import this_machine
from edgekit.manifest import Defaults
from edgekit.profile.costs import measure_costs
from edgekit.profile.inputs import bundle_feeds, usable_artifacts
from edgekit.profile.journal import Journal
from edgekit.profile.layers import artifact_layers
from edgekit.profile.made import made_here
from edgekit.profile.peaks import machine_peaks
from edgekit.profile.points import Point, Unseen, View, measure_points, named
from edgekit.profile.records import Costs, LayerTimes, Profile, Settings
from edgekit.profile.sweep import Sweep, planned
from edgekit.runtimes import SessionOptions

__all__ = ["profile_bundle"]

_log = logging.getLogger(__name__)

_SECONDS = 20.0
_POINT_SECONDS = 5.0


def profile_bundle(
    bundle: Bundle,
    *,
    runtime: str | None = None,
    artifact: str | None = None,
    threads: int | None = None,
    device: str | None = None,
    batch: int | None = None,
    streams: int | None = None,
    sizes: Mapping[str, int] | None = None,
    seconds: float | None = None,
    sweep: Sweep | None = None,
    journal: Journal | None = None,
    view: View | None = None,
    costs: bool = False,
    layers: bool = False,
) -> Profile:
    """Latency of every artifact that this machine can run, all in one interleaved run.

    Args:
        bundle: an opened bundle.
        runtime: only the artifacts of this runtime.
        artifact: only the one of this id.
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
        costs: measure load, memory, processor time and energy, too, before the run; not of a sweep.
        layers: see where the time of each goes, too, after it; not of a sweep. Some seconds more
            for each artifact, and for the peaks of the machine when they are not known yet.

    Raises:
        RuntimeUnavailableError: the bundle has nothing for ``runtime``, or nothing that this
            machine can run.
        BundleError: it has no such artifact.
        SpecError: the model's batch is fixed, or no dynamic dimension has that name.
    """
    usable = usable_artifacts(bundle, runtime, artifact)
    given = _Given(threads, streams, batch, device, dict(sizes or {}))
    impossible: list[Point] = []
    if sweep is None:
        points = [Point(one, given.settings(defaults_of(bundle, one.runtime))) for one in usable]
    else:
        points, impossible = planned(bundle, sweep, given.settings(Defaults()))
    view, journal = view or Unseen(), journal or Journal()
    for point in impossible:
        view.skips(point, point.reason)
    # First, while this process holds nothing that competes for memory.
    taken = _costs(bundle, points, journal, view) if costs and sweep is None else {}
    results, refused = measure_points(
        bundle,
        points,
        lambda one: bundle_feeds(bundle, one.batch, one.sizes),
        seconds=(seconds or _POINT_SECONDS) if sweep else (seconds or _SECONDS) / len(points),
        min_rounds=10 if sweep else 50,
        journal=journal,
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
    inside = _layers(bundle, points, journal, view) if layers and sweep is None else {}
    return made_here(
        bundle.manifest.name,
        [
            result.model_copy(
                update={
                    "costs": taken.get(result.samples.artifact),
                    "layers": inside.get(result.samples.artifact),
                }
            )
            for result in results
        ],
        list({point.artifact.id: point.artifact for point in points}.values()),
        # Without a sweep all have as many threads, unless the bundle's defaults differ.
        peaks=machine_peaks(max(_threads(point) for point in points)) if inside else None,
        skipped=skipped,
    )


def _threads(point: Point) -> int:
    return point.settings.threads or this_machine().cores


class _CostsOf(RootModel[dict[str, Costs]]):
    """By artifact."""


class _LayersOf(RootModel[LayerTimes | None]):
    """Of one artifact, None where its runtime does not tell."""


def _costs(
    bundle: Bundle, points: Sequence[Point], journal: Journal, view: View
) -> dict[str, Costs]:
    """By artifact. Those of one setting take turns."""
    alike: dict[str, list[Point]] = {}
    for point in points:
        alike.setdefault(named("", point.settings), []).append(point)
    found: dict[str, Costs] = {}
    for setting, group in alike.items():
        view.stage(f"load time, memory and processor time of {_many(group)} in fresh processes")
        found |= journal.piece(f"costs{setting}", _CostsOf, partial(_costs_of, bundle, group)).root
    return found


def _costs_of(bundle: Bundle, group: Sequence[Point]) -> _CostsOf:
    settings = group[0].settings
    feeds = bundle_feeds(bundle, settings.batch, settings.sizes)
    artifacts = [point.artifact for point in group]
    return _CostsOf(measure_costs(bundle, artifacts, feeds, _options(settings)))


def _many(points: Sequence[Point]) -> str:
    return points[0].artifact.id if len(points) == 1 else f"{len(points)} artifacts"


def _layers(
    bundle: Bundle, points: Sequence[Point], journal: Journal, view: View
) -> dict[str, LayerTimes]:
    """By artifact, of those whose runtime tells."""
    found = {}
    for point in points:
        view.stage(f"operators of {point.artifact.id}")
        make = partial(_layers_of, bundle, point)
        try:
            times = journal.piece(f"layers {point.name}", _LayersOf, make).root
        except OutputError as error:  # what was measured before is worth more
            _log.warning("no layers of %s: %s", point.artifact.id, error)
            continue
        if times is not None:
            found[point.artifact.id] = times
    return found


def _layers_of(bundle: Bundle, point: Point) -> _LayersOf:
    settings = point.settings
    feeds = bundle_feeds(bundle, settings.batch, settings.sizes)
    return _LayersOf(artifact_layers(bundle, point.artifact, feeds, _options(settings)))


def _options(settings: Settings) -> SessionOptions:
    return SessionOptions(threads=settings.threads, device=settings.device)


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
