"""Baked-in preparation of images, against OpenVINO's PrePostProcessor on the model without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from edgekit.exporters import ExportOptions
from edgekit.exporters.torch_onnx import export_onnx
from skimage import data
from torch import nn

from edgekit import exporters, runtimes
from edgekit.compress.recipe import load_recipe
from edgekit.errors import WorkloadError
from edgekit.pipeline import Timing, make_bundle
from edgekit.preprocess import ImageInput
from edgekit.targets import parse_targets
from edgekit.workload import Workload
from tests.conftest import SHAPE

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTOS = [data.astronaut()[:200, :300], data.coffee()[50:250, :300]]
BATCH = np.stack(PHOTOS)


def exported(model: nn.Module, example: np.ndarray, path: Path, dynamic: dict[int, str]) -> Path:
    return export_onnx(
        model.eval(),
        {"image": torch.from_numpy(example)},
        path,
        dynamic={"image": dynamic},
        output_names=["logits"],
        opset=18,
    )


def baked_by_openvino(network: nn.Module, folder: Path, layout: str, *, reverse: bool) -> Any:
    path = exported(network, np.zeros((2, *SHAPE), np.float32), folder / "plain.onnx", {0: "n"})
    made = ov.preprocess.PrePostProcessor(ov.Core().read_model(path))
    tensor = made.input().tensor()
    tensor.set_element_type(ov.Type.u8).set_layout(ov.Layout(layout))
    tensor.set_spatial_dynamic_shape()
    made.input().model().set_layout(ov.Layout("NCHW"))
    steps = made.input().preprocess().convert_element_type(ov.Type.f32)
    if reverse:
        steps.reverse_channels()
    steps.resize(ov.preprocess.ResizeAlgorithm.RESIZE_LINEAR)
    steps.mean([255 * x for x in MEAN]).scale([255 * x for x in STD])
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    return ov.Core().compile_model(made.build(), "CPU", config)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("layout", "reverse"), [("NHWC", True), ("NCHW", False)])
def test_raw_images_of_any_size_are_prepared_as_openvino_does(
    network: nn.Module, tmp_path: Path, runtime: str, layout: str, *, reverse: bool
) -> None:
    images = BATCH if layout == "NHWC" else np.ascontiguousarray(BATCH.transpose(0, 3, 1, 2))
    prepare = ImageInput(
        layout="NHWC" if layout == "NHWC" else "NCHW",
        size=SHAPE[1:],
        reverse_channels=reverse,
        mean=MEAN,
        std=STD,
    )
    sides = (1, 2) if layout == "NHWC" else (2, 3)
    dynamic = {0: "batch", sides[0]: "height", sides[1]: "width"}
    graph = exported(nn.Sequential(prepare, network), images, tmp_path / "raw.onnx", dynamic)
    path = exporters.get(runtime).export(graph, tmp_path / "raw", ExportOptions(None, {}))[0]
    theirs = baked_by_openvino(network, tmp_path, layout, reverse=reverse)
    with runtimes.get(runtime).load(path) as session:
        assert session.inputs[0].dtype == "uint8"
        smaller = np.ascontiguousarray(images[:1, 8:, 8:] if sides[0] == 1 else images[..., 8:, 8:])
        for given in (images, smaller):
            got = session.run({"image": given})["logits"]
            np.testing.assert_allclose(got, theirs(given)[0], rtol=1e-4, atol=1e-4)


def test_images_of_the_right_size_are_not_resized(network: nn.Module) -> None:
    images = torch.from_numpy(BATCH[:, :16, :16])
    got = ImageInput(mean=0.5, std=0.25)(images)
    wanted = (images.permute(0, 3, 1, 2).double() / 255 - 0.5) / 0.25
    torch.testing.assert_close(got, wanted.float())


def test_a_model_of_raw_images_is_quantized_and_verified(
    network: nn.Module, tmp_path: Path
) -> None:
    tiles = BATCH[:, :192, :288].reshape(2, 12, 16, 18, 16, 3).transpose(0, 1, 3, 2, 4, 5)
    tiles = np.ascontiguousarray(tiles.reshape(-1, 16, 16, 3))
    bundle = make_bundle(
        Workload(
            name="raw",
            model=nn.Sequential(ImageInput(mean=MEAN, std=STD), network).eval(),
            example_inputs={"image": tiles[:1]},
            output_names=["logits"],
            calibration=lambda: ({"image": part} for part in np.split(tiles, 12)),
        ),
        tmp_path / "raw.edge",
        recipe=load_recipe("int8"),
        targets=parse_targets([], None),
        timing=Timing(rounds=(2, 4), seconds=0.2),
    )
    verdicts = {one.artifact: one.passed for one in bundle.manifest.verification}
    assert verdicts["onnxruntime-int8"]
    assert verdicts["openvino-int8"]
    assert bundle.manifest.inputs[0].dtype == "uint8"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"layout": "HWC"}, "layout 'HWC' is unknown"),
        ({"size": (0, 4)}, "no height and width"),
        ({"std": (1.0, 0.0, 1.0)}, "not all positive"),
        ({"scale": float("nan")}, "not all positive"),
    ],
    ids=lambda x: str(x) if isinstance(x, str) else "",
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(WorkloadError, match=told):
        ImageInput(**wrong)
