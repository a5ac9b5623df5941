"""The daemon: bind first, load, serve until a signal, finish what is under way."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from edgekit.errors import OutputError, SecurityError
from edgekit.security.bind import in_url
from edgekit.security.guard import Guard
from edgekit.security.protection import Protection
from edgekit.serve import logs
from edgekit.serve.app import create_app
from edgekit.serve.config import ServerConfig
from edgekit.serve.docs import curl_command
from edgekit.serve.http_protocol import Protocol
from edgekit.serve.recording import Records
from edgekit.serve.repository import Repository

if TYPE_CHECKING:
    import ssl

    from edgekit.serve.grpc_server import GrpcServer

__all__ = ["bound", "serve"]

_log = logging.getLogger("edgekit.serve")

#: Seconds between two looks whether everything is answered.
_DRAIN_STEP = 0.02

#: Seconds that gRPC gets to send what was answered, after nothing is pending any more.
_LAST_ANSWERS = 1.0

#: Seconds for which the event loop may keep the interpreter from an engine's thread that has
#: finished. With Python's own 5 ms engines stand still between batches: a sixth of the throughput.
_SWITCH_S = 1e-4


def serve(
    path: Path,
    *,
    host: str,
    port: int,
    grpc_port: int | None,
    config: ServerConfig,
    name: str | None,
    announce: Callable[[str], None],
) -> None:
    """Serve a bundle, or a folder of bundles, until SIGTERM or SIGINT.

    Args:
        path: the bundle or the folder.
        host: address to bind.
        port: port to bind, 0 for a free one.
        grpc_port: the same for gRPC; None for no gRPC.
        config: of the server and its models.
        name: name of the one bundle in the URLs; None for the one in the bundle.
        announce: called with a line for the operator once requests are answered.

    Raises:
        SecurityError: tokens or certificates are wrong, or missing for that address.
        OutputError: the address cannot be bound.
        BundleError: the bundle is damaged.
        GateError: the artifact does not compute here what it should.
    """
    protection = Protection.of(config.security, host)
    logs.configure(config.log_format, access=config.access_log)
    if config.log_format == "json":
        announce = _log.info
    sys.setswitchinterval(_SWITCH_S)
    with bound(host, port) as listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(path, listener, host, grpc_port, config, name, protection, announce))


async def _serve(
    path: Path,
    listener: socket.socket,
    host: str,
    grpc_port: int | None,
    config: ServerConfig,
    name: str | None,
    protection: Protection,
    announce: Callable[[str], None],
) -> None:
    if grpc_port is not None:  # known before models are loaded
        bound(host, grpc_port, "--grpc-port").close()
    repository = Repository(path, config, name)
    await repository.start()
    guarded = Guard(
        create_app(repository, config), access=protection.access, hosts=protection.hosts
    )
    records = Records(config)
    app = records.around(guarded)
    shown = in_url(host)
    url = f"http{'s' if protection.tls else ''}://{shown}:{listener.getsockname()[1]}"
    over_grpc = None
    if grpc_port is not None:
        over_grpc = await _started_grpc(
            repository, host, grpc_port, config, protection, records.grpc_interceptors()
        )
    grpc_address = f"{shown}:{over_grpc.port}" if over_grpc else None
    for line in _greeting(repository, url, grpc_address, protection):
        announce(line)
    # What is loaded by now stays: the collector need not look at it at every turn.
    gc.collect()
    gc.freeze()
    settings = uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=int(config.drain_s) + 1,
        **({} if protection.tls is None else protection.tls.uvicorn()),
    )
    settings.load()
    if config.security.tokens is not None or protection.tls is not None:
        _reload_on_hangup(protection, settings.ssl)
    await _Server(settings, repository, records, over_grpc).serve(sockets=[listener])


def _reload_on_hangup(protection: Protection, context: ssl.SSLContext | None) -> None:
    """As daemons do: SIGHUP reads what may change while they run, here tokens and certificates."""

    def reload() -> None:
        try:
            protection.reload(context)
        except SecurityError as error:
            _log.error("tokens and certificates stay as they were: %s", error)
        else:
            _log.warning("tokens and certificates were read again")

    if hasattr(signal, "SIGHUP"):  # Windows has none
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


async def _started_grpc(
    repository: Repository,
    host: str,
    port: int,
    config: ServerConfig,
    protection: Protection,
    observers: list[Any],
) -> GrpcServer:
    # gRPC's core would tell on stderr what is told by us; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from edgekit.serve.grpc_server import start_grpc  # takes memory that few servers need

    return await start_grpc(
        repository,
        host,
        port,
        limit=int(config.max_body_mb * 2**20),
        credentials=protection.grpc_credentials(),
        interceptors=[*observers, *protection.grpc_interceptors()],
    )


def _greeting(
    repository: Repository, url: str, grpc: str | None, protection: Protection
) -> list[str]:
    models = list(repository.servables())
    listed = ", ".join(f"{model.name} ({model.platform})" for model in models) or "no model yet"
    too = f" and gRPC at {grpc}" if grpc else ""
    lines = [f"Serving {listed} at {url}{too}, see {url}/docs"]
    if protection.warning:
        lines.append(f"Warning: {protection.warning}")
    if models and protection.access is None and protection.tls is None:
        lines.append(f"Try: {curl_command(models[0], url)}")
    return lines


class _Server(uvicorn.Server):
    """Answers 503 from the signal on until everything that was taken is answered, then ends."""

    def __init__(
        self,
        config: uvicorn.Config,
        repository: Repository,
        records: Records,
        over_grpc: GrpcServer | None,
    ) -> None:
        super().__init__(config)
        self._repository = repository
        self._records = records
        self._over_grpc = over_grpc
        self._loop = asyncio.get_running_loop()
        self._signalled = False
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal drains, a second one ends at once."""
        if self._signalled:
            super().handle_exit(sig, frame)
            self.force_exit = True
            return
        self._signalled = True
        self._loop.call_soon_threadsafe(self._start_drain, sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The end of the server; ``uvicorn`` raises the signal again after it."""
        if self._over_grpc is not None:
            await self._over_grpc.stop(0 if self.force_exit else _LAST_ANSWERS)
        await super().shutdown(sockets)
        await self._records.close()
        if self.force_exit:
            self._repository.kill()

    def _start_drain(self, sig: int, frame: FrameType | None) -> None:
        self._draining = self._loop.create_task(self._drain(sig, frame))

    async def _drain(self, sig: int, frame: FrameType | None) -> None:
        self._repository.refuse()
        end = self._loop.time() + self._repository.config.drain_s
        while self._repository.pending and self._loop.time() < end:
            await asyncio.sleep(_DRAIN_STEP)
        super().handle_exit(sig, frame)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ModuleNotFoundError:  # it does not exist for Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def bound(host: str, port: int, option: str = "--port") -> socket.socket:
    """A listening socket. Bound before the model is loaded: a taken port is known at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise OutputError(
            "the port is in use" if taken else f"cannot be bound: {error.strerror or error}",
            where=f"{host}:{port}",
            fix=f"Choose another {option}, or stop what uses it"
            if taken
            else f"Check --host, {option}",
        ) from error
    return listener
