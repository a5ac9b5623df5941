"""``zoo:lstm-digits``: a recurrent network that reads a digit row by row."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.zoo._classification import Classifier, digits

__all__ = ["ENTRIES", "workload"]


class _RowReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size=8, hidden_size=64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(rows)
        logits: torch.Tensor = self.head(states[:, -1])
        return logits


_ENTRY = Classifier(
    name="lstm-digits",
    family="recurrent",
    description="LSTM of 64 units over the 8 rows of scikit-learn's digits.",
    input_name="rows",
    build=_RowReader,
    load_data=lambda: digits((8, 8)),
    bar=0.96,
    source="a point below a support vector machine on whole digits, scikit-learn's example",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
