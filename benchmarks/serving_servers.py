"""The servers that ``serving.py`` compares: how each is started, asked and read."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from serving_client import Connection, Reply, request
from serving_models import Served

from edgekit.closing import Closing
from edgekit.spec import Array

__all__ = ["Format", "Running", "Server", "edgekit_server", "peers"]

SCRIPTS = Path(__file__).parent / "servers"
JSON = {"Content-Type": "application/json"}
HEADER_LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/model/infer"


@dataclass(frozen=True)
class Format:
    """A way to send a tensor and to get one back."""

    message: bytes
    read: Callable[[Reply], Array]


@dataclass(frozen=True)
class Server:
    """A server that can be started.

    Attributes:
        name: what the tables call it.
        command: how to start it; the port is put where ``{port}`` stands.
        formats: by name, the first being the server's fastest.
    """

    name: str
    command: tuple[str, ...]
    formats: Mapping[str, Format]
    y: Array

    @property
    def best(self) -> Format:
        return next(iter(self.formats.values()))

    def right(self, form: Format, reply: Reply) -> bool:
        return reply.status == 200 and np.allclose(form.read(reply), self.y.ravel(), atol=1e-4)


class Running(Closing):
    """A server in processes of its own, from its start to the end of the ``with``.

    Attributes:
        ready_s: seconds from the start of the process to its first right answer.

    Raises:
        RuntimeError: it ended or gave no right answer in time; with the end of what it printed.
    """

    def __init__(self, server: Server, timeout: float = 60) -> None:
        self.server, self.port = server, _free_port()
        command = [part.format(port=self.port) for part in server.command]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed in close
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, start_new_session=True, env=_environment()
        )
        try:
            self._wait(begin + timeout)
        except RuntimeError:
            self.close()
            raise
        self.ready_s = time.perf_counter() - begin

    def _wait(self, until: float) -> None:
        while time.perf_counter() < until and self._process.poll() is None:
            try:
                connection = Connection(self.port, timeout=5)
                if self.server.right(self.server.best, connection.ask(self.server.best.message)):
                    connection.close()
                    return
            except OSError:  # not yet bound, or it has no route yet
                pass
            time.sleep(0.005)
        raise RuntimeError(f"{self.server.name} does not answer: {self.last_line()}")

    def last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def memory_mb(self) -> tuple[float, float]:
        """Resident memory of its processes: summed, and with shared pages counted once (MB)."""
        main = psutil.Process(self._process.pid)
        found = [p.memory_full_info() for p in (main, *main.children(recursive=True))]
        return sum(m.rss for m in found) / 2**20, sum(m.pss for m in found) / 2**20

    def stop(self) -> None:
        """Halt it, so that its polling costs the other servers nothing; :meth:`go` goes on."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, and what it started: LitServe's processes outlive it."""
        if self._process.poll() is None:
            self.go()
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


def edgekit_server(
    model: Served, *options: str, name: str = "edgekit", path: Path | None = None
) -> Server:
    """Ours, as a user starts it; on another path than the model's bundle, where one is given."""
    served = str(path or model.bundle)
    command = (sys.executable, "-m", "edgekit", "serve", served, "--port", "{port}")
    engine = ("--runtime", "onnxruntime", "--threads", "1")
    path = f"/v2/models/{model.name}/infer"
    return Server(name, (*command, *engine, *options), _protocol(model, path), model.y)


def peers(python: str, model: Served, *options: str, mode: str = "") -> list[Server]:
    """The others, with batching options for all of them."""

    def peer(name: str, formats: Mapping[str, Format]) -> Server:
        script = SCRIPTS / f"{name}_onnx.py"
        command = (python, str(script), str(model.onnx), "{port}", *options)
        return Server(f"{name}{mode}", command, formats, model.y)

    numbers = _tensor(model, data=model.x.ravel().tolist())
    packed = base64.b64encode(model.x.tobytes()).decode()
    text = {"name": model.input, "shape": [1], "datatype": "BYTES", "data": [packed]}
    return [
        peer(
            "mlserver",
            {
                "base64": Format(_json(INFER, {"inputs": [text]}), _v2),
                "json": Format(_json(INFER, {"inputs": [numbers]}), _v2),
            },
        ),
        peer(
            "litserve",
            {
                "base64": Format(_json("/predict", {"b64": packed}), _plain),
                "json": Format(_json("/predict", {"data": numbers["data"]}), _plain),
            },
        ),
        peer(
            "fastapi",
            {
                "raw": Format(request("/raw", model.x.tobytes(), {}), _raw),
                "json": Format(_json("/json", {"inputs": [numbers]}), _v2),
            },
        ),
        peer("pytriton", _protocol(model, INFER, tensor="x")),
    ]


def _protocol(model: Served, path: str, tensor: str | None = None) -> dict[str, Format]:
    """The Open Inference Protocol with binary tensors, and with JSON."""
    size = {"binary_data_size": model.x.nbytes}
    described = _tensor(model, parameters=size)
    numbers = _tensor(model, data=model.x.ravel().tolist())
    if tensor is not None:
        described["name"] = numbers["name"] = tensor
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    fields = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return {
        "binary": Format(request(path, head + model.x.tobytes(), fields), _binary),
        "json": Format(_json(path, {"inputs": [numbers]}), _v2),
    }


def _tensor(model: Served, **more: object) -> dict[str, object]:
    return {"name": model.input, "shape": list(model.x.shape), "datatype": "FP32", **more}


def _json(path: str, content: object) -> bytes:
    return request(path, json.dumps(content, separators=(",", ":")).encode(), JSON)


def _v2(reply: Reply) -> Array:
    return np.asarray(json.loads(reply.body)["outputs"][0]["data"], np.float32).ravel()


def _plain(reply: Reply) -> Array:
    return np.asarray(json.loads(reply.body)["data"], np.float32)


def _raw(reply: Reply) -> Array:
    return np.frombuffer(reply.body, np.float32)


def _binary(reply: Reply) -> Array:
    return np.frombuffer(reply.body[int(reply.field(HEADER_LENGTH)) :], np.float32)


def _free_port() -> int:
    """The first of three free ports in a row: MLServer binds three.

    From below those that the system gives to connections, which would take one in the meantime.
    """
    while True:
        port = secrets.choice(range(20000, 32000, 3))
        if all(_is_free(port + more) for more in range(3)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _environment() -> dict[str, str]:
    """Triton's Python backend must find the libpython of the Python that it is installed for."""
    library = sysconfig.get_config_var("LIBDIR")
    return {**os.environ, "LD_LIBRARY_PATH": library, "OMP_NUM_THREADS": "1"}
