"""A file that grows line by line while a run goes on, and what becomes of it on a full disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from edgekit.errors import OutputError

__all__ = ["GrowingFile", "free_to_write"]

#: With less room than this no run begins: it would hold a few thousand samples at most.
_ROOM = 1 << 20

_FSYNC_S = 1.0


class GrowingFile:
    """Lines appended to a file that this process alone writes.

    A line is with the system when :meth:`append` returns, so a killed process loses none, and with
    the disk within a second, for when the power fails. When the file cannot grow, what follows is
    written to a new one in the folder for temporary files; where that fails, too, it is kept in
    memory and tried again with the next line. So is a line in which Ctrl-C came.

    Args:
        path: the file; made if it is missing.

    Attributes:
        aside: where it went on when ``path`` could not grow.
        trouble: why; empty while all is well.
        held: lines that could not be written anywhere.

    Raises:
        OutputError: it cannot be written, there is next to no room, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aside: Path | None = None
        self.trouble = ""
        self.held = b""
        self._synced = time.monotonic()
        self._file = _opened(path)
        self._size = 0

    def begin(self, text: str, *, anew: bool) -> None:
        """The first line, which has to work: nothing was measured yet.

        Args:
            text: the line, or what ends a torn one.
            anew: what is in the file goes.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            if anew:
                os.ftruncate(self._file, 0)
            _write(self._file, os.fstat(self._file).st_size, text.encode())
            os.fsync(self._file)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            self.close()
            raise _unwritable(self.path, error) from error

    def append(self, line: str) -> None:
        """One more line."""
        self.held += f"{line}\n".encode()
        self.flush()
        if time.monotonic() - self._synced > _FSYNC_S:
            self.sync()

    def flush(self) -> None:
        """Try to write what is held. To do it twice is to do it once, wherever Ctrl-C came."""
        try:
            _write(self._file, self._size, self.held)
        except OSError as error:
            self.trouble = self.trouble or str(error.strerror)
            if self.aside is None:
                self._go_aside()
        else:
            self._size, self.held = self._size + len(self.held), b""

    def sync(self) -> None:
        """See that the disk has everything."""
        self._synced = time.monotonic()
        try:
            os.fsync(self._file)
        except OSError as error:  # a full network file system tells it here
            self.trouble = self.trouble or str(error.strerror)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def remove(self) -> None:
        """Remove it, and where it went on."""
        for path in (self.path, self.aside):
            if path is not None:
                path.unlink(missing_ok=True)

    def _go_aside(self) -> None:
        with suppress(OSError, OutputError):
            aside = Path(tempfile.mkdtemp(prefix="edgekit-")) / self.path.name
            file = _opened(aside)
            try:
                _write(file, 0, self.held)
            except OSError:
                os.close(file)
                raise
            os.close(self._file)
            self.aside, self._file = aside, file
            self._size, self.held = len(self.held), b""


def free_to_write(file: int) -> bool:
    """Take the lock that a process keeps as long as it has the file open."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(path: Path) -> int:
    try:
        if (free := shutil.disk_usage(path.parent).free) < _ROOM:
            raise OutputError(
                f"there is no room for samples, {free} bytes are free",
                where=str(path.parent),
                fix="Make room, or choose another place with --output",
            )
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unwritable(path, error) from error
    if not free_to_write(file):
        os.close(file)
        raise OutputError(
            "is being written by another process",
            where=str(path),
            fix="Wait for it, or choose another place with --output",
        )
    return file


def _write(file: int, size: int, data: bytes) -> None:
    """Write all of ``data`` behind the first ``size`` bytes of a file, or nothing."""
    left = memoryview(data)
    try:
        os.ftruncate(file, size)
        while left:
            left = left[os.write(file, left) :]
    except OSError:
        os.ftruncate(file, size)
        raise


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot be written: {error.strerror}",
        where=str(path),
        fix="Choose a place that exists, is writable and has room with --output",
    )
