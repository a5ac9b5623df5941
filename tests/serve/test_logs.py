from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from edgekit.serve.logs import access_log, configure
from edgekit.serve.observe import Served


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    names = (None, "edgekit", "edgekit.access")
    before = [(log, log.handlers, log.level) for log in map(logging.getLogger, names)]
    yield
    for log, handlers, level in before:
        log.handlers = handlers
        log.setLevel(level)


def served(path: str = "/v2/models/net/versions/3/infer") -> Served:
    return Served("id-1", "POST", path, "", 200, 0, 1_234_567, "127.0.0.1", ("net", "3"), None, {})


def lines(kind: str, *, access: bool = True) -> io.StringIO:
    stream = io.StringIO()
    configure(kind, access=access, stream=stream)
    return stream


def test_a_request_is_one_line_of_json() -> None:
    stream = lines("json")
    access_log(served())
    line = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("message").startswith("POST /v2/models/net/versions/3/infer 200 1.235 ms")
    assert line == {
        "level": "INFO",
        "logger": "edgekit.access",
        "method": "POST",
        "path": "/v2/models/net/versions/3/infer",
        "status": 200,
        "ms": 1.235,
        "model": "net",
        "version": "3",
        "request_id": "id-1",
        "client": "127.0.0.1",
    }


def test_a_request_is_one_line_of_text() -> None:
    stream = lines("text")
    access_log(served())
    assert stream.getvalue().endswith(
        "Z INFO edgekit.access: POST /v2/models/net/versions/3/infer 200 1.235 ms, "
        "model net/3, id id-1, client 127.0.0.1\n"
    )


@pytest.mark.parametrize("kind", ["json", "text"])
@pytest.mark.parametrize(
    "path", ["/a\nFORGED", "/a\r\nFORGED", "/" + "x" * 9000, "/\x1b[31m\u2028"]
)
def test_a_hostile_path_forges_no_line(kind: str, path: str) -> None:
    stream = lines(kind)
    access_log(served(path))
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert len(stream.getvalue()) < 1500


def test_without_an_access_log_there_is_none() -> None:
    stream = lines("json", access=False)
    access_log(served())
    assert stream.getvalue() == ""


def test_an_exception_is_one_line_of_json_with_its_traceback() -> None:
    stream = lines("json")
    error = ValueError("what it was")
    logging.getLogger("edgekit.serve").error("%s failed", "GET /", exc_info=error)
    line = json.loads(stream.getvalue())
    assert line["message"] == "GET / failed"
    assert "ValueError: what it was" in line["exception"]


def test_other_packages_speak_the_same_way() -> None:
    stream = lines("json")
    logging.getLogger("another.package").warning("told by another package")
    assert json.loads(stream.getvalue())["logger"] == "another.package"
