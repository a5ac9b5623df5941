"""What people have at hand, read without trust: pictures, numpy files, sound, JSON.

What a body is follows from its first bytes: clients often send no media type, or a wrong one.
Nothing here unpickles, and nothing allocates more than the body can fill.
"""

from __future__ import annotations

import ast
import io
import lzma
import math
import re
import struct
import wave
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from edgekit.serve.errors import ServeError
from edgekit.spec import Array, as_stored

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MEDIA", "Media", "Picture", "Sound", "Tensors", "one_file", "read_media"]

#: Most pixels of a picture. A few kilobytes of PNG may stand for gigabytes of pixels.
_PIXELS = 64_000_000

_NPY = b"\x93NUMPY"

#: Longest header of a .npy file, as numpy's own limit.
_HEADER = 10_000

#: The dtypes that are read, as numpy writes them; ``V2`` is bfloat16.
_NUMBERS = re.compile(r"[<>][iuf][248]|\|[biu]1|[<|]V2")

#: What :mod:`zipfile` raises on damaged archives: its own error is one of many.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

#: The media types that are taken, for messages and the documentation.
MEDIA = {
    "image/jpeg": "a picture, as image/png, image/webp and image/bmp",
    "audio/wav": "16-bit PCM",
    "application/x-npy": "one numpy array (.npy)",
    "application/x-npz": "numpy arrays by the names of the inputs (.npz)",
    "application/json": "a nested list, or an object of such lists by the names of the inputs",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture, turned the way its EXIF data says."""

    image: Image


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound, as one channel.

    Attributes:
        samples: float32 from -1 to 1; shape ``[samples]``.
        rate: samples in a second.
    """

    samples: Array
    rate: int


@dataclass(frozen=True, slots=True)
class Tensors:
    """Arrays by the names of inputs; one that has no name is called ``""``."""

    arrays: dict[str, Array]


Media = Picture | Sound | Tensors


def read_media(body: bytes, limit: int) -> Media:
    """Decode a body, whatever it is. Takes a while for pictures: not for the event loop.

    Args:
        body: of the request.
        limit: bytes that an archive may unpack to.

    Raises:
        ServeError: 415, it is nothing of :data:`MEDIA`; 413, it unpacks to too much; 400, damaged.
    """
    if not body:
        raise ServeError(f"the body is empty: send {_known()}")
    if body.startswith(_NPY):
        return Tensors({"": _array(body, "the .npy file")})
    if body.startswith(b"PK\x03\x04"):
        return Tensors(_archive(body, limit))
    if body[:4] == b"RIFF" and body[8:12] == b"WAVE":
        return _sound(body)
    if body.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")) or (
        body[:4] == b"RIFF" and body[8:12] == b"WEBP"
    ):
        return _picture(body)
    if body.lstrip()[:1] in {b"[", b"{"}:
        return Tensors(_json(body))
    raise ServeError(f"the body starts with {body[:8]!r}, which is none of {_known()}", status=415)


def one_file(body: bytes, content_type: str) -> bytes:
    """The file in a ``multipart/form-data`` body.

    RFC 2046: a boundary never occurs inside a part, so it can be split at.

    Raises:
        ServeError: there is not exactly one part.
    """
    pieces = [piece.strip() for piece in content_type.split(";")[1:]]
    given = [piece[9:].strip('"') for piece in pieces if piece.lower().startswith("boundary=")]
    if not given or not given[0]:
        raise ServeError("Content-Type multipart/form-data has no boundary")
    delimiter = b"\r\n--" + given[0].encode("latin-1", "replace")
    parts = (b"\r\n" + body).split(delimiter)[1:]
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise ServeError("the multipart form is damaged: its last boundary is missing")
    if len(parts) != 2:
        raise ServeError(f"the form has {len(parts) - 1} parts: send one file, options in the URL")
    _, gap, content = parts[0].partition(b"\r\n\r\n")
    if not gap:
        raise ServeError("the multipart form is damaged: its part has no end of headers")
    return content


def _known() -> str:
    return "a picture (JPEG, PNG, WebP, BMP), .npy, .npz, wav or JSON"


