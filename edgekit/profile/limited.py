"""A bundle's profile in processes that may use only a part of this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError, GateError
from edgekit.profile.elsewhere import Brought, Ended, follow, read_profile
from edgekit.profile.inputs import usable_artifacts
from edgekit.profile.limits import Fence, Limits, fenced
from edgekit.profile.records import Profile, Simulated

__all__ = ["profile_limited"]


def profile_limited(
    bundle: Bundle,
    limits: Limits,
    arguments: Sequence[str],
    *,
    runtime: str | None = None,
    artifact: str | None = None,
) -> Brought:
    """Run ``edgekit profile`` under limits.

    Where memory is limited, every artifact has a process of its own: a device loads one, not all of
    them beside each other. Such artifacts cannot be compared pair by pair.

    Args:
        bundle: to profile.
        limits: to hold.
        arguments: further options of ``edgekit profile``.
        runtime: only the artifacts of this runtime.
        artifact: only the one of this id.

    Raises:
        RuntimeUnavailableError: the bundle has nothing for ``runtime``, or for this machine.
        SpecError: processor time cannot be limited here.
    """
    usable = [one.id for one in usable_artifacts(bundle, runtime, artifact)]
    chosen = [f"--runtime={runtime}"] if runtime else []
    if artifact is not None or limits.memory_bytes is not None:
        runs = {name: [f"--artifact={name}"] for name in usable}
    else:
        runs = {"": []}
    found, short = [], []
    failed: EdgekitError | None = None
    simulated = None
    for name, only in runs.items():
        command = [*arguments, *chosen, *only]
        with fenced(limits) as fence:
            simulated = fence.simulated
            ended, profile = _run(bundle, fence, command)
        if profile is not None:
            found.append(profile)
            continue
        wanted = None if limits.memory_bytes is None else _wanted(bundle, limits, command)
        if wanted is None:
            failed = ended.error
            break
        short.append((name, wanted))
    return Brought(
        profile=_merged(found, simulated) if found else None,
        error=failed or (_error(limits.memory_bytes or 0, short) if short else None),
    )


def _run(bundle: Bundle, fence: Fence, arguments: Sequence[str]) -> tuple[Ended, Profile | None]:
    with tempfile.TemporaryDirectory(prefix="edgekit-limited-") as folder:
        written = Path(folder) / "profile.json"
        profile = [sys.executable, "-P", "-m", "edgekit", "profile", str(bundle.path), *arguments]
        ended = follow(fence.command([*profile, f"--output={written}"]))
        return ended, read_profile(written) if ended.code == 0 else None


def _wanted(bundle: Bundle, limits: Limits, arguments: Sequence[str]) -> int | None:
    """Bytes that a process which only runs the artifact holds at most, where memory has no limit.

    None where that fails, too. So it is known that the limit ended the run: engines have a dozen
    ways to say that they got no memory, and a killed process says nothing.
    """
    with fenced(replace(limits, memory_bytes=None)) as fence:
        _, profile = _run(bundle, fence, [*arguments, "--costs", "--seconds=0.1"])
    costs = profile.results[0].costs if profile is not None else None
    return costs.base_bytes + costs.peak_bytes if costs is not None else None


def _merged(profiles: Sequence[Profile], simulated: Simulated | None) -> Profile:
    return profiles[0].model_copy(
        update={
            "simulated": simulated,
            "artifacts": {k: v for one in profiles for k, v in one.artifacts.items()},
            "versions": {k: v for one in profiles for k, v in one.versions.items()},
            "results": tuple(result for one in profiles for result in one.results),
        }
    )


def _error(limit: int, short: Sequence[tuple[str, int]]) -> GateError:
    told = ", ".join(f"{name} (by itself it holds {wanted / 1e6:.0f} MB)" for name, wanted in short)
    enough = max(limit, *(wanted for _, wanted in short)) * 1.5
    return GateError(
        f"{limit / 1e6:.0f} MB are too little for {told}",
        where="--limit memory",
        fix=f"Give more, {enough / 1e6:.0f}MB say, or choose what fits with --artifact",
    )
