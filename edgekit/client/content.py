"""What a file is, by its first bytes."""

from __future__ import annotations

__all__ = ["content_type"]

_MAGIC = (
    (b"\x93NUMPY", "application/x-npy"),
    (b"PK\x03\x04", "application/x-npz"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
#: What a RIFF container holds, from its ninth byte on.
_RIFF = ((b"WAVE", "audio/wav"), (b"WEBP", "image/webp"))


def content_type(data: bytes) -> str:
    """The media type of ``data``: an image, a sound, arrays, JSON, else just bytes."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data.startswith(b"RIFF"):
        for form, kind in _RIFF:
            if data[8:12] == form:
                return kind
    if data.lstrip()[:1] in {b"{", b"["}:
        return "application/json"
    return "application/octet-stream"
