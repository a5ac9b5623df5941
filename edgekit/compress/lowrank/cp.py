"""CP of a kxk convolution: 1x1, depthwise kxk, 1x1.

V. Lebedev et al., Speeding-up convolutional neural networks using fine-tuned CP-decomposition, ICLR
2015 (arXiv 1412.6553), with the two spatial modes as one: one depthwise convolution costs next to
nothing and approximates better than two. Alternating least squares, each step held near the one
before (proximal), since plain steps let components of a CP diverge.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from edgekit.compress.lowrank.base import Candidate
from edgekit.compress.lowrank.layers import Layer, LayerSite, conv_part
from edgekit.compress.lowrank.weighting import Weighting

__all__ = ["CpSite", "Factors", "als", "compose", "cp", "diagonalized", "extended"]

#: Factors of the outputs ``(outputs, rank)``, the inputs ``(inputs, rank)``, the places
#: ``(places, rank)``.
Factors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

#: Ranks that are tried: each one costs a run of alternating least squares.
_TRIED = 4
#: Random starts of the smallest rank, beside an algebraic one; each may end in a bad place.
_STARTS = 3


def compose(factors: Factors) -> torch.Tensor:
    """The tensor ``(outputs, inputs, places)`` that factors stand for."""
    return torch.einsum("or,ir,sr->ois", *factors)


def cp(tensor: torch.Tensor, rank: int, smaller: Factors | None = None) -> Factors:
    """The CP of a tensor.

    Args:
        tensor: shape ``(outputs, inputs, places)``, float64.
        rank: how many components.
        smaller: the CP of a smaller rank to go on from; the error is no larger than that one's.
    """
    starts = [extended(tensor, smaller, rank, seed) for seed in range(1 if smaller else _STARTS)]
    if smaller is None:
        starts = [*diagonalized(tensor, rank), *starts]
    best, least = None, float("inf")
    for start in starts:
        found = als(tensor, start)
        error = float((tensor - compose(found)).norm())
        if best is None or error < least:
            best, least = found, error
        if least <= 1e-6 * float(tensor.norm()):
            break
    assert best is not None
    return best


def als(tensor: torch.Tensor, start: Factors, iterations: int = 500) -> Factors:
    """Alternating least squares; the error never rises.

    Args:
        tensor: shape ``(outputs, inputs, places)``, float64.
        start: where to begin.
        iterations: at most; it ends when the error falls by less than a hundred-thousandth.

    Returns:
        Factors whose columns have like norms in all three modes.
    """
    factors = list(start)
    norm = max(float(tensor.norm()), 1e-300)
    error = 2.0
    for _ in range(iterations):
        for mode, equation in enumerate(("ois,ir,sr->or", "ois,or,sr->ir", "ois,or,ir->sr")):
            first, second = (factor for other, factor in enumerate(factors) if other != mode)
            gram = (first.T @ first) * (second.T @ second)
            near = 1e-6 * float(gram.diagonal().mean()) + 1e-300
            wanted = torch.einsum(equation, tensor, first, second) + near * factors[mode]
            system = gram + near * torch.eye(len(gram), dtype=gram.dtype)
            factors[mode] = torch.linalg.solve(system, wanted.T).T
        factors = _balanced(factors)
        previous, error = error, float((tensor - compose(_triple(factors))).norm()) / norm
        if error < 1e-8 or previous - error < 1e-5 * error:
            break
    return _triple(factors)


def diagonalized(tensor: torch.Tensor, rank: int) -> list[Factors]:
    """A start that is the solution where the tensor is of that rank; none for larger ranks.

    Two mixtures of the places, ``A diag(c) B^T`` and ``A diag(d) B^T``, have the columns of ``A``
    as the eigenvectors of one times the inverse of the other (R. Harshman, Foundations of the
    PARAFAC procedure, UCLA Working Papers in Phonetics 16, 1970, after R. Jennrich).
    """
    outputs, inputs, places = tensor.shape
    if rank > min(outputs, inputs) or places < 2:
        return []
    left = torch.linalg.svd(tensor.reshape(outputs, -1), full_matrices=False)[0][:, :rank]
    right = torch.linalg.svd(tensor.transpose(0, 1).reshape(inputs, -1), full_matrices=False)[0]
    right = right[:, :rank]
    core = torch.einsum("ois,op,iq->pqs", tensor, left, right)
    mixtures = torch.randn(2, places, generator=torch.Generator().manual_seed(0)).double()
    one, other = (torch.einsum("pqs,s->pq", core, mixture) for mixture in mixtures)
    vectors = torch.linalg.eig(one @ torch.linalg.pinv(other))[1].real
    first = left @ vectors
    # With A known, each row of pinv(A) T is one column of B times one of C.
    rows = (torch.linalg.pinv(first) @ tensor.reshape(outputs, -1)).reshape(rank, inputs, places)
    u, s, v = torch.linalg.svd(rows, full_matrices=False)
    return [(first, (u[:, :, 0] * s[:, :1]).T, v[:, 0].T)]


def extended(tensor: torch.Tensor, factors: Factors | None, rank: int, seed: int = 0) -> Factors:
    """Factors to start from: those of a smaller rank, and new columns that change nothing yet.

    Args:
        tensor: shape ``(outputs, inputs, places)``, float64.
        factors: of a smaller rank, or None.
        rank: how many columns to give.
        seed: of the new columns.
    """
    generator = torch.Generator().manual_seed(seed)
    have = 0 if factors is None else factors[0].shape[1]
    new = [
        torch.randn(size, rank - have, generator=generator, dtype=torch.float64)
        for size in tensor.shape
    ]
    new[0].zero_()
    if factors is None:
        return _triple(new)
    return _triple([torch.cat(pair, 1) for pair in zip(factors, new, strict=True)])


def _balanced(factors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    norms = [factor.norm(dim=0).clamp(min=1e-150) for factor in factors]
    share = (norms[0] * norms[1] * norms[2]) ** (1 / 3)
    return [factor * (share / norm) for factor, norm in zip(factors, norms, strict=True)]


def _triple(factors: Sequence[torch.Tensor]) -> Factors:
    outputs, inputs, places = factors
    return outputs, inputs, places


class CpSite(LayerSite):
    """A kxk convolution as 1x1, depthwise kxk and 1x1."""

    def __init__(self, layer: Layer, weighting: Weighting) -> None:
        super().__init__(layer)
        self._weighting = weighting
        self._found: dict[int, Factors] = {}

    @cached_property
    def _weighted(self) -> torch.Tensor:
        return self._weighting.apply(self.layer.weight).flatten(2)

    def candidates(self, multiple: int) -> Sequence[Candidate]:
        outputs, inputs, places = self._weighted.shape
        at_input, at_output = self.layer.input_positions, self.layer.output_positions
        each = at_input * inputs + at_output * (places + outputs)
        largest = min(max(outputs, inputs), (self.macs - 1) // each) // multiple
        tried = sorted({-(-largest * part // _TRIED) * multiple for part in range(1, _TRIED + 1)})
        norm = max(float(self._weighted.norm()), 1e-300)
        made = []
        factors: Factors | None = None
        for rank in tried if largest else []:
            factors = cp(self._weighted, rank, factors)
            self._found[rank] = factors
            error = float((self._weighted - compose(factors)).norm()) / norm
            made.append(
                Candidate((rank,), min(error, 1.0), rank * each, rank * (outputs + inputs + places))
            )
        return self.cheaper(made)

    def build(self, ranks: tuple[int, ...]) -> nn.Sequential:
        like = self.layer.module
        assert isinstance(like, nn.Conv2d)
        (rank,) = ranks
        outputs, inputs, places = self._found[rank]
        left, right = self._weighting.unscale_rows(outputs), self._weighting.unroot(inputs.T)
        core = places.T.reshape(rank, 1, *self.layer.weight.shape[2:])
        return nn.Sequential(
            conv_part(like, right[:, :, None, None], None),
            conv_part(like, core, None, along=(True, True), groups=rank),
            conv_part(like, left[:, :, None, None], like.bias),
        )
