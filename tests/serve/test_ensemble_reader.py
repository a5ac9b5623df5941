"""A detector finds two digits, crops of them go to the zoo's ResNet-8, which reads them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.modelref import resolve
from edgekit.pipeline import make_bundle
from edgekit.serve.errors import ServeError
from edgekit.spec import Feeds, SpecError
from edgekit.targets import parse_targets
from edgekit.workload import Workload
from edgekit.zoo.resnet8_mnist import ENTRIES
from tests.serve.bundles import run, started

READER = """
inputs: [{name: image, datatype: FP32, shape: [-1, 1, 56, 112]}]
steps:
  - {model: detector, inputs: {image: image}, outputs: {boxes: boxes}}
  - {op: crop, size: [28, 28], inputs: {image: image, boxes: boxes}, outputs: {crops: crops}}
  - {model: digits, inputs: {image: crops}, outputs: {logits: logits}}
  - {op: softmax, inputs: {values: logits}, outputs: {probabilities: probabilities}}
  - {op: argmax, inputs: {values: logits}, outputs: {indices: digits}}
outputs: [boxes, probabilities, digits]
"""


class Detector(nn.Module):
    """Boxes around the brightest spot of each half of an image of 56 x 112 pixels.

    A convolution with a Gaussian window scores every place; a softmax over the scores of a half
    makes their mean place.
    """

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(28) - 13.5
        bell = torch.exp(-(offsets**2) / (2 * 7.0**2))
        self.window = nn.Conv2d(1, 1, 28, bias=False)
        self.window.weight = nn.Parameter(torch.outer(bell, bell)[None, None])
        self.places = nn.Parameter(torch.cartesian_prod(torch.arange(29.0), torch.arange(29.0)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        boxes = []
        for left in (0, 56):
            scores = self.window(image[..., left : left + 56]).flatten(1)
            top_left = torch.softmax(scores, 1) @ self.places
            y, x = top_left[:, 0], top_left[:, 1] + left
            boxes.append(torch.stack([x, y, x + 28, y + 28], 1))
        return torch.stack(boxes, 1)


def _pages(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with two held-out digits each, somewhere in the two halves, and what they are."""
    data = ENTRIES[0].load_data()
    generator = np.random.default_rng(0)
    pages = np.zeros((count, 1, 56, 112), np.float32)
    chosen = generator.integers(len(data.test_inputs), size=(count, 2))
    for page, pair in zip(pages, chosen, strict=True):
        for half, index in enumerate(pair):
            top, left = generator.integers(29, size=2)
            page[:, top : top + 28, 56 * half + left :][..., :28] = data.test_inputs[index]
    return pages, data.test_labels[chosen]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    pages, _ = _pages(4)

    def samples() -> Iterator[Feeds]:
        yield {"image": pages}

    detector = Workload(
        name="detector",
        model=Detector().eval(),
        example_inputs={"image": torch.from_numpy(pages[:1])},
        output_names=["boxes"],
        calibration=samples,
    )
    digits = dataclasses.replace(resolve("zoo:resnet8-mnist"), evaluate=None, metric=None)
    for workload, name in ((detector, "detector"), (digits, "digits")):
        make_bundle(
            workload,
            folder / f"{name}.edge",
            recipe=load_recipe("fp32"),
            targets=parse_targets(["onnxruntime"], None),
            timing=None,
        )
    (folder / "reader.ensemble.yaml").write_text(READER)
    return folder


def test_a_detector_and_a_recogniser_read_digits(reader: Path) -> None:
    async def test() -> None:
        pages, labels = _pages(40)
        async with started(reader) as repository:
            answer = await repository.infer("reader", None, {"image": pages})
            digits = answer.outputs["digits"].reshape(labels.shape)
            assert (digits == labels).mean() >= 0.95
            certain = answer.outputs["probabilities"].reshape(*labels.shape, 10)
            np.testing.assert_allclose(certain.sum(-1), 1, rtol=1e-5)
            np.testing.assert_array_equal(certain.argmax(-1), digits)

    run(test())


def test_the_whole_computes_what_its_parts_do(reader: Path) -> None:
    """Each page by itself, all at once, against the engines called by hand."""
    pages, _ = _pages(8)

    def engine(name: str, feeds: Feeds) -> np.ndarray:
        bundle = Bundle.open(reader / f"{name}.edge")
        artifact = bundle.selected("onnxruntime")
        with runtimes.get("onnxruntime").load(bundle.file(artifact)) as session:
            (output,) = session.run(feeds).values()
        return output

    async def test() -> None:
        async with started(reader) as repository:
            asked = [repository.infer("reader", None, {"image": page[None]}) for page in pages]
            answers = await asyncio.gather(*asked)
            boxes = np.concatenate([answer.outputs["boxes"] for answer in answers])
            digits = np.concatenate([answer.outputs["digits"] for answer in answers])
        wanted = engine("detector", {"image": pages})
        np.testing.assert_allclose(boxes, wanted, atol=1e-3)
        places = torch.nn.functional.affine_grid(_transforms(wanted), [16, 1, 28, 28], False)
        twice = torch.from_numpy(pages).repeat_interleave(2, 0)
        crops = torch.nn.functional.grid_sample(twice, places, align_corners=False)
        logits = engine("digits", {"image": crops.numpy()})
        np.testing.assert_array_equal(digits, logits.argmax(1))

    run(test())


def _transforms(boxes: np.ndarray) -> torch.Tensor:
    """The boxes as transforms of PyTorch's grid, in which an image reaches from -1 to 1."""
    left, top, right, bottom = torch.from_numpy(boxes.reshape(-1, 4)).unbind(1)
    zero = torch.zeros_like(left)
    rows = [
        torch.stack([(right - left) / 112, zero, (right + left) / 112 - 1], 1),
        torch.stack([zero, (bottom - top) / 56, (bottom + top) / 56 - 1], 1),
    ]
    return torch.stack(rows, 1)


def test_values_that_a_step_cannot_compute_with_are_400_and_name_it(reader: Path) -> None:
    async def test() -> None:
        page = np.full((1, 1, 56, 112), np.nan, np.float32)
        async with started(reader) as repository:
            with pytest.raises(
                ServeError, match=r"step 2 \(crop\): boxes are not finite"
            ) as caught:
                await repository.infer("reader", None, {"image": page})
            assert caught.value.status == 400
            with pytest.raises(SpecError, match="expected 56"):
                await repository.infer("reader", None, {"image": page[:, :, 1:]})

    run(test())
