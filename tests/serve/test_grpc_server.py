"""The gRPC side: in this process with an engine that a test holds up, and the real daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tritonclient.utils import InferenceServerException

from edgekit.bundle import Bundle
from edgekit.errors import OutputError
from edgekit.serve.config import ServerConfig
from edgekit.serve.entry import Entry, Version
from edgekit.serve.errors import ServeError
from edgekit.serve.grpc_server import GrpcServer, start_grpc
from edgekit.serve.model import Inference
from edgekit.serve.proto import METHODS, messages
from edgekit.serve.repository import Repository
from edgekit.serve.statistics import Stages
from edgekit.spec import Feeds
from tests.serve.doubling import Doubling, feeds
from tests.serve.test_model import model

LIMIT = 2**20


@asynccontextmanager
async def serving(servable: Any, path: Path = Path(), **options: Any) -> AsyncIterator[GrpcServer]:
    """The gRPC side of a repository that has just this."""
    repository = Repository(path, ServerConfig())
    repository.entries[servable.name] = Entry(servable.name, {"1": Version(servable)})
    server = await start_grpc(repository, "127.0.0.1", 0, limit=LIMIT, **options)
    yield server
    await server.stop(0)


@asynccontextmanager
async def calling(server: GrpcServer) -> AsyncIterator[Callable[..., Any]]:
    """A client's ``ModelInfer``."""
    method = METHODS["ModelInfer"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        yield call


def _message(value: float = 1, **fields: Any) -> Any:
    x = feeds(value)["x"]
    message = messages.ModelInferRequest(model_name="doubling", **fields)
    message.inputs.add(name="x", datatype="FP32", shape=x.shape)
    message.raw_input_contents.append(x.tobytes())
    return message


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def _until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.002)


def test_the_deadline_of_a_call_reaches_the_queue(bundle: Bundle) -> None:
    async def work() -> None:
        async with (
            model(bundle, max_batch=1) as (made, session),
            serving(made) as server,
            calling(server) as call,
        ):
            session.gate.clear()
            first = call(_message(1))
            await _until(lambda: bool(session.shapes))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(_message(2), timeout=0.1)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await _until(lambda: made.statistics.pending == 1)  # it left the queue
            session.gate.set()
            await first
            assert len(session.shapes) == 1

    run(work())


def test_the_timeout_parameter_is_a_deadline_that_the_server_answers(bundle: Bundle) -> None:
    async def work() -> None:
        async with (
            model(bundle, max_batch=1) as (made, session),
            serving(made) as server,
            triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
        ):
            session.gate.clear()
            sent = triton.InferInput("x", [1, 3], "FP32")
            sent.set_data_from_numpy(feeds(1)["x"])
            with pytest.raises(InferenceServerException, match="the deadline passed") as caught:
                await client.infer("doubling", [sent], timeout=50_000)
            assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
            session.gate.set()

    run(work())


def test_a_cancelled_call_leaves_the_queue(bundle: Bundle) -> None:
    async def work() -> None:
        async with (
            model(bundle, max_batch=1) as (made, session),
            serving(made) as server,
            calling(server) as call,
        ):
            session.gate.clear()
            first = call(_message(1))
            await _until(lambda: bool(session.shapes))
            second = call(_message(2))
            await _until(lambda: made.statistics.pending == 2)
            second.cancel()
            await _until(lambda: made.statistics.pending == 1)
            assert made.statistics.failures == {"CANCELED": 1}
            session.gate.set()
            await first
            assert len(session.shapes) == 1

    run(work())


def test_stopping_waits_for_what_is_under_way_and_takes_no_more(bundle: Bundle) -> None:
    async def work() -> None:
        async with (
            model(bundle, max_batch=1) as (made, session),
            serving(made) as server,
            calling(server) as call,
        ):
            session.gate.clear()
            under_way = call(_message(1))
            await _until(lambda: made.statistics.pending == 1)
            stopping = asyncio.create_task(server.stop(30))
            await asyncio.sleep(0.05)
            assert not stopping.done()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(_message(2))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            session.gate.set()
            answer = await under_way
            assert np.frombuffer(answer.raw_output_contents[0], np.float32)[0] == 2
            await stopping

    run(work())


