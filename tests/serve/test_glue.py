from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from edgekit.errors import SpecError
from edgekit.serve.glue import Argmax, Crop, Glue, Softmax
from edgekit.spec import TensorSpec

IMAGE = TensorSpec("image", "float32", ("batch", 3, 24, 32))
BOXES = TensorSpec("boxes", "float32", ("batch", 5, 4))


def _crop(height: int = 7, width: int = 9) -> Crop:
    names = {"image": "image", "boxes": "boxes"}
    return Crop(op="crop", size=(height, width), inputs=names, outputs={"crops": "crops"})


def _on(kind: type[Softmax | Argmax], op: str, output: str) -> Glue:
    return kind(op=op, inputs={"values": "x"}, outputs={output: "y"})  # type: ignore[arg-type]


def _roi_align(image: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What ONNX Runtime computes for the same."""
    node = helper.make_node(
        "RoiAlign",
        ["x", "rois", "indices"],
        ["y"],
        coordinate_transformation_mode="half_pixel",
        output_height=size[0],
        output_width=size[1],
        sampling_ratio=1,
    )
    given = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("rois", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("indices", TensorProto.INT64, None),
    ]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph([node], "g", given, made),
        opset_imports=[helper.make_opsetid("", 16)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    count = boxes.shape[1]
    indices = np.repeat(np.arange(len(image)), count)
    (result,) = session.run(None, {"x": image, "rois": boxes.reshape(-1, 4), "indices": indices})
    return np.asarray(result)


def test_crops_are_those_of_onnx_roi_align() -> None:
    generator = np.random.default_rng(0)
    image = generator.standard_normal((2, 3, 24, 32)).astype(np.float32)
    starts = generator.uniform(1, 8, (2, 5, 2))
    boxes = np.concatenate([starts, starts + generator.uniform(2, 14, (2, 5, 2))], axis=2)
    boxes = boxes.astype(np.float32)
    crops = _crop().compute({"image": image, "boxes": boxes})["crops"]
    assert crops.shape == (10, 3, 7, 9)
    assert crops.dtype == np.float32
    np.testing.assert_allclose(crops, _roi_align(image, boxes, (7, 9)), atol=1e-5)


def test_a_box_of_the_size_of_the_crop_copies_its_pixels() -> None:
    image = np.arange(2 * 3 * 24 * 32, dtype=np.float32).reshape(2, 3, 24, 32)
    boxes = np.tile(np.array([4, 5, 4 + 9, 5 + 7], np.float32), (2, 5, 1))
    crops = _crop().compute({"image": image, "boxes": boxes})["crops"]
    np.testing.assert_array_equal(crops[7], image[1, :, 5:12, 4:13])


def test_what_lies_outside_repeats_the_edge() -> None:
    image = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    boxes = np.array([[[-100, -100, -50, -50], [50, 50, 100, 100]]], np.float32)
    crops = _crop().compute({"image": image, "boxes": boxes})["crops"]
    assert set(crops[0].ravel()) == {0.0}
    assert set(crops[1].ravel()) == {3.0}


def test_images_without_boxes_give_no_crops() -> None:
    image = np.zeros((2, 3, 4, 4), np.float32)
    crops = _crop().compute({"image": image, "boxes": np.zeros((2, 0, 4), np.float32)})["crops"]
    assert crops.shape == (0, 3, 7, 9)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.full((1, 1, 4), np.nan, np.float32), "not finite"),
        (np.full((1, 1, 4), np.inf, np.float32), "not finite"),
        (np.zeros((3, 1, 4), np.float32), "1 images have boxes for 3"),
    ],
)
def test_boxes_that_make_no_sense_are_refused(boxes: np.ndarray, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _crop().compute({"image": np.zeros((1, 3, 4, 4), np.float32), "boxes": boxes})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_softmax_is_that_of_torch(dtype: str) -> None:
    values = (np.random.default_rng(0).standard_normal((3, 7)) * 50).astype(dtype)
    result = _on(Softmax, "softmax", "probabilities").compute({"values": values})["probabilities"]
    wanted = torch.softmax(torch.from_numpy(values).double(), -1).numpy()
    assert result.dtype == dtype
    np.testing.assert_allclose(result, wanted, atol=1e-3 if dtype == "float16" else 1e-6)


def test_argmax_is_int64_and_the_first_of_equals() -> None:
    values = np.array([[1, 5, 5], [7, 0, 7]], np.float32)
    indices = _on(Argmax, "argmax", "indices").compute({"values": values})["indices"]
    assert indices.dtype == np.int64
    assert indices.tolist() == [1, 0]
    scalar = _on(Argmax, "argmax", "indices").compute({"values": np.arange(3)})["indices"]
    assert scalar.shape == ()


def test_the_shapes_that_operations_give() -> None:
    crops = _crop().typed({"image": IMAGE, "boxes": BOXES})["crops"]
    assert crops.shape == ("crops", 3, 7, 9)
    fixed = TensorSpec("image", "float16", (2, 3, 24, 32))
    known = _crop().typed({"image": fixed, "boxes": TensorSpec("boxes", "float32", (2, 5, 4))})
    assert (known["crops"].shape, known["crops"].dtype) == ((10, 3, 7, 9), "float16")
    indices = _on(Argmax, "argmax", "indices").typed({"values": IMAGE})["indices"]
    assert (indices.shape, indices.dtype) == (("batch", 3, 24), "int64")


@pytest.mark.parametrize(
    ("image", "boxes"),
    [
        (TensorSpec("image", "uint8", IMAGE.shape), BOXES),
        (TensorSpec("image", "float32", (3, 24, 32)), BOXES),
        (IMAGE, TensorSpec("boxes", "float32", ("batch", 4))),
        (IMAGE, TensorSpec("boxes", "float32", ("batch", 5, 5))),
        (IMAGE, TensorSpec("boxes", "int64", ("batch", 5, 4))),
    ],
)
def test_crop_refuses_other_tensors(image: TensorSpec, boxes: TensorSpec) -> None:
    with pytest.raises(SpecError, match=r"it must be float N x"):
        _crop().typed({"image": image, "boxes": boxes})


def test_softmax_and_argmax_refuse_what_has_no_axis_or_is_no_float() -> None:
    for glue in (_on(Softmax, "softmax", "probabilities"), _on(Argmax, "argmax", "indices")):
        with pytest.raises(SpecError, match=r"a .*vector at least"):
            glue.typed({"values": TensorSpec("x", "float32", ())})
    with pytest.raises(SpecError, match="it must be a float vector"):
        _on(Softmax, "softmax", "probabilities").typed({"values": TensorSpec("x", "int64", (3,))})
