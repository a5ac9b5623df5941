"""``edgekit serve``."""

from __future__ import annotations

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
) -> None:
    """Serve bundles over the Open Inference Protocol v2."""
    from edgekit.cli._extras import needs

    with needs("serve", "edgekit serve"):
        from edgekit.serve import server
        from edgekit.serve.config import read_config
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
    server.serve(
        path,
        host=host,
        port=port,
        grpc_port=grpc_port,
        config=_merged(settings, chosen, server_wide, security, where=config),
        name=name,
        announce=lambda line: typer.echo(line, err=True),
    )


def _merged(
    settings: dict[str, Any],
    chosen: dict[str, Any],
    server_wide: dict[str, Any],
    security: dict[str, Any],
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
    before = settings.get("security") or {}
    if isinstance(before, dict):  # else it is refused with its place
        settings["security"] = {**before, **_given(security)}
    return checked(settings, str(where or "edgekit serve"))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}
