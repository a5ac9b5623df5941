"""Silence for libraries that log and print about their own internals."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from threading import RLock

__all__ = ["native_stderr", "quiet"]

#: The process has one stderr.
_STDERR = RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Torch logs and prints pages about its own internals; failures arrive as exceptions."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def native_stderr() -> Iterator[list[str]]:
    """Keep what native code writes to the process's stderr, past Python's own.

    Yields:
        A list that has the lines once the block is left, by an exception, too.
    """
    lines: list[str] = []
    with _STDERR, tempfile.TemporaryFile(buffering=0) as written:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            lines += written.read().decode(errors="replace").splitlines()
