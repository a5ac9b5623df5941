"""The real daemon's gRPC side, with the unmodified client of Triton."""

from __future__ import annotations

import asyncio
import queue
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.serve.proto import METHODS, messages
from edgekit.verify import Reference
from tests.conftest import SHAPE
from tests.daemon import EDGEKIT, start, stop
from tests.serve.test_grpc_server import run


@pytest.fixture(scope="module")
def address(built: Path) -> Iterator[str]:
    """The gRPC address of a real daemon."""
    server = start(built, "--runtime", "onnxruntime", "--grpc-port", "0")
    (found,) = re.findall(r"gRPC at (127\.0\.0\.1:\d+)", server.told)
    yield found
    assert stop(server) in {0, -15}


@pytest.fixture(scope="module")
def sample(built: Path) -> np.ndarray:
    return Reference.load(built / "reference.npz").feeds[0]["image"]


@pytest.fixture(scope="module")
def expected(built: Path, sample: np.ndarray) -> np.ndarray:
    bundle = Bundle.open(built)
    artifact = bundle.selected("onnxruntime")
    with runtimes.get("onnxruntime").load(bundle.file(artifact)) as session:
        return session.run({"image": sample})["logits"]


def _feed(sample: np.ndarray) -> triton.InferInput:
    feed = triton.InferInput("image", list(sample.shape), "FP32")
    feed.set_data_from_numpy(sample)
    return feed


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tritonclient_gets_the_right_answer(
    address: str, sample: np.ndarray, expected: np.ndarray, compression: str | None
) -> None:
    with triton.InferenceServerClient(address) as client:
        result = client.infer(
            "residual",
            [_feed(sample)],
            outputs=[triton.InferRequestedOutput("logits")],
            request_id="a1",
            compression_algorithm=compression,
        )
    np.testing.assert_allclose(result.as_numpy("logits"), expected, rtol=1e-4, atol=1e-5)
    assert result.get_response().id == "a1"


def test_tritonclient_aio_gets_the_right_answer(
    address: str, sample: np.ndarray, expected: np.ndarray
) -> None:
    async def work() -> None:
        async with triton_aio.InferenceServerClient(address) as client:
            results = await asyncio.gather(
                *(client.infer("residual", [_feed(sample)]) for _ in range(8))
            )
        for result in results:
            np.testing.assert_allclose(result.as_numpy("logits"), expected, rtol=1e-4, atol=1e-5)

    run(work())


def test_tritonclient_streams(address: str, sample: np.ndarray, expected: np.ndarray) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for index, name in enumerate(["residual", "other", "residual"]):
            client.async_stream_infer(name, [_feed(sample)], request_id=str(index))
        found = [answers.get(timeout=30) for _ in range(3)]
        client.stop_stream()
    assert "unknown model 'other'" in str(found[1][1])
    for index in (0, 2):
        assert found[index][0].get_response().id == str(index)
        np.testing.assert_allclose(
            found[index][0].as_numpy("logits"), expected, rtol=1e-4, atol=1e-5
        )


def test_tritonclient_gets_classes(address: str, sample: np.ndarray, expected: np.ndarray) -> None:
    with triton.InferenceServerClient(address) as client:
        wanted = triton.InferRequestedOutput("logits", class_count=2)
        found = client.infer("residual", [_feed(sample)], outputs=[wanted]).as_numpy("logits")
    best = np.argsort(-expected[0])[:2]
    assert [text.decode().split(":")[1:] for text in found[0]] == [
        [str(index), "abcde"[index]] for index in best
    ]


def test_tritonclient_manages_and_asks(address: str, sample: np.ndarray) -> None:
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("residual", "1")
        assert "binary_tensor_data" in client.get_server_metadata().extensions
        metadata = client.get_model_metadata("residual")
        assert list(metadata.inputs[0].shape) == [-1, *SHAPE]
        client.infer("residual", [_feed(sample)])
        (statistics,) = client.get_inference_statistics("residual").model_stats
        assert statistics.inference_stats.success.count >= 1
        client.unload_model("residual")
        assert not client.is_model_ready("residual")
        (entry,) = client.get_model_repository_index().models
        assert (entry.name, entry.state) == ("residual", "UNAVAILABLE")
        with pytest.raises(InferenceServerException) as caught:
            client.infer("residual", [_feed(sample)])
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        client.load_model("residual")
        assert client.is_model_ready("residual")


def test_what_is_not_there_says_so(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.is_model_ready("other")
        assert caught.value.status() == "StatusCode.NOT_FOUND"
        with pytest.raises(InferenceServerException) as caught:
            client.get_model_config("residual")  # an extension that this server does not have
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_a_model_is_loaded_as_it_lies_on_disk_only(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        with pytest.raises(InferenceServerException, match="without config") as caught:
            client.load_model("residual", config="{}")
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
        assert client.is_model_ready("residual")


def test_a_grpc_port_in_use_is_one_line_and_exit_code_2(built: Path, address: str) -> None:
    done = subprocess.run(
        [*EDGEKIT, "serve", str(built), "--port", "0", "--grpc-port", address.partition(":")[2]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"edgekit: {address}: the port is in use. Choose another --grpc-port, or stop what uses it."
    )


def test_thousands_of_calls_at_once_are_each_answered_or_refused_with_a_reason(
    address: str, sample: np.ndarray
) -> None:
    """gRPC's own limits, 1,000 and 3,000 calls that no handler has yet, drop calls silently."""
    method = METHODS["ModelInfer"]
    message = messages.ModelInferRequest(model_name="residual")
    message.inputs.add(name="image", datatype="FP32", shape=sample.shape)
    message.raw_input_contents.append(sample.tobytes())

    async def ask(call: Any) -> tuple[grpc.StatusCode, str]:
        try:
            await call(message)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    async def work() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                method.path, method.request.SerializeToString, method.response.FromString
            )
            answers = await asyncio.gather(*(ask(call) for _ in range(6000)))
        refused = {code: told for code, told in answers if code is not grpc.StatusCode.OK}
        assert refused.keys() <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert all("requests are waiting" in told for told in refused.values())
        assert len(refused) < len(answers)

    run(work())
