"""``zoo:gcn-karate``: a graph convolutional network tells which club a member went to.

Semi-Supervised Classification with Graph Convolutional Networks (Kipf and Welling, 2017): each
layer is a linear map and a mean over the node and its neighbours, weighted by their degrees. As in
the paper's appendix A, Zachary's karate club is all the data: who met whom, no other features, and
one labelled member of each side: the instructor and the president. The club then split, and the
metric is on how many of the other 32 members it knows where they went.
"""

from __future__ import annotations

from functools import cache

import networkx as nx
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Feeds
from edgekit.workload import Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._graphs import Graph, node_classifier, summed, with_loops

__all__ = ["ENTRIES", "workload"]

_HIDDEN = 16
_MEMBERS = 34
_CLUBS = ("Mr. Hi", "Officer")
_INSTRUCTOR, _PRESIDENT = 0, 33


class _Convolution(nn.Module):
    """D^-1/2 (A + I) D^-1/2 X W of the paper, without a matrix of all pairs of nodes."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels_in, channels)

    def forward(self, x: torch.Tensor, edges: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        sent = self.linear(x)[edges[0]] * share
        return summed(sent, edges, len(x))


class _Gcn(nn.Module):
    """``features`` (nodes, 34) float32 and ``edges`` (2, edges) int64 to (nodes, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _Convolution(_MEMBERS, _HIDDEN)
        self.second = _Convolution(_HIDDEN, len(_CLUBS))
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        edges = with_loops(edges, len(features))
        degree = summed(torch.ones_like(edges[0], dtype=features.dtype), edges, len(features))
        scale = torch.rsqrt(degree)
        share = (scale[edges[0]] * scale[edges[1]]).unsqueeze(1)
        hidden = self.dropout(functional.relu(self.first(features, edges, share)))
        logits: torch.Tensor = self.second(hidden, edges, share)
        return logits


@cache
def _club() -> tuple[Graph, Graph]:
    """The club to learn on and to be judged on: they differ in whose side is known."""
    club = nx.karate_club_graph()
    both = [pair for one, other in club.edges for pair in ((one, other), (other, one))]
    edges = np.array(both, np.int64).T
    sides = np.array([_CLUBS.index(club.nodes[member]["club"]) for member in club])
    known = np.array([_INSTRUCTOR, _PRESIDENT])
    others = np.setdiff1d(np.arange(_MEMBERS), known)
    features = np.eye(_MEMBERS, dtype=np.float32)
    return Graph(features, edges, sides, known), Graph(features, edges, sides, others)


def _evenings() -> list[Feeds]:
    """The whole club, and evenings on which only some of the members are there."""
    club = _club()[0]
    generator = np.random.default_rng(0)
    some = [
        club.part(np.sort(generator.permutation(_MEMBERS)[:present]))
        for present in generator.integers(20, _MEMBERS, 31)
    ]
    return [club.feeds, *some]


def _around(model: nn.Module) -> Workload:
    train, judge = _club()
    return node_classifier(
        _ENTRY.name,
        model,
        train=train,
        judge=judge,
        parts=_evenings(),
        labels=_CLUBS,
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="gcn-karate",
    family="embeddings and graphs",
    description="GCN on Zachary's karate club: who goes with whom, from one member of each side.",
    bar=0.96,
    source="Zachary's own minimum cut of the club is wrong about one member of 34",
    build=_Gcn,
    make=_around,
    epochs=300,
    rate=0.01,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
