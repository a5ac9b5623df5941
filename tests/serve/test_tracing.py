from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.testclient import TestClient

from edgekit.serve.app import create_app
from edgekit.serve.config import ServerConfig
from edgekit.serve.observe import Observer, Served
from edgekit.serve.repository import Repository
from edgekit.serve.statistics import STAGES
from edgekit.serve.tracing import Tracing
from tests.serve.conftest import ONE

ENTRY = {"name": "image", "shape": [2, 3, 16, 16], "datatype": "FP32", "data": [0.5] * 1536}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(built: Path, exporter: InMemorySpanExporter) -> Iterator[TestClient]:
    config = ServerConfig(defaults=ONE)
    app = create_app(Repository(built, config, "residual"), config)
    tracing = Tracing(SimpleSpanProcessor(exporter))
    with TestClient(Observer(app, [tracing]), raise_server_exceptions=False) as client:
        yield client
    tracing.close()


def _finished(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The span of the one request, and those of its stages in the order of their time."""
    spans = exporter.get_finished_spans()
    (root,) = (span for span in spans if span.kind.name == "SERVER")
    stages = [span for span in spans if span is not root]
    return root, sorted(stages, key=lambda span: (span.start_time, span.end_time))


def test_an_inference_is_a_span_with_one_for_each_stage(
    traced: TestClient, exporter: InMemorySpanExporter
) -> None:
    traced.post("/v2/models/residual/infer", json={"inputs": [ENTRY]})
    root, stages = _finished(exporter)
    assert root.name == "POST /v2/models/{model}/infer"
    attributes = dict(root.attributes or {})
    assert attributes["http.response.status_code"] == 200
    assert attributes["edgekit.model"] == "residual"
    assert attributes["edgekit.version"] == "1"
    assert attributes["edgekit.batch"] == 2
    assert attributes["http.route"] == "/v2/models/{model}/infer"
    assert root.resource.attributes["service.name"] == "edgekit"
    assert [span.name for span in stages] == list(STAGES)
    for span in stages:
        assert span.parent
        assert span.parent.span_id == root.context.span_id
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time  # type: ignore[operator]
    assert stages[-1].end_time == root.end_time


def test_the_spans_of_stages_take_what_the_server_measured(
    traced: TestClient, exporter: InMemorySpanExporter
) -> None:
    request = {"inputs": [ENTRY], "parameters": {"profile": True}}
    told = traced.post("/v2/models/residual/infer", json=request).json()["parameters"]
    _, stages = _finished(exporter)
    taken = {span.name: span.end_time - span.start_time for span in stages}  # type: ignore[operator]
    assert taken == {stage: told[f"{stage}_ns"] for stage in STAGES}


def test_a_trace_of_the_client_goes_on(traced: TestClient, exporter: InMemorySpanExporter) -> None:
    traced.get("/v2", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    root, _ = _finished(exporter)
    assert f"{root.context.trace_id:032x}" == TRACE
    assert root.parent
    assert f"{root.parent.span_id:016x}" == PARENT


def test_a_client_that_does_not_sample_is_heeded(
    traced: TestClient, exporter: InMemorySpanExporter
) -> None:
    traced.post(
        "/v2/models/residual/infer",
        json={"inputs": [ENTRY]},
        headers={"traceparent": f"00-{TRACE}-{PARENT}-00"},
    )
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("given", ["", "garbage", f"00-{'0' * 32}-{PARENT}-01", "00-" + "f" * 9000])
def test_a_broken_traceparent_begins_a_new_trace(
    traced: TestClient, exporter: InMemorySpanExporter, given: str
) -> None:
    assert traced.get("/v2", headers={"traceparent": given}).status_code == 200
    root, _ = _finished(exporter)
    assert root.parent is None


@pytest.mark.parametrize(("status", "expected"), [(404, StatusCode.UNSET), (500, StatusCode.ERROR)])
def test_a_failure_of_the_server_is_an_error(
    exporter: InMemorySpanExporter, status: int, expected: StatusCode
) -> None:
    tracing = Tracing(SimpleSpanProcessor(exporter))
    tracing(Served("id", "GET", "/v2", "/v2", status, 1000, 5, "", (None, None), None, {}))
    root, _ = _finished(exporter)
    assert root.status.status_code == expected
    assert (root.start_time, root.end_time) == (1000, 1005)
    tracing.close()
