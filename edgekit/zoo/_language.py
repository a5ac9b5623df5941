"""A small language model of new words, which has read text alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.workload import Training, Workload
from edgekit.zoo._attention import Block
from edgekit.zoo._batches import shuffled
from edgekit.zoo._fit import fit
from edgekit.zoo._new_words import CONTEXT, WORDS, texts

__all__ = ["HEADS", "WIDTH", "Language", "read"]

WIDTH, HEADS = 48, 4
_BLOCKS = 2
_TEXTS, _BATCH = 6400, 64
_EPOCHS, _RATE = 20, 4e-3


class Language(nn.Module):
    """A language model: tokens (n, length), int64, to logits of the next ones (n, length, 30)."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(len(WORDS), WIDTH)
        self.position = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(_BLOCKS))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(WORDS)))
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x, before = self.begun(tokens)
        for block in self.blocks:
            x = block(x, before)
        logits: torch.Tensor = self.head(x)
        return logits

    def begun(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What goes into the first block, (n, length, 48), and where each token looks."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return self.token(tokens) + self.position(place), place <= place.unsqueeze(1)


def read(language: Language) -> None:
    """Train it in place, on new texts in each epoch."""
    around = Workload(
        name="language",
        model=language,
        example_inputs={"tokens": torch.zeros(2, CONTEXT - 1, dtype=torch.int64)},
        output_names=["logits"],
        training=Training(_batches, _loss),
    )
    fit(around, language, epochs=_EPOCHS, rate=_RATE)


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    tokens = texts(_TEXTS, np.random.default_rng(epoch))
    return shuffled({"tokens": tokens[:, :-1], "next": tokens[:, 1:]}, _BATCH, epoch)


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(outputs["logits"].flatten(0, 1), batch["next"].flatten())
