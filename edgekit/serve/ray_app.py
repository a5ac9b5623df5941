"""The server as a Ray Serve application: replicas on one machine or many, behind Ray's proxy.

Every replica is a whole server with its own repository; Ray's proxy takes the requests, gives each
to a replica that has room, and starts a new replica where one dies. What a replica had taken when
it died is answered 500 by the proxy: inferences change nothing, so a client asks again, as
:class:`edgekit.client.Client` does.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Ray tells its makers about every cluster otherwise; it reads this when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import serve as ray_serve

from edgekit.errors import RuntimeUnavailableError
from edgekit.security.bind import in_url
from edgekit.security.guard import Guard
from edgekit.security.protection import Protection
from edgekit.serve.app import create_app
from edgekit.serve.config import ConfigError, ServerConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.http_errors import answer_error
from edgekit.serve.loading import opened
from edgekit.serve.repository import Repository
from edgekit.serve.server import bound

__all__ = ["NAME", "application", "serve"]

#: Of the application in the cluster.
NAME = "edgekit"

#: Bytes of Ray's object store, its least: requests do not pass through it.
_STORE = 80 * 2**20
#: How often a replica may fail to start before the deployment has failed.
_STARTS = 2
#: Seconds that Ray gets to end a replica that has drained.
_END_S = 5


class Replica:
    """One server of the application; Ray makes it, in a process of its own."""

    def __init__(self, path: Path, config: ServerConfig, name: str | None, host: str) -> None:
        self._repository = Repository(path, config, name)
        self._config = config
        self._protection = Protection.of(config.security, host)

    def __serve_build_asgi_app__(self) -> Any:
        app = create_app(self._repository, self._config)

        async def one_of_many(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"].startswith("/v2/repository/models/"):
                error = ServeError(
                    "one replica cannot load or unload for all: change the folder, which they "
                    "all follow",
                    status=501,
                )
                await answer_error(send, error, f"{scope['method']} {scope['path']}")
                return
            await app(scope, receive, send)

        protection = self._protection
        return Guard(one_of_many, access=protection.access, hosts=protection.hosts)

    async def check_health(self) -> None:
        """Ray replaces a replica for which this raises."""
        if not await self._repository.ready():
            raise ServeError("an engine does not answer", status=503)


def application(path: Path, config: ServerConfig, name: str | None, host: str) -> Any:
    """The application for ``ray.serve.run``.

    Args:
        path: a bundle or a folder of bundles, on every machine of the cluster.
        config: of the server and its models; its ``ray`` says how many replicas.
        name: of the one bundle, None for its own.
        host: address that Ray's proxy binds.

    Raises:
        ConfigError: models would be loaded by the API, which reaches one replica only.
    """
    if config.explicit:
        raise ConfigError(
            "explicit: the API would load a model in one replica only",
            where="edgekit serve --ray",
            fix="Drop explicit: the replicas follow the folder",
        )
    wanted = config.ray
    options: dict[str, Any] = {"num_replicas": wanted.replicas}
    if wanted.max_replicas is not None:
        options = {
            "autoscaling_config": {
                "min_replicas": wanted.replicas,
                "max_replicas": wanted.max_replicas,
                "target_ongoing_requests": wanted.target_requests,
            }
        }
    deployment = ray_serve.deployment(
        name=NAME,
        max_ongoing_requests=wanted.max_requests,
        graceful_shutdown_timeout_s=config.drain_s,
        max_constructor_retry_count=_STARTS,
        health_check_period_s=wanted.health_s,
        ray_actor_options={"num_cpus": wanted.cpus},
        **options,
    )(ray_serve.ingress()(Replica))
    return deployment.bind(path.resolve(), config, name, host)


def _certificates(config: ServerConfig) -> dict[str, str]:
    """The server's, as Ray's proxy wants them."""
    cert, key = config.security.tls_cert, config.security.tls_key
    return {} if cert is None else {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}


def _shut_down(drain_s: float) -> None:
    """End the application, then Ray.

    Not for ever: systemd stops all processes of a service at once, and then Ray waits for minutes
    for those that are gone.
    """
    ending = threading.Thread(target=ray_serve.shutdown, daemon=True)
    ending.start()
    ending.join(drain_s + _END_S)
    ray.shutdown()


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
    """Serve under Ray until SIGTERM or SIGINT; see :func:`edgekit.serve.server.serve`.

    A cluster that ``RAY_ADDRESS`` names is joined, else one is started on this machine and ends
    with this call.

    Raises:
        ConfigError: the configuration does not fit replicas, or gRPC is asked for.
        BundleError: the bundle is damaged.
        SecurityError: tokens or certificates are wrong, or missing for that address.
        OutputError: the address cannot be bound.
        RuntimeUnavailableError: a replica cannot start.
    """
    if grpc_port is not None:
        raise ConfigError(
            "Ray's proxy has no Open Inference Protocol over gRPC",
            where="edgekit serve --ray",
            fix="Drop --grpc-port, or --ray",
        )
    if not path.is_dir() or (path / "bundle.json").exists():
        opened(path, config)  # what is wrong with it is told here, and not in Ray's logs
    protection = Protection.of(config.security, host)
    if config.security.tls_client_ca is not None:
        raise ConfigError(
            "Ray's proxy does not pass on the certificates of clients",
            where="edgekit serve --ray",
            fix="Give --tokens instead of --tls-client-ca",
        )
    deployed = application(path, config, name, host)
    with bound(host, port) as probe:  # Ray would only say that its proxy did not start
        port = probe.getsockname()[1]
    own = "RAY_ADDRESS" not in os.environ
    local = {"object_store_memory": _STORE, "include_dashboard": False} if own else {}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    stopped = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):  # only now: Ray sets handlers of its own
        signal.signal(sign, lambda *_: stopped.set())
    try:
        ray_serve.start(
            http_options={"host": host, "port": port, **_certificates(config)},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        try:
            ray_serve.run(deployed, name=NAME)
        except RuntimeError as error:
            raise RuntimeUnavailableError(
                "the replicas cannot start",
                where="edgekit serve --ray",
                fix="Run edgekit serve without --ray: it says why",
            ) from error
        scheme = "http" if protection.tls is None else "https"
        url = f"{scheme}://{in_url(host)}:{port}"
        announce(f"Serving {path} at {url} with {config.ray.replicas} replicas")
        if protection.warning:
            announce(f"Warning: {protection.warning}")
        stopped.wait()
    finally:
        _shut_down(config.drain_s)
