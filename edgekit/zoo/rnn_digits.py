"""``zoo:rnn-digits`` and its kin: other recurrent layers that read a digit row by row.

The plain network is Elman's ("Finding Structure in Time", 1990), the GRU that of Cho et al. (2014),
the pair of directions that of Schuster and Paliwal (1997), and the stack that of Graves et al.
(2013), whose upper layer reads the states of the lower one.
"""

from __future__ import annotations

from torch import nn

from edgekit.zoo._rows import row_classifier

__all__ = ["ENTRIES"]

ENTRIES = (
    row_classifier(
        "rnn-digits",
        "Plain recurrent network of 64 units over the 8 rows of scikit-learn's digits.",
        lambda: nn.RNN(8, 64, batch_first=True),
    ),
    row_classifier(
        "gru-digits",
        "GRU of 64 units over the 8 rows of scikit-learn's digits.",
        lambda: nn.GRU(8, 64, batch_first=True),
    ),
    row_classifier(
        "bilstm-digits",
        "LSTM of 48 units in each direction over the 8 rows of scikit-learn's digits.",
        lambda: nn.LSTM(8, 48, batch_first=True, bidirectional=True),
    ),
    row_classifier(
        "stacked-lstm-digits",
        "Two LSTM layers of 64 units over the 8 rows of scikit-learn's digits.",
        lambda: nn.LSTM(8, 64, num_layers=2, batch_first=True),
    ),
)
