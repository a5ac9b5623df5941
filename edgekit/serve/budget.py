"""The memory budget: what a model takes, and who has to go for it."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.errors import BundleError
from edgekit.manifest import Artifact
from edgekit.serve.config import ModelConfig
from edgekit.serve.entry import Entry

__all__ = ["NoRoomError", "artifact_size", "loaded_size", "to_evict", "told_size"]


class NoRoomError(BundleError):
    """A model does not fit the budget."""


def told_size(config: ModelConfig) -> int:
    """Bytes that the operator says a model takes; 0 when not said."""
    return (config.memory_mb or 0) * 2**20


def artifact_size(artifact: Artifact, config: ModelConfig) -> int:
    """The least that its sessions take, in bytes: their weights."""
    return sum(file.size for file in artifact.files) * config.instances


def loaded_size(entries: Iterable[Entry]) -> int:
    """Bytes that all loaded versions take."""
    versions = (version for entry in entries for version in entry.versions.values())
    return sum(version.size for version in versions if version.servable is not None)


def to_evict(entries: Iterable[Entry], entry: Entry, expected: int, budget_mb: int) -> list[Entry]:
    """The models to unload, least recently used first, so that ``expected`` bytes fit.

    What is being loaded at the moment stays, and so does what takes nothing.

    Args:
        entries: everything that is there.
        entry: of the model that is to be loaded. What is loaded of it stays, too: it answers until
            the new one is shown to work.
        expected: bytes that it will take.
        budget_mb: of all models together.

    Raises:
        NoRoomError: it does not fit. Nothing is to be unloaded for it, then.
    """
    everything = list(entries)
    left = budget_mb * 2**20 - loaded_size(everything) - expected
    others = [other for other in everything if other is not entry and not other.lock.locked()]
    chosen = []
    for other in sorted(others, key=_last_used):
        if left >= 0:
            break
        if size := loaded_size([other]):
            left += size
            chosen.append(other)
    if left < 0:
        own = loaded_size([entry])
        beside = f", beside the {_megabytes(own)} of what serves until it works" if own else ""
        raise NoRoomError(
            f"needs about {_megabytes(expected)}{beside}: that is {_megabytes(-left)} "
            f"more than the budget of {budget_mb} MB can give",
            where=f"model {entry.name!r}",
            fix="Raise memory_mb of the server",
        )
    return chosen


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB"


def _last_used(entry: Entry) -> float:
    return entry.used
