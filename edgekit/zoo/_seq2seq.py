"""A network of gated recurrent units with attention that writes dates, and ways to go through it.

The encoder, the additive attention and the decoder are those of Bahdanau et al., "Neural Machine
Translation by Jointly Learning to Align and Translate" (2015). A date has ten symbols, so each loop
has ten steps, which stand one behind the other in an exported graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from edgekit.workload import Training, Workload
from edgekit.zoo._dates import CHARACTERS, LENGTH, SYMBOLS
from edgekit.zoo._entry import Trained
from edgekit.zoo._fit import fit

__all__ = ["BEAM", "BeamSearch", "Seq2Seq", "teach"]

BEAM = 4
_SIZE = 64
_START = len(SYMBOLS)


class Seq2Seq(nn.Module):
    """Texts (n, 32), int64, to the scores (n, 10, 11) and the indices (n, 10) of their symbols."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(len(CHARACTERS) + 1, 32)
        self.encoder = nn.GRU(32, _SIZE // 2, batch_first=True, bidirectional=True)
        self.first = nn.Linear(_SIZE // 2, _SIZE)
        self.keys = nn.Linear(_SIZE, _SIZE, bias=False)
        self.query = nn.Linear(_SIZE, _SIZE)
        self.energy = nn.Linear(_SIZE, 1, bias=False)
        self.symbols = nn.Embedding(len(SYMBOLS) + 1, 32)
        self.cell = nn.GRUCell(32 + _SIZE, _SIZE)
        self.head = nn.Linear(2 * _SIZE + 32, len(SYMBOLS))

    def encode(self, text: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Annotations (n, 32, size), their keys, which are padding, and the decoder's state."""
        annotations, _ = self.encoder(self.characters(text))
        state = torch.tanh(self.first(annotations[:, 0, _SIZE // 2 :]))
        padding = torch.where(text == 0, -1e4, 0.0)
        return annotations, self.keys(annotations), padding, state

    def step(
        self, symbol: torch.Tensor, state: torch.Tensor, annotations: torch.Tensor,
        keys: torch.Tensor, padding: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Scores (n, 11) of the symbol behind ``symbol`` (n,), and the next state (n, size)."""
        energy = self.energy(torch.tanh(keys + self.query(state).unsqueeze(1))).squeeze(-1)
        weights = torch.softmax(energy + padding, dim=-1)
        context = (weights.unsqueeze(1) @ annotations).squeeze(1)
        before = self.symbols(symbol)
        state = self.cell(torch.cat([before, context], dim=-1), state)
        return self.head(torch.cat([state, context, before], dim=-1)), state

    def decode(
        self, text: torch.Tensor, follow: Callable[[int, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Scores (n, 10, 11), each step going on from the symbol ``follow(step, scores)``."""
        annotations, keys, padding, state = self.encode(text)
        symbol = torch.full_like(text[:, 0], _START)
        found = []
        for step in range(LENGTH):
            scores, state = self.step(symbol, state, annotations, keys, padding)
            found.append(scores)
            symbol = follow(step, scores)
        return torch.stack(found, dim=1)

    def forward(self, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.decode(text, lambda _, scores: scores.argmax(dim=-1))
        return scores, scores.argmax(dim=-1)


class BeamSearch(nn.Module):
    """Texts (n, 32), int64, to the four likeliest dates (n, 4, 10) and their log-probabilities."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.model = model

    def forward(self, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        *fixed, state = (x.repeat_interleave(BEAM, dim=0) for x in self.model.encode(text))
        symbol = torch.full_like(text[:, :1], _START).expand(-1, BEAM)
        # All beams begin alike: but one are out of the race until they differ.
        beams = torch.arange(BEAM, device=text.device)
        likelihood = torch.where(beams == 0, 0.0, -1e4).expand(len(text), -1)
        dates = symbol[:, :, None][:, :, :0]
        for _ in range(LENGTH):
            scores, state = self.model.step(symbol.reshape(-1), state, *fixed)
            ahead = functional.log_softmax(scores, dim=-1).reshape(-1, BEAM, len(SYMBOLS))
            total = (likelihood.unsqueeze(-1) + ahead).flatten(1)
            likelihood, best = total.topk(BEAM, dim=-1)
            parent, symbol = best // len(SYMBOLS), best % len(SYMBOLS)
            kept = parent.unsqueeze(-1)
            state = (
                state.reshape(-1, BEAM, _SIZE).gather(1, kept.expand(-1, -1, _SIZE)).flatten(0, 1)
            )
            dates = dates.gather(1, kept.expand(-1, -1, dates.shape[-1]))
            dates = torch.cat([dates, symbol.unsqueeze(-1)], dim=-1)
        return dates, likelihood


class Decoder(Protocol):
    """Writes symbol by symbol."""

    def decode(
        self, source: torch.Tensor, follow: Callable[[int, torch.Tensor], torch.Tensor], /
    ) -> Any:
        """Scores first, each step going on from the symbol ``follow(step, scores)``."""


class _Taught(nn.Module):
    """The same in training, where the symbol before the one asked for is the right one."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: torch.Tensor, wanted: torch.Tensor) -> Any:
        return self.model.decode(source, lambda step, _: wanted[:, step])


def teach(model: Decoder, training: Training, outputs: Sequence[str], entry: Trained) -> None:
    """Train a decoder with the right symbols given, as usual.

    Args:
        model: what is trained.
        training: its batches have the input of ``decode`` and what is ``wanted`` (n, steps).
        outputs: names of what ``decode`` gives.
        entry: says how long, and how fast.
    """
    taught = _Taught(model)
    first = next(iter(training.batches(0)))
    workload = Workload(
        name=entry.name,
        model=taught,
        example_inputs={name: batch[:2] for name, batch in first.items()},
        output_names=outputs,
        training=training,
    )
    fit(workload, taught, epochs=entry.epochs, rate=entry.rate)
