"""Associative recall over long sequences: what the models of long attention are judged by.

The task of the Neural Turing Machine (Graves et al., 2014), by which architectures are still
compared ("Zoology", Arora et al., 2023): a sequence of 256 tokens tells 128 pairs of a
key and right behind it its value, all of 8 random bits. Before it stand 8 of the keys: which value
has each? All is drawn anew for each sequence, so nothing can be learnt by heart, and a value of
which all bits are right is guessed once in 256 times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Feeds
from edgekit.workload import Metric, Predict, Training, Workload

__all__ = ["ASKED", "LENGTH", "Reader", "questions", "recall"]

ASKED = 8
LENGTH = 256
BITS = 8
_PAIRS = 128
_BATCH = 16
_BATCHES = 100
#: Seeds of what no model is trained on; those of training are the numbers of epochs.
_CALIBRATION, _HELD_OUT = 10**6, 10**6 + 1


def questions(count: int, seed: int, *, mixed: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (count, 8 + 256, 8) of bits, -1 or 1, and the values asked for (count, 8, 8).

    Args:
        count: of sequences.
        seed: of all that is drawn.
        mixed: some tell fewer pairs, each more often; the easy ones come to be learnt first.
    """
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(count, 2**BITS, generator=generator).argsort(1)[:, :_PAIRS]
    values = torch.randint(2**BITS, (count, _PAIRS), generator=generator)
    told = torch.full((count, 1), _PAIRS)
    if mixed:
        told = 2 ** torch.randint(_PAIRS.bit_length(), (count, 1), generator=generator)
    order = torch.rand(count, LENGTH // 2, generator=generator).argsort(1) % told
    asked = (torch.rand(count, ASKED, generator=generator) * told).long()
    pairs = torch.stack([keys.gather(1, order), values.gather(1, order)], 2).flatten(1)
    return _bits(torch.cat([keys.gather(1, asked), pairs], 1)), _bits(values.gather(1, asked))


def _bits(numbers: torch.Tensor) -> torch.Tensor:
    return (numbers.unsqueeze(-1) >> torch.arange(BITS) & 1) * 2.0 - 1.0


class Reader(nn.Module):
    """Tokens (n, 264, 8), float32, to scores of the bits asked for (n, 8, 8).

    Each token is told whether it is asked for, a key, or a value. There are no other positions:
    what is near, the blocks have to say.

    Args:
        width: features of a token.
        blocks: what reads; each gets and gives (n, 264, width), the questions first.
    """

    kind: torch.Tensor

    def __init__(self, width: int, *blocks: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Linear(BITS, width)
        self.kinds = nn.Parameter(torch.randn(3, width) * 0.5)
        kind = torch.tensor([0] * ASKED + [1, 2] * (LENGTH // 2))
        self.register_buffer("kind", kind, persistent=False)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, BITS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        read = self.blocks(self.embed(tokens) + self.kinds[self.kind])
        scores: torch.Tensor = self.head(read[:, :ASKED])
        return scores


def recall(name: str, description: str, model: nn.Module) -> Workload:
    """The task around such a model; each epoch of training has 1600 new sequences."""
    return Workload(
        name=name,
        model=model,
        example_inputs={"tokens": questions(2, _CALIBRATION)[0]},
        output_names=["scores"],
        calibration=_calibration,
        evaluate=_evaluate,
        metric=Metric("accuracy"),
        training=Training(_batches, _loss),
        description=description,
    )


def _calibration() -> Iterator[Feeds]:
    for tokens in questions(128, _CALIBRATION)[0].split(_BATCH):
        yield {"tokens": tokens.numpy()}


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    tokens, answers = questions(_BATCH * _BATCHES, epoch, mixed=True)
    for batch, answer in zip(tokens.split(_BATCH), answers.split(_BATCH), strict=True):
        yield {"tokens": batch, "answer": answer}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.softplus(-outputs["scores"] * batch["answer"]).mean()


def _evaluate(predict: Predict) -> dict[str, float]:
    """How many of 2048 questions about 256 sequences are answered right, in all bits."""
    tokens, answers = questions(256, _HELD_OUT)
    right = 0
    for batch, answer in zip(tokens.split(_BATCH), answers.split(_BATCH), strict=True):
        scores = predict({"tokens": batch.numpy()})["scores"]
        right += int(((scores > 0) == (answer.numpy() > 0)).all(2).sum())
    return {"accuracy": right / answers[..., 0].numel()}
