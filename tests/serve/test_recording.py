"""Records of requests out of the real daemon."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import RuntimeUnavailableError
from edgekit.serve.config import ServerConfig
from edgekit.serve.recording import Records
from tests.daemon import EDGEKIT, start, stop

ENTRY = {"name": "image", "shape": [1, 3, 16, 16], "datatype": "FP32", "data": [0.5] * 768}


def _infer(url: str) -> Any:
    body = json.dumps({"inputs": [ENTRY]}).encode()
    headers = {"Authorization": "Bearer sesame", "X-Request-Id": "r-1"}
    request = urllib.request.Request(f"{url}/v2/models/residual/infer?key=sesame", body, headers)
    with urllib.request.urlopen(request) as response:
        return response.headers


def test_a_server_without_records_is_the_application_itself() -> None:
    app = object()
    assert Records(ServerConfig()).around(app) is app


def test_opentelemetry_s_sdk_is_not_imported_by_default() -> None:
    code = (
        "import sys, edgekit.serve.server\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_daemon_s_log_is_json_with_request_ids_and_without_secrets(built: Path) -> None:
    process = subprocess.Popen(
        [*EDGEKIT, "serve", str(built), "--port", "0", "--log-format", "json", "--access-log"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = [json.loads(process.stderr.readline())]
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", lines[-1]["message"])):
        lines.append(json.loads(process.stderr.readline()))
    assert _infer(found[0])["X-Request-Id"] == "r-1"
    process.terminate()
    _, rest = process.communicate(timeout=30)
    lines += map(json.loads, rest.splitlines())
    (access,) = [line for line in lines if line["logger"] == "edgekit.access"]
    assert (access["status"], access["model"], access["version"]) == (200, "residual", "1")
    assert (access["request_id"], access["path"]) == ("r-1", "/v2/models/residual/infer")
    assert access["ms"] > 0
    assert "sesame" not in str(lines)
    assert any(line["message"].startswith("Serving residual") for line in lines)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--log-format", "xml"), "log_format: Input should be 'text' or 'json'"),
        (("--trace-endpoint", "collector:4318"), "trace_endpoint"),
    ],
)
def test_a_wrong_option_is_one_line(built: Path, option: tuple[str, str], message: str) -> None:
    done = subprocess.run(
        [*EDGEKIT, "serve", str(built), *option], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_missing_packages_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    config = ServerConfig(trace_endpoint="http://127.0.0.1:9")

    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'edgekit\[trace\]'"):
        Records(config)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that keeps what is sent to it, as an OpenTelemetry collector's receiver."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    server.server_close()


_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def _installed() -> bool:
    try:
        return importlib.util.find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.skipif(not _installed(), reason="opentelemetry-exporter-otlp-proto-http is missing")
@pytest.mark.parametrize("by", ["option", "environment"])
def test_traces_reach_a_collector_before_the_daemon_ends(
    built: Path,
    collector: tuple[str, list[tuple[str, bytes]]],
    by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, taken = collector
    if by == "environment":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    server = start(built, *(("--trace-endpoint", url) if by == "option" else ()))
    assert _infer(server.url)["X-Request-Id"] == "r-1"
    stop(server)
    assert [path for path, _ in taken] == ["/v1/traces"]
    sent = ExportTraceServiceRequest.FromString(taken[0][1])
    spans = [span.name for span in sent.resource_spans[0].scope_spans[0].spans]
    assert "POST /v2/models/{model}/infer" in spans
    assert len(spans) == 7
