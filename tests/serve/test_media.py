from __future__ import annotations

import contextlib
import io
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekit.serve.errors import ServeError
from edgekit.serve.media import Picture, Sound, Tensors, one_file, read_media

LIMIT = 2**20
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def picture(kind: str, pixels: np.ndarray = PIXELS, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def wav(samples: np.ndarray, *, width: int = 2, rate: int = 16_000) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def tensors(body: bytes) -> dict[str, np.ndarray]:
    media = read_media(body, LIMIT)
    assert isinstance(media, Tensors)
    return media.arrays


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})]
)
def test_a_picture_is_known_by_its_first_bytes(kind: str, options: dict[str, Any]) -> None:
    media = read_media(picture(kind, **options), LIMIT)
    assert isinstance(media, Picture)
    np.testing.assert_array_equal(np.asarray(media.image), PIXELS)


def test_a_jpeg_is_turned_as_its_exif_data_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    left_dark = np.repeat(np.where(np.arange(32) < 16, 0, 255)[None, :, None], 16, 0)
    body = picture("JPEG", np.repeat(left_dark, 3, 2).astype(np.uint8), exif=exif)
    media = read_media(body, LIMIT)
    assert isinstance(media, Picture)
    assert media.image.size == (16, 32)
    turned = np.asarray(media.image).mean(axis=(1, 2))
    assert turned[0] < 20
    assert turned[-1] > 235


