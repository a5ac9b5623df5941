"""``zoo:pix2pix-mnist``: outlines to digits, a conditional GAN of images (Isola et al. 2017).

Input ``outline`` (n, 1, 28, 28), 1 where a digit's edge is and 0 elsewhere; output ``image`` of
that size, in [0, 1]. The generator is a U-Net of strided convolutions. Its critic judges patches of
an outline with an image; an absolute error beside keeps it to the image that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Feeds
from edgekit.workload import Metric, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._outlines import evaluate, pairs

__all__ = ["ENTRIES", "workload"]

_BATCH, _RATE, _ABSOLUTE = 32, 1e-3, 100.0


class _Generator(nn.Module):
    """28x28 to 14x14 to 7x7 and back; what was seen on the way down is beside on the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 4, stride=2, padding=1)
        self.second = _down(16, 32)
        self.middle = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.up = nn.Sequential(
            nn.ConvTranspose2d(64, 24, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
        )
        self.last = nn.Sequential(
            nn.ConvTranspose2d(40, 8, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(9, 1, 3, padding=1)

    def forward(self, outline: torch.Tensor) -> torch.Tensor:
        first = functional.leaky_relu(self.first(outline), 0.2)
        second = self.second(first)
        up = self.up(torch.cat([self.middle(second), second], dim=1))
        last = self.last(torch.cat([up, first], dim=1))
        return self.head(torch.cat([last, outline], dim=1)).sigmoid()


class _Critic(nn.Module):
    """A logit for each of 7x7 places: how real the patch around it is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 16, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            _down(16, 32),
            nn.Conv2d(32, 1, 3, padding=1),
        )

    def forward(self, outline: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(torch.cat([outline, image], dim=1))
        return logits


def _down(channels_in: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(0.2),
    )


def _fit(model: nn.Module, epochs: int) -> None:
    outlines, images = pairs(held_out=False)
    critic = _Critic()
    optimizers = [
        torch.optim.Adam(one.parameters(), lr=_RATE, betas=(0.5, 0.999)) for one in (model, critic)
    ]
    steps = epochs * (len(images) // _BATCH)
    schedules = [torch.optim.lr_scheduler.LinearLR(one, 1.0, 0.05, steps) for one in optimizers]
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: len(order) // _BATCH * _BATCH].split(_BATCH):
            _step(model, critic, optimizers, outlines[chosen], images[chosen])
            for schedule in schedules:
                schedule.step()
    model.eval()


def _step(
    model: nn.Module,
    critic: _Critic,
    optimizers: list[torch.optim.Adam],
    outline: torch.Tensor,
    real: torch.Tensor,
) -> None:
    loss = functional.binary_cross_entropy_with_logits
    made = model(outline)
    yes, no = critic(outline, real), critic(outline, made.detach())
    optimizers[1].zero_grad()
    ((loss(yes, torch.ones_like(yes)) + loss(no, torch.zeros_like(no))) / 2).backward()
    optimizers[1].step()
    taken = critic(outline, made)
    optimizers[0].zero_grad()
    error = _ABSOLUTE * functional.l1_loss(made, real)
    (loss(taken, torch.ones_like(taken)) + error).backward()
    optimizers[0].step()


def _feeds(start: int, stop: int) -> Feeds:
    return {"outline": pairs(held_out=False)[0][start:stop].numpy()}


def _around(model: nn.Module) -> Workload:
    def calibration() -> Iterator[Feeds]:
        return (_feeds(start, start + 50) for start in range(0, 200, 50))

    return Workload(
        name="pix2pix-mnist",
        model=model,
        example_inputs=_feeds(0, 2),
        output_names=["image"],
        calibration=calibration,
        evaluate=evaluate,
        metric=Metric("psnr", max_drop=0.2),  # 1 %
        finetune=_fit,
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="pix2pix-mnist",
    family="generative",
    description="pix2pix: outlines of 28x28 digits to the digits.",
    bar=22.4,
    source="2 dB above the best linear filter of 7x7 pixels, 20.4 on the same split",
    build=_Generator,
    make=_around,
    epochs=12,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
