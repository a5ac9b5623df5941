"""``zoo:lstm-digits``: a recurrent network that reads a digit row by row."""

from __future__ import annotations

from torch import nn

from edgekit.zoo._rows import row_classifier

__all__ = ["ENTRIES", "workload"]

_ENTRY = row_classifier(
    "lstm-digits",
    "LSTM of 64 units over the 8 rows of scikit-learn's digits.",
    lambda: nn.LSTM(8, 64, batch_first=True),
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
