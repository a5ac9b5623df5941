"""What of a bundle is profiled here, and on what."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, RuntimeUnavailableError, SpecError, did_you_mean
from edgekit.manifest import Artifact
from edgekit.profile.sizes import resized
from edgekit.spec import Feeds
from edgekit.verify import Reference, unusable

__all__ = ["bundle_feeds", "usable_artifacts"]


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
