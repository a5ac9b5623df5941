"""A real gRPC server behind the guard, and real clients on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from edgekit.security.access import Access
from edgekit.security.grpc_guard import GrpcGuard
from edgekit.security.tls import Tls
from edgekit.security.tokens import add_token, load_tokens
from tests.security.certificates import Authority

SERVICE = "inference.GRPCInferenceService"
UNARY = ("ServerLive", "ServerReady", "ModelInfer", "RepositoryIndex", "RepositoryModelLoad")

Use = Callable[[Any], Awaitable[Any]]


async def echo(request: bytes, _: Any) -> bytes:
    return request


async def echo_stream(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def echo_written(requests: AsyncIterator[bytes], context: Any) -> None:
    async for request in requests:
        await context.write(request)


def serve(guard: GrpcGuard, use: Use, tls: Tls | None = None, client: Any = None) -> Any:
    """Start a server, run ``use`` on a channel to it, stop it."""

    async def run() -> Any:
        server = grpc.aio.server(interceptors=[guard])
        handlers = {name: grpc.unary_unary_rpc_method_handler(echo) for name in UNARY}
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(echo_stream)
        handlers["Written"] = grpc.stream_stream_rpc_method_handler(echo_written)
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        server.add_generic_rpc_handlers((generic,))
        if tls is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", tls.grpc())
        await server.start()
        opened = (
            grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            if tls is None
            else grpc.aio.secure_channel(f"127.0.0.1:{port}", client)
        )
        try:
            async with opened as channel:
                return await use(channel)
        finally:
            await server.stop(None)

    return asyncio.run(run())


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "tokens.yaml"
    return {
        "camera": add_token(path, "camera"),
        "slow": add_token(path, "slow", rate=20, burst=2),
        "boss": add_token(path, "boss", admin=True),
    }


@pytest.fixture
def guard(tmp_path: Path, secrets: dict[str, str]) -> GrpcGuard:
    return GrpcGuard(Access(load_tokens(tmp_path / "tokens.yaml")))


def call(channel: Any, method: str, secret: str | None) -> Any:
    metadata = None if secret is None else (("authorization", f"Bearer {secret}"),)
    return channel.unary_unary(f"/{SERVICE}/{method}")(b"x", metadata=metadata)


@pytest.mark.parametrize(
    ("method", "who", "code"),
    [
        ("ServerLive", None, "OK"),
        ("ServerReady", None, "OK"),
        ("ModelInfer", None, "UNAUTHENTICATED"),
        ("ModelInfer", "wrong", "UNAUTHENTICATED"),
        ("ModelInfer", "camera", "OK"),
        ("RepositoryIndex", "camera", "OK"),
        ("RepositoryModelLoad", "camera", "PERMISSION_DENIED"),
        ("RepositoryModelLoad", "boss", "OK"),
        ("Unknown", "camera", "UNIMPLEMENTED"),
    ],
)
def test_the_same_rules_as_for_http(
    guard: GrpcGuard, secrets: dict[str, str], method: str, who: str | None, code: str
) -> None:
    async def use(channel: Any) -> str:
        try:
            await call(channel, method, None if who is None else secrets.get(who, who))
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    assert serve(guard, use) == code


def test_over_its_rate_a_call_is_refused_with_the_time_to_wait(
    guard: GrpcGuard, secrets: dict[str, str]
) -> None:
    async def use(channel: Any) -> grpc.aio.AioRpcError:
        for _ in range(2):
            await call(channel, "ModelInfer", secrets["slow"])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, "ModelInfer", secrets["slow"])
        return caught.value

    error = serve(guard, use)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "token 'slow' is over its rate"
    assert 0 < int(dict(error.trailing_metadata())["grpc-retry-pushback-ms"]) <= 50


def test_a_stream_without_a_token_is_refused_at_once(guard: GrpcGuard) -> None:
    async def use(channel: Any) -> Any:
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")()
        return await asyncio.wait_for(stream.code(), 10)  # it has sent nothing yet

    assert serve(guard, use) == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", ["ModelStreamInfer", "Written"])
def test_a_stream_is_read_at_its_token_s_rate(
    guard: GrpcGuard, secrets: dict[str, str], method: str
) -> None:
    sent = [bytes([index]) for index in range(8)]

    async def use(channel: Any) -> tuple[list[bytes], float]:
        metadata = (("authorization", f"Bearer {secrets['slow']}"),)
        start = time.monotonic()
        stream = channel.stream_stream(f"/{SERVICE}/{method}")(iter(sent), metadata=metadata)
        return [response async for response in stream], time.monotonic() - start

    received, seconds = serve(guard, use)
    assert received == sent
    assert seconds >= (len(sent) - 2) / 20 * 0.99  # two at once, then 20 a second


def test_grpc_over_mutual_tls(guard: GrpcGuard, tmp_path: Path, secrets: dict[str, str]) -> None:
    authority = Authority.make(tmp_path)
    root = (tmp_path / "ca.pem").read_bytes()
    cert, key = authority.issue("client")
    tls = Tls(*authority.issue("server"), client_ca=tmp_path / "ca.pem")
    known = grpc.ssl_channel_credentials(root, key.read_bytes(), cert.read_bytes())

    async def use(channel: Any) -> Any:
        return await call(channel, "ModelInfer", secrets["camera"])

    assert serve(guard, use, tls, known) == b"x"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        serve(guard, use, tls, grpc.ssl_channel_credentials(root))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
