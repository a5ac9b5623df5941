"""Graphs of any number of nodes and edges, and what the classifiers of their nodes share.

A graph is two tensors: ``features`` (nodes, channels) in float32, and ``edges`` (2, edges) in
int64, in whose columns the first node sends to the second one. Edges that are not directed are in
it both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import kneighbors_graph
from torch import nn

from edgekit.spec import Array, Feeds
from edgekit.workload import Evaluate, Metric, Predict, Training, Workload

__all__ = ["Digits", "Graph", "digits_graph", "node_classifier", "summed", "with_loops"]

_NEIGHBOURS = 8
_LABELLED, _UNSEEN = 200, 1000


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph, its nodes' classes (nodes,), and the nodes whose classes count."""

    features: Array
    edges: Array
    labels: Array
    counted: Array

    @property
    def feeds(self) -> Feeds:
        """What a model takes."""
        return {"features": self.features, "edges": self.edges}

    def part(self, nodes: Array) -> Feeds:
        """Some of its nodes, and the edges among them."""
        place = np.full(len(self.features), -1)
        place[nodes] = np.arange(len(nodes))
        edges = place[self.edges]
        return {"features": self.features[nodes], "edges": edges[:, (edges >= 0).all(axis=0)]}


@dataclass(frozen=True, slots=True)
class Digits:
    """scikit-learn's 1797 digits, joined to those that look alike.

    Attributes:
        seen: those to learn on, of which only 200 are labelled, and the edges among them.
        whole: the same, and behind them 1000 digits that are not there in training, which count.
    """

    seen: Graph
    whole: Graph


@cache
def digits_graph() -> Digits:
    """Each digit is joined to the 8 nearest ones by its 64 pixels in [0, 1]."""
    data = load_digits()
    order = np.arange(len(data.data))
    known, unseen = train_test_split(order, test_size=_UNSEEN, stratify=data.target, random_state=0)
    labelled, others = train_test_split(
        known, train_size=_LABELLED, stratify=data.target[known], random_state=0
    )
    order = np.concatenate([labelled, others, unseen])
    pixels = (data.data[order] / 16.0).astype(np.float32)
    labels = data.target[order].astype(np.int64)
    seen = len(known)
    return Digits(
        seen=_nearest(pixels[:seen], labels[:seen], np.arange(_LABELLED)),
        whole=_nearest(pixels, labels, np.arange(seen, len(pixels))),
    )


def _nearest(pixels: Array, labels: Array, counted: Array) -> Graph:
    near = kneighbors_graph(pixels, _NEIGHBOURS)
    edges = np.stack(near.maximum(near.T).nonzero()).astype(np.int64)
    return Graph(pixels, edges, labels, counted)


def summed(messages: torch.Tensor, edges: torch.Tensor, nodes: int) -> torch.Tensor:
    """What arrives at each node: messages (edges, ...) added up into (nodes, ...)."""
    nothing = messages.new_zeros(nodes, *messages.shape[1:])
    return nothing.index_add(0, edges[1], messages)


def with_loops(edges: torch.Tensor, nodes: int) -> torch.Tensor:
    """The edges, and one from each node to itself."""
    own = torch.arange(nodes, device=edges.device)
    return torch.cat([edges, own.expand(2, -1)], dim=1)


def node_classifier(
    name: str,
    model: nn.Module,
    *,
    train: Graph,
    judge: Graph,
    parts: Sequence[Feeds],
    labels: Sequence[str],
    description: str,
) -> Workload:
    """A classifier of nodes that takes a whole graph and gives ``logits`` (nodes, classes).

    Args:
        name: of the entry.
        model: its module.
        train: what it learns on: cross-entropy of the nodes that count.
        judge: what it is judged on: accuracy of the nodes that count.
        parts: what it is calibrated on; the first two, of different sizes, are example calls.
        labels: of the classes.
        description: one line.
    """
    loss = nn.CrossEntropyLoss()
    batch = {name: torch.from_numpy(array) for name, array in train.feeds.items()}
    batch |= {
        "counted": torch.from_numpy(train.counted),
        "label": torch.from_numpy(train.labels[train.counted]),
    }

    def missed(outputs: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> Any:
        return loss(outputs["logits"][given["counted"]], given["label"])

    return Workload(
        name=name,
        model=model,
        example_inputs={name: torch.from_numpy(array) for name, array in parts[0].items()},
        output_names=["logits"],
        dynamic_shapes={"features": {0: "nodes"}, "edges": {1: "edges"}},
        calibration=lambda: parts,
        evaluate=_accuracy(judge),
        metric=Metric("accuracy"),
        labels=labels,
        training=Training(lambda _: [batch], missed),
        description=description,
    )


def _accuracy(graph: Graph) -> Evaluate:
    def evaluate(predict: Predict) -> dict[str, float]:
        predicted = predict(graph.feeds)["logits"].argmax(axis=1)
        right = predicted[graph.counted] == graph.labels[graph.counted]
        return {"accuracy": float(right.mean())}

    return evaluate
