"""``edgekit serve``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli._options import Cores, Device, Threads

if TYPE_CHECKING:
    from edgekit.serve.config import ServerConfig

__all__ = ["serve"]


def serve(
    path: Annotated[
        Path, typer.Argument(help="A bundle, or a folder of bundles: NAME.edge/ or NAME/VERSION/.")
    ],
    runtime: Annotated[
        str | None, typer.Option(help="Serve this runtime's artifact [default: the fastest].")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Speak gRPC, too, on this port.")
    ] = None,
    threads: Threads = None,
    device: Device = None,
    cores: Cores = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the one bundle in the URLs [default: its own].")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with settings of the server and of each model.")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, help="Most samples run together; 1 does not batch.")
    ] = None,
    max_queue_delay_ms: Annotated[
        float | None, typer.Option(min=0, help="How long a request waits for others to join.")
    ] = None,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Sessions of each model that run side by side.")
    ] = None,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="Run every engine in a process of its own.")
    ] = False,
    memory_mb: Annotated[
        int | None, typer.Option(min=1, help="Budget of all models; the least used are unloaded.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="File of edgekit token; requests need one of its tokens.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate of the server, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Clients need a certificate signed by one of these, PEM.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let others in without tokens or certificates.")
    ] = False,
    require_signature: Annotated[
        Path | None,
        typer.Option(metavar="PUBKEY", help="Serve only what the holder of this key has signed."),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="What goes to standard error: text or json [default: text].")
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="A line for every request, with its id.")
    ] = False,
    trace_endpoint: Annotated[
        str | None, typer.Option(help="OpenTelemetry collector (OTLP over HTTP) for traces.")
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Run several servers under Ray Serve.")
    ] = False,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="With --ray, how many servers [default: 1].")
    ] = None,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, help="With --ray, start up to so many under load.")
    ] = None,
) -> None:
    """Serve bundles over the Open Inference Protocol v2."""
    run = _server(ray=ray)
    from edgekit.serve.config import read_config

    scaling = {"replicas": replicas, "max_replicas": max_replicas}
    if not ray and any(scaling.values()):
        raise typer.BadParameter("--replicas and --max-replicas need --ray")
    if cores is not None:
        from edgekit.runtimes.cores import hold_process

        held = hold_process(cores)
        threads = threads or held
    settings = read_config(config) if config is not None else {}
    records = {
        "log_format": log_format,
        "access_log": access_log or None,
        "trace_endpoint": trace_endpoint,
    }
    settings |= {key: value for key, value in records.items() if value is not None}
    chosen = {
        "runtime": runtime,
        "device": device,
        "threads": threads,
        "max_batch": max_batch,
        "max_queue_delay_ms": max_queue_delay_ms,
        "instances": instances,
    }
    security = {
        "tokens": tokens,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "insecure": insecure or None,
        "require_signature": require_signature,
    }
    server_wide = {"isolate": isolate or None, "memory_mb": memory_mb}
    run(
        path,
        host=host,
        port=port,
        grpc_port=grpc_port,
        config=_merged(settings, chosen, server_wide, security, scaling, where=config),
        name=name,
        announce=lambda line: typer.echo(line, err=True),
    )


def _server(*, ray: bool) -> Callable[..., None]:
    """What serves: this process, or Ray's."""
    from edgekit.cli._extras import needs

    with needs("ray" if ray else "serve", f"edgekit serve{' --ray' if ray else ''}"):
        if ray:
            from edgekit.serve.ray_app import serve
        else:
            from edgekit.serve.server import serve
    return serve


def _merged(
    settings: dict[str, Any],
    chosen: dict[str, Any],
    server_wide: dict[str, Any],
    security: dict[str, Any],
    scaling: dict[str, Any],
    where: Path | None,
) -> ServerConfig:
    """The file's settings with the command line's on top; ``chosen`` hold for every model."""
    from edgekit.serve.config import checked

    given = _given(chosen)
    models = settings.get("models") or {}
    if given and isinstance(models, dict):
        settings["defaults"] = {**(settings.get("defaults") or {}), **given}
        settings["models"] = {name: {**(one or {}), **given} for name, one in models.items()}
    settings |= _given(server_wide)
    for key, group in (("security", security), ("ray", scaling)):
        before = settings.get(key) or {}
        if isinstance(before, dict):  # else it is refused with its place
            settings[key] = {**before, **_given(group)}
    return checked(settings, str(where or "edgekit serve"))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
