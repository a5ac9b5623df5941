"""Tokens and certificates of commands that talk to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

__all__ = ["certificates", "read_token"]


def read_token(path: Path | None) -> str | None:
    """The token in a file, or in the variable ``EDGEKIT_TOKEN``; None without either."""
    import os

    if path is not None:
        return path.read_text(errors="replace").strip()
    return os.environ.get("EDGEKIT_TOKEN") or None


def certificates(ca: Path | None, cert: Path | None, key: Path | None) -> Any:
    """What to trust and to show; None for the system's certificates and nothing.

    Raises:
        BadParameter: a key without a certificate.
        SecurityError: a file cannot be used.
    """
    if ca is None and cert is None and key is None:
        return None
    if cert is None and key is not None:
        raise typer.BadParameter("--key goes with --cert")
    import ssl

    from edgekit.errors import SecurityError

    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one
        raise SecurityError(
            f"cannot be used: {error.strerror or error}",
            where=", ".join(str(path) for path in (ca, cert, key) if path is not None),
            fix="Give PEM files: --ca of the server, --cert and --key of this client",
        ) from error
    return context
