"""The models that a server has: found in a folder, loaded, swapped, unloaded, and asked."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, EdgekitError
from edgekit.security.names import checked_name
from edgekit.serve import folder, loading
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.entry import Entry, Version, expected_size, told_size, wanted_versions
from edgekit.serve.errors import ServeError
from edgekit.serve.folder import Found, version_order
from edgekit.serve.memory import resident
from edgekit.serve.model import Inference, Model, Servable
from edgekit.spec import Feeds

__all__ = ["Repository"]

_log = logging.getLogger("edgekit.serve")

#: Seconds between two looks for engines that hang.
_WATCH_S = 1.0


class Repository:
    """The models below a path: one bundle, or a folder of them.

    All methods are for the event loop; loading happens in threads.

    Args:
        path: a bundle, or a folder as :mod:`edgekit.serve.folder` describes.
        config: of the server.
        name: of the model, where ``path`` is a bundle; None for the bundle's own.
    """

    def __init__(self, path: Path, config: ServerConfig, name: str | None = None) -> None:
        self.path, self.config = path, config
        self.entries: dict[str, Entry] = {}
        self._single = folder.look(path) is not None or not path.is_dir()
        self._name = name
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._started = False

    async def start(self) -> None:
        """Load what the configuration says, then look after it until :meth:`close`.

        Raises:
            EdgekitError: the one bundle cannot be served, or the folder cannot be read. What is
                wrong with a bundle in a folder is logged and told by :meth:`index`.
        """
        if self._started:
            return
        self._started = True
        if self._single:
            if self._name is None:
                self._name = (await asyncio.to_thread(self._open, self.path)).manifest.name
            await self._load(self._entry(self._name))
        else:
            found = await asyncio.to_thread(self._scan)
            wanted = self.config.load if self.config.explicit else tuple(found)
            for name in wanted:
                await self._try_load(name)
        self._spawn(self._watch())
        if self.config.poll_s and not self.config.explicit:
            self._spawn(self._poll())

    @property
    def pending(self) -> int:
        """Requests that were taken and are not answered yet."""
        return sum(servable.statistics.pending for servable in self.servables())

    def refuse(self) -> None:
        """Take no more requests, and say to be not ready; what is under way goes on."""
        self._closing = True

    def kill(self) -> None:
        """End all engines that have processes of their own at once."""
        for servable in self.servables():
            if isinstance(servable, Model):
                servable.kill()

    async def close(self) -> None:
        """Answer what is under way, then unload everything."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        servables = [s for entry in self.entries.values() for s in entry.loaded.values()]
        await asyncio.gather(*(servable.close() for servable in servables))

    def known(self, name: str, version: str | None = None) -> Entry:
        """The entry of a model, whether it is loaded or not.

        Raises:
            ServeError: 404, there is no such model or version.
        """
        entry = self.entries.get(name)
        if entry is None:
            known = ", ".join(self.entries) or "none"
            raise ServeError(f"unknown model {name[:80]!r}, this server has {known}", status=404)
        if version and version not in entry.versions:
            known = ", ".join(entry.versions) or "none"
            what = f"unknown version {version[:80]!r} of {name!r}, it has {known}"
            raise ServeError(what, status=404)
        return entry

    def find(self, name: str, version: str | None = None) -> Servable:
        """The loaded version of a model: the newest, or one by its weight, where none is named.

        Raises:
            ServeError: 404, there is no such model or version; 503, it is not loaded.
        """
        entry = self.known(name, version)
        entry.used = time.monotonic()
        loaded = entry.loaded
        if version:
            if version not in loaded:
                raise self._not_loaded(entry, version)
            return loaded[version]
        if not loaded:
            raise self._not_loaded(entry, next(reversed(entry.versions), ""))
        weights = self.config.of(name).weights
        shares = [weights.get(one, 0.0) for one in loaded] if weights else []
        if not any(shares):
            return next(reversed(loaded.values()))
        return random.choices([*loaded.values()], shares)[0]  # noqa: S311, chance is all it is for

    def _not_loaded(self, entry: Entry, version: str) -> ServeError:
        reason = entry.versions[version].reason if version in entry.versions else ""
        what = reason or "load it with the repository API"
        return ServeError(f"model {entry.name!r} is not loaded: {what}", status=503)

    async def infer(
        self,
        name: str,
        version: str | None,
        feeds: Feeds,
        *,
        deadline: float | None = None,
        priority: int = 0,
    ) -> Inference:
        """Compute one request on the model of that name; see :meth:`Servable.infer`.

        Raises:
            SpecError: the feeds do not fit the model.
            ServeError: it cannot be answered.
        """
        if self._closing:
            raise ServeError("the server is stopping", status=503, retry_after=1.0)
        if self.known(name, version).evicted:
            await self.load(name)
        return await self.find(name, version).infer(feeds, deadline=deadline, priority=priority)

    async def ready(self) -> bool:
        """Whether every model that should work does."""
        wanted = [entry for entry in self.entries.values() if not (entry.unloaded or entry.evicted)]
        if self._closing or not all(entry.loaded for entry in wanted):
            return False
        checks = [s.ready() for entry in wanted for s in entry.loaded.values()]
        return all(await asyncio.gather(*checks))

    def index(self) -> list[dict[str, Any]]:
        """Every version of every model with its state, as the protocol's repository index."""
        return [
            {
                "name": entry.name,
                "version": name,
                "state": "READY" if version.servable else "UNAVAILABLE",
                "reason": version.reason or ("unloaded" if version.servable is None else ""),
            }
            for entry in self.entries.values()
            for name, version in entry.versions.items()
        ]

    def servables(self) -> Iterator[Servable]:
        """Everything that is loaded."""
        for entry in self.entries.values():
            yield from entry.loaded.values()

    async def load(self, name: str) -> None:
        """Load a model, or what is new of it. Until that works, what was loaded before serves on.

        Raises:
            ServeError: 404, there is no such model; 400, it cannot be loaded, and why.
        """
        if checked_name(name) not in await asyncio.to_thread(self._scan):
            raise ServeError(f"there is no model {name!r} in the repository", status=404)
        entry = self._entry(name)
        try:
            await self._load(entry)
        except EdgekitError as error:
            raise ServeError(f"{name!r} cannot be loaded: {error}") from error
        entry.unloaded = False

    async def unload(self, name: str) -> None:
        """Unload all versions of a model, after their last answers.

        Raises:
            ServeError: 404, there is no such model.
        """
        if name not in self.entries:
            raise ServeError(f"there is no model {name!r} in the repository", status=404)
        entry = self.entries[name]
        entry.unloaded = True
        async with entry.lock:
            await self._drop(entry, list(entry.versions))

    def _entry(self, name: str) -> Entry:
        return self.entries.setdefault(name, Entry(name))

    def _open(self, path: Path) -> Bundle:
        return Bundle.open(path, signed_by=self.config.security.require_signature)

    def _scan(self) -> dict[str, dict[str, Found]]:
        if not self._single:
            return folder.scan(self.path)
        found = folder.look(self.path)
        return {} if found is None or self._name is None else {self._name: {"1": found}}

    async def _load(self, entry: Entry) -> None:
        """Bring an entry to what its configuration wants of what is on disk."""
        config = self.config.of(entry.name)
        async with entry.lock:
            found = (await asyncio.to_thread(self._scan)).get(entry.name, {})
            if self._single and not found:
                await asyncio.to_thread(self._open, self.path)  # raises, and says what is wrong
            wanted = wanted_versions(found, config)
            failed: EdgekitError | None = None
            for name in wanted:
                version = entry.versions.setdefault(name, Version())
                if version.servable is not None and version.found == found[name]:
                    continue
                try:
                    await self._load_version(entry, name, found[name], config)
                except EdgekitError as error:
                    version.reason = str(error)
                    version.failures += 1
                    failed = error
            entry.versions = dict(sorted(entry.versions.items(), key=_by_version))
            entry.evicted = False
            if failed is not None:
                raise failed  # what was loaded before stays
            gone = [name for name in entry.versions if name not in wanted]
            await self._drop(entry, gone)
            for name in gone:
                if name not in found:
                    del entry.versions[name]

    async def _load_version(
        self, entry: Entry, name: str, found: Found, config: ModelConfig
    ) -> None:
        async with self._loading:  # one at a time: memory is measured, and cores are few
            expected = expected_size(found, config)
            await self._make_room(entry, expected)
            before = resident()
            bundle = await asyncio.to_thread(self._open, found.path)
            loaded = await asyncio.to_thread(
                loading.load, bundle, config, isolate=self.config.isolate
            )
            model = loaded.model(entry.name, name, config)
            size = max(resident() - before, 0) + model.elsewhere
        version = entry.versions[name]
        old, version.servable = version.servable, model
        version.found, version.reason, version.size = found, "", told_size(config) or size
        version.loads += 1
        _log.info("%s/%s: loaded %s", entry.name, name, model.artifact.id)
        if old is not None:
            self._spawn(_closed(old))

    async def _make_room(self, entry: Entry, expected: int) -> None:
        """Unload what was not used for longest until ``expected`` more bytes fit the budget."""
        budget = self.config.memory_mb
        if budget is None:
            return
        limit = budget * 2**20
        others = sorted(
            (e for e in self.entries.values() if e is not entry and e.loaded), key=_last_used
        )
        while expected + self.size > limit and others:
            oldest = others.pop(0)
            async with oldest.lock:
                oldest.evicted = True
                await self._drop(oldest, list(oldest.versions))
            _log.info("%s: unloaded to make room", oldest.name)
        if expected + self.size > limit:
            raise BundleError(
                f"needs about {expected / 2**20:.0f} MB, the budget of {budget} MB has "
                f"{(limit - self.size) / 2**20:.0f} MB left",
                where=f"model {entry.name!r}",
                fix="Raise memory_mb",
            )

    @property
    def size(self) -> int:
        """Bytes that all loaded models take."""
        versions = [v for entry in self.entries.values() for v in entry.versions.values()]
        return sum(version.size for version in versions if version.servable is not None)

    async def _drop(self, entry: Entry, names: list[str]) -> None:
        """Unload versions. They take no more requests from now on, and answer those they have."""
        servables = []
        for name in names:
            version = entry.versions[name]
            if version.servable is not None:
                servables.append(version.servable)
            version.servable = version.found = None
            version.size = 0
        await asyncio.gather(*(_closed(servable) for servable in servables))

    async def _try_load(self, name: str) -> None:
        try:
            await self._load(self._entry(name))
        except EdgekitError as error:
            _log.error("%s: cannot be loaded: %s", name, error)

    async def _poll(self) -> None:
        """Follow the folder: load what is new, swap what was replaced, unload what is gone."""
        seen = await asyncio.to_thread(self._scan)
        while True:
            await asyncio.sleep(self.config.poll_s)
            try:
                found = await asyncio.to_thread(self._scan)
            except EdgekitError as error:
                _log.warning("the repository cannot be read: %s", error)
                continue
            for name in {*seen, *found}:
                entry = self.entries.get(name)
                if seen.get(name) == found.get(name) or (entry and entry.unloaded):
                    continue
                await self._try_load(name)
                if name not in found and not self.entries[name].versions:
                    del self.entries[name]
            seen = found

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            for servable in self.servables():
                if isinstance(servable, Model):
                    servable.watch()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _closed(servable: Servable) -> None:
    await servable.close()
    await asyncio.to_thread(loading.return_memory)


def _by_version(item: tuple[str, Version]) -> Any:
    return version_order(item[0])


def _last_used(entry: Entry) -> float:
    return entry.used
