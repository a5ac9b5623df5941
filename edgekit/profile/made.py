"""The document of what was measured here, now."""

from __future__ import annotations

from collections.abc import Sequence

import edgekit
from edgekit import runtimes
from edgekit.machine import this_machine
from edgekit.manifest import Artifact
from edgekit.profile.records import Peaks, Profile, Result
from edgekit.timestamp import timestamp

__all__ = ["made_here"]


def made_here(
    model: str,
    results: Sequence[Result],
    artifacts: Sequence[Artifact] = (),
    *,
    server: str | None = None,
    peaks: Peaks | None = None,
    skipped: dict[str, str] | None = None,
) -> Profile:
    """A profile of this machine.

    Args:
        model: its name, or the URL it was asked at.
        results: what was measured.
        artifacts: of a bundle that it was measured of.
        server: its version, where a server was asked.
        peaks: what the machine can do at most.
        skipped: why some points were not measured.
    """
    names = sorted({artifact.runtime for artifact in artifacts})
    versions = {name: runtimes.require(name).status().version or "" for name in names}
    return Profile(
        edgekit=edgekit.__version__,
        created=timestamp(),
        model=model,
        artifacts={artifact.id: artifact.files[0].sha256 for artifact in artifacts},
        versions=versions if server is None else {**versions, "server": server},
        machine=this_machine(),
        peaks=peaks,
        results=tuple(results),
        skipped=skipped or {},
    )
