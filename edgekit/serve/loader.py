"""Brings what is loaded to what is on disk; what works stays until what is new does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from edgekit.errors import BundleError, EdgekitError
from edgekit.machine import resident
from edgekit.serve import folder, loading
from edgekit.serve.budget import NoRoomError, artifact_size, to_evict, told_size
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.ensemble import Ensemble, Models, load_ensemble
from edgekit.serve.entry import Entry, Version, wanted_versions
from edgekit.serve.folder import Found, version_order
from edgekit.serve.memory import return_memory
from edgekit.serve.model import Model, Servable
from edgekit.serve.shadow import Shadow

__all__ = ["Loader", "state"]

_log = logging.getLogger("edgekit.serve")


class Loader:
    """Loads and unloads versions.

    Args:
        config: of the server.
        entries: the models there are, by name.
        models: where ensembles ask theirs.
        spawn: runs a coroutine in a task that lives as long as the repository.
    """

    def __init__(
        self,
        config: ServerConfig,
        entries: Mapping[str, Entry],
        models: Models,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._config, self._entries, self._models = config, entries, models
        self._spawn = spawn
        self._loading = asyncio.Lock()

    async def bring(self, entry: Entry, scan: Callable[[], Mapping[str, Found]]) -> None:
        """Bring a model to what its configuration wants of what is on disk.

        Args:
            entry: of the model.
            scan: gives the versions that are on disk, oldest first; called in a thread.

        Raises:
            EdgekitError: a version cannot be loaded. What was loaded before stays.
        """
        config = self._config.of(entry.name)
        async with entry.lock:
            found = await asyncio.to_thread(scan)
            wanted = wanted_versions(found, config)
            if found and not wanted:
                raise BundleError(
                    f"none of its versions is to be loaded, it has {', '.join(found)}",
                    where=f"model {entry.name!r}",
                    fix="Name one of them in versions",
                )
            failed = [await self._try(entry, one, found[one], config) for one in wanted]
            if config.versions == "latest" and not entry.loaded:
                await self._fall_back(entry, found, wanted, config)
            entry.versions = dict(sorted(entry.versions.items(), key=_by_version))
            errors = [error for error in failed if error is not None]
            entry.evicted &= not entry.loaded and any(isinstance(e, NoRoomError) for e in errors)
            if errors:
                raise errors[-1]
            gone = [name for name in entry.versions if name not in wanted]
            await self.drop(entry, gone)
            for name in gone:
                if name not in found:
                    del entry.versions[name]

    async def drop(self, entry: Entry, names: list[str]) -> None:
        """Unload versions. They take no more requests from now on, and answer those they have."""
        taken = [entry.take(name) for name in names]
        await asyncio.gather(*(_closed(servable) for servable in taken if servable is not None))

    async def _fall_back(
        self, entry: Entry, found: Mapping[str, Found], tried: list[str], config: ModelConfig
    ) -> None:
        """The newest version does not work: load the newest that does."""
        for name in reversed([name for name in found if name not in tried]):
            if await self._try(entry, name, found[name], config) is None:
                return

    async def _try(
        self, entry: Entry, name: str, found: Found, config: ModelConfig
    ) -> EdgekitError | None:
        """Load a version unless it is; why it cannot be, or None."""
        version = entry.versions.setdefault(name, Version())
        old = version.servable
        if old is not None and version.found == found and not _problem(old):
            version.reason = ""
            return None
        new: Servable
        try:
            if found.is_ensemble:
                key = self._config.security.require_signature
                size = 0
                new = await load_ensemble(
                    entry.name, found.path, config, self._models, signed_by=key
                )
            else:
                new, size = await self._load_version(entry, name, found, config)
        except EdgekitError as error:
            version.reason = str(error)
            version.failures += 1
            return error
        except Exception as error:  # noqa: BLE001, whatever is in a file, the server goes on
            _log.exception("%s/%s: cannot be loaded", entry.name, name)
            fix = "Put it in place again, or see the server's log"
            failure = BundleError(f"cannot be read: {error}", where=str(found.path), fix=fix)
            version.reason = str(failure)
            version.failures += 1
            return failure
        version.servable, version.found, version.size, version.reason = new, found, size, ""
        version.loads += 1
        _log.info("%s/%s: loaded, %s", entry.name, name, new.platform)
        entry.shadow = self._shadow(entry, config)
        if old is not None:
            self._spawn(_closed(old))
        return None

    async def _load_version(
        self, entry: Entry, name: str, found: Found, config: ModelConfig
    ) -> tuple[Model, int]:
        """A version's bundle as a model, and the bytes that it takes."""
        version = entry.versions[name]
        async with self._loading:  # one at a time: memory is measured, and cores are few
            bundle = await asyncio.to_thread(loading.opened, found.path, self._config)
            config = loading.settled(bundle, config)
            least = artifact_size(loading.choose_artifact(bundle, config.runtime), config)
            took = version.size if version.found == found else 0  # when it was loaded last
            await self._make_room(entry, told_size(config) or max(least, took))
            before = resident()
            loaded = await asyncio.to_thread(
                loading.load, bundle, config, isolate=self._config.isolate
            )
            if folder.look(found.path) != found:
                await asyncio.to_thread(loaded.close)
                raise BundleError(
                    "was replaced while it was loaded", where=str(found.path), fix="Load it again"
                )
            model = loaded.model(entry.name, name, config)
            size = max(resident() - before, 0) + model.elsewhere
        # Memory that another model gave back may hold this one: then nothing grows.
        return model, told_size(config) or max(size, least, took)

    def _shadow(self, entry: Entry, config: ModelConfig) -> Shadow | None:
        if config.shadow is None:
            return None
        name = config.shadow
        return Shadow(name, config.priority_levels, lambda: entry.loaded.get(name), self._spawn)

    async def _make_room(self, entry: Entry, expected: int) -> None:
        """Unload what was not used for longest until ``expected`` more bytes fit the budget."""
        if self._config.memory_mb is None:
            return
        entries = self._entries.values()
        for oldest in to_evict(entries, entry, expected, self._config.memory_mb):
            async with oldest.lock:
                oldest.evicted = True
                await self.drop(oldest, list(oldest.versions))
            _log.info("%s: unloaded to make room", oldest.name)


def state(version: Version) -> dict[str, str]:
    """The state of a version and the reason for it, as the protocol's index has them."""
    if version.servable is None:
        return {"state": "UNAVAILABLE", "reason": version.reason or "unloaded"}
    why = _problem(version.servable)
    return {"state": "UNAVAILABLE" if why else "READY", "reason": version.reason or why}


def _problem(servable: Servable) -> str:
    """Why it cannot work although it is loaded; empty when it can."""
    return servable.problem if isinstance(servable, Ensemble) else ""


async def _closed(servable: Servable) -> None:
    await servable.close()
    await asyncio.to_thread(return_memory)


def _by_version(item: tuple[str, Version]) -> Any:
    return version_order(item[0])
