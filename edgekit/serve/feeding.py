"""Pictures, sound and arrays made to what the inputs of a model are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import did_you_mean
from edgekit.serve.config import ImageConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.media import Media, Picture, Sound
from edgekit.spec import Array, Dim, Feeds, TensorSpec, is_float

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageInput", "Prepared", "image_input", "prepare"]

#: Pillow's name of a picture with that many channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Feeds, and in words what was done to get them."""

    feeds: dict[str, Array]
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How an input takes a picture.

    Attributes:
        axes: of the input, as the letters N, C, H and W.
        channels: 1, 3 or 4.
        height: fixed, or None for any; as ``width``.
    """

    axes: str
    channels: int
    height: int | None
    width: int | None


def image_input(spec: TensorSpec) -> ImageInput | None:
    """How ``spec`` takes one picture; None when it does not look as if it did."""
    for axes in ("NCHW", "NHWC", "CHW", "HWC", "NHW"):
        if len(axes) != len(spec.shape) or ("N" in axes and not _one(spec.shape[0])):
            continue
        channels = spec.shape[axes.index("C")] if "C" in axes else 1
        if channels in {1, 3, 4} and isinstance(channels, int):
            height, width = (_fixed(spec.shape[axes.index(axis)]) for axis in "HW")
            return ImageInput(axes, channels, height, width)
    return None


def prepare(
    media: Media,
    inputs: Sequence[TensorSpec],
    config: ImageConfig | None,
    samples: Sequence[Feeds] = (),
) -> Prepared:
    """The feeds for one request. Computes: not for the event loop.

    Args:
        media: what the client sent.
        inputs: of the model.
        config: how the model wants pictures, where the operator says so.
        samples: of the data that the model was built for; they tell the range of its values.

    Raises:
        ServeError: it cannot be made to fit, and what would.
    """
    if not isinstance(media, Picture | Sound):
        return Prepared(_named(media.arrays, inputs))
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise ServeError(f"the model has {len(inputs)} inputs ({names}): send them as .npz or JSON")
    spec = inputs[0]
    if isinstance(media, Sound):
        return _sound(media, spec)
    return _picture(media.image, spec, config, samples)


def _picture(
    image: Image, spec: TensorSpec, config: ImageConfig | None, samples: Sequence[Feeds]
) -> Prepared:
    from PIL import Image as Pillow

    wanted = image_input(spec)
    if wanted is None:
        raise ServeError(f"{_told(spec)} takes no picture: send .npy or JSON")
    steps = []
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
        image = Pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode != _MODES[wanted.channels]:
        image = image.convert(_MODES[wanted.channels])
        steps.append(f"converted to {_MODES[wanted.channels]}")
    size = (wanted.width or image.width, wanted.height or image.height)
    if size != image.size:
        steps.append(f"resized from {image.width}x{image.height} to {size[0]}x{size[1]}")
        image = image.resize(size, Pillow.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(size[1], size[0], wanted.channels)
    values, step = _values(pixels, spec, config, samples)
    steps.append(step)
    order = ["HWC".index(axis) for axis in wanted.axes if axis in "HWC"]
    if "C" not in wanted.axes:
        values, order = values[:, :, 0], [0, 1]
    tensor = values.transpose(order)
    if "N" in wanted.axes:
        tensor = tensor[np.newaxis]
    return Prepared({spec.name: np.ascontiguousarray(tensor)}, tuple(steps))


def _values(
    pixels: Array, spec: TensorSpec, config: ImageConfig | None, samples: Sequence[Feeds]
) -> tuple[Array, str]:
    """Bytes to what the model's values mean, as ``[height, width, channels]``, and how in words."""
    if not is_float(spec.dtype):
        if spec.dtype in {"bool", "int8"}:
            raise ServeError(f"{_told(spec)} cannot hold the bytes of a picture: send .npy or JSON")
        return pixels.astype(spec.dtype), "bytes as they are, the model prepares them itself"
    if config is None:
        config, why = _from_samples(spec, samples)
    else:
        why = "as the server's configuration says"
    if config.reverse_channels:
        pixels = pixels[..., ::-1]
    mean, std = (np.asarray(v, np.float32) for v in (config.mean, config.std))
    if mean.size not in {1, pixels.shape[2]} or std.size not in {1, pixels.shape[2]}:
        raise ServeError(f"the configuration's mean and std do not fit {pixels.shape[2]} channels")
    values = (pixels.astype(np.float32) / config.scale - mean) / std
    told = f"x / {config.scale:g}"
    if mean.any() or (std != 1).any():
        told = f"({told} - {_short(config.mean)}) / {_short(config.std)}"
    return values.astype(spec.dtype), f"{told}, {why}"


