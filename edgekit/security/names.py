"""Names of models and versions: each names one folder and nothing else. Names of signatures."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.serve.errors import ServeError

__all__ = ["checked_name", "is_name", "signature_of"]

#: Begins with a letter or digit, so never with a dot; as long as every file system takes.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_name(name: object) -> bool:
    """Whether it can be the name of a model or version."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and ".." not in name


def checked_name(name: str) -> str:
    """``name``, out of a request.

    Raises:
        ServeError: 400, it cannot be the name of a model.
    """
    if is_name(name):
        return name
    raise ServeError(
        f"{str(name)[:80]!r} cannot be the name of a model: 1 to 128 letters, digits and ._-, the "
        "first a letter or digit, and no two dots in a row"
    )


def signature_of(file: Path) -> Path:
    """Where the signature of a file is."""
    return file.with_name(f"{file.name}.sig")
