"""The guard around a small real ASGI application, through a real ASGI client."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgekit.security.access import Access
from edgekit.security.bind import loopback_hosts
from edgekit.security.guard import Guard
from edgekit.security.tokens import Scope, Token, add_token, load_tokens

INFER = "/v2/models/digits/infer"
LOAD = "/v2/repository/models/digits/load"


async def application(scope: Any, receive: Any, send: Any) -> None:
    own = [(b"content-security-policy", b"own")] if scope["path"] == "/own" else []
    await send({"type": "http.response.start", "status": 200, "headers": own})
    await send({"type": "http.response.body", "body": b"passed"})


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "tokens.yaml"
    return {
        "camera": add_token(path, "camera"),
        "slow": add_token(path, "slow", rate=0.5, burst=2),
        "boss": add_token(path, "boss", admin=True),
    }


@pytest.fixture
def guard(tmp_path: Path, secrets: dict[str, str]) -> Guard:
    return Guard(application, access=Access(load_tokens(tmp_path / "tokens.yaml")))


def ask(guard: Guard, path: str, secret: str | None = None, **headers: str) -> httpx.Response:
    if secret is not None:
        headers["authorization"] = f"Bearer {secret}"

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
            return await http.post(path, headers=headers)

    return asyncio.run(post())


def test_a_token_passes_and_its_scheme_may_be_in_any_case(
    guard: Guard, secrets: dict[str, str]
) -> None:
    assert ask(guard, INFER, secrets["camera"]).text == "passed"
    header = f"bEARER  {secrets['camera']} "
    assert ask(guard, INFER, authorization=header).text == "passed"


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (None, "Bearer"),
        ("", "Bearer"),
        ("Bearer", "Bearer"),
        ("Basic dXNlcjpwYXNz", "Bearer"),
        ("Bearer ", 'Bearer error="invalid_token"'),
        ("Bearer wrong", 'Bearer error="invalid_token"'),
        ("Bearer \N{LATIN SMALL LETTER U WITH DIAERESIS}", 'Bearer error="invalid_token"'),
    ],
)
@pytest.mark.parametrize("path", [INFER, LOAD, "/metrics", "/predict/digits", "/docs"])
def test_nothing_passes_without_a_known_token(
    guard: Guard, path: str, header: str | None, challenge: str
) -> None:
    given = {} if header is None else {"authorization": header.encode("latin-1")}
    answer = ask(guard, path, **given)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == challenge
    assert "token" in answer.json()["error"]


def test_the_hash_in_the_file_is_not_a_token(
    guard: Guard, tmp_path: Path, secrets: dict[str, str]
) -> None:
    for token in load_tokens(tmp_path / "tokens.yaml"):
        assert ask(guard, INFER, token.sha256).status_code == 401


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/", "/page/main.js"])
def test_probes_and_the_page_need_no_token(guard: Guard, path: str) -> None:
    assert ask(guard, path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        LOAD,
        "/v2/repository/models/digits/unload",
        "/v2/repository/models/a%2Fb/load",
        "/v2/repository/models/digits/load/",
        "/v2/repository/index/../models/digits/load",
        "/v2/repository/anything",
    ],
)
def test_what_changes_the_server_needs_the_scope_admin(
    guard: Guard, secrets: dict[str, str], path: str
) -> None:
    answer = ask(guard, path, secrets["camera"])
    assert answer.status_code == 403
    assert 'scope="admin"' in answer.headers["www-authenticate"]
    assert answer.json() == {"error": "token 'camera' lacks the scope 'admin'"}
    assert ask(guard, path, secrets["boss"]).status_code == 200


def test_the_list_of_models_needs_no_admin(guard: Guard, secrets: dict[str, str]) -> None:
    assert ask(guard, "/v2/repository/index", secrets["camera"]).status_code == 200


def test_routes_are_told_apart_below_a_root_path(guard: Guard, secrets: dict[str, str]) -> None:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=guard, root_path="/edge")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            headers = {"authorization": f"Bearer {secrets['camera']}"}
            return await http.post(f"/edge{LOAD}", headers=headers)

    assert asyncio.run(post()).status_code == 403


def test_over_its_rate_a_token_is_told_when_to_come_back_and_no_other_suffers(
    guard: Guard, secrets: dict[str, str]
) -> None:
    assert [ask(guard, INFER, secrets["slow"]).status_code for _ in range(3)] == [200, 200, 429]
    answer = ask(guard, INFER, secrets["slow"])
    assert answer.headers["retry-after"] == "2"
    assert answer.json() == {"error": "token 'slow' is over its rate"}
    assert ask(guard, INFER, secrets["camera"]).status_code == 200


@pytest.mark.parametrize(
    ("path", "cache"), [(INFER, "no-store"), ("/predict/digits", "no-store"), ("/", None)]
)
def test_every_answer_has_the_security_headers(guard: Guard, path: str, cache: str | None) -> None:
    headers = ask(guard, path).headers  # refused or not
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers.get("cache-control") == cache


def test_a_policy_of_the_page_s_own_stays() -> None:
    assert ask(Guard(application), "/own").headers.get_list("content-security-policy") == ["own"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:9999", 200),
        ("[::1]:8000", 200),
        ("127.0.0.2", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8000", 403),
        ("", 403),
    ],
)
def test_on_loopback_no_foreign_host_name_is_answered(host: str, status: int) -> None:
    guard = Guard(application, hosts=loopback_hosts("127.0.0.2"))
    answer = ask(guard, INFER, host=host)
    assert answer.status_code == status
    assert status == 200 or "host name" in answer.json()["error"]


def test_elsewhere_every_host_name_is_answered() -> None:
    assert ask(Guard(application, hosts=loopback_hosts("device.local")), INFER, host="x").is_success


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("http://localhost:8001", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_origins_may_not_even_send(origin: str, status: int) -> None:
    assert ask(Guard(application), LOAD, origin=origin).status_code == status


def test_websockets_are_refused(guard: Guard) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v2/health/live", "headers": []}
    asyncio.run(guard(scope, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_no_token_is_ever_logged(
    guard: Guard, secrets: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in (INFER, LOAD):
        ask(guard, path, secrets["camera"])
    ask(guard, INFER, "wrong-secret")
    assert secrets["camera"] not in caplog.text
    assert "wrong-secret" not in caplog.text


def test_it_costs_less_than_ten_microseconds_also_with_a_thousand_tokens(
    secrets: dict[str, str], tmp_path: Path
) -> None:
    many = [
        Token(name=f"t{index}", sha256=f"{index:064x}", scopes=frozenset(Scope), rate=1e9)
        for index in range(1000)
    ]
    guard = Guard(application, access=Access([*many, *load_tokens(tmp_path / "tokens.yaml")]))
    headers = [
        (b"host", b"localhost:8000"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"user-agent", b"python-httpx/0.28"),
        (b"inference-header-content-length", b"200"),
        (b"content-length", b"12488"),
        (b"content-type", b"application/octet-stream"),
        (b"authorization", b"Bearer " + secrets["camera"].encode()),
    ]
    scope = {"type": "http", "path": INFER, "headers": headers, "root_path": ""}

    async def send(message: Any) -> None:
        pass

    async def batch(app: Any) -> float:
        start = time.perf_counter()
        for _ in range(200):
            await app(scope, None, send)
        return (time.perf_counter() - start) / 200

    async def added() -> float:
        # The least of many short batches, in turn: what else the machine does only adds.
        pairs = [(await batch(guard), await batch(application)) for _ in range(50)]
        return min(guarded for guarded, _ in pairs) - min(bare for _, bare in pairs)

    assert asyncio.run(added()) < 10e-6
