"""``edgekit sign`` and ``edgekit keygen``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["keygen", "sign"]


def sign(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A NAME.edge folder, or NAME.ensemble.yaml.")
    ],
    key: Annotated[Path, typer.Option(help="Private key that edgekit keygen wrote.")],
) -> None:
    """Sign a bundle or an ensemble's file, for devices that serve with --require-signature.

    It is checked first. A bundle's signature is bundle.json.sig inside it and covers every file.
    """
    from edgekit.bundle import Bundle
    from edgekit.cli._extras import needs

    with needs("serve", "edgekit sign"):
        from edgekit.security import signature
        from edgekit.serve.ensemble_file import read_plan

    file = read_plan(path).path if path.is_file() else Bundle.open(path).manifest_file
    typer.echo(f"Wrote {signature.sign(file, key)}")


def keygen(
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the private key.")] = Path(
        "edgekit.key"
    ),
) -> None:
    """Make a pair of keys (ed25519): one signs bundles, the other, NAME.pub, goes to devices."""
    from edgekit.cli._extras import needs

    with needs("serve", "edgekit keygen"):
        from edgekit.security import signature

    public = signature.keygen(output)
    typer.echo(f"Wrote {output}, keep it secret")
    typer.echo(f"Wrote {public}, for edgekit serve --require-signature")
