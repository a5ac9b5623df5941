"""A bundle in one small file: tar and zstd, ``NAME.edge.tar.zst``.

``tar --zstd -xf`` unpacks it, too. Weights that artifacts hold each by itself (small ones, those of
engines) are found by the long-distance matching of zstd and stored once; palettes and zeros shrink
as well.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import IO

import zstandard

from edgekit import bundle as bundles
from edgekit.atomic import writing_file
from edgekit.bundle import Bundle
from edgekit.errors import BundleError

__all__ = ["SUFFIX", "pack", "unpack"]

SUFFIX = ".tar.zst"

_LEVEL = 19
#: Repetitions are found over 128 MiB: the most that zstd unpacks without being asked to.
_WINDOW_LOG = 27


def pack(bundle: Bundle, out: Path) -> None:
    """Write the bundle as one file. The same bundle gives the same bytes.

    Raises:
        OutputError: ``out`` cannot be written.
    """
    settings = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, window_log=_WINDOW_LOG, enable_ldm=True, write_checksum=True
    )
    compressor = zstandard.ZstdCompressor(compression_params=settings)
    with (
        writing_file(out) as file,
        compressor.stream_writer(file, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|") as tar,
    ):
        for path in sorted(bundle.path.rglob("*")):
            tar.add(path, path.relative_to(bundle.path), recursive=False, filter=_anonymous)


def unpack(packed: Path, out: Path) -> Bundle:
    """Unpack and verify. What is not whole is not put at ``out``; an old bundle there is replaced.

    Raises:
        BundleError: no such file, not a packed bundle, damaged or truncated.
        OutputError: ``out`` cannot be written, or is something else than a bundle.
    """
    if not packed.is_file():
        raise BundleError(
            "no such file", where=str(packed), fix=f"Give a NAME.edge{SUFFIX} that pack wrote"
        )
    with packed.open("rb") as file, bundles.writing(out) as folder:
        try:
            _extract(file, folder)
        except (zstandard.ZstdError, tarfile.TarError, EOFError) as error:
            raise BundleError(
                f"is not a packed bundle, or is damaged: {error}",
                where=str(packed),
                fix="Copy it again, or pack the bundle again with edgekit pack",
            ) from error
        manifest = Bundle.open(folder).manifest
    return Bundle(out, manifest)


def _extract(file: IO[bytes], folder: Path) -> None:
    decompressor = zstandard.ZstdDecompressor()
    with (
        decompressor.stream_reader(file, read_across_frames=True) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        tar.extractall(folder, filter="data")


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without who packed it and when."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry
