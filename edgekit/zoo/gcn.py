"""``zoo:gcn-karate`` and ``zoo:gcn-miserables``: who belongs together, from a few who are known.

Semi-Supervised Classification with Graph Convolutional Networks (Kipf and Welling, 2017): each
layer is a linear map and a mean over the node and its neighbours, weighted by their degrees. As in
the paper's appendix A, who met whom is all the data, without any other features.

Zachary's karate club has one labelled member of each side: the instructor and the president. The
club then split, and the metric is on how many of the other 32 members it knows where they went.
Knuth's graph of Les Miserables joins characters who share a chapter. As in the appendix, its
classes are communities of largest modularity, here Louvain's, and those with the most neighbours
in each are labelled, here two. How often two met, which Louvain's method knows, the network does
not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Feeds
from edgekit.workload import Workload
from edgekit.zoo._acquaintances import CLUBS, COMMUNITIES, Both, club, novel
from edgekit.zoo._entry import Made
from edgekit.zoo._graphs import Graph, node_classifier, summed, with_loops

__all__ = ["ENTRIES", "workload"]

_HIDDEN = 16


class _Convolution(nn.Module):
    """D^-1/2 (A + I) D^-1/2 X W of the paper, without a matrix of all pairs of nodes."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels_in, channels)

    def forward(self, x: torch.Tensor, edges: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        sent = self.linear(x)[edges[0]] * share
        return summed(sent, edges, len(x))


class _Gcn(nn.Module):
    """``features`` (nodes, members) float32, ``edges`` (2, edges) int64 to (nodes, classes).

    Args:
        members: of the whole graph; a node's features say which of them it is.
        classes: how many.
    """

    def __init__(self, members: int, classes: int) -> None:
        super().__init__()
        self.first = _Convolution(members, _HIDDEN)
        self.second = _Convolution(_HIDDEN, classes)
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        edges = with_loops(edges, len(features))
        degree = summed(torch.ones_like(edges[0], dtype=features.dtype), edges, len(features))
        scale = torch.rsqrt(degree)
        share = (scale[edges[0]] * scale[edges[1]]).unsqueeze(1)
        hidden = self.dropout(functional.relu(self.first(features, edges, share)))
        logits: torch.Tensor = self.second(hidden, edges, share)
        return logits


def _parts(graph: Graph) -> list[Feeds]:
    """The whole graph, and it with only some of the members."""
    members = len(graph.features)
    generator = np.random.default_rng(0)
    some = [
        graph.part(np.sort(generator.permutation(members)[:present]))
        for present in generator.integers(members * 3 // 5, members, 31)
    ]
    return [graph.feeds, *some]


def _entry(
    name: str,
    description: str,
    graphs: Callable[[], Both],
    members: int,
    labels: Sequence[str],
    *,
    bar: float,
    source: str,
) -> Made:
    def around(model: nn.Module) -> Workload:
        train, judge = graphs()
        return node_classifier(
            name,
            model,
            train=train,
            judge=judge,
            parts=_parts(train),
            labels=labels,
            description=description,
        )

    return Made(
        name=name,
        family="embeddings and graphs",
        description=description,
        bar=bar,
        source=source,
        build=partial(_Gcn, members, len(labels)),
        make=around,
        epochs=300,
        rate=0.01,
    )


_KARATE = _entry(
    "gcn-karate",
    "GCN on Zachary's karate club: who goes with whom, from one member of each side.",
    club,
    34,
    CLUBS,
    bar=0.96,
    source="Zachary's own minimum cut of the club is wrong about one member of 34",
)
_MISERABLES = _entry(
    "gcn-miserables",
    "GCN on Les Miserables: who is of which circle, from two characters of each.",
    novel,
    77,
    [f"circle {place}" for place in range(1, COMMUNITIES + 1)],
    bar=0.9,
    source="the nearest labelled character by steps has 0.74 right, label spreading 0.98",
)
ENTRIES = (_KARATE, _MISERABLES)
workload = _KARATE.workload
