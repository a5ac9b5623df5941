"""Bodies in and out: read up to a limit, decompressed and compressed as the client says."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from edgekit.serve.errors import ServeError

__all__ = ["ClientGoneError", "Receive", "compressed", "decompressed", "read_body"]

Receive = Callable[[], Awaitable[Any]]

#: What zlib calls the framing of each coding.
_WINDOW = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class ClientGoneError(Exception):
    """The client hung up before it had sent its request."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The request's body, refused as soon as it is known to be too large.

    Args:
        receive: ASGI's.
        headers: of the request, names in lower case.
        limit: bytes, before and after decompression.

    Raises:
        ServeError: 413, it is too large; 415, an unknown coding; 400, damaged data.
        ClientGoneError: the client hung up.
    """
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _rest(receive, body, limit)
    elif message["type"] == "http.disconnect":
        raise ClientGoneError
    if len(body) > limit:
        raise _too_large(limit)
    coding = headers.get(b"content-encoding")
    return body if coding is None else decompressed(body, coding.decode("latin-1"), limit)


async def _rest(receive: Receive, first: bytes, limit: int) -> bytes:
    chunks, size = [first], len(first)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


def decompressed(body: bytes, coding: str, limit: int) -> bytes:
    """``body`` as it was before ``Content-Encoding: coding``.

    Raises:
        ServeError: 415, an unknown coding; 413, it would be larger than ``limit``; 400, damaged.
    """
    coding = coding.strip().lower()
    if coding == "identity":
        return body
    if coding not in _WINDOW:
        raise ServeError(
            f"Content-Encoding {coding[:40]!r} is not known: gzip or deflate", status=415
        )
    unpacker = zlib.decompressobj(_WINDOW[coding])
    try:
        text = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise ServeError(f"the body is not valid {coding}: {error}") from error
    if len(text) > limit:
        raise _too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise ServeError(f"the body is not valid {coding}: it ends too early or too late")
    return text


def compressed(body: bytes, accepted: bytes | None) -> tuple[bytes, str | None]:
    """The body for a client that accepts one coding and no other, and that coding.

    HTTP libraries send a list of all they know with every request. Compressing tensors costs a
    device more than sending them, so only a client that names one coding is taken at its word.
    """
    coding = (accepted or b"").decode("latin-1").strip().lower()
    if coding == "gzip":
        return gzip.compress(body, compresslevel=1, mtime=0), coding
    if coding == "deflate":
        return zlib.compress(body, level=1), coding
    return body, None


def _too_large(limit: int) -> ServeError:
    return ServeError(f"the body is over {limit} bytes", status=413)
