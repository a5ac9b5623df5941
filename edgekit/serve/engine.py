"""One served model: a session, one worker thread, a bounded queue and a canary."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.cache import cache_folder
from edgekit.errors import GateError, RuntimeUnavailableError
from edgekit.manifest import Artifact
from edgekit.runtimes import Session, SessionOptions
from edgekit.serve.protocol import ProtocolError
from edgekit.spec import Feeds, Outputs, TensorSpec, check_feeds
from edgekit.verify import Reference, unusable, verify_artifact

__all__ = ["Engine", "choose_artifact"]


_log = logging.getLogger("edgekit.serve")


class Engine:
    """Runs inferences one after the other, outside the event loop.

    Engines use all cores for one inference, so running two at once only makes both late; and not
    every session may be used by two threads.

    Args:
        bundle: an opened bundle.
        runtime: which runtime's artifact; None for the fastest one that this machine can run.
        options: how to load it; what the engine compiles is cached besides.
        queue: requests that may wait; one more is turned away.

    Raises:
        RuntimeUnavailableError: nothing in the bundle can be run here.
        GateError: the artifact does not compute here what it did when it was built.
    """

    def __init__(
        self, bundle: Bundle, *, runtime: str | None, options: SessionOptions, queue: int = 64
    ) -> None:
        self.artifact: Artifact = choose_artifact(bundle, runtime)
        self.inputs: tuple[TensorSpec, ...] = tuple(s.tensor for s in bundle.manifest.inputs)
        self.outputs: tuple[TensorSpec, ...] = tuple(s.tensor for s in bundle.manifest.outputs)
        self._session: Session = runtimes.require(self.artifact.runtime).load(
            bundle.file(self.artifact),
            replace(options, cache=cache_folder("engines")),
        )
        self._reference = _reference(bundle, self.artifact)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._waiting = 0
        self._queue = queue
        self._healthy = self._canary()
        if not self._healthy:
            raise GateError(
                "does not compute on this machine what it did when it was built",
                where=f"{bundle.path}, artifact {self.artifact.id}",
                fix="Run edgekit verify on it here, or serve another --runtime",
            )

    async def infer(self, feeds: Feeds) -> Outputs:
        """Queue one inference.

        Raises:
            SpecError: the feeds do not fit the model.
            ProtocolError: 503, too many requests are waiting.
        """
        check_feeds(self.inputs, feeds)
        if self._waiting >= self._queue:
            raise ProtocolError(f"{self._waiting} requests are waiting, try again", status=503)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._worker, self._session.run, feeds)
        except Exception:
            self._healthy = False  # until a canary shows that the engine still works
            raise
        finally:
            self._waiting -= 1

    async def ready(self) -> bool:
        """Whether inferences work: they did last time, or a canary does now."""
        if not self._healthy:
            loop = asyncio.get_running_loop()
            self._healthy = await loop.run_in_executor(self._worker, self._canary)
        return self._healthy

    def close(self) -> None:
        """Finish what is queued and release the engine."""
        self._worker.shutdown(wait=True)
        self._session.close()

    def _canary(self) -> bool:
        """Run what the bundle stores, one sample and two; the right output is stored, too."""
        try:
            record = verify_artifact(
                self.artifact.id, self.artifact.precision, self._session.run, self._reference
            )
        except Exception:  # noqa: BLE001, engines raise types of their own: all mean "broken"
            _log.exception("the canary inference failed")
            return False
        return record.passed


def choose_artifact(bundle: Bundle, runtime: str | None) -> Artifact:
    """The artifact to serve: of the named runtime, or of the fastest one usable here.

    Raises:
        RuntimeUnavailableError: there is none.
    """
    if runtime is not None:
        return bundle.selected(runtime, runtimes.require(runtime).status().gpu)
    reasons = []
    for decision in bundle.manifest.decisions:
        reason = unusable(decision.runtime, decision.target)
        if not reason:
            return bundle.manifest.artifact(decision.selected)
        reasons.append(f"{decision.runtime}: {reason}")
    for name in dict.fromkeys(decision.runtime for decision in bundle.manifest.decisions):
        if not unusable(name):  # no engine fits: raises, with the command that builds one
            return bundle.selected(name, runtimes.get(name).status().gpu)
    raise RuntimeUnavailableError(
        "; ".join(dict.fromkeys(reasons)) or "has no artifact",
        where=str(bundle.path),
        fix="Install one of these runtimes, or build the bundle for another",
    )


def _reference(bundle: Bundle, artifact: Artifact) -> Reference:
    if bundle.manifest.reference is None:
        return Reference([], [], [])
    stored = Reference.of(bundle, artifact).like_data()
    return Reference(stored.feeds[:2], stored.outputs[:2], stored.kinds[:2])
