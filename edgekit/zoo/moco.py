"""``zoo:moco-mnist``: momentum contrast, MoCo v2 (Chen et al., 2020, arXiv:2003.04297).

A view has to find the other view of its image among a queue of views of earlier batches. Those,
the keys, come from a second encoder that follows the first one slowly (He et al., 2019,
arXiv:1911.05722). Batch norm must not tell which key was in the same batch: the batch is divided,
for the keys otherwise than for the queries, as the paper does by shuffling between GPUs.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._selfsupervised import FEATURES, follow, frozen, perceptron, pretrained

__all__ = ["ENTRIES", "workload"]

_TEMPERATURE = 0.2
_QUEUE = 1000  # a quarter of the digits; the paper's is 5 % of ImageNet
_MOMENTUM = 0.99  # the paper's 0.999 is for a thousand times as many steps
_LENGTH = 64
_DIVIDED = 50


class _MoCo(nn.Module):
    queue: torch.Tensor

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.query = nn.Sequential(encoder, perceptron(FEATURES, FEATURES, _LENGTH))
        self.key = frozen(self.query)
        self.register_buffer("queue", functional.normalize(torch.randn(_QUEUE, _LENGTH)))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """InfoNCE of the views (n, 1, 28, 28); the second ones join the queue."""
        queries = _embed(self.query, first)
        with torch.no_grad():
            order = torch.randperm(len(second))
            keys = _embed(self.key, second[order])[order.argsort()]
        own = (queries * keys).sum(1, keepdim=True)
        cosines = torch.cat([own, queries @ self.queue.T], 1)
        self.queue = torch.cat([keys, self.queue])[:_QUEUE]
        truth = torch.zeros(len(first), dtype=torch.int64)
        return functional.cross_entropy(cosines / _TEMPERATURE, truth)

    def follow(self, _done: float) -> None:
        """The keys' encoder comes a little nearer."""
        follow(self.key, self.query, _MOMENTUM)


def _embed(network: nn.Module, views: torch.Tensor) -> torch.Tensor:
    return functional.normalize(torch.cat([network(part) for part in views.split(_DIVIDED)]))


_ENTRY = pretrained(
    "moco-mnist",
    "MoCo's encoder, learnt from 4000 MNIST digits without labels, judged by a linear probe.",
    _MoCo,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
