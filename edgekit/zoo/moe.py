"""``zoo:moe-mnist``: a vision transformer whose tokens are each served by two of eight experts.

"Outrageously Large Neural Networks" (Shazeer et al., 2017) in the form of V-MoE (Riquelme et al.,
2021): in every other block a router chooses two experts for each token, and adds what they make of
it by the router's weights. An expert has eight places an image, twice its fair share; of more
tokens that choose it, those of the smallest weights are dropped (V-MoE's batch-prioritized routing,
an image at a time, so that an answer does not depend on what else is in the batch). Shapes are
static, as compilers for devices want them. The balancing loss is that of the Switch Transformer
(Fedus et al., 2021); the router's probabilities are an output, so whoever trains the model can
compute it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from edgekit.workload import Training, Workload
from edgekit.zoo._classification import Classifier
from edgekit.zoo._encoder import Attention, EncoderBlock, feed_forward
from edgekit.zoo._mnist import augment, mnist

__all__ = ["CAPACITY", "CHOSEN", "ENTRIES", "balance", "workload"]

CHOSEN, CAPACITY = 2, 8
_EXPERTS = 8
_BALANCE = 0.01


class _Experts(nn.Module):
    """Each token (n, tokens, width) served by two experts, and where it was sent.

    Each expert gets the tokens of an image that chose it, gathered, and the places that are left
    are filled with others, which it adds nothing to.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, _EXPERTS, bias=False)
        self.experts = nn.ModuleList(feed_forward(width) for _ in range(_EXPERTS))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        routing = self.router(x).softmax(2)
        least = routing.topk(CHOSEN, dim=2).values[:, :, -1:]
        gates = routing.masked_fill(routing < least, 0.0)
        tokens = torch.arange(x.shape[1], device=x.device).unsqueeze(1)
        served = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            gate, mine = gates[:, :, index].topk(CAPACITY, dim=1)
            taken = x.gather(1, mine.unsqueeze(2).expand(-1, -1, x.shape[2]))
            # A product with zeros and ones puts each answer back to its token, as GShard does.
            back = (mine.unsqueeze(1) == tokens).to(x.dtype)
            served = served + back @ (expert(taken) * gate.unsqueeze(2))
        return served, routing


class _SparseBlock(nn.Module):
    """:class:`EncoderBlock` with experts for its second half."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.before_experts = nn.LayerNorm(width)
        self.experts = _Experts(width)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x + self.attention(self.before_attention(x))
        served, routing = self.experts(self.before_experts(x))
        return x + served, routing


class _SparseVisionTransformer(nn.Module):
    """Images (n, 1, 28, 28), float32 in [0, 1], to scores (n, 10).

    And to the routers' probabilities (n, 2 blocks, 16 patches, 8 experts).
    """

    def __init__(self, width: int = 40, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 7, stride=7)
        self.positions = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.dense = nn.ModuleList(EncoderBlock(width, Attention(width, heads)) for _ in range(2))
        self.sparse = nn.ModuleList(_SparseBlock(width, heads) for _ in range(2))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.embed(image).flatten(2).transpose(1, 2) + self.positions
        routings = []
        for dense, sparse in zip(self.dense, self.sparse, strict=True):
            x, routing = sparse(dense(x))
            routings.append(routing)
        return self.head(x.mean(1)), torch.stack(routings, dim=1)


def balance(routing: torch.Tensor) -> torch.Tensor:
    """1 where every expert of a block is chosen as often as the others, up to 8 where one is.

    How often an expert is chosen, times its mean probability (the Switch Transformer's loss).
    """
    blocks = routing.transpose(0, 1).flatten(1, 2)
    chosen = functional.one_hot(blocks.topk(CHOSEN, dim=2).indices, _EXPERTS).sum(2) / CHOSEN
    return _EXPERTS * (chosen.mean(1) * blocks.mean(1)).sum(1).mean()


@dataclass(frozen=True, kw_only=True)
class _Balanced(Classifier):
    """A classifier whose routers are trained, too."""

    def around(self, model: nn.Module) -> Workload:
        """See :meth:`Trained.around`."""
        plain = super().around(model)
        assert plain.training is not None
        loss = plain.training.loss

        def balanced(
            outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
        ) -> torch.Tensor:
            return loss(outputs, batch) + _BALANCE * balance(outputs["routing"])

        training = Training(plain.training.batches, balanced)
        return replace(plain, output_names=["logits", "routing"], training=training)


_ENTRY = _Balanced(
    name="moe-mnist",
    family="transformers",
    description="Vision transformer with sparse mixtures of experts, 2 of 8 a token, on MNIST.",
    input_name="image",
    build=_SparseVisionTransformer,
    load_data=mnist,
    augment=augment,
    epochs=30,
    rate=3e-3,
    bar=0.95,
    source="a support vector machine on the same 4,000 digits: 0.954",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
