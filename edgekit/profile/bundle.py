"""Profile the artifacts of a bundle on the samples it carries."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

import edgekit
from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import BundleError, RuntimeUnavailableError, SpecError
from edgekit.machine import this_machine
from edgekit.manifest import Artifact
from edgekit.profile.records import Profile, Result, Settings
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

    Raises:
        RuntimeUnavailableError: the bundle has nothing for ``runtime``, or nothing that this
            machine can run.
        SpecError: the model's batch is fixed, or no dynamic dimension has that name.
    """
    usable = usable_artifacts(bundle, runtime)
    threads = threads or this_machine().cores
    options = SessionOptions(threads=threads, device=device)
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
        samples = profile_interleaved(
            entries,
            bundle_feeds(bundle, batch, sizes or {}),
            threads=threads,
            min_rounds=50,
            max_rounds=1000,
            max_seconds=seconds,
        )
    names = sorted({artifact.runtime for artifact in usable})
    settings = Settings(threads=threads, batch=batch, sizes=dict(sizes or {}), device=device)
    return Profile(
        edgekit=edgekit.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=bundle.manifest.name,
        artifacts={artifact.id: artifact.files[0].sha256 for artifact in usable},
        versions={name: runtimes.require(name).status().version or "" for name in names},
        machine=this_machine(),
        results=tuple(
            Result(samples=one.model_copy(update={"device": device}), settings=settings)
            for one in samples
        ),
    )


def usable_artifacts(bundle: Bundle, runtime: str | None) -> list[Artifact]:
    """The artifacts that this machine can run.

    Raises:
        RuntimeUnavailableError: there are none, or none of ``runtime``.
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