class Told:
    """A model that waits as long as its input says, then gives it back or raises."""

    name, version, platform, labels = "doubling", "1", "python", ()
    inputs, outputs = Doubling.inputs, Doubling.outputs

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.running = 0

    async def infer(
        self, feeds: Feeds, *, deadline: float | None = None, priority: int = 0
    ) -> Inference:
        del deadline, priority
        self.running += 1
        try:
            await asyncio.sleep(float(feeds["x"][0, 0]))
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return Inference({"y": feeds["x"]}, self, Stages())

    async def ready(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (408, "DEADLINE_EXCEEDED"),
        (413, "RESOURCE_EXHAUSTED"),
        (415, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_every_status_has_its_code(status: int, code: str) -> None:
    async def work() -> None:
        error = ServeError("told", status=status, retry_after=0.25)
        async with serving(Told(error)) as server, calling(server) as call:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(_message(0))
            assert (caught.value.code().name, caught.value.details()) == (code, "told.")
            assert ("grpc-retry-pushback-ms", "250") in list(caught.value.trailing_metadata())

    run(work())


def test_an_error_that_nobody_expected_is_logged_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        async with serving(Told(ZeroDivisionError("secret"))) as server, calling(server) as call:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(_message(0))
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert "secret" not in caught.value.details()
        assert "ModelInfer failed" in caplog.text
        assert "secret" in caplog.text

    run(work())


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_message_over_the_limit_is_refused_before_and_after_decompression(
    compression: Any,
) -> None:
    async def work() -> None:
        large = _message(0)
        large.raw_input_contents[0] = bytes(4 * LIMIT)
        async with serving(Told()) as server, calling(server) as call:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(large, compression=compression)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await call(_message(0), compression=compression)).model_name == "doubling"

    run(work())


def test_a_port_in_use_is_told(bundle: Bundle) -> None:
    async def work() -> None:
        repository = Repository(bundle.path, ServerConfig())
        async with serving(Told()) as server:
            with pytest.raises(OutputError, match=f"127.0.0.1:{server.port}: cannot be bound"):
                await start_grpc(repository, "127.0.0.1", server.port, limit=LIMIT)

    run(work())


class Gate(grpc.aio.ServerInterceptor):
    """Lets calls with a token pass."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        if ("authorization", "Bearer t") in details.invocation_metadata:
            return await continuation(details)

        async def refuse(_: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")

        return grpc.unary_unary_rpc_method_handler(refuse)


def test_interceptors_see_every_call() -> None:
    async def work() -> None:
        async with serving(Told(), interceptors=[Gate()]) as server, calling(server) as call:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(_message(0))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            await call(_message(0), metadata=[("authorization", "Bearer t")])

    run(work())


def _certificate() -> tuple[bytes, bytes]:
    """A key and a certificate of its own for localhost, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(pem)


def test_credentials_encrypt() -> None:
    async def work() -> None:
        key, certificate = _certificate()
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        method = METHODS["ServerLive"]
        async with (
            serving(Told(), credentials=credentials) as server,
            grpc.aio.secure_channel(
                f"127.0.0.1:{server.port}",
                grpc.ssl_channel_credentials(certificate),
                options=[("grpc.ssl_target_name_override", "localhost")],
            ) as channel,
        ):
            call = channel.unary_unary(
                method.path, method.request.SerializeToString, method.response.FromString
            )
            assert (await call(method.request())).live

    run(work())


@asynccontextmanager
async def streaming(server: GrpcServer) -> AsyncIterator[Callable[[list[Any]], Any]]:
    method = METHODS["ModelStreamInfer"]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel.stream_stream(
            method.path, method.request.SerializeToString, method.response.FromString
        )


def test_a_stream_computes_side_by_side_and_answers_in_order() -> None:
    async def work() -> None:
        waits = [0.2, 0.0, 0.1, 0.2, 0.0, 0.2]
        async with serving(Told()) as server, streaming(server) as stream:
            sent = [_message(wait, id=str(index)) for index, wait in enumerate(waits)]
            start = time.monotonic()
            answers = [answer.infer_response async for answer in stream(sent)]
            assert [answer.id for answer in answers] == ["0", "1", "2", "3", "4", "5"]
            told = [
                np.frombuffer(answer.raw_output_contents[0], np.float32)[0] for answer in answers
            ]
            np.testing.assert_allclose(told, waits)
            assert time.monotonic() - start < sum(waits)
            assert answers[0].parameters["triton_final_response"].bool_param

    run(work())


def test_an_error_is_one_answer_of_a_stream() -> None:
    async def work() -> None:
        async with serving(Told()) as server, streaming(server) as stream:
            wrong = _message(0, id="b", model_version="9")
            sent = [_message(0, id="a"), wrong, _message(0, id="c")]
            answers = [answer async for answer in stream(sent)]
            assert [answer.infer_response.id for answer in answers] == ["a", "b", "c"]
            assert [bool(answer.error_message) for answer in answers] == [False, True, False]
            assert "unknown version '9'" in answers[1].error_message

    run(work())


def test_a_stream_without_end_is_read_only_as_far_as_it_is_answered() -> None:
    async def work() -> None:
        read = 0

        async def endless() -> AsyncIterator[Any]:
            nonlocal read
            while True:
                read += 1
                yield _message(0.05)

        told = Told()
        async with serving(told) as server, streaming(server) as stream:
            answers = stream(endless())
            await answers.read()
            assert 0 < told.running <= 32
            answers.cancel()
            await _until(lambda: not told.running)  # a cancelled stream cancels its requests
            assert read < 1000

    run(work())
