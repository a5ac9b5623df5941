from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from PIL import Image

from edgekit.client.content import content_type


def _image(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2)).save(stream, kind)
    return stream.getvalue()


def _wave() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0")
    return stream.getvalue()


def _arrays(*, several: bool) -> bytes:
    stream = io.BytesIO()
    (np.savez if several else np.save)(stream, np.zeros(2))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_an_image_is_one(kind: str) -> None:
    assert content_type(_image(kind)) == f"image/{kind}"


def test_sounds_arrays_and_json_are_what_they_are() -> None:
    assert content_type(_wave()) == "audio/wav"
    assert content_type(_arrays(several=False)) == "application/x-npy"
    assert content_type(_arrays(several=True)) == "application/x-npz"
    assert content_type(b' {"a": 1}') == "application/json"


@pytest.mark.parametrize("data", [b"", b"text", b"RIFF", b"RIFF\0\0\0\0AVI "])
def test_anything_else_is_bytes(data: bytes) -> None:
    assert content_type(data) == "application/octet-stream"
