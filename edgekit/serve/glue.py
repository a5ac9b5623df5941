"""What an ensemble may do between its models: three operations in numpy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgekit.errors import SpecError
from edgekit.serve.classification import softmax
from edgekit.spec import Array, Dim, Feeds, Outputs, TensorSpec, is_float

__all__ = ["Argmax", "Crop", "Glue", "Softmax", "Step"]


class Step(BaseModel):
    """What every step of an ensemble has.

    Attributes:
        inputs: for each input of the step, the tensor of the ensemble that it reads.
        outputs: for each output of the step that is used, the tensor that it makes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    inputs: dict[str, str] = Field(min_length=1)
    outputs: dict[str, str] = Field(min_length=1)


class Glue(Step):
    """An operation: what it takes and gives, checked before it is asked to compute."""

    takes: ClassVar[tuple[str, ...]]
    gives: ClassVar[tuple[str, ...]]

    @abstractmethod
    def typed(self, inputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        """The outputs for inputs of these types.

        Raises:
            SpecError: it cannot compute with them.
        """

    @abstractmethod
    def compute(self, inputs: Feeds) -> Outputs:
        """The outputs, from arrays that fit what :meth:`typed` was given.

        Raises:
            SpecError: values that it cannot compute with.
        """


class Softmax(Glue):
    """Of ``values`` (float), over the last axis: ``probabilities`` of the same shape."""

    op: Literal["softmax"]
    takes = ("values",)
    gives = ("probabilities",)

    def typed(self, inputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        values = inputs["values"]
        _want(is_float(values.dtype) and len(values.shape) > 0, values, "a float vector at least")
        return {"probabilities": TensorSpec("probabilities", values.dtype, values.shape)}

    def compute(self, inputs: Feeds) -> Outputs:
        values = inputs["values"]
        return {"probabilities": softmax(values.astype(np.float64)).astype(values.dtype)}


class Argmax(Glue):
    """Of ``values``, over the last axis: ``indices`` (int64), the first of equals."""

    op: Literal["argmax"]
    takes = ("values",)
    gives = ("indices",)

    def typed(self, inputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        values = inputs["values"]
        _want(len(values.shape) > 0, values, "a vector at least")
        return {"indices": TensorSpec("indices", "int64", values.shape[:-1])}

    def compute(self, inputs: Feeds) -> Outputs:
        return {"indices": np.asarray(inputs["values"].argmax(axis=-1), dtype=np.int64)}


class Crop(Glue):
    """Cut boxes out of images and scale each to one size.

    Takes ``image`` (float, N x C x H x W) and ``boxes`` (float, N x K x 4: left, top, right, bottom
    in pixels). Gives ``crops`` (N * K x C x height x width), those of the first image first. One
    bilinear sample a pixel, as ONNX's RoiAlign with ``half_pixel`` and a ``sampling_ratio`` of 1,
    but what lies outside repeats the image's edge.

    Attributes:
        size: height and width.
    """

    op: Literal["crop"]
    size: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]]
    takes = ("image", "boxes")
    gives = ("crops",)

    def typed(self, inputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        image, boxes = inputs["image"], inputs["boxes"]
        _want(is_float(image.dtype) and len(image.shape) == 4, image, "float N x C x H x W")
        fits = is_float(boxes.dtype) and len(boxes.shape) == 3 and boxes.shape[2] == 4
        _want(fits, boxes, "float N x K x 4")
        images, count = image.shape[0], boxes.shape[1]
        fixed = isinstance(images, int) and isinstance(count, int)
        crops: Dim = int(images) * int(count) if fixed else "crops"
        shape = (crops, image.shape[1], *self.size)
        return {"crops": TensorSpec("crops", image.dtype, shape)}

    def compute(self, inputs: Feeds) -> Outputs:
        image, boxes = inputs["image"], inputs["boxes"].astype(np.float64)
        if len(image) != len(boxes):
            raise SpecError(f"{len(image)} images have boxes for {len(boxes)}")
        if not np.isfinite(boxes).all():
            raise SpecError("boxes are not finite")
        crops = [self._cut(one, box) for one, own in zip(image, boxes, strict=True) for box in own]
        shape = (len(crops), image.shape[1], *self.size)
        return {"crops": np.array(crops, dtype=image.dtype).reshape(shape)}

    def _cut(self, image: Array, box: Array) -> Array:
        left, top, right, bottom = box
        height, width = self.size
        rows = _along(image, 1, top, bottom, height)
        return _along(rows, 2, left, right, width)


def _along(image: Array, axis: int, start: float, end: float, count: int) -> Array:
    """``count`` samples between two places on an axis, each between the two nearest pixels."""
    last = image.shape[axis] - 1
    at = np.clip(start + (np.arange(count) + 0.5) * (end - start) / count - 0.5, 0, last)
    low = np.floor(at).astype(int)
    share = (at - low).reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
    high = np.minimum(low + 1, last)
    between: Array = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return between


def _want(fits: object, spec: TensorSpec, wanted: str) -> None:
    if not fits:
        shape = " x ".join(map(str, spec.shape))
        raise SpecError(f"tensor {spec.name!r} is {spec.dtype} {shape}, it must be {wanted}")
