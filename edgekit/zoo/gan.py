"""``zoo:dcgan-digits`` and ``zoo:cgan-digits``: generators of 8x8 digits that learnt from a critic.

DCGAN (Radford et al. 2016): transposed convolutions with batch norm, a critic with strides and
leaky rectifiers, Adam with a momentum of 0.5. The conditional one (Mirza and Osindero 2014) tells
both what class it is about. Inputs ``noise`` (n, 32) and, conditional, ``label`` (n,), int64;
output ``image`` (n, 1, 8, 8) in [0, 1].

What is served are the generator's weights averaged over the training (Yazici et al. 2019): those
of a single step are better or worse by a few points from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekit.spec import Feeds
from edgekit.workload import Metric, Predict, Workload
from edgekit.zoo._classification import digits
from edgekit.zoo._entry import Made
from edgekit.zoo._judge import digits_judge

__all__ = ["ENTRIES"]

_NOISE, _CLASSES = 32, 10
_BATCH, _RATE, _AVERAGED = 32, 5e-4, 0.998
_JUDGED = 500


class _Generator(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.body = nn.Sequential(
            nn.ConvTranspose2d(_NOISE + classes, 64, 2, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 48, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.ConvTranspose2d(48, 24, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, noise: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        if label is not None:
            noise = torch.cat([noise, functional.one_hot(label, self.classes).float()], dim=1)
        image: torch.Tensor = self.body(noise[:, :, None, None])
        return image


class _Critic(nn.Module):
    """How real an image is, a logit; a class is a plane of ones beside it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.body = nn.Sequential(
            nn.Conv2d(1 + classes, 32, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(64 * 16, 1),
        )

    def forward(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        planes = functional.one_hot(label, _CLASSES)[:, : self.classes, None, None]
        seen = torch.cat([image * 2 - 1, planes.expand(-1, -1, 8, 8).float()], dim=1)
        logit: torch.Tensor = self.body(seen)
        return logit


def _fit(model: nn.Module, epochs: int) -> None:
    assert isinstance(model, _Generator)
    data = digits((1, 8, 8))
    images, labels = torch.from_numpy(data.train_inputs), torch.from_numpy(data.train_labels)
    critic = _Critic(model.classes)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGED), use_buffers=True)
    optimizers = [
        torch.optim.Adam(one.parameters(), lr=_RATE, betas=(0.5, 0.999)) for one in (model, critic)
    ]
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: len(order) // _BATCH * _BATCH].split(_BATCH):
            noise = torch.randn(_BATCH, _NOISE, generator=generator)
            _step(model, critic, optimizers, images[chosen], labels[chosen], noise)
            averaged.update_parameters(model)
    model.load_state_dict(averaged.module.state_dict())
    model.eval()


def _step(
    model: _Generator,
    critic: _Critic,
    optimizers: list[torch.optim.Adam],
    real: torch.Tensor,
    label: torch.Tensor,
    noise: torch.Tensor,
) -> None:
    """The critic learns to tell real images from made ones, then the generator to be taken."""
    loss = functional.binary_cross_entropy_with_logits
    made = model(noise, label if model.classes else None)
    yes, no = torch.full((len(real), 1), 0.9), torch.zeros(len(real), 1)
    optimizers[1].zero_grad()
    (loss(critic(real, label), yes) + loss(critic(made.detach(), label), no)).backward()
    optimizers[1].step()
    optimizers[0].zero_grad()
    loss(critic(made, label), torch.ones_like(yes)).backward()
    optimizers[0].step()


def _feeds(count: int, seed: int, classes: int) -> Feeds:
    noise = np.random.default_rng(seed).standard_normal((count, _NOISE), np.float32)
    label = np.arange(count, dtype=np.int64) % _CLASSES
    return {"noise": noise, "label": label} if classes else {"noise": noise}


def _evaluate(predict: Predict, classes: int) -> dict[str, float]:
    feeds = _feeds(_JUDGED, 0, classes)
    image = predict(feeds)["image"]
    return digits_judge().asked(image, feeds["label"]) if classes else digits_judge().unasked(image)


def _around(model: nn.Module, name: str, description: str) -> Workload:
    assert isinstance(model, _Generator)
    classes = model.classes

    def calibration() -> Iterator[Feeds]:
        return (_feeds(50, seed, classes) for seed in (2, 3, 4))

    return Workload(
        name=name,
        model=model,
        example_inputs=_feeds(2, 1, classes),
        output_names=["image"],
        calibration=calibration,
        evaluate=partial(_evaluate, classes=classes),
        metric=Metric("recognised"),
        finetune=_fit,
        description=description,
    )


def _entry(name: str, description: str, classes: int, bar: float, source: str, epochs: int) -> Made:
    build: Callable[[], nn.Module] = partial(_Generator, classes)
    return Made(
        name=name,
        family="generative",
        description=description,
        bar=bar,
        source=source,
        build=build,
        make=partial(_around, name=name, description=description),
        epochs=epochs,
    )


ENTRIES = (
    _entry(
        "dcgan-digits",
        "DCGAN of 8x8 digits.",
        0,
        0.70,
        "three quarters of the 0.94 of real held-out digits, by the same judge",
        epochs=190,
    ),
    _entry(
        "cgan-digits",
        "Conditional DCGAN of 8x8 digits.",
        _CLASSES,
        0.80,
        "eight of ten samples recognised as the class asked for",
        epochs=100,
    ),
)
