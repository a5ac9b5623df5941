"""The real daemon, protected, in a process of its own; real clients on loopback."""

from __future__ import annotations

import asyncio
import queue
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from cryptography import x509
from tritonclient.utils import InferenceServerException

from edgekit.errors import SecurityError
from edgekit.security import signature
from edgekit.security.protection import SecurityConfig
from edgekit.security.tokens import add_token
from edgekit.serve.config import ServerConfig
from edgekit.serve.repository import Repository
from tests.conftest import SHAPE
from tests.daemon import EDGEKIT, running, start, stop
from tests.security.certificates import Authority

ANYWHERE = "0.0.0.0"  # noqa: S104, it has to be asked for


def test_a_server_with_tokens_over_tls(built: Path, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    cert, key = map(str, authority.issue("server"))
    tokens = tmp_path / "tokens.yaml"
    infer, admin = add_token(tokens, "camera"), add_token(tokens, "boss", admin=True)
    trusted = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    options = ("--host", ANYWHERE, "--tokens", str(tokens), "--tls-cert", cert, "--tls-key", key)
    with running(built, *options) as (url, told):
        assert url.startswith("https://")
        with httpx.Client(base_url=url, verify=trusted) as http:
            assert http.get("/v2/health/ready").status_code == 200
            answer = http.get("/v2/models/residual")
            assert answer.status_code == 401
            assert answer.headers["x-content-type-options"] == "nosniff"
            asks = {"Authorization": f"Bearer {infer}"}
            assert http.get("/v2/models/residual", headers=asks).status_code == 200
            unload = "/v2/repository/models/residual/unload"
            assert http.post(unload, headers=asks).status_code == 403
            asks = {"Authorization": f"Bearer {admin}"}
            assert http.post(unload, headers=asks).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{url}/v2/health/live")
    assert "".join(told).count("\n") == 1  # where it is: no warning, no hint, and no token
    assert infer not in told[0]


def test_a_server_that_wants_client_certificates(built: Path, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    stranger = Authority.make(tmp_path, "strangers")
    cert, key = map(str, authority.issue("server"))
    ca = str(tmp_path / "ca.pem")
    options = ("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca)
    with running(built, *options) as (url, _):
        for who, welcome in (
            (authority.issue("client"), True),
            (stranger.issue("other"), False),
            (None, False),
        ):
            context = ssl.create_default_context(cafile=ca)
            if who is not None:
                context.load_cert_chain(*who)
            with httpx.Client(verify=context) as http:
                if welcome:
                    assert http.get(f"{url}/v2/models/residual").status_code == 200
                    continue
                with pytest.raises(httpx.TransportError):
                    http.get(f"{url}/v2/models/residual")


def test_on_loopback_foreign_hosts_and_origins_are_refused(built: Path) -> None:
    with running(built) as (url, _), httpx.Client(base_url=url) as http:
        assert http.get("/v2").status_code == 200
        assert http.get("/v2", headers={"Host": "evil.example"}).status_code == 403
        origin = {"Origin": "https://evil.example"}
        unload = "/v2/repository/models/residual/unload"
        assert http.post(unload, headers=origin).status_code == 403
        assert http.get("/v2/models/residual").status_code == 200


def test_insecure_is_warned_about(built: Path) -> None:
    with running(built, "--host", ANYWHERE, "--insecure") as (url, told):
        assert httpx.get(f"{url}/v2", headers={"Host": "device.local"}).status_code == 200
    assert "Warning: --insecure: everybody" in told[1]


def test_what_would_be_open_to_all_does_not_start(built: Path) -> None:
    command = [*EDGEKIT, "serve", str(built), "--port", "0", "--host", ANYWHERE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == (
        f"edgekit: --host {ANYWHERE}: others can reach this address, and nothing is asked of them. "
        "Give --tokens FILE (edgekit token makes one) or --tls-client-ca, or --insecure to let "
        "everybody in.\n"
    )


def test_only_a_signed_bundle_is_loaded(bundle_copy: Path, tmp_path: Path) -> None:
    public = signature.keygen(tmp_path / "ours.key")

    async def load() -> None:
        security = SecurityConfig(require_signature=public)
        repository = Repository(bundle_copy, ServerConfig(security=security))
        await repository.start()
        await repository.close()

    with pytest.raises(SecurityError, match=r"bundle\.json: is not signed"):
        asyncio.run(load())
    signature.sign(bundle_copy / "bundle.json", tmp_path / "ours.key")
    asyncio.run(load())


def test_grpc_asks_for_the_same_tokens_and_certificates(built: Path, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    cert, key = map(str, authority.issue("server"))
    ca = str(tmp_path / "ca.pem")
    tokens = tmp_path / "tokens.yaml"
    metadata = {"authorization": f"Bearer {add_token(tokens, 'camera')}"}
    image = triton.InferInput("image", [1, *SHAPE], "FP32")
    image.set_data_from_numpy(np.zeros((1, *SHAPE), np.float32))
    options = ("--tokens", str(tokens), "--tls-cert", cert, "--tls-key", key, "--grpc-port", "0")
    with running(built, *options) as (_, told):
        address = told[0].partition("gRPC at ")[2].partition(",")[0]
        with triton.InferenceServerClient(address, ssl=True, root_certificates=ca) as client:
            assert client.is_server_ready()
            result = client.infer("residual", [image], headers=metadata)
            assert result.as_numpy("logits").shape == (1, 5)
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.infer("residual", [image])
            with pytest.raises(InferenceServerException, match="PERMISSION_DENIED"):
                client.unload_model("residual", headers=metadata)
            answers: queue.Queue[Any] = queue.Queue()
            client.start_stream(
                lambda result, error: answers.put((result, error)), headers=metadata
            )
            for _ in range(3):
                client.async_stream_infer("residual", [image])
            assert [answers.get(timeout=30)[1] for _ in range(3)] == [None] * 3
            client.stop_stream()
        with (
            triton.InferenceServerClient(address) as plain,
            pytest.raises(InferenceServerException, match="UNAVAILABLE"),
        ):
            plain.is_server_live()


def _shown(address: str, ca: Path) -> int:
    """The serial number of the certificate that a server shows to a new connection."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=ca)
    with (
        socket.create_connection((host, int(port)), timeout=10) as link,
        context.wrap_socket(link, server_hostname=host) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_hangup_reads_tokens_and_certificates_again(built: Path, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    cert, key = authority.issue("server")
    ca = tmp_path / "ca.pem"
    tokens = tmp_path / "tokens.yaml"
    first = add_token(tokens, "first")
    options = ("--tokens", str(tokens), "--tls-cert", str(cert), "--tls-key", str(key))
    server = start(built, "--runtime", "onnxruntime", *options, "--grpc-port", "0")
    over_grpc = server.told.partition("gRPC at ")[2].partition(",")[0]

    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(verify=ssl.create_default_context(cafile=ca)) as client:
            return client.get(f"{server.url}/v2", headers=headers).status_code

    try:
        before = _shown(server.address, ca)
        assert (status(first), _shown(over_grpc, ca)) == (200, before)

        tokens.unlink()
        second = add_token(tokens, "second")
        renewed = authority.issue("renewed")
        for old, new in zip((cert, key), renewed, strict=True):
            new.replace(old)
        assert status(second) == 401
        server.process.send_signal(signal.SIGHUP)
        _until(lambda: status(second) == 200)
        assert status(first) == 401
        after = _shown(server.address, ca)
        assert after != before
        assert _shown(over_grpc, ca) == after

        tokens.write_text("- name: broken\n")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        told = ""
        while "stay as they were" not in told:
            told = server.process.stderr.readline()
            assert told
        assert str(tokens) in told
        assert status(second) == 200
    finally:
        stop(server)
