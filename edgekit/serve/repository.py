"""The models that a server has: found in a folder, loaded, swapped, unloaded, and asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgekit.errors import EdgekitError
from edgekit.security.names import checked_name
from edgekit.serve import folder
from edgekit.serve.budget import loaded_size
from edgekit.serve.config import ServerConfig
from edgekit.serve.ensemble import Ensemble, members, users
from edgekit.serve.entry import Entry
from edgekit.serve.errors import ServeError
from edgekit.serve.folder import Found
from edgekit.serve.loader import Loader, state
from edgekit.serve.loading import opened
from edgekit.serve.memory import keep_large_blocks_apart, trim
from edgekit.serve.model import Inference, Model, Servable
from edgekit.serve.routing import choose
from edgekit.spec import Feeds

__all__ = ["Repository"]

_log = logging.getLogger("edgekit.serve")

#: Seconds between two looks for engines that hang.
_WATCH_S = 1.0
#: Seconds after which the memory of a burst is given back.
_TRIM_S = 30.0

_T = TypeVar("_T")


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
        self._loader = Loader(config, self.entries, self, self._spawn)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waking = 0
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
        keep_large_blocks_apart()
        if self._single and self._name is None:
            self._name = (await asyncio.to_thread(opened, self.path, self.config)).manifest.name
        found = await asyncio.to_thread(self._scan)
        if self._single and self._name is not None:
            await self._load(self._entry(self._name))
        else:
            wanted = self.config.load if self.config.explicit else tuple(found)
            for name in wanted:
                await self._try_load(name)
        self._spawn(self._watch())
        self._spawn(_trim_often())
        if self.config.poll_s and not self.config.explicit:
            self._spawn(self._poll(found))

    @property
    def pending(self) -> int:
        """Requests that were taken and are not answered yet."""
        return self._waking + sum(s.statistics.pending for s in self.servables())

    @property
    def size(self) -> int:
        """Bytes that all loaded models take."""
        return loaded_size(self.entries.values())

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
        models = list(self.servables())
        ensembles = [one for one in models if isinstance(one, Ensemble)]
        await asyncio.gather(*(one.close() for one in ensembles))  # they still ask their models
        await asyncio.gather(*(one.close() for one in models))

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

    def find(self, name: str, version: str | None = None, session: str | None = None) -> Servable:
        """The loaded version of a model: the newest, or one by its weight, where none is named.

        Args:
            name: of the model.
            version: of it; None for any but the shadow.
            session: requests of one get the same version, see :mod:`edgekit.serve.routing`.

        Raises:
            ServeError: 404, there is no such model or version; 503, it is not loaded.
        """
        entry = self.known(name, version)
        loaded = entry.loaded
        if not version:
            config = self.config.of(name)
            able = [one for one in loaded if one != config.shadow]
            if not able:
                raise self._not_loaded(entry, next(reversed(entry.versions), ""))
            version = choose(able, config.weights, session)
        if version not in loaded:
            raise self._not_loaded(entry, version)
        return loaded[version]

    async def at_hand(
        self,
        name: str,
        version: str | None = None,
        session: str | None = None,
        deadline: float | None = None,
    ) -> Servable:
        """The same; a model that was unloaded to make room is loaded again, for all who wait.

        Raises:
            ServeError: as :meth:`find`; 503, it cannot be loaded; 504, the deadline passed.
        """
        entry = self.known(name, version)
        entry.used = time.monotonic()
        while entry.evicted:
            self._waking += 1
            try:
                await self._awake(entry, deadline)
            finally:
                self._waking -= 1
        return self.find(name, version, session)

    async def _awake(self, entry: Entry, deadline: float | None) -> None:
        if entry.waking is None:
            entry.waking = self._spawn(self._wake(entry))
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            error = await asyncio.wait_for(asyncio.shield(entry.waking), left)
        except TimeoutError:
            what = f"the deadline passed while model {entry.name!r} was loaded"
            raise ServeError(what, status=504) from None
        if error is not None:
            what = f"model {entry.name!r} is not loaded: {error}"
            raise ServeError(what, status=503) from error

    async def _wake(self, entry: Entry) -> EdgekitError | None:
        try:
            await self._load(entry)
        except EdgekitError as error:
            return error
        finally:
            entry.waking = None
        return None

    def _not_loaded(self, entry: Entry, version: str) -> ServeError:
        reason = entry.versions[version].reason if version in entry.versions else ""
        evicted = "it made room for others, the next inference loads it"
        what = reason or (evicted if entry.evicted else "load it with the repository API")
        return ServeError(f"model {entry.name!r} is not loaded: {what}", status=503)

    async def infer(
        self,
        name: str,
        version: str | None,
        feeds: Feeds,
        *,
        deadline: float | None = None,
        priority: int = 0,
        session: str | None = None,
    ) -> Inference:
        """Compute one request on the model of that name; see :meth:`Servable.infer`.

        Raises:
            SpecError: the feeds do not fit the model.
            ServeError: it cannot be answered.
        """
        if self._closing:
            raise ServeError("the server is stopping", status=503, retry_after=1.0)
        return await self.compute(
            name, version, feeds, deadline=deadline, priority=priority, session=session
        )

    async def compute(
        self,
        name: str,
        version: str | None,
        feeds: Feeds,
        *,
        deadline: float | None = None,
        priority: int = 0,
        session: str | None = None,
    ) -> Inference:
        """The same for a part of what was taken already: goes on while the server is stopping."""
        servable = await self.at_hand(name, version, session, deadline)
        inference = await servable.infer(feeds, deadline=deadline, priority=priority)
        entry = self.entries.get(name)
        if not version and entry is not None and entry.shadow is not None:
            entry.shadow.send(feeds, inference)
        return inference

    async def ready(self) -> bool:
        """Whether every model that should work does."""
        wanted = [entry for entry in self.entries.values() if not (entry.unloaded or entry.evicted)]
        if self._closing or not all(entry.loaded for entry in wanted):
            return False
        checks = [s.ready() for entry in wanted for s in entry.loaded.values()]
        return all(await asyncio.gather(*checks))

    def index(self, *, ready: bool = False) -> list[dict[str, Any]]:
        """Every version of every model with its state, as the protocol's repository index.

        Args:
            ready: only those that can be asked.
        """
        listed = [
            {"name": entry.name, "version": name, **state(version)}
            for entry in self.entries.values()
            for name, version in entry.versions.items()
        ]
        return [one for one in listed if not ready or one["state"] == "READY"]

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
        finally:
            entry.unloaded = entry.unloaded and not entry.loaded

    async def present(self, name: str, version: str | None = None) -> Servable:
        """A model for an ensemble; loads it where it is not.

        Raises:
            ServeError: there is no such model or version, it is an ensemble itself, or it cannot
                be loaded.
        """
        found = (await asyncio.to_thread(self._scan)).get(name, {})
        if any(one.is_ensemble for one in found.values()):
            raise ServeError(f"{name!r} is an ensemble itself, name its models instead")
        entry = self.entries.get(name)
        if entry is None or not (entry.loaded or entry.evicted):
            await self.load(name)
        return await self.at_hand(name, version, session="")

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Unload all versions of a model, after their last answers.

        Args:
            name: of the model.
            dependents: also unload the ensembles that need it; and where it is an ensemble itself,
                the models that it needs and no other ensemble does.

        Raises:
            ServeError: 404, there is no such model; 409, an ensemble needs it.
        """
        if name not in self.entries:
            raise ServeError(f"there is no model {name!r} in the repository", status=404)
        needing = users(self.entries.values(), name)
        if needing and not dependents:
            listed = ", ".join(needing)
            what = f"{name!r} is needed by the ensemble {listed}: unload that, or unload_dependents"
            raise ServeError(what, status=409)
        needed = sorted(members(self.entries[name])) if dependents else []
        for one in (*needing, name):
            await self._unload(self.entries[one])
        for one in needed:
            if one in self.entries and not users(self.entries.values(), one):
                await self._unload(self.entries[one])

    async def _unload(self, entry: Entry) -> None:
        entry.unloaded = True
        async with entry.lock:
            entry.evicted = False
            await self._loader.drop(entry, list(entry.versions))

    def _entry(self, name: str) -> Entry:
        return self.entries.setdefault(name, Entry(name))

    def _found(self, name: str) -> Mapping[str, Found]:
        found = self._scan().get(name, {})
        if self._single and not found:
            opened(self.path, self.config)  # raises, and says what is wrong
        return found

    def _scan(self) -> dict[str, dict[str, Found]]:
        if not self._single:
            return folder.scan(self.path)
        found = folder.look(self.path)
        return {} if found is None or self._name is None else {self._name: {"1": found}}

    async def _load(self, entry: Entry) -> None:
        """Bring an entry to what its configuration wants of what is on disk."""
        await self._loader.bring(entry, lambda: self._found(entry.name))

    async def _try_load(self, name: str) -> None:
        try:
            await self._load(self._entry(name))
        except EdgekitError as error:
            _log.error("%s: cannot be loaded: %s", name, error)

    async def _poll(self, seen: folder.Models) -> None:
        """Follow the folder: load what is new, swap what was replaced, unload what is gone."""
        while True:
            await asyncio.sleep(self.config.poll_s)
            try:
                found = await asyncio.to_thread(self._scan)
            except EdgekitError as error:
                _log.warning("the repository cannot be read: %s", error)
                continue
            for name in folder.to_follow(seen, found):
                entry = self.entries.get(name)
                if entry and entry.unloaded:
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

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _trim_often() -> None:
    while True:
        await asyncio.sleep(_TRIM_S)
        await asyncio.to_thread(trim)
