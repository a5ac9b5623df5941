"""The one error of a request: what went wrong, and the HTTP status that says so."""

from __future__ import annotations

from edgekit.errors import EdgekitError

__all__ = ["ServeError"]


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
