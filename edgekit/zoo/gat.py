"""``zoo:gat-digits``: a graph attention network reads digits by those that look alike.

Graph Attention Networks (Velickovic et al., 2018), inductive as in the paper's section 3.3: 200
labelled digits and 597 without a label are the graph that it learns on. It is judged by 1000 other
digits that join the graph afterwards.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Feeds
from edgekit.workload import Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._graphs import digits_graph, node_classifier, summed, with_loops

__all__ = ["ENTRIES", "workload"]

_SLOPE = 0.2


class _Attention(nn.Module):
    """Each node gets a mean of its neighbours and itself, weighted by softmax over its edges.

    Args:
        channels_in: of each node.
        channels: of each head.
        heads: how many.
    """

    def __init__(self, channels_in: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.channels = heads, channels
        self.linear = nn.Linear(channels_in, heads * channels, bias=False)
        self.sender = nn.Parameter(torch.empty(heads, channels))
        self.receiver = nn.Parameter(torch.empty(heads, channels))
        self.bias = nn.Parameter(torch.zeros(heads, channels))
        self.dropout = nn.Dropout(0.6)
        for weight in (self.linear.weight, self.sender, self.receiver):
            nn.init.xavier_uniform_(weight)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """``x`` (nodes, channels in) to (nodes, heads, channels)."""
        source, target = edges[0], edges[1]
        values = self.linear(x).unflatten(1, (self.heads, self.channels))
        sends, takes = (values * self.sender).sum(-1), (values * self.receiver).sum(-1)
        scores = functional.leaky_relu(sends[source] + takes[target], _SLOPE)
        # No score of an edge into this node is larger: LeakyReLU never falls. Softmax is the same
        # whatever is taken off all scores of a node, and so the exponentials stay within 1.
        largest = functional.leaky_relu(sends.amax(0) + takes, _SLOPE)
        weights = torch.exp(scores - largest[target])
        weights = weights / summed(weights, edges, len(x))[target]
        sent = self.dropout(weights).unsqueeze(-1) * values[source]
        return summed(sent, edges, len(x)) + self.bias


class _Gat(nn.Module):
    """``features`` (nodes, 64) float32 and ``edges`` (2, edges) int64 to (nodes, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _Attention(64, 8, heads=8)
        self.second = _Attention(64, 10, heads=1)
        self.dropout = nn.Dropout(0.6)

    def forward(self, features: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        edges = with_loops(edges, len(features))
        hidden = functional.elu(self.first(self.dropout(features), edges)).flatten(1)
        logits: torch.Tensor = self.second(self.dropout(hidden), edges).mean(1)
        return logits


def _parts() -> list[Feeds]:
    """Some of the digits that it learns on, another number each time."""
    seen = digits_graph().seen
    generator = np.random.default_rng(0)
    sizes = generator.integers(100, 400, 32)
    return [seen.part(generator.permutation(len(seen.features))[:size]) for size in sizes]


def _around(model: nn.Module) -> Workload:
    digits = digits_graph()
    return node_classifier(
        _ENTRY.name,
        model,
        train=digits.seen,
        judge=digits.whole,
        parts=_parts(),
        labels=[str(digit) for digit in range(10)],
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="gat-digits",
    family="embeddings and graphs",
    description="GAT on digits joined to those that look alike, with 200 of them labelled.",
    bar=0.95,
    source="the nearest of the same 200 labelled digits, by its pixels, is right for 0.945",
    build=_Gat,
    make=_around,
    epochs=300,
    rate=1e-2,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
