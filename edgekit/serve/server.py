"""The daemon: bind first, load, serve until a signal, finish what is under way."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from edgekit.bundle import Bundle
from edgekit.errors import OutputError
from edgekit.runtimes import SessionOptions
from edgekit.serve.app import create_app
from edgekit.serve.docs import curl_command
from edgekit.serve.engine import Engine

__all__ = ["serve"]

#: Seconds that requests under way get to finish after SIGTERM or SIGINT.
_GRACE = 30


def serve(
    path: Path,
    *,
    runtime: str | None,
    host: str,
    port: int,
    options: SessionOptions,
    name: str | None,
    announce: Callable[[str], None],
) -> None:
    """Serve a bundle until SIGTERM or SIGINT.

    Args:
        path: the bundle.
        runtime: whose artifact; None for the fastest that this machine can run.
        host: address to bind.
        port: port to bind, 0 for a free one.
        options: how to load it.
        name: name of the model in the URLs; None for the one in the bundle.
        announce: called with a line for the operator once requests are answered.

    Raises:
        OutputError: the address cannot be bound.
        BundleError: the bundle is damaged.
        GateError: the artifact does not compute here what it should.
    """
    with _bound(host, port) as listener:
        bundle = Bundle.open(path)
        engine = Engine(bundle, runtime=runtime, options=options)
        model = name or bundle.manifest.name
        app = create_app(engine, model)
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=_GRACE, server_header=False
        )
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}"
        announce(f"Serving {model} ({engine.artifact.id}) at {url}, see {url}/docs")
        announce(f"Try: {curl_command(engine, model, url)}")
        uvicorn.Server(config).run(sockets=[listener])


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket. Bound before the model is loaded: a taken port is known at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise OutputError(
            "the port is in use" if taken else f"cannot be bound: {error.strerror or error}",
            where=f"{host}:{port}",
            fix="Choose another --port, or stop what uses it" if taken else "Check --host, --port",
        ) from error
    return listener
