"""``zoo:sparse-transformer-mnist``: a digit's pixels one after the other, by strided attention.

"Generating Long Sequences with Sparse Transformers" (Child et al., 2019): of two kinds of heads
one sees the row of pixels just before, the other every 20th pixel before, its column. Two steps
reach every pixel, at the cost of n * sqrt(n), and it is computed by blocks, so that is what it
costs. The task is the paper's: how probable is each of the 400 pixels (the middle of a digit of
MNIST, black or white) after those before it?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._blocks import HIDDEN, attend, cut
from edgekit.zoo._encoder import Attention, EncoderBlock
from edgekit.zoo._entry import Made
from edgekit.zoo._mnist import augment, mnist

__all__ = ["ENTRIES", "workload"]

_STRIDE = 20
_WIDTH, _HEADS = 32, 4
_BATCH = 20


class _Strided(Attention):
    """Half of the heads see the 20 tokens before, the others every 20th before; and themselves."""

    back: torch.Tensor
    hidden: torch.Tensor

    def __init__(self) -> None:
        super().__init__(_WIDTH, _HEADS)
        self.table = nn.Parameter(torch.zeros(_HEADS // 2, _STRIDE + 1))
        back = torch.arange(_STRIDE)[:, None] + _STRIDE - torch.arange(2 * _STRIDE)[None]
        self.register_buffer("back", back.clamp(0, _STRIDE), persistent=False)
        hidden = torch.zeros(_STRIDE, _STRIDE, 2 * _STRIDE)
        hidden[:, (back < 0) | (back > _STRIDE)] = HIDDEN
        hidden[0, :, :_STRIDE] = HIDDEN
        self.register_buffer("hidden", hidden, persistent=False)

    def mix(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        pairs = [cut(part, _STRIDE).chunk(2, dim=1) for part in (query, key, value)]
        near, far = zip(*pairs, strict=True)
        return torch.cat([self._row(*near), _column(*far)], dim=1)

    def _row(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        bias = self.table[:, self.back].unsqueeze(1) + self.hidden
        return attend(query, _with_previous(key), _with_previous(value), bias).flatten(2, 3)


def _column(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    turned = (part.transpose(2, 3) for part in (query, key, value))
    return attend(*turned).transpose(2, 3).flatten(2, 3)


def _with_previous(x: torch.Tensor) -> torch.Tensor:
    """(n, heads, blocks, 20, d) to (n, heads, blocks, 40, d), the first one after zeros."""
    return torch.cat([functional.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1], x], dim=3)


class _SparseTransformer(nn.Module):
    """Pixels (n, 400), float32, 0 or 1, to scores of each being white (n, 400).

    A score depends on the pixels before it only.
    """

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(1, _WIDTH)
        self.rows = nn.Parameter(torch.randn(_STRIDE, 1, _WIDTH) * 0.1)
        self.columns = nn.Parameter(torch.randn(1, _STRIDE, _WIDTH) * 0.1)
        self.blocks = nn.Sequential(*(EncoderBlock(_WIDTH, _Strided()) for _ in range(depth)))
        self.head = nn.Sequential(nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        before = functional.pad(pixels[:, :-1], (1, 0))
        places = (self.rows + self.columns).flatten(0, 1)
        scores: torch.Tensor = self.head(self.blocks(self.embed(before[..., None]) + places))
        return scores.squeeze(2)


def _pixels(images: torch.Tensor) -> torch.Tensor:
    """The middle of images (n, 1, 28, 28), black or white: (n, 400)."""
    return (images[:, 0, 4:24, 4:24] > 0.5).float().flatten(1)


def _around(model: nn.Module) -> Workload:
    data = mnist()
    images, held_out = (
        torch.from_numpy(data.train_inputs),
        torch.from_numpy(data.test_inputs[:400]),
    )
    return Workload(
        name="sparse-transformer-mnist",
        model=model,
        example_inputs={"pixels": _pixels(images[:2])},
        output_names=["scores"],
        calibration=lambda: _calibration(images),
        evaluate=lambda predict: _evaluate(predict, _pixels(held_out)),
        metric=Metric("nats", higher_is_better=False, max_drop=0.6),  # 1 % of it
        training=Training(lambda epoch: _batches(images, epoch), _loss),
        description="Strided Sparse Transformer over the 400 pixels of a digit.",
    )


def _calibration(images: torch.Tensor) -> Iterator[Feeds]:
    for batch in _pixels(images[:200]).split(_BATCH):
        yield {"pixels": batch.numpy()}


def _batches(images: torch.Tensor, epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(epoch)
    for chosen in torch.randperm(len(images), generator=generator).split(_BATCH):
        yield {"pixels": _pixels(augment(images[chosen], generator))}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(outputs["scores"], batch["pixels"])


def _evaluate(predict: Predict, pixels: torch.Tensor) -> dict[str, float]:
    """Mean negative log-likelihood of a held-out digit, in nats."""
    total = 0.0
    for batch in pixels.split(50):
        scores = torch.from_numpy(predict({"pixels": batch.numpy()})["scores"])
        total += float(functional.binary_cross_entropy_with_logits(scores, batch, reduction="sum"))
    return {"nats": total / len(pixels)}


_ENTRY = Made(
    name="sparse-transformer-mnist",
    family="transformers",
    description="Strided Sparse Transformer, the likelihood of a digit's 400 pixels in order.",
    build=_SparseTransformer,
    make=_around,
    epochs=5,
    rate=4e-3,
    bar=70.0,
    source="a logistic regression of each pixel on all before it: 83.5 on the same data",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
