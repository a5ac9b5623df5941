"""A tiny CNN and a tiny transformer with all that passes ask of a workload."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from edgekit.spec import Feeds
from edgekit.workload import Metric, Training, Workload

__all__ = ["SETTINGS", "adapter", "cnn", "transformer"]

CLASSES = 4
#: The least that makes each pass change something; ``merge-adapter`` needs a path besides.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "distill": {"epochs": 1},
    "drop-layers": {"count": 1},
    "dynamic-int8": {},
    "efficient-attention": {"window": 2, "globals": 1},
    "equalize": {},
    "fp8-ptq": {},
    "half": {},
    "int8-ptq": {},
    "lowrank": {"rank": {"ratio": 0.5}, "multiple": 1, "exclude": ["head"]},
    "merge-adapter": {},
    "palettize": {"bits": 3},
    "prune": {"multiple": 2, "of": "channels"},
    "qat": {"epochs": 1},
    "recalibrate": {},
    "smooth-quant": {},
    "sparse": {"ratio": 0.5, "exclude": []},
    "sparse-training": {"ratio": 0.5, "epochs": 1},
    "store-palettes": {},
    "weight-only": {"group": 16, "method": "rtn"},
}


class Block(nn.Module):
    """A convolution beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


class Cnn(nn.Module):
    """Two convolutions, residual blocks and a linear head."""

    def __init__(self, channels: int, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(image)))
        x = self.blocks(torch.relu(self.second(x)))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


class Layer(nn.Module):
    """A layer of a transformer that normalizes first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(torch.relu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Two layers over eight states."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width) for _ in range(2))
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            states = layer(states)
        logits: torch.Tensor = self.head(self.norm(states.mean(1)))
        return logits


def _workload(
    name: str, make: Callable[..., nn.Module], width: int, shape: tuple[int, ...], key: str
) -> Workload:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        model = make(width)
    data = np.random.default_rng(0).standard_normal((48, *shape)).astype(np.float32)
    with torch.no_grad():
        for _ in range(5):  # real statistics of BatchNorm
            model(torch.from_numpy(data))
        labels = model(torch.from_numpy(data)).argmax(1)

    def feeds() -> Iterator[Feeds]:
        yield from ({key: data[start : start + 16]} for start in range(0, 48, 16))

    def batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
        order = np.random.default_rng(epoch).permutation(48)
        for start in range(0, 48, 24):
            chosen = order[start : start + 24]
            yield {key: torch.from_numpy(data[chosen]), "label": labels[chosen]}

    def evaluate(predict: Callable[[Feeds], Mapping[str, np.ndarray]]) -> dict[str, float]:
        same = predict({key: data})["logits"].argmax(1) == labels.numpy()
        return {"accuracy": float(same.mean())}

    return Workload(
        name=name,
        model=model.eval(),
        example_inputs={key: torch.from_numpy(data[:2])},
        output_names=["logits"],
        calibration=feeds,
        evaluate=evaluate,
        metric=Metric("accuracy", max_drop=1.0),
        training=Training(
            batches,
            lambda outputs, batch: functional.cross_entropy(outputs["logits"], batch["label"]),
            rate=1e-3,
        ),
        smaller=lambda: _workload(f"{name}-small", make, width // 2, shape, key),
    )


def cnn(channels: int = 8, blocks: int = 3) -> Workload:
    """Images of 3 x 8 x 8 in four classes."""
    make = partial(Cnn, blocks=blocks)
    return _workload("tiny-cnn", make, channels, (3, 8, 8), "image")


def transformer(width: int = 16) -> Workload:
    """Eight states of ``width`` in four classes."""
    return _workload("tiny-transformer", Transformer, width, (8, width), "states")


def adapter(folder: Path, width: int) -> Path:
    """A LoRA of rank 2 of the layer ``head``, as peft writes it."""
    generator = torch.Generator().manual_seed(0)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["head"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {
        "base_model.model.head.lora_A.weight": torch.randn(2, width, generator=generator),
        "base_model.model.head.lora_B.weight": torch.randn(CLASSES, 2, generator=generator),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
