"""The one error of the client."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.errors import EdgekitError

__all__ = ["ClientError", "refusal"]

_FIXES: Mapping[int, str] = MappingProxyType(
    {
        401: "Give a token that the server knows",
        403: "Use a token that may do this",
        404: "Ask models() for what the server has",
        408: "Give it a later deadline",
        413: "Send fewer samples at once",
        429: "Send less, or allow more retries",
        501: "Ask metadata() for the extensions that the server has",
        503: "Ask ready() whether it works, or allow more retries",
        504: "Give it a later deadline",
    }
)


class ClientError(EdgekitError):
    """A call that failed.

    Attributes:
        status: HTTP status of the answer, None when there was none.
    """

    def __init__(
        self, what: str, *, where: str, status: int | None = None, fix: str | None = None
    ) -> None:
        self.status = status
        super().__init__(what, where=where, fix=fix)


def refusal(status: int, reason: str, where: str) -> ClientError:
    """The error of an answer with that status."""
    fix = _FIXES.get(status)
    if 300 <= status < 400:
        fix = "Give the URL that it points to"
    what = f"answered {status}{f': {reason}' if reason else ''}"
    return ClientError(what, where=where, status=status, fix=fix)
