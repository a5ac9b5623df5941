"""A model in the repository: its versions, and which of them should be loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.errors import EdgekitError
from edgekit.serve.config import ModelConfig
from edgekit.serve.folder import Found
from edgekit.serve.model import Servable
from edgekit.serve.shadow import Shadow

__all__ = ["Entry", "Version", "wanted_versions"]


@dataclass(slots=True)
class Version:
    """One version of a model, loaded or not.

    Attributes:
        servable: what computes it; None when it is not loaded.
        found: the bundle that it was loaded from.
        reason: why it, or a newer bundle of it, could not be loaded; empty otherwise.
        size: bytes of memory that it takes, or took when it was loaded last.
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
        waking: loads it again after it was evicted; None while nothing does.
        used: when it was last asked, in ``time.monotonic``.
        shadow: hands requests to the shadow version; None without one.
    """

    name: str
    versions: dict[str, Version] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    evicted: bool = False
    unloaded: bool = False
    waking: asyncio.Task[EdgekitError | None] | None = None
    used: float = field(default_factory=time.monotonic)
    shadow: Shadow | None = None

    def take(self, name: str) -> Servable | None:
        """Take a version out of service: it gets no more requests, and the caller closes it."""
        version = self.versions[name]
        servable, version.servable = version.servable, None
        return servable

    @property
    def loaded(self) -> dict[str, Servable]:
        """What can be asked, oldest version first."""
        return {name: v.servable for name, v in self.versions.items() if v.servable is not None}


def wanted_versions(found: Mapping[str, Found], config: ModelConfig) -> list[str]:
    """The versions to load, oldest first. The newest is the newest but the shadow."""
    if config.versions == "all":
        return list(found)
    named = set(config.weights)
    if config.versions != "latest":
        named |= set(config.versions)
    if not named:
        named.update([name for name in found if name != config.shadow][-1:])
    return [name for name in found if name in named or name == config.shadow]
