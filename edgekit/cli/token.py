"""``edgekit token``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["token"]


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what it is for.")],
    admin: Annotated[
        bool, typer.Option("--admin", help="It may load and unload models, too.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second that it may make [default: no limit].")
    ] = None,
    burst: Annotated[
        int | None, typer.Option(min=1, help="Requests at once [default: one second's worth].")
    ] = None,
    file: Annotated[
        Path, typer.Option("--file", "-f", help="The file for edgekit serve --tokens.")
    ] = Path("tokens.yaml"),
) -> None:
    """Make a token for a server. It is printed once; the file keeps its hash only."""
    from edgekit.security.tokens import add_token

    secret = add_token(file, name, admin=admin, rate=rate, burst=burst)
    typer.echo(secret)
    typer.echo(f"Added {name} to {file}. Nobody can show this token again: keep it.", err=True)
