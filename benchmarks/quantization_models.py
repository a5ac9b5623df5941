"""The models of the quantization benchmark: the zoo's, and architectures built from a config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from edgekit import zoo
from edgekit.fidelity import fidelity_evaluate
from edgekit.reference import reference_predict
from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Workload
from edgekit.zoo import efficientnet_lite0
from edgekit.zoo._photos import photos

__all__ = ["MODELS", "Model"]

_SEED = 0


@dataclass(frozen=True)
class Model:
    """One row of the benchmark.

    Attributes:
        load: makes the workload.
        sample: the input of one inference at batch 1; None takes the first calibration sample.
        transformer: use the peers' settings for transformers.
        trained: whether its metric is an accuracy on labelled data.
    """

    load: Callable[[], Workload]
    sample: Callable[[], Feeds] | None = None
    transformer: bool = False
    trained: bool = False


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(pixel_values=image).logits
        return logits


def _photos(count: int, *, held_out: bool, seed: int) -> Iterator[Feeds]:
    return efficientnet_lite0._crops(  # noqa: SLF001
        photos()[int(held_out) :: 2],
        count=count,
        seed=seed,
    )


def _from_config(name: str, model: nn.Module) -> Workload:
    """A network with random weights and BatchNorm statistics of real photographs."""
    wrapped = _Logits(model)
    wrapped.train()
    with torch.no_grad():
        for feeds in _photos(64, held_out=False, seed=2):
            wrapped(torch.from_numpy(feeds["image"]))
    wrapped.eval()
    made = Workload(
        name=name,
        model=wrapped,
        example_inputs={"image": torch.zeros(2, 3, 224, 224)},
        output_names=["logits"],
        calibration=lambda: _photos(128, held_out=False, seed=0),
    )
    made.metric = Metric("cosine", max_drop=0.01)
    made.evaluate = fidelity_evaluate(
        lambda: reference_predict(made), lambda: _photos(64, held_out=True, seed=1)
    )
    return made


def _resnet(depth: int) -> Workload:
    torch.manual_seed(_SEED)
    basic = depth == 18
    config = ResNetConfig(
        layer_type="basic" if basic else "bottleneck",
        depths=[2, 2, 2, 2] if basic else [3, 4, 6, 3],
        hidden_sizes=[64, 128, 256, 512] if basic else [256, 512, 1024, 2048],
        num_labels=1000,
    )
    return _from_config(f"resnet-{depth}", ResNetForImageClassification(config))


def _vit_tiny() -> Workload:
    torch.manual_seed(_SEED)
    config = ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768,
        num_labels=1000,
    )  # fmt: skip
    return _from_config("vit-tiny", ViTForImageClassification(config))


def _tokens() -> Feeds:
    """64 tokens of running text, the length that sentence encoders are mostly measured at."""
    ids: list[Array] = []
    for feeds in zoo.load("minilm").feeds():
        ids += [row[row > 0] for row in feeds["input_ids"]]
    joined = np.concatenate(ids)[:64].astype(np.int64)[None]
    return {"input_ids": joined, "attention_mask": np.ones_like(joined)}


MODELS = {
    "resnet8-mnist": Model(lambda: zoo.load("resnet8-mnist"), trained=True),
    "lstm-digits": Model(lambda: zoo.load("lstm-digits"), trained=True),
    "efficientnet-lite0": Model(lambda: zoo.load("efficientnet-lite0")),
    "resnet-18": Model(lambda: _resnet(18)),
    "resnet-50": Model(lambda: _resnet(50)),
    "minilm": Model(lambda: zoo.load("minilm"), _tokens, transformer=True),
    "vit-tiny": Model(_vit_tiny, transformer=True),
}
