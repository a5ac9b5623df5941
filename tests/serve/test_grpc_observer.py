"""Records of gRPC calls by the real daemon."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tritonclient.utils import InferenceServerException

from edgekit.security.tokens import add_token
from edgekit.serve.observe import Served
from edgekit.serve.tracing import Tracing
from tests.conftest import SHAPE
from tests.daemon import running

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


LINE = re.compile(
    r"edgekit.access: gRPC /inference.GRPCInferenceService/(?P<call>\w+) (?P<status>\d+) "
    r"[\d.]+ ms, model (?P<model>\S+), id (?P<id>\S+), client (?P<client>\S+)"
)


def _told(lines: str) -> list[dict[str, str]]:
    return [found.groupdict() for found in LINE.finditer(lines)]


def test_every_call_has_a_line_with_its_id_its_model_and_how_it_ended(built: Path) -> None:
    image = triton.InferInput("image", [1, *SHAPE], "FP32")
    image.set_data_from_numpy(np.zeros((1, *SHAPE), np.float32))
    with running(built, "--grpc-port", "0", "--access-log") as (_, told):
        (address,) = re.findall(r"gRPC at (127\.0\.0\.1:\d+)", told[0])
        with triton.InferenceServerClient(address) as client:
            client.infer("residual", [image], headers={"x-request-id": "r-1"})
            client.is_server_live()
            with pytest.raises(InferenceServerException, match="unknown model"):
                client.infer("other", [image], model_version="3")
    infer, live, failed = _told(told[1])
    assert infer == {
        "call": "ModelInfer",
        "status": "200",
        "model": "residual/1",
        "id": "r-1",
        "client": "127.0.0.1",
    }
    assert (live["call"], live["status"], live["model"]) == ("ServerLive", "200", "None")
    assert (failed["call"], failed["status"], failed["model"]) == ("ModelInfer", "404", "other/3")


def test_calls_without_the_right_token_are_told_too(built: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.yaml"
    add_token(tokens, "camera")
    options = ("--grpc-port", "0", "--access-log", "--tokens", str(tokens))
    with running(built, *options) as (_, told):
        (address,) = re.findall(r"gRPC at (127\.0\.0\.1:\d+)", told[0])
        with (
            triton.InferenceServerClient(address) as client,
            pytest.raises(InferenceServerException, match="UNAUTHENTICATED"),
        ):
            client.get_server_metadata()
    (refused,) = _told(told[1])
    assert (refused["call"], refused["status"]) == ("ServerMetadata", "401")


def test_a_call_is_a_span_of_a_remote_procedure_in_the_trace_of_its_client() -> None:
    exporter = InMemorySpanExporter()
    path = "/inference.GRPCInferenceService/ModelInfer"
    called = Served("id", "gRPC", path, path, 200, 1000, 5, "", ("m", None), None, {
        "traceparent": TRACE
    })  # fmt: skip
    Tracing(SimpleSpanProcessor(exporter))(called)
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["rpc.service"] == "inference.GRPCInferenceService"
    assert span.attributes["rpc.method"] == "ModelInfer"
    assert "http.request.method" not in span.attributes
    assert f"{span.context.trace_id:032x}" == TRACE[3:35]
