"""Recurrent networks that read a digit row by row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from edgekit.zoo._classification import Classifier, digits

__all__ = ["row_classifier"]


class _RowReader(nn.Module):
    """Rows (n, 8, 8), float32 in [0, 1], to the scores of ten digits.

    Args:
        layer: what reads; batch first, of 8 inputs.
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        states, _ = self.layer(rows)
        if not self.layer.bidirectional:
            read = states[:, -1]
        else:  # each direction's last state has seen all rows
            forth, back = states.chunk(2, dim=-1)
            read = torch.cat([forth[:, -1], back[:, 0]], dim=-1)
        logits: torch.Tensor = self.head(read)
        return logits


def row_classifier(
    name: str,
    description: str,
    layer: Callable[[], nn.RNNBase],
) -> Classifier:
    """A classifier of scikit-learn's digits around a recurrent layer.

    Args:
        name: its name in the zoo.
        description: one sentence.
        layer: makes the layer; batch first, of 8 inputs.
    """
    return Classifier(
        name=name,
        family="recurrent",
        description=description,
        input_name="rows",
        build=lambda: _RowReader(layer()),
        load_data=lambda: digits((8, 8)),
        bar=0.96,
        source="a point below a support vector machine on whole digits, scikit-learn's example",
    )
