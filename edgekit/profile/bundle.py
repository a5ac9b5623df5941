"""Profile the artifacts of a bundle on the samples it carries."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

import edgekit
from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import BundleError, RuntimeUnavailableError, SpecError, did_you_mean
from edgekit.machine import this_machine
from edgekit.manifest import Artifact
from edgekit.profile.costs import measure_costs
from edgekit.profile.layers import bundle_layers
from edgekit.profile.peaks import machine_peaks
from edgekit.profile.records import LayerTimes, Profile, Result, Settings
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.sizes import resized
from edgekit.runtimes import SessionOptions
from edgekit.spec import Feeds
from edgekit.verify import Reference, unusable

__all__ = ["bundle_feeds", "profile_bundle", "usable_artifacts"]


def profile_bundle(
    bundle: Bundle,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    device: str | None = None,
    batch: int = 1,
    sizes: Mapping[str, int] | None = None,
    seconds: float = 20.0,
    artifact: str | None = None,
    costs: bool = False,
    layers: bool = False,
) -> Profile:
    """Latency of every artifact that this machine can run, all in one interleaved run.

    Args:
        bundle: an opened bundle.
        runtime: only the artifacts of this runtime.
        threads: intra-op threads of every session, None for all cores.
        device: where every session runs, see :class:`~edgekit.runtimes.SessionOptions`.
        batch: samples in one inference: the first stored one, repeated.
        sizes: of dynamic dimensions by name, such as ``{"sequence": 128}``.
        seconds: time limit of the run.
        artifact: only the one of this id.
        costs: measure load, memory, processor time and energy, too, before the run.
        layers: see where the time of each goes, too: some seconds more for each artifact, and for
            the peaks of the machine when they are not known yet.

    Raises:
        RuntimeUnavailableError: the bundle has nothing for ``runtime``, or nothing that this
            machine can run.
        BundleError: it has no such artifact.
        SpecError: the model's batch is fixed, or no dynamic dimension has that name.
    """
    usable = usable_artifacts(bundle, runtime, artifact)
    threads = threads or this_machine().cores
    options = SessionOptions(threads=threads, device=device)
    feeds = bundle_feeds(bundle, batch, sizes or {})
    # First, while this process holds nothing that competes for memory.
    measured = measure_costs(bundle, usable, feeds, options) if costs else {}
    with ExitStack() as stack:
        entries = [
            Timed(
                artifact.id,
                artifact.runtime,
                stack.enter_context(
                    runtimes.require(artifact.runtime).load(bundle.file(artifact), options)
                ),
            )
            for artifact in usable
        ]
        feeds = bundle_feeds(bundle, batch, sizes or {})
        samples = profile_interleaved(
            entries,
            feeds,
            threads=threads,
            min_rounds=50,
            max_rounds=1000,
            max_seconds=seconds,
        )
        times: list[LayerTimes | None] = [None] * len(entries)
        if layers:
            times = bundle_layers(bundle, usable, entries, feeds, options)
    names = sorted({artifact.runtime for artifact in usable})
    settings = Settings(threads=threads, batch=batch, sizes=dict(sizes or {}), device=device)
    return Profile(
        edgekit=edgekit.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=bundle.manifest.name,
        artifacts={artifact.id: artifact.files[0].sha256 for artifact in usable},
        versions={name: runtimes.require(name).status().version or "" for name in names},
        machine=this_machine(),
        peaks=machine_peaks(threads) if any(one is not None for one in times) else None,
        results=tuple(
            Result(
                samples=one.model_copy(update={"device": device}),
                settings=settings,
                costs=measured.get(one.artifact),
                layers=inside,
            )
            for one, inside in zip(samples, times, strict=True)
        ),
    )


def usable_artifacts(
    bundle: Bundle, runtime: str | None = None, artifact: str | None = None
) -> list[Artifact]:
    """The artifacts that this machine can run, of one runtime or with one id only.

    Raises:
        RuntimeUnavailableError: the bundle has nothing for ``runtime``, or nothing that this
            machine can run.
        BundleError: it has no such artifact.
    """
    if runtime is not None:
        bundle.selected(runtime)
    known = [one.id for one in bundle.manifest.artifacts]
    if artifact is not None and artifact not in known:
        raise BundleError(
            f"holds no artifact {artifact!r}{did_you_mean(artifact, known)}",
            where=str(bundle.path),
            fix=f"Choose from {', '.join(known)}",
        )
    artifacts = [
        one
        for one in bundle.manifest.artifacts
        if runtime in {None, one.runtime} and artifact in {None, one.id}
    ]
    reasons = {one.id: unusable(one.runtime, one.target) for one in artifacts}
    usable = [one for one in artifacts if not reasons[one.id]]
    if not usable:
        told = dict.fromkeys(f"{one.runtime}: {reasons[one.id]}" for one in artifacts)
        raise RuntimeUnavailableError(
            "; ".join(told) or f"artifact {artifact!r} is not of runtime {runtime!r}",
            where=str(bundle.path),
            fix="Profile it on the machine that it was built for",
        )
    return usable


def bundle_feeds(bundle: Bundle, batch: int, sizes: Mapping[str, int]) -> Feeds:
    """The first stored sample, as ``batch`` of them and with dynamic dimensions of those sizes.

    Raises:
        BundleError: it holds none.
        SpecError: the model's batch is fixed, or no dynamic dimension has that name.
    """
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
