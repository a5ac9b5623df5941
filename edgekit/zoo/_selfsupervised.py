"""What the encoders share that learn from images without labels: the views, the loop, the probe."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from edgekit.compress.train.pace import schedule
from edgekit.reference import in_pieces
from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._batches import in_order
from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._entry import Made
from edgekit.zoo._mnist import mnist

__all__ = ["FEATURES", "Method", "follow", "frozen", "perceptron", "pretrained", "probe"]

#: Length of an embedding.
FEATURES = 96
_BATCH = 200
_EPOCHS = 50
_RATE = 3e-3
_CALIBRATED, _LABELLED = 500, 1000


@runtime_checkable
class Method(Protocol):
    """What learns: the encoder, and all that is thrown away afterwards."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """The loss of two views of the same images, each (n, 1, 28, 28)."""

    def follow(self, done: float, /) -> None:
        """After each step; ``done`` is the share of the training that is over."""


def pretrained(name: str, description: str, method: Callable[[nn.Module], Method]) -> Made:
    """An encoder of images (n, 1, 28, 28), float32 in [0, 1], into embeddings (n, 96).

    Args:
        name: its name in the zoo.
        description: one sentence.
        method: makes of an encoder what trains it, in place.
    """
    return Made(
        name=name,
        family="self-supervised and metric",
        description=description,
        bar=0.93,
        source="half the error of the same probe of raw pixels, whose accuracy is 0.86",
        build=_encoder,
        make=lambda model: _around(name, description, model),
        fit=lambda model: _fit(model, method(model)),
    )


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with batch norm and ReLU between them: heads for embeddings."""
    layers: list[nn.Module] = []
    for before, width in pairwise(widths[:-1]):
        layers += [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def frozen(network: nn.Module) -> nn.Module:
    """A copy that no optimizer changes."""
    return copy.deepcopy(network).requires_grad_(requires_grad=False)


@torch.no_grad()
def follow(behind: nn.Module, ahead: nn.Module, momentum: float) -> None:
    """Move the parameters of a frozen copy towards those that it was copied from."""
    for slow, fast in zip(behind.parameters(), ahead.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)


def probe(predict: Predict) -> float:
    """Accuracy of a linear classifier of the embeddings of held-out digits.

    It learns from a quarter of the training digits with their labels. What an untrained encoder
    makes of them gives 0.66, and their pixels 0.86.
    """
    data = mnist()
    embed = in_pieces(predict, _BATCH)
    known = embed({"image": data.train_inputs[:_LABELLED]})["embedding"]
    asked = embed({"image": data.test_inputs})["embedding"]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(known, data.train_labels[:_LABELLED])
    return float(classifier.score(asked, data.test_labels))


def _encoder() -> nn.Module:
    return nn.Sequential(
        conv_bn(1, 24, 3, 2),
        conv_bn(24, 48, 3, 2),
        conv_bn(48, FEATURES, 3, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _around(name: str, description: str, model: nn.Module) -> Workload:
    images = mnist().train_inputs
    return Workload(
        name=name,
        model=model,
        example_inputs={"image": torch.from_numpy(images[:2])},
        output_names=["embedding"],
        calibration=lambda: in_order({"image": images[:_CALIBRATED]}, _BATCH),
        evaluate=lambda predict: {"probe_accuracy": probe(predict)},
        metric=Metric("probe_accuracy"),
        unlabelled=_unlabelled,
        description=description,
    )


def _unlabelled(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """One view of every training digit."""
    yield from ({"image": first} for first, _ in _views(epoch))


def _fit(encoder: nn.Module, method: Method) -> None:
    optimizer = torch.optim.AdamW(
        [p for p in method.parameters() if p.requires_grad], weight_decay=1e-4, fused=True
    )
    steps = _EPOCHS * len(mnist().train_inputs) // _BATCH
    step = 0
    encoder.train()
    for epoch in range(_EPOCHS):
        for first, second in _views(epoch):
            for group in optimizer.param_groups:
                group["lr"] = _RATE * schedule(step / steps)
            optimizer.zero_grad()
            method(first, second).backward()
            optimizer.step()
            step += 1
            method.follow(step / steps)
    encoder.eval()


def _views(epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Two views of each training digit, in shuffled batches."""
    images = torch.from_numpy(mnist().train_inputs)
    generator = torch.Generator().manual_seed(epoch)
    for chosen in torch.split(torch.randperm(len(images), generator=generator), _BATCH):
        yield _view(images[chosen], generator), _view(images[chosen], generator)


def _view(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turned, sheared, scaled, shifted, lighter or darker, and with a square cut out.

    What crops and colours are to photographs (Chen et al., 2020): a digit stays what it is.
    """
    count, side = len(batch), batch.shape[-1]
    random = torch.rand(8, count, generator=generator) * 2 - 1
    angle, size, shear, dx, dy, light, row, column = random.unbind()
    cos, sin = torch.cos(angle * 0.35), torch.sin(angle * 0.35)
    size, shear = 1.05 + size * 0.25, shear * 0.3
    rows = [
        torch.stack([cos * size, (shear * cos - sin) * size, dx * 0.2], 1),
        torch.stack([sin * size, (shear * sin + cos) * size, dy * 0.2], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(batch.shape), align_corners=False)
    moved = functional.grid_sample(batch, grid, align_corners=False)
    places = torch.linspace(-1, 1, side)
    away = [(places - at[:, None]).abs() > 0.3 for at in (row, column)]
    kept = away[0][:, :, None] | away[1][:, None, :]
    return moved * kept[:, None] * (0.8 + 0.2 * light)[:, None, None, None]