def _picture(body: bytes) -> Picture:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(body), formats=_FORMATS)
        _check_pixels(*image.size)
        return Picture(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ServeError(f"the picture has over {_PIXELS} pixels", status=413) from error
    except UnidentifiedImageError as error:
        raise ServeError("the picture is damaged: its header cannot be read") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow raises all of these
        raise ServeError(f"the picture is damaged: {error}") from error


def _check_pixels(width: int, height: int) -> None:
    if width * height > _PIXELS:
        raise ServeError(
            f"the picture is {width} x {height}, over {_PIXELS} pixels: make it smaller", status=413
        )


def _sound(body: bytes) -> Sound:
    try:
        with wave.open(io.BytesIO(body)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError, ValueError, OSError, struct.error) as error:
        raise ServeError(
            f"the wav file cannot be read: {str(error) or 'it ends too early'}"
        ) from error
    if width != 2:
        raise ServeError(f"the wav file has {8 * width}-bit samples: send 16-bit PCM")
    whole = len(frames) // (2 * channels) * channels
    samples = np.frombuffer(frames, "<i2", whole).reshape(-1, channels)
    return Sound((samples.astype(np.float32) / 32768).mean(axis=1), rate)


def _array(data: bytes, where: str) -> Array:
    """The array of a .npy file (format 1 or 2).

    Read by hand: numpy allocates what the header says before it looks whether that follows.
    """
    size = {1: 2, 2: 4}.get(data[6] if len(data) > 7 else 0)
    start = 8 + (size or 0)
    start += int.from_bytes(data[8:start], "little")
    if size is None or not data.startswith(_NPY) or start > min(len(data), _HEADER):
        raise ServeError(f"{where} has a header that cannot be read")
    dtype, shape, fortran = _header(data[8 + size : start], where)
    count = math.prod(shape)
    if count * dtype.itemsize != len(data) - start:
        raise ServeError(
            f"{where} says {dtype} of shape {list(shape)}, {count * dtype.itemsize} bytes, "
            f"and has {len(data) - start}"
        )
    array = np.frombuffer(data, dtype, count, start) if count else np.empty(0, dtype)
    return as_stored(array.reshape(shape, order="F" if fortran else "C"))


def _header(text: bytes, where: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    try:
        fields = ast.literal_eval(text.decode("latin-1").strip())
        kind, shape, fortran = fields["descr"], fields["shape"], fields["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ServeError(f"{where} has a header that cannot be read") from error
    if kind == "|O":
        raise ServeError(f"{where} holds Python objects, which are never read: save numbers")
    if not isinstance(kind, str) or not _NUMBERS.fullmatch(kind):
        raise ServeError(f"{where} is not of numbers")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise ServeError(f"{where} has the impossible shape {str(shape)[:80]}")
    return np.dtype(kind), shape, bool(fortran)


def _archive(body: bytes, limit: int) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limit:
                raise ServeError(f"the .npz file unpacks to over {limit} bytes", status=413)
            found = {
                member.filename.removesuffix(".npy"): _array(
                    archive.read(member), f"{member.filename[:80]!r} in the .npz file"
                )
                for member in members
            }
    except _ZIP_ERRORS as error:
        raise ServeError(f"the .npz file is damaged: {error}") from error
    if not found:
        raise ServeError("the .npz file is empty")
    return found


def _json(body: bytes) -> dict[str, Array]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServeError(f"the body is not valid JSON: {error}") from error
    named: dict[str, Any] = document if isinstance(document, dict) else {"": document}
    if isinstance(named.get("inputs"), list) and isinstance(named["inputs"][:1], list):
        first = next(iter(named["inputs"]), None)
        if isinstance(first, dict):
            raise ServeError(
                "this is a request of the Open Inference Protocol: POST it to "
                "/v2/models/NAME/infer, or send the lists by the names of the inputs"
            )
    return {name: _numbers(name, value) for name, value in named.items()}


def _numbers(name: str, value: Any) -> Array:
    where = f"{name!r}" if name else "the list"
    try:
        array = np.array(value)
    except ValueError as error:
        raise ServeError(f"{where} has rows of different lengths") from error
    if array.dtype.kind not in "biuf":
        raise ServeError(f"{where} must be a number, or a nested list of numbers")
    return array
