"""The time, as documents tell it."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["timestamp"]


def timestamp() -> str:
    """Now, in UTC and whole seconds, as ISO 8601 writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
