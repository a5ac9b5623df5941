"""A model in the repository: its versions, and which of them should be loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.serve.config import ModelConfig
from edgekit.serve.folder import Found
from edgekit.serve.model import Servable

__all__ = ["Entry", "Version", "expected_size", "told_size", "wanted_versions"]


@dataclass(slots=True)
class Version:
    """One version of a model, loaded or not.

    Attributes:
        servable: what computes it; None when it is not loaded.
        found: the bundle that it was loaded from.
        reason: why it, or a newer bundle of it, could not be loaded; empty otherwise.
        size: bytes of memory that loading it took.
        loads: how often it was loaded.
        failures: how often it, or a newer bundle of it, could not be.
    """

    servable: Servable | None = None
    found: Found | None = None
    reason: str = ""
    size: int = 0
    loads: int = 0
    failures: int = 0


@dataclass(slots=True)
class Entry:
    """One model.

    Attributes:
        name: of the model.
        versions: by name, oldest first.
        lock: held while its versions change.
        evicted: unloaded to make room; the next request loads it again.
        unloaded: by the API; stays so until the API loads it.
        used: when it was last asked, in ``time.monotonic``.
    """

    name: str
    versions: dict[str, Version] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    evicted: bool = False
    unloaded: bool = False
    used: float = field(default_factory=time.monotonic)

    @property
    def loaded(self) -> dict[str, Servable]:
        """What can be asked, oldest version first."""
        return {name: v.servable for name, v in self.versions.items() if v.servable is not None}


def wanted_versions(found: Mapping[str, Found], config: ModelConfig) -> list[str]:
    """The versions to load, oldest first."""
    names = list(found)
    if config.versions == "all":
        return names
    named = {*config.weights, *([config.shadow] if config.shadow else [])}
    if config.versions != "latest":
        named |= set(config.versions)
    return [name for name in names if name in named] if named else names[-1:]


def expected_size(found: Found, config: ModelConfig) -> int:
    """Bytes that a bundle will take when loaded: what the operator says, else its largest file."""
    return told_size(config) or max(
        (file.stat().st_size for file in found.path.iterdir() if file.is_file()), default=0
    )


def told_size(config: ModelConfig) -> int:
    """Bytes that the operator says a model takes; 0 when not said."""
    return (config.memory_mb or 0) * 2**20
