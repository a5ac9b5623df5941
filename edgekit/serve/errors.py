"""The one error of a request: what went wrong, and the HTTP status that says so."""

from __future__ import annotations

import logging

from edgekit.errors import EdgekitError, SpecError

__all__ = ["ServeError", "told"]

_log = logging.getLogger("edgekit.serve")


class ServeError(EdgekitError):
    """A request that cannot be answered.

    Attributes:
        status: HTTP status to answer with; gRPC's code follows from it.
        retry_after: seconds after which trying again makes sense, None when it never does.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int = 400,
        retry_after: float | None = None,
        fix: str | None = None,
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(what, fix=fix)


def told(error: Exception, what: str) -> tuple[int, str, float | None]:
    """Status, text and seconds to wait of a failed request; what nobody expected is logged.

    Args:
        error: why it failed.
        what: the request, for the log.
    """
    if isinstance(error, ServeError):
        return error.status, str(error), error.retry_after
    if isinstance(error, SpecError):
        return 400, str(error), None
    _log.error("%s failed", what, exc_info=error)
    return 500, "the request failed, see the server's log", None
