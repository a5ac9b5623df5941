from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgekit.serve.config import ImageConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.feeding import ImageInput, image_input, prepare
from edgekit.serve.media import Picture, Sound, Tensors
from edgekit.spec import Dim, TensorSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def spec(*shape: Dim, dtype: str = "float32", name: str = "x") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


def picture(pixels: np.ndarray = PIXELS) -> Picture:
    return Picture(Image.fromarray(pixels))


def samples(low: float, high: float) -> list[dict[str, np.ndarray]]:
    return [{"x": np.float32([low, high])}]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("batch", 3, 224, 200), ImageInput("NCHW", 3, 224, 200)),
        (("batch", "height", "width", 3), ImageInput("NHWC", 3, None, None)),
        ((1, 1, 28, 28), ImageInput("NCHW", 1, 28, 28)),
        ((3, 8, 8), ImageInput("CHW", 3, 8, 8)),
        ((8, 8, 4), ImageInput("HWC", 4, 8, 8)),
        (("batch", 8, 8), ImageInput("NHW", 1, 8, 8)),
        (("batch", 64), None),
        ((4, 3, 8, 8), None),
        (("batch", 16, 8, 8), None),
        ((), None),
    ],
)
def test_an_image_input_is_known_by_its_shape(
    shape: tuple[Dim, ...], expected: ImageInput | None
) -> None:
    assert image_input(spec(*shape)) == expected


def test_bytes_go_in_as_they_are() -> None:
    wanted = spec("batch", "height", "width", 3, dtype="uint8")
    made = prepare(picture(), [wanted], None)
    np.testing.assert_array_equal(made.feeds["x"], PIXELS[None])
    assert made.steps == ("bytes as they are, the model prepares them itself",)


def test_a_picture_is_resized_and_made_grey() -> None:
    made = prepare(picture(), [spec("batch", 1, 4, 6, dtype="uint8")], None)
    grey = Image.fromarray(PIXELS).convert("L").resize((6, 4), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(made.feeds["x"], np.asarray(grey)[None, None])
    assert made.steps[:2] == ("converted to L", "resized from 12x8 to 6x4")


def test_sixteen_bits_a_pixel_keep_their_upper_half() -> None:
    deep = np.array([[0, 256], [65535, 4096]], np.uint16)
    made = prepare(picture(deep), [spec(1, 1, 2, 2, dtype="uint8")], None)
    assert made.feeds["x"].ravel().tolist() == [0, 1, 255, 16]


@pytest.mark.parametrize(
    ("low", "high", "right"),
    [
        (0.0, 1.0, lambda x: x / 255),
        (0.0, 255.0, lambda x: x),
        (-1.0, 1.0, lambda x: x / 127.5 - 1),
    ],
)
def test_the_bundle_s_samples_tell_what_floats_mean(low: float, high: float, right: object) -> None:
    made = prepare(picture(), [spec("batch", 3, 8, 12)], None, samples(low, high))
    expected = right(PIXELS.astype(np.float32)).transpose(2, 0, 1)[None]  # type: ignore[operator]
    np.testing.assert_allclose(made.feeds["x"], expected, atol=1e-5)
    assert f"range from {low:g} to {high:g}" in made.steps[-1]


def test_an_unknown_range_is_refused_and_not_guessed() -> None:
    with pytest.raises(ServeError, match=r"range from -2\.1 to 2\.6.*ImageInput"):
        prepare(picture(), [spec("batch", 3, 8, 12)], None, samples(-2.1, 2.6))


def test_the_operator_s_word_goes_before_the_samples() -> None:
    config = ImageConfig(mean=(0.1, 0.2, 0.3), std=(0.5,), reverse_channels=True)
    made = prepare(picture(), [spec("batch", 3, 8, 12)], config, samples(0, 1))
    expected = (PIXELS[..., ::-1] / 255 - [0.1, 0.2, 0.3]) / 0.5
    np.testing.assert_allclose(made.feeds["x"][0], expected.transpose(2, 0, 1), atol=1e-5)
    assert "configuration" in made.steps[-1]


@pytest.mark.parametrize("shape", [("batch", 1, 5), ("batch", 5), (5,)])
def test_sound_is_filled_up_with_silence(shape: tuple[Dim, ...]) -> None:
    made = prepare(Sound(np.float32([0.5, -1]), 8000), [spec(*shape)], None)
    assert made.feeds["x"].ravel().tolist() == [0.5, -1, 0, 0, 0]
    assert made.feeds["x"].ndim == len(shape)


def test_sound_may_be_whole_numbers_of_any_length() -> None:
    made = prepare(Sound(np.float32([0.5, -1]), 8000), [spec(1, "n", dtype="int16")], None)
    assert made.feeds["x"].tolist() == [[16384, -32768]]


@pytest.mark.parametrize(
    ("array", "dtype", "shape"),
    [
        (np.float64([1, 2]), "float32", ("batch", 2)),
        (np.int64([[1, 2]]), "float16", ("batch", 2)),
        (np.int64([[1, 2]]), "uint8", (1, 2)),
        (np.array([True, False]), "bool", (2,)),
    ],
)
def test_arrays_are_cast_where_their_values_stay(
    array: np.ndarray, dtype: str, shape: tuple[Dim, ...]
) -> None:
    made = prepare(Tensors({"": array}), [spec(*shape, dtype=dtype)], None)
    assert made.feeds["x"].dtype == dtype
    assert made.feeds["x"].ndim == len(shape)
    assert made.feeds["x"].ravel().tolist() == array.ravel().tolist()


def test_arrays_go_by_the_names_of_the_inputs() -> None:
    inputs = [spec("batch", 2, dtype="int64", name="ids"), spec("batch", 2, name="mask")]
    made = prepare(Tensors({"mask": np.ones(2), "ids": np.arange(2)}), inputs, None)
    assert made.feeds["ids"].tolist() == [[0, 1]]
    assert made.feeds["mask"].tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("media", "inputs", "message"),
    [
        (picture(), [spec("batch", 64)], "takes no picture"),
        (picture(), [spec("batch", 3, 8, 8, dtype="int8")], "cannot hold the bytes"),
        (picture(), [spec(2), spec(2, name="y")], r"2 inputs \(x, y\)"),
        (Sound(np.zeros(9, np.float32), 3), [spec("batch", 5)], r"9 samples \(3\.00 s\)"),
        (Sound(np.zeros(9, np.float32), 3), [spec("batch", 3, 5)], "takes no sound"),
        (Tensors({"": np.ones(2)}), [spec(2), spec(2, name="y")], "name them"),
        (Tensors({"imag": np.ones(2)}), [spec(2, name="image")], "did you mean 'image'"),
        (Tensors({"": np.float64([0.5])}), [spec(1, dtype="int64")], "takes no float64"),
        (Tensors({"": np.int64([300])}), [spec(1, dtype="uint8")], "out of the range"),
        (Tensors({"": np.float64([1e300])}), [spec(1)], "out of the range"),
        (Tensors({"": np.array([True])}), [spec(1)], "takes no bool"),
    ],
)
def test_what_does_not_fit_is_said(
    media: Picture | Sound | Tensors, inputs: list[TensorSpec], message: str
) -> None:
    with pytest.raises(ServeError, match=message):
        prepare(media, inputs, None)
