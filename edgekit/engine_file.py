"""What the first bytes of a TensorRT engine file tell, without the engine that wrote it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import RuntimeUnavailableError

__all__ = ["GPU_TARGETS", "EngineFile", "read_engine_file"]

#: GPU generations that each builder makes engines for, by compute capability. TensorRT-RTX builds
#: for a GPU that is not there; TensorRT times its kernels on the one that is.
GPU_TARGETS: dict[str, tuple[str, ...]] = {
    "tensorrt-rtx": ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
    "tensorrt": (
        "sm75", "sm80", "sm86", "sm87", "sm89", "sm90", "sm100", "sm103", "sm110", "sm120", "sm121",
    ),
}  # fmt: skip

_REBUILD = "Build the engine again, or copy it again"

_BUILDERS = {b"vtrt": "tensorrt-rtx", b"ftrt": "tensorrt"}
_HEADER = 64
_SIZE, _VERSION, _GPUS = 16, 24, 32


@dataclass(frozen=True, slots=True)
class EngineFile:
    """The header of an engine.

    Attributes:
        builder: the runtime whose builder wrote it, ``tensorrt-rtx`` or ``tensorrt``.
        version: of that builder; no other version reads the engine.
        gpus: the generations it was built for; empty where the header does not say.
    """

    builder: str
    version: str
    gpus: tuple[str, ...]


def read_engine_file(path: Path) -> EngineFile:
    """Read the header of an engine.

    The tag at byte 0 and the version at byte 24 are as ``trtexec --getPlanVersionOnly`` reads
    them. That TensorRT-RTX writes the size of the file to byte 16 and one bit a GPU generation to
    byte 32 was found by building one network for each (TensorRT-RTX 1.7); the tests hold it.

    Raises:
        RuntimeUnavailableError: there is no such file, it is no engine, or it is cut off.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEADER)
        size = path.stat().st_size
    except OSError as error:
        raise RuntimeUnavailableError(
            f"cannot be read: {error.strerror or error}", where=str(path), fix="Check the path"
        ) from error
    builder = _BUILDERS.get(head[:4])
    if builder is None or len(head) < _HEADER:
        raise RuntimeUnavailableError(
            "is not a TensorRT engine: its first bytes are not those of one",
            where=str(path),
            fix=_REBUILD,
        )
    version = ".".join(map(str, head[_VERSION : _VERSION + 4]))
    if builder == "tensorrt":
        return EngineFile(builder, version, ())
    (recorded,) = struct.unpack_from("<Q", head, _SIZE)
    if recorded != size:
        raise RuntimeUnavailableError(
            f"is damaged: it has {size} bytes, its header says {recorded}",
            where=str(path),
            fix=_REBUILD,
        )
    (bits,) = struct.unpack_from("<Q", head, _GPUS)
    targets = GPU_TARGETS[builder]
    return EngineFile(builder, version, tuple(g for i, g in enumerate(targets) if bits >> i & 1))
