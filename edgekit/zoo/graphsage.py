"""``zoo:graphsage-digits``: reads a digit by a sample of those that look alike, and of theirs.

Inductive Representation Learning on Large Graphs (Hamilton, Ying and Leskovec, 2017): two layers
with the mean aggregator, each on its own features beside the mean of a few sampled neighbours. So a
node costs the same however many neighbours it has. The samples are drawn on the host and go in as
arrays of indices of fixed size; the graph and the number of asked nodes are of any size. It learns
on the graph of 797 digits, 200 of them labelled, and is judged by 1000 that join it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array, Feeds
from edgekit.workload import Evaluate, Metric, Predict, Training, Workload
from edgekit.zoo._entry import Made
from edgekit.zoo._graphs import Graph, digits_graph

__all__ = ["ENTRIES", "sampled", "workload"]

_NEAR, _FAR = 10, 5  # neighbours of a node, and neighbours of each of those
_BATCH = 50


class _Layer(nn.Module):
    """Its own features and the mean of its neighbours', each by a matrix of its own."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.own = nn.Linear(channels_in, channels)
        self.others = nn.Linear(channels_in, channels, bias=False)

    def forward(self, own: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """``own`` (..., channels in), ``others`` (..., neighbours, channels in)."""
        hidden = functional.relu(self.own(own) + self.others(others.mean(-2)))
        return functional.normalize(hidden, dim=-1)


class _GraphSage(nn.Module):
    """``features`` (nodes, 64) float32; ``asked`` (batch,), ``near`` (batch, 10) and ``far``
    (batch, 11, 5), int64: neighbours of the asked node, and of it and each of these. To logits
    (batch, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = _Layer(64, 64)
        self.second = _Layer(64, 64)
        self.head = nn.Linear(64, 10)
        self.dropout = nn.Dropout(0.3)

    def forward(
        self, features: torch.Tensor, asked: torch.Tensor, near: torch.Tensor, far: torch.Tensor
    ) -> torch.Tensor:
        features = self.dropout(features)
        nodes = torch.cat([asked.unsqueeze(1), near], dim=1)
        hidden = self.dropout(self.first(features[nodes], features[far]))
        logits: torch.Tensor = self.head(self.second(hidden[:, 0], hidden[:, 1:]))
        return logits


def sampled(graph: Graph, asked: Array, generator: np.random.Generator) -> Feeds:
    """The inputs for some nodes: neighbours drawn at random, the same one twice if there are few.

    Args:
        graph: in which every node has a neighbour.
        asked: nodes, int64 of shape (batch,).
        generator: draws.
    """
    order = np.argsort(graph.edges[1], kind="stable")
    degrees = np.bincount(graph.edges[1], minlength=len(graph.features))
    starts, senders = np.cumsum(degrees) - degrees, graph.edges[0][order]

    def drawn(nodes: Array, count: int) -> Array:
        shape = (*nodes.shape, count)
        place = generator.random(shape) * degrees[nodes][..., None]
        found: Array = senders[starts[nodes][..., None] + place.astype(np.int64)]
        return found

    near = drawn(asked, _NEAR)
    far = drawn(np.concatenate([asked[:, None], near], axis=1), _FAR)
    return {"features": graph.features, "asked": asked, "near": near, "far": far}


def _batches(graph: Graph, nodes: Array, seed: int) -> Iterator[Feeds]:
    generator = np.random.default_rng(seed)
    for start in range(0, len(nodes), _BATCH):
        yield sampled(graph, nodes[start : start + _BATCH], generator)


def _learning(graph: Graph, epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    order = np.random.default_rng(epoch).permutation(graph.counted)
    for feeds in _batches(graph, order, epoch):
        batch = {name: torch.from_numpy(array) for name, array in feeds.items()}
        yield {**batch, "label": torch.from_numpy(graph.labels[feeds["asked"]])}


def _accuracy(graph: Graph) -> Evaluate:
    def evaluate(predict: Predict) -> dict[str, float]:
        batches = _batches(graph, graph.counted, 0)
        predicted = [predict(feeds)["logits"].argmax(axis=1) for feeds in batches]
        right = np.concatenate(predicted) == graph.labels[graph.counted]
        return {"accuracy": float(right.mean())}

    return evaluate


def _around(model: nn.Module) -> Workload:
    digits = digits_graph()
    seen, loss = digits.seen, nn.CrossEntropyLoss()
    example = next(_batches(seen, np.arange(2), 0))
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array) for name, array in example.items()},
        output_names=["logits"],
        dynamic_shapes={"features": {0: "nodes"}}
        | {name: {0: BATCH} for name in ("asked", "near", "far")},
        calibration=lambda: _batches(seen, np.arange(len(seen.features)), 0),
        evaluate=_accuracy(digits.whole),
        metric=Metric("accuracy"),
        labels=[str(digit) for digit in range(10)],
        training=Training(
            lambda epoch: _learning(seen, epoch),
            lambda outputs, batch: loss(outputs["logits"], batch["label"]),
        ),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="graphsage-digits",
    family="embeddings and graphs",
    description="GraphSAGE on digits joined to those that look alike, by sampled neighbours.",
    bar=0.95,
    source="the nearest of the same 200 labelled digits, by its pixels, is right for 0.945",
    build=_GraphSage,
    make=_around,
    epochs=200,
    rate=3e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
