"""Which records of requests the operator wants, and where they go."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from edgekit.errors import RuntimeUnavailableError
from edgekit.serve.config import ServerConfig
from edgekit.serve.logs import access_log
from edgekit.serve.observe import Observer, Sink

if TYPE_CHECKING:
    from edgekit.serve.tracing import Tracing

__all__ = ["Records"]

#: Either of them turns traces on, as for every program that speaks OpenTelemetry.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Records:
    """The sinks that a configuration wants.

    Raises:
        RuntimeUnavailableError: traces are wanted, and the packages for them are missing.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._tracing = _tracing(config)
        self._sinks: list[Sink] = [access_log] if config.access_log else []
        if self._tracing is not None:
            self._sinks.append(self._tracing)

    def around(self, app: Any) -> Any:
        """``app``, with records of its requests; itself where none are wanted."""
        return Observer(app, self._sinks) if self._sinks else app

    def grpc_interceptors(self) -> list[Any]:
        """What makes the same records of calls of gRPC."""
        if not self._sinks:
            return []
        from edgekit.serve.grpc_observer import GrpcObserver  # grpc is loaded where it is served

        return [GrpcObserver(self._sinks)]

    async def close(self) -> None:
        """Send what is left."""
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)


def _tracing(config: ServerConfig) -> Tracing | None:
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or not (config.trace_endpoint or any(map(os.environ.get, _ENDPOINTS))):
        return None
    try:
        from edgekit.serve.tracing import Tracing, otlp

        return Tracing(otlp(config.trace_endpoint))
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError(
            f"the package of {error.name!r} is not installed",
            where="traces",
            fix="Run: pip install 'edgekit[trace]', or unset --trace-endpoint and OTEL_*_ENDPOINT",
        ) from error
