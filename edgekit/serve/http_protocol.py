"""uvicorn's HTTP protocol, with a shorter way for an answer that is whole.

An ASGI application sends an answer as two messages, and uvicorn writes each to the socket by
itself, after it has looked through every header. For a small model that is a quarter of what a
request costs. A scope of this protocol offers :data:`ANSWER`: all at once, in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias, cast

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

__all__ = ["ANSWER", "Answer", "Fields", "Protocol"]

#: Where the ASGI scope has an :data:`Answer`, if the server offers one.
ANSWER = "edgekit.answer"

#: Names and values of headers, in lower case and known to be valid.
Fields: TypeAlias = Iterable[tuple[bytes, bytes]]

#: Sends an answer with status 200, headers (the length is among them) and body. False when it did
#: not: the application then sends its messages as ever.
Answer: TypeAlias = Callable[[Fields, bytes], bool]


#: What this takes from uvicorn's cycle of a request. Where one is missing, answers go the long way.
_USED = (
    "disconnected",
    "flow",
    "keep_alive",
    "message_event",
    "on_response",
    "response_complete",
    "response_started",
    "transport",
)


class Protocol(HttpToolsProtocol):
    """One connection."""

    _offers: bool | None = None

    def on_headers_complete(self) -> None:
        """A request begins; its task starts after this."""
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:  # it asks for another protocol
            return
        if self._offers is None:
            self._offers = all(hasattr(cycle, name) for name in _USED)
        if self._offers:
            scope: dict[str, Any] = cast("dict[str, Any]", self.scope)
            scope[ANSWER] = partial(_answer, cycle)


def _answer(cycle: RequestResponseCycle, fields: Fields, body: bytes) -> bool:
    if cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
        return False
    head = b"".join([STATUS_LINE[200], *(b"%b: %b\r\n" % field for field in fields), b"\r\n"])
    cycle.response_started = cycle.response_complete = True
    cycle.transport.writelines((head, body))
    cycle.message_event.set()
    cycle.on_response()
    return True
