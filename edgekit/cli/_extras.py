"""What a command says where an optional package is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needs"]


@contextmanager
def needs(extra: str, command: str) -> Iterator[None]:
    """Imports that the extra ``extra`` brings.

    Raises:
        RuntimeUnavailableError: a package is missing; says what to install.
    """
    from edgekit.errors import RuntimeUnavailableError

    try:
        yield
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError(
            f"the package {error.name!r} is not installed",
            where=command,
            fix=f"Run: pip install 'edgekit[{extra}]'",
        ) from error
