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
) -> None:
    """Serve bundles over the Open Inference Protocol v2."""
    from edgekit.errors import RuntimeUnavailableError

    try:
        from edgekit.serve import server
        from edgekit.serve.config import read_config
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError(
            f"the package {error.name!r} is not installed",
            where="edgekit serve",
            fix="Run: pip install 'edgekit[serve]'",
        ) from error
    if cores is not None:
        from edgekit.runtimes.cores import hold_process

        held = hold_process(cores)
        threads = threads or held
    settings = read_config(config) if config is not None else {}
    chosen = {
        "runtime": runtime,
        "device": device,
        "threads": threads,
        "max_batch": max_batch,
        "max_queue_delay_ms": max_queue_delay_ms,
        "instances": instances,
    }
    server.serve(
        path,
        host=host,
        port=port,
        grpc_port=grpc_port,
        config=_merged(settings, chosen, isolate=isolate, memory_mb=memory_mb, where=config),
        name=name,
        announce=lambda line: typer.echo(line, err=True),
    )


def _merged(
    settings: dict[str, Any],
    chosen: dict[str, Any],
    *,
    isolate: bool,
    memory_mb: int | None,
    where: Path | None,
) -> ServerConfig:
    """The file's settings with the command line's on top, which hold for every model."""
    from edgekit.serve.config import checked

    given = {key: value for key, value in chosen.items() if value is not None}
    models = settings.get("models") or {}
    if given and isinstance(models, dict):
        settings["defaults"] = {**(settings.get("defaults") or {}), **given}
        settings["models"] = {name: {**(one or {}), **given} for name, one in models.items()}
    if isolate:
        settings["isolate"] = True
    if memory_mb is not None:
        settings["memory_mb"] = memory_mb
    return checked(settings, str(where or "edgekit serve"))
