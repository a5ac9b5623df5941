"""``edgekit serve`` in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EDGEKIT", "Server", "running", "start", "stop"]

EDGEKIT = [sys.executable, "-m", "edgekit"]


@dataclass
class Server:
    """A running server.

    Attributes:
        process: to be stopped.
        url: on the loopback interface.
        told: the first line of what it said.
    """

    process: subprocess.Popen[str]
    url: str
    told: str

    @property
    def address(self) -> str:
        return self.url.partition("://")[2]


def start(bundle: Path, *options: str) -> Server:
    """A server with these options, ready."""
    process = subprocess.Popen(
        [*EDGEKIT, "serve", str(bundle), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = process.stderr.readline()
    found = re.search(r"(https?://)([\d.]+)(:\d+)", told)
    assert found, told + process.stderr.read()
    host = found[2].replace("0.0.0.0", "127.0.0.1")  # noqa: S104, it had to be asked for
    return Server(process, f"{found[1]}{host}{found[3]}", told)


def stop(server: Server) -> int:
    """Its exit status after SIGTERM."""
    server.process.send_signal(signal.SIGTERM)
    server.process.communicate(timeout=30)
    return server.process.returncode


@contextmanager
def running(bundle: Path, *options: str) -> Iterator[tuple[str, list[str]]]:
    """A server with these options: its URL, and what it has told when the block is left."""
    server = start(bundle, "--runtime", "onnxruntime", *options)
    told = [server.told]
    try:
        yield server.url, told
    finally:
        server.process.send_signal(signal.SIGTERM)
        told.append(server.process.communicate()[1])