def _from_samples(spec: TensorSpec, samples: Sequence[Feeds]) -> tuple[ImageConfig, str]:
    """The scaling that fits the range of the bundle's own samples."""
    if not samples:
        return ImageConfig(), "a guess, the bundle does not say"
    low = min(float(feeds[spec.name].min()) for feeds in samples)
    high = max(float(feeds[spec.name].max()) for feeds in samples)
    why = f"as the bundle's samples range from {low:.3g} to {high:.3g}"
    if low >= 0 and high <= 1:
        return ImageConfig(), why
    if low >= 0 and high <= 255:
        return ImageConfig(scale=1.0), why
    if low >= -1 and high <= 1:
        return ImageConfig(mean=(0.5,), std=(0.5,)), why
    raise ServeError(
        f"how pictures become the values of {_told(spec)} is not known: the bundle's samples "
        f"range from {low:.3g} to {high:.3g}",
        fix="Give image: {mean: ..., std: ...} for the model in the server's --config, build the "
        "model with edgekit.preprocess.ImageInput, or send .npy",
    )


def _sound(sound: Sound, spec: TensorSpec) -> Prepared:
    length = _fixed(spec.shape[-1]) if spec.shape else None
    leading = spec.shape[:-1]
    fits = spec.shape and all(_one(dim) for dim in leading)
    if not fits or not (is_float(spec.dtype) or spec.dtype == "int16"):
        raise ServeError(f"{_told(spec)} takes no sound: send .npy or JSON")
    samples, steps = sound.samples, [f"{sound.rate} samples a second, not resampled"]
    if length is not None and len(samples) > length:
        raise ServeError(
            f"the sound has {len(samples)} samples ({len(samples) / sound.rate:.2f} s), "
            f"the model takes {length}: cut it"
        )
    if length is not None and len(samples) < length:
        steps.append(f"silence behind it, from {len(samples)} to {length} samples")
        samples = np.pad(samples, (0, length - len(samples)))
    if spec.dtype == "int16":
        samples = np.rint(samples * 32768).clip(-32768, 32767)
    tensor = samples.astype(spec.dtype).reshape([1] * len(leading) + [-1])
    return Prepared({spec.name: tensor}, tuple(steps))


def _named(arrays: dict[str, Array], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    known = {spec.name: spec for spec in inputs}
    names = ", ".join(known)
    if list(arrays) == [""] or (len(inputs) == 1 and list(arrays) in (["input"], ["arr_0"])):
        if len(inputs) != 1:
            raise ServeError(f"the model has {len(inputs)} inputs: name them, they are {names}")
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    for name in arrays:
        if name not in known:
            guess = did_you_mean(name, known)
            raise ServeError(f"there is no input {name[:80]!r}{guess}; the inputs are {names}")
    return {name: _cast(array, known[name]) for name, array in arrays.items()}


def _cast(array: Array, spec: TensorSpec) -> Array:
    """``array`` as the input's dtype where that keeps its values, with a batch axis.

    Floats lose digits: what numpy and JSON call a number is a float64.
    """
    if array.ndim == len(spec.shape) - 1 and _one(spec.shape[0]):
        array = array[np.newaxis]
    if array.dtype == spec.dtype:
        return np.ascontiguousarray(array)
    if is_float(spec.dtype) and (array.dtype.kind in "iu" or is_float(array.dtype)):
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(array, dtype=spec.dtype)
        if np.isfinite(cast).all() or not np.isfinite(array).all():
            return cast
        raise ServeError(f"a value is out of the range of {_told(spec)}")
    if array.dtype.kind in "iu" and np.dtype(spec.dtype).kind in "iu":
        limits = np.iinfo(spec.dtype)
        if not array.size or (limits.min <= array.min() and array.max() <= limits.max):
            return np.ascontiguousarray(array, dtype=spec.dtype)
        raise ServeError(f"a value is out of the range of {_told(spec)}")
    raise ServeError(f"{_told(spec)} takes no {array.dtype}")


def _one(dim: Dim) -> bool:
    """Whether the axis may have one entry."""
    return isinstance(dim, str) or dim == 1


def _fixed(dim: Dim) -> int | None:
    return dim if isinstance(dim, int) else None


def _told(spec: TensorSpec) -> str:
    return f"input {spec.name!r} ({spec.dtype} [{', '.join(map(str, spec.shape))}])"


def _short(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"[{', '.join(f'{v:g}' for v in values)}]"
