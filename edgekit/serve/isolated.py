"""An engine in a process of its own: what crashes or hangs there does not take the server along."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import pickle
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import runtimes
from edgekit.errors import EdgekitError, RuntimeUnavailableError
from edgekit.runtimes import Session, SessionOptions
from edgekit.serve.errors import ServeError
from edgekit.spec import Array, Feeds, Outputs

__all__ = ["IsolatedSession"]

#: Seconds until a client that was answered 503 may find the engine started again.
_RESTART_S = 1.0

#: Seconds that an engine gets to load.
_LOAD_LIMIT = 300.0


class IsolatedSession(Session):
    """A session whose engine runs in another process, started again when that dies.

    Tensors go through a pipe: two copies each way, about a millisecond for every 5 MB.

    Args:
        runtime: name of the runtime.
        artifact: the file it loads.
        options: how to load it.

    Raises:
        RuntimeUnavailableError: the engine refuses the artifact.
    """

    def __init__(self, runtime: str, artifact: Path, options: SessionOptions) -> None:
        self._what = (runtime, artifact, options)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False
        self._since: float | None = None
        self.restarts = -1
        self.inputs, self.outputs = self._start()

    @property
    def pid(self) -> int | None:
        """The process of the engine."""
        return self._process.pid if self._process else None

    @property
    def busy_s(self) -> float:
        """For how long the engine is at an inference; loading and starting again do not count."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def kill(self) -> None:
        """End the engine's process at once; the run under way fails. From any thread."""
        if self._process is not None:
            self._process.kill()

    def _start(self) -> tuple[Any, Any]:
        context = multiprocessing.get_context("spawn")
        own, other = context.Pipe()
        process = context.Process(target=_engine, args=(other, *self._what), daemon=True)
        process.start()
        other.close()
        self._process, self._pipe = process, own
        self.restarts += 1
        if not own.poll(_LOAD_LIMIT):
            self.kill()
        answer = self._answer()
        if isinstance(answer, EdgekitError):
            self._stop()
            raise answer
        return answer  # type: ignore[no-any-return]

    def _answer(self) -> Any:
        assert self._pipe is not None
        try:
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error

    def _died(self) -> ServeError:
        process = self._process
        self._stop()
        code = process.exitcode if process else None
        how = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        return ServeError(
            f"the engine's process ended with {how} and is started again",
            status=503,
            retry_after=_RESTART_S,
        )

    def _run(self, feeds: Feeds) -> Outputs:
        if self._pipe is None and not self._closed:
            self._start()
        pipe = self._pipe
        if pipe is None:
            raise RuntimeUnavailableError("the session is closed", fix="Load the artifact again")
        self._since = time.monotonic()
        try:
            answer = self._exchange(pipe, feeds)
        finally:
            self._since = None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _exchange(self, pipe: Connection, feeds: Feeds) -> Outputs | Exception:
        try:
            _send(pipe, dict(feeds))
            answer: Outputs | Exception = _receive(pipe)
        except (EOFError, OSError) as error:
            raise self._died() from error
        return answer

    def _stop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None

    def _release(self) -> None:
        self._closed = True
        self._stop()


def _engine(pipe: Connection, runtime: str, artifact: Path, options: SessionOptions) -> None:
    """The other process. Ends when the pipe does, so it never outlives the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which drains
    try:
        session = runtimes.require(runtime).load(artifact, options)
    except EdgekitError as error:
        pipe.send(RuntimeUnavailableError(str(error)))
        return
    pipe.send((session.inputs, session.outputs))
    while True:
        try:
            feeds = _receive(pipe)
        except EOFError:
            return
        try:
            answer: Any = session.run(feeds)
        except Exception as error:  # noqa: BLE001, engines raise types of their own
            answer = EdgekitError(f"{type(error).__name__}: {error}")
        _send(pipe, answer)


def _send(pipe: Connection, value: dict[str, Array] | Exception) -> None:
    """Pickled between two processes of our own, with the arrays' memory beside it."""
    buffers: list[pickle.PickleBuffer] = []
    if isinstance(value, dict):
        value = {name: np.ascontiguousarray(array) for name, array in value.items()}
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    pipe.send_bytes(len(buffers).to_bytes(4, "little") + head)
    for buffer in buffers:
        pipe.send_bytes(buffer.raw())


def _receive(pipe: Connection) -> Any:
    message = pipe.recv_bytes()
    count = int.from_bytes(message[:4], "little")
    buffers = [pipe.recv_bytes() for _ in range(count)]
    return pickle.loads(message[4:], buffers=buffers)  # noqa: S301, from our own process
