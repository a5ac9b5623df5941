"""``edgekit serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli._options import BundlePath, Cores, Device, Threads

__all__ = ["serve"]


def serve(
    bundle: BundlePath,
    runtime: Annotated[
        str | None, typer.Option(help="Serve this runtime's artifact [default: the fastest].")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    threads: Threads = None,
    device: Device = None,
    cores: Cores = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model in the URLs [default: the bundle's].")
    ] = None,
) -> None:
    """Serve a bundle over the Open Inference Protocol v2."""
    from edgekit.errors import RuntimeUnavailableError
    from edgekit.runtimes import SessionOptions
    from edgekit.runtimes.cores import hold_process

    if cores is not None:
        held = hold_process(cores)
        threads = threads or held
    try:
        from edgekit.serve import server
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError(
            f"the package {error.name!r} is not installed",
            where="edgekit serve",
            fix="Run: pip install 'edgekit[serve]'",
        ) from error
    server.serve(
        bundle,
        runtime=runtime,
        host=host,
        port=port,
        options=SessionOptions(threads=threads, device=device),
        name=name,
        announce=lambda line: typer.echo(line, err=True),
    )
