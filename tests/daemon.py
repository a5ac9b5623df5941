"""``edgekit serve`` in a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["EDGEKIT", "running"]

EDGEKIT = [sys.executable, "-m", "edgekit"]


@contextmanager
def running(bundle: Path, *options: str) -> Iterator[tuple[str, list[str]]]:
    """A server with these options: its URL, and what it has told when the block is left."""
    command = [*EDGEKIT, "serve", str(bundle), "--port", "0", "--runtime", "onnxruntime", *options]
    told: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told.append(process.stderr.readline())
        found = re.search(r"(https?://)([\d.]+)(:\d+)", told[0])
        try:
            assert found, told[0] + process.stderr.read()
            host = found[2].replace("0.0.0.0", "127.0.0.1")  # noqa: S104, it had to be asked for
            yield f"{found[1]}{host}{found[3]}", told
        finally:
            process.send_signal(signal.SIGTERM)
            told.append(process.stderr.read())
