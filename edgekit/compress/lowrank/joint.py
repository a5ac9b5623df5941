"""Joint factorization of attention: queries with keys, values with the output, a head at a time.

Only the products ``W_q^T W_k`` and ``W_o W_v`` of a head matter, so both are cut to a smaller rank,
which is the new head size. Biases ride along: new queries are a matrix times the old queries, bias
and all. (W_v's bias needs no such care in softmax attention, but gets it.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from edgekit.compress.lowrank.attention import Attention, Maps, by_head, shrink
from edgekit.compress.lowrank.base import Candidate, Site
from edgekit.compress.lowrank.statistics import Moments

__all__ = ["AttentionSite", "head_moments", "joint"]


def head_moments(layer: nn.Linear, inputs: Moments | None, heads: int) -> torch.Tensor:
    """The second moment of each head's outputs, bias included.

    Args:
        layer: query, key or value.
        inputs: of its inputs; None for white ones.
        heads: how many.

    Returns:
        Float64, shape ``(heads, head size, head size)``.
    """
    weight = by_head(layer.weight, heads).cpu()
    width = weight.shape[-1]
    moment, mean = torch.eye(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    if inputs is not None:
        moment, mean = inputs.moment, inputs.mean
    bias = torch.zeros(weight.shape[:2], dtype=torch.float64)
    if layer.bias is not None:
        bias = by_head(layer.bias, heads).cpu()
    shift = torch.einsum("hd,he->hde", weight @ mean, bias)
    outer = torch.einsum("hd,he->hde", bias, bias)
    moments: torch.Tensor = weight @ moment @ weight.mT + shift + shift.mT + outer
    return moments


def joint(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Maps of two sides of an inner product to a common basis, the most important first.

    With ``E[p p^T] = first`` and ``E[q q^T] = second``, keeping the first r rows of both maps is
    the rank-r bilinear form with the least mean square error of ``p^T q``.

    Args:
        first: shape ``(..., d, d)``, symmetric, positive semidefinite, float64.
        second: likewise.

    Returns:
        ``a``, ``b`` of shape ``(..., d, d)`` and singular values ``(..., d)``; ``a^T b`` is the
        identity.
    """
    root_first, back_first = _roots(first)
    root_second, back_second = _roots(second)
    left, values, right = torch.linalg.svd(root_first @ root_second)
    balance = values.clamp(min=1e-30).sqrt()[..., None]
    balance = torch.maximum(balance, 1e-6 * balance[..., :1, :])
    return (
        balance * (left.mT @ back_first),
        values[..., None] / balance * (right @ back_second),
        values,
    )


def _roots(moment: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The symmetric square root and its inverse, of the moment with a ridge."""
    values, vectors = torch.linalg.eigh(moment)
    largest = values[..., -1:].clamp(min=1e-30)
    root = values.clamp(min=0).add(1e-10 * largest).sqrt()[..., None, :]
    return (vectors * root) @ vectors.mT, (vectors / root) @ vectors.mT


class AttentionSite(Site):
    """An attention block as one with smaller heads."""

    def __init__(
        self,
        attention: Attention,
        model: nn.Module,
        moments: dict[str, Moments],
        positions: dict[str, int],
        power: float,
    ) -> None:
        """A site.

        Args:
            attention: the block.
            model: that it is in.
            moments: of the inputs of query, key and value by qualified name; empty for white ones.
            positions: vectors that each of the four projections reads, by qualified name.
            power: from :func:`.attention.probe`.
        """
        self._attention = attention
        self._power = power
        self._layers = {}
        for path in attention.projections:
            layer = model.get_submodule(attention.full(path))
            assert isinstance(layer, nn.Linear)
            self._layers[path] = layer
        self._moments = {
            path: head_moments(
                self._layers[path], moments.get(attention.full(path)), attention.heads
            )
            for path in attention.projections[:3]
        }
        self.name = attention.name
        shapes = [tuple(layer.weight.shape) for layer in self._layers.values()]
        self.before = f"{attention.heads} heads of {attention.head_size}"
        self.kind = f"attention {self.before}, {shapes}"
        self._sizes = [layer.weight.numel() for layer in self._layers.values()]
        self._costs = [
            positions[attention.full(path)] * layer.weight.numel()
            for path, layer in self._layers.items()
        ]
        self.macs, self.parameters = sum(self._costs), sum(self._sizes)

    @cached_property
    def _joint(self) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        query, key, value, output = self._attention.projections
        out = by_head(self._layers[output].weight, self._attention.heads, axis=1).cpu()
        out = out.movedim(1, 0)
        return joint(self._moments[query], self._moments[key]), joint(
            self._moments[value], out.mT @ out
        )

    def candidates(self, multiple: int) -> Sequence[Candidate]:
        """Ranks are head sizes, and all heads together are a multiple of ``multiple`` wide."""
        size, heads = self._attention.head_size, self._attention.heads
        step = multiple // math.gcd(multiple, heads)
        return [
            Candidate(
                (rank,),
                self._error(rank),
                self.macs * rank // size,
                self.parameters * rank // size,
            )
            for rank in range(step, size, step)
        ]

    def _error(self, rank: int) -> float:
        """The larger of the scores' and the values' relative errors, over all heads together."""
        squares = [values.square() for *_, values in self._joint]
        lost = [float(one[:, rank:].sum() / one.sum().clamp(min=1e-300)) for one in squares]
        return math.sqrt(max(*lost, 0.0))

    def replace(self, model: nn.Module, candidate: Candidate) -> None:
        (rank,) = candidate.ranks
        scores, values = self._joint
        scale = (rank / self._attention.head_size) ** self._power
        maps = Maps(
            query=scores[0][:, :rank] * scale,
            key=scores[1][:, :rank],
            value=values[0][:, :rank],
            output=values[1][:, :rank].mT,
        )
        shrink(model.get_submodule(self._attention.name), self._attention, maps)