def _png_of(width: int, height: int) -> bytes:
    """A PNG that says to be that large, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_100, 9_800, 100_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(side: int) -> None:
    with pytest.raises(ServeError, match="64000000 pixels") as caught:
        read_media(_png_of(side, side), LIMIT)
    assert caught.value.status == 413


@pytest.mark.parametrize("array", [np.float32([[1, 2], [3, 4]]), np.int64(7), np.zeros((0, 3))])
def test_a_npy_file_is_its_array(array: np.ndarray) -> None:
    found = tensors(npy(array))[""]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_a_npy_file_may_be_in_fortran_order() -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(tensors(npy(array))[""], array)


def test_a_npz_file_is_its_arrays_by_name() -> None:
    found = tensors(npz(ids=np.arange(3), mask=np.ones(2)))
    np.testing.assert_array_equal(found["ids"], np.arange(3))
    np.testing.assert_array_equal(found["mask"], np.ones(2))


def test_python_objects_are_never_read() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ServeError, match="Python objects"):
        read_media(stream.getvalue(), LIMIT)


def test_an_archive_that_unpacks_to_too_much_is_refused() -> None:
    with pytest.raises(ServeError, match="unpacks to over") as caught:
        read_media(npz(x=np.zeros(LIMIT, np.uint8)), LIMIT)
    assert caught.value.status == 413


def test_sound_becomes_one_channel() -> None:
    stereo = np.int16([[16384, 0], [-32768, -32768]])
    media = read_media(wav(stereo, rate=8000), LIMIT)
    assert isinstance(media, Sound)
    assert media.rate == 8000
    np.testing.assert_array_equal(media.samples, np.float32([0.25, -1]))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b" [[1, 2], [3, 4]]", {"": [[1, 2], [3, 4]]}),
        (b'{"a": [1.5], "b": 2}', {"a": [1.5], "b": 2}),
    ],
)
def test_json_is_a_list_or_lists_by_name(body: bytes, expected: dict[str, Any]) -> None:
    found = tensors(body)
    assert {name: array.tolist() for name, array in found.items()} == expected


def _claims(shape: str) -> bytes:
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "empty"),
        (b"GIF89a....", 415, "none of a picture"),
        (b"%PDF-1.7", 415, "none of a picture"),
        (b"\xff\xd8\xff\xe0 but nothing behind it", 400, "picture is damaged"),
        (picture("PNG")[:-30], 400, "picture is damaged"),
        (picture("JPEG")[:300], 400, "picture is damaged"),
        (b"BM" + b"\0" * 60, 400, "picture is damaged"),
        (b"RIFF\0\0\0\0WEBPVP8 ", 400, "picture is damaged"),
        (b"\x93NUMPY", 400, "header"),
        (b"\x93NUMPY\x09\x09" + b"x" * 20, 400, "header"),
        (_claims("(1000000000000,)"), 400, "and has 0"),
        (_claims("(-1, 4)"), 400, "impossible shape"),
        (_claims("(True,)"), 400, "impossible shape"),
        (_claims("(1,)").replace(b"<f4", b"U99"), 400, "not of numbers"),
        (_claims("[(" * 200), 400, "header"),
        (npy(np.float32([1, 2]))[:-1], 400, "and has 7"),
        (npy(np.float32([1, 2])) + b"x", 400, "and has 9"),
        (b"PK\x03\x04 not really", 400, "npz file is damaged"),
        (wav(np.zeros(4, np.uint8), width=1), 400, "8-bit"),
        (b"RIFF\x04\0\0\0WAVE", 400, "wav file cannot be read"),
        (wav(np.zeros(4, np.int16))[:30], 400, "wav file cannot be read"),
        (b"[1, 2", 400, "not valid JSON"),
        (b"[[1, 2], [3]]", 400, "different lengths"),
        (b'["a"]', 400, "list of numbers"),
        (b"[null]", 400, "list of numbers"),
        (b'{"a": {"b": 1}}', 400, "list of numbers"),
        (b'{"inputs": [{"name": "x"}]}', 400, "/v2/models/NAME/infer"),
    ],
)
def test_what_cannot_be_read_is_said(body: bytes, status: int, message: str) -> None:
    with pytest.raises(ServeError, match=message) as caught:
        read_media(body, LIMIT)
    assert caught.value.status == status


_SEEDS = [picture("PNG"), picture("JPEG"), picture("WEBP"), picture("BMP"), npy(np.ones(3))]
_SEEDS += [npz(x=np.ones(3)), wav(np.zeros(9, np.int16)), b"[[1, 2], [3, 4]]"]


@given(
    body=st.sampled_from(_SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 40),
)
@settings(max_examples=400)
def test_a_damaged_body_is_read_or_refused_and_nothing_else(
    body: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(body)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    with contextlib.suppress(ServeError):
        assert read_media(bytes(damaged[: len(damaged) - cut]), LIMIT)


def test_a_zip_without_arrays_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ServeError, match=r"'readme\.txt' in the \.npz file"):
        read_media(stream.getvalue(), LIMIT)


def form(*parts: bytes, boundary: bytes = b"xyz") -> bytes:
    head = b'Content-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
    pieces = [b"--" + boundary + b"\r\n" + head + part + b"\r\n" for part in parts]
    return b"".join([*pieces, b"--" + boundary + b"--\r\n"])


@pytest.mark.parametrize("content", [b"", b"abc", b"\r\n--xy\r\n\r\n\n\r", bytes(range(256))])
def test_the_file_of_a_form_comes_out_byte_for_byte(content: bytes) -> None:
    assert one_file(form(content), 'multipart/form-data; boundary="xyz"') == content


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (lambda: form(b"a"), "multipart/form-data", "no boundary"),
        (lambda: form(b"a"), "multipart/form-data; boundary=", "no boundary"),
        (lambda: form(b"a"), "multipart/form-data; boundary=other", "last boundary is missing"),
        (lambda: form(b"a")[:-4], "multipart/form-data; boundary=xyz", "last boundary is missing"),
        (lambda: form(b"a", b"b"), "multipart/form-data; boundary=xyz", "2 parts"),
        (form, "multipart/form-data; boundary=xyz", "last boundary|0 parts"),
        (lambda: b"--xyz\r\nabc\r\n--xyz--", "multipart/form-data; boundary=xyz", "no end"),
    ],
)
def test_a_damaged_form_is_refused(body: Callable[[], bytes], kind: str, message: str) -> None:
    with pytest.raises(ServeError, match=message):
        one_file(body(), kind)


def test_a_photograph_reads_as_pillow_reads_it() -> None:
    import skimage.data

    path = Path(skimage.data.__file__).parent / "rocket.jpg"
    media = read_media(path.read_bytes(), LIMIT)
    assert isinstance(media, Picture)
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(media.image), np.asarray(image))
