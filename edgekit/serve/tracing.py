"""OpenTelemetry: a span for each request with one for each of its stages (``edgekit[trace]``).

Imported only when traces are asked for. Sampling, names and headers follow the standard ``OTEL_*``
variables of the environment.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import edgekit
from edgekit.serve.observe import Served
from edgekit.serve.statistics import STAGES

__all__ = ["Tracing", "otlp"]

_propagator = TraceContextTextMapPropagator()


def otlp(endpoint: str | None) -> SpanProcessor:
    """Sends spans to a collector, in batches and from a thread of its own.

    Args:
        endpoint: URL of the collector; ``/v1/traces`` is added where it has no path. None for what
            the environment says.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    if endpoint is not None and urlsplit(endpoint).path in {"", "/"}:
        endpoint = f"{endpoint.rstrip('/')}/v1/traces"
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))


class Tracing:
    """A sink that makes spans of requests.

    The times are those that the server measured anyway. How long each stage took is known, not when
    it began: stages are put one behind the other so that the last one ends with the request.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", "edgekit")
        resource = Resource.create({"service.name": name, "service.version": edgekit.__version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("edgekit", edgekit.__version__)

    def __call__(self, served: Served) -> None:
        """Record one request."""
        end = served.start + served.ns
        span = self._tracer.start_span(
            f"{served.method} {served.route}".strip(),
            _propagator.extract(served.trace),
            kind=SpanKind.SERVER,
            start_time=served.start,
            attributes=_attributes(served),
        )
        if served.inference is not None and span.is_recording():
            context = set_span_in_context(span)
            stages = served.inference.stages
            begin = max(served.start, end - stages.total)
            for name in STAGES:
                finish = begin + getattr(stages, name)
                self._tracer.start_span(name, context, start_time=begin).end(finish)
                begin = finish
        if served.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)

    def close(self) -> None:
        """Send what is left. Waits: not for the event loop."""
        self._provider.shutdown()


def _attributes(served: Served) -> dict[str, str | int]:
    """OpenTelemetry's names where it has them."""
    model, version = served.model
    if served.method == "gRPC":
        called: dict[str, str | int | None] = {
            "rpc.system": "grpc",
            "rpc.service": served.path.strip("/").rpartition("/")[0],
            "rpc.method": served.path.rpartition("/")[2],
        }
    else:
        called = {
            "http.request.method": served.method,
            "http.response.status_code": served.status,
            "http.route": served.route or None,
            "url.path": served.path,
        }
    found = {
        **called,
        "client.address": served.client or None,
        "edgekit.request_id": served.id,
        "edgekit.model": model,
        "edgekit.version": version,
        "edgekit.batch": served.inference.stages.batch if served.inference else None,
    }
    return {name: value for name, value in found.items() if value is not None}
