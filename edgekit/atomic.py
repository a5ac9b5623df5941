"""The one place that writes results: whole or not at all, also when the process is killed."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edgekit.errors import OutputError

__all__ = ["recover", "replaced_folder", "write_file", "writing_file"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that ``path`` is either absent, as before, or complete.

    Args:
        path: the file.
        data: what it shall hold.
        mode: its rights; nobody has more while it is written.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with writing_file(path, mode=mode) as stream:
        stream.write(data)


@contextmanager
def writing_file(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A stream that becomes the file ``path`` when the block ends without an error.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with _as_output_error(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def replaced_folder(path: Path, expect: str) -> Iterator[Path]:
    """A new folder that takes the place of ``path`` when the block ends without an error.

    Args:
        path: where the folder shall be; what is there already must be such a folder too.
        expect: a file that marks an existing folder as one that may be replaced.

    Raises:
        OutputError: the place cannot be written, or holds something else.
    """
    with _as_output_error(path):
        recover(path)
        if path.exists() and not (path / expect).is_file():
            raise OutputError(
                f"exists and has no {expect}, so it is left alone",
                where=str(path),
                fix="Choose another output path or remove it",
            )
        _remove_leftovers(path)
        building = Path(tempfile.mkdtemp(prefix=_building(path, os.getpid()), dir=path.parent))
    try:
        yield building
        with _as_output_error(path):
            building.chmod(0o755)
            _flush(building)
            _exchange(building, path)
            _flush_directory(path.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def recover(path: Path) -> None:
    """Put back a folder that a process killed between two renames had set aside."""
    aside = _aside(path)
    if aside.exists() and not path.exists():
        aside.rename(path)


def _exchange(building: Path, path: Path) -> None:
    """Put ``building`` at ``path`` in one step, or in two that :func:`recover` can undo."""
    if not path.exists():
        building.rename(path)
    elif not _rename_exchange(building, path):
        aside = _aside(path)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        building.rename(path)
        shutil.rmtree(aside)


def _rename_exchange(first: Path, second: Path) -> bool:
    """Swap two paths atomically (Linux's renameat2); False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    done = renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    return bool(done == 0)


def _aside(path: Path) -> Path:
    return path.parent / f".{path.name}.old"


def _building(path: Path, pid: int) -> str:
    return f".{path.name}.new-{pid}-"


def _remove_leftovers(path: Path) -> None:
    """Remove half-built folders of processes that are gone."""
    for folder in path.parent.glob(f".{path.name}.new-*-*"):
        pid = folder.name.removeprefix(f".{path.name}.new-").partition("-")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(folder: Path) -> None:
    for directory, _, files in os.walk(folder):
        for name in files:
            with (Path(directory) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        _flush_directory(Path(directory))


def _flush_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot flush a directory
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            fix="Choose a folder that exists, is writable and has room",
        ) from error
