"""Whatever comes in, the answer is right or a 4xx with a reason: never a 500, a hang, a crash."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from edgekit.serve.app import create_app
from edgekit.serve.config import ServerConfig
from edgekit.serve.datatypes import DATATYPES
from edgekit.serve.repository import Repository
from tests.conftest import SHAPE
from tests.serve.conftest import ONE, serving

ROUTE = "/v2/models/residual/infer"
COUNT = int(np.prod(SHAPE))

#: Requests in all: examples times requests each.
EXAMPLES, MUTATIONS = 2500, 20


class Asgi:
    """The application, called without a network: fifty thousand requests in a minute."""

    def __init__(self, path: Path) -> None:
        config = ServerConfig(defaults=ONE)
        self._repository = Repository(path, config, "residual")
        self._app = create_app(self._repository, config)
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._repository.start())

    def post(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        return self._loop.run_until_complete(asyncio.wait_for(self._post(body, headers), 20))

    async def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        fields = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
        scope = {"type": "http", "method": "POST", "path": ROUTE, "headers": fields}
        await self._app(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    def close(self) -> None:
        self._loop.run_until_complete(self._repository.close())
        self._loop.close()


@pytest.fixture(scope="module")
def asgi(built: Path) -> Iterator[Asgi]:
    made = Asgi(built)
    yield made
    made.close()


def _check(status: int, body: bytes) -> None:
    assert status == 200 or 400 <= status < 500, body
    if status != 200:
        reason = json.loads(body)
        assert reason.keys() == {"error"}
        assert len(reason["error"]) > 5


odd_numbers = st.sampled_from([-1, 0, 1, 2, 2**31, 2**63 - 1, 2**63, 2**64, 1.5, True, None, "1"])
sizes = st.one_of(st.just(COUNT * 4), odd_numbers)
shapes = st.one_of(
    st.just([1, *SHAPE]),
    st.lists(st.one_of(st.integers(0, 20), odd_numbers), max_size=70),
    odd_numbers,
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    """An input that is nearly right."""
    tensor: dict[str, Any] = {
        "name": draw(st.sampled_from(["image", "image", "image", "", "other"])),
        "datatype": draw(st.one_of(st.just("FP32"), st.sampled_from([*DATATYPES.values(), 7]))),
        "shape": draw(shapes),
    }
    if draw(st.booleans()):
        tensor["parameters"] = draw(
            st.one_of(st.fixed_dictionaries({"binary_data_size": sizes}), anything)
        )
    if draw(st.integers(0, 3)) == 0:
        tensor["data"] = draw(st.one_of(st.just([0.0] * COUNT), anything))
    return tensor


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """A body that is nearly right, and its header."""
    document: Any = {"inputs": draw(st.lists(tensors(), min_size=1, max_size=2))}
    if draw(st.integers(0, 3)) == 0:
        document["outputs"] = draw(st.one_of(st.just([{"name": "logits"}]), anything))
    if draw(st.integers(0, 3)) == 0:
        document["parameters"] = draw(
            st.one_of(
                st.fixed_dictionaries(
                    {"priority": odd_numbers, "timeout": odd_numbers, "binary_data_output": scalars}
                ),
                anything,
            )
        )
    if draw(st.integers(0, 7)) == 0:
        document["id"] = draw(anything)
    head = json.dumps(document).encode("utf-8", "surrogatepass")
    length = draw(st.one_of(st.just(len(head)), st.integers(-2, 5000), st.text(max_size=5)))
    tail = draw(st.one_of(st.just(bytes(COUNT * 4)), st.binary(max_size=64)))
    headers = {}
    if draw(st.integers(0, 9)):
        text = str(length).encode("latin-1", "replace").decode("latin-1")
        headers["Inference-Header-Content-Length"] = text
    if draw(st.integers(0, 9)) == 0:
        headers["X-Request-Timeout-Ms"] = str(draw(odd_numbers))
    if draw(st.integers(0, 9)) == 0:
        headers["Content-Encoding"] = draw(st.sampled_from(["gzip", "deflate", "br", "identity"]))
    return head + tail, headers


changes = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 255), st.booleans()),
    min_size=MUTATIONS - 1,
    max_size=MUTATIONS - 1,
)


@pytest.mark.slow
@given(asked=requests(), changed=changes)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_fifty_thousand_broken_requests_are_each_answered(
    asgi: Asgi, asked: tuple[bytes, dict[str, str]], changed: list[tuple[int, int, bool]]
) -> None:
    body, headers = asked
    _check(*asgi.post(body, headers))
    for place, byte, cut in changed:
        at = place % (len(body) or 1)
        broken = body[:at] if cut else body[:at] + bytes([byte]) + body[at + 1 :]
        _check(*asgi.post(broken, headers))


@pytest.mark.parametrize("shape", [[0, *SHAPE], [0, 2**62], [1] * 65, [2**40, 0]])
def test_an_empty_or_impossible_tensor_is_400(asgi: Asgi, shape: list[int]) -> None:
    entry = {"name": "image", "datatype": "FP32", "shape": shape, "data": []}
    if 0 not in shape:
        entry["data"] = [0.0]
    status, body = asgi.post(json.dumps({"inputs": [entry]}).encode(), {})
    assert status == 400
    assert "error" in json.loads(body)


@pytest.mark.slow
def test_the_schema_is_true(built: Path) -> None:
    """Every documented route answers as documented, to right and wrong requests."""
    with serving(built, name="residual") as (client, _):
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
        config = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        checks = CHECKS.get_by_names(
            ["not_a_server_error", "status_code_conformance", "content_type_conformance"]
        )

        for result in schema.get_all_operations():
            operation = result.ok()

            @given(case=operation.as_strategy())
            @config
            def ask(case: Any) -> None:
                case.call_and_validate(checks=checks)

            ask()
