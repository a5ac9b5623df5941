"""What the daemon writes to its standard error: lines for people, or JSON for machines."""

from __future__ import annotations

import datetime as dt
import logging
import re
import sys
from typing import IO, Any

import orjson

from edgekit.serve.observe import Served

__all__ = ["access_log", "configure"]

_access = logging.getLogger("edgekit.access")

#: What would begin a line, or steer a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

#: Longest path that is written.
_PATH = 200


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _when(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], record.getMessage())
        line = f"{_when(record)} {record.levelname} {record.name}: {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(kind: str, *, access: bool, stream: IO[str] | None = None) -> None:
    """Send all that is logged to ``stream``, standard error by default.

    Args:
        kind: ``json`` or ``text``.
        access: whether every request gets a line.
        stream: to write to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if kind == "json" else _Text())
    logging.getLogger().handlers = [handler]
    logging.getLogger("edgekit").setLevel(logging.INFO if kind == "json" else logging.WARNING)
    _access.setLevel(logging.INFO if access else logging.WARNING)


def access_log(served: Served) -> None:
    """One line for one request."""
    model, version = served.model
    path = served.path if len(served.path) <= _PATH else f"{served.path[:_PATH]}..."
    milliseconds = round(served.ns / 1e6, 3)
    _access.info(
        "%s %s %d %s ms, model %s, id %s, client %s",
        served.method,
        path,
        served.status,
        milliseconds,
        f"{model}/{version}" if version else model,
        served.id,
        served.client,
        extra={
            "fields": {
                "method": served.method,
                "path": path,
                "status": served.status,
                "ms": milliseconds,
                "model": model,
                "version": version,
                "request_id": served.id,
                "client": served.client,
            }
        },
    )


def _when(record: logging.LogRecord) -> str:
    moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
