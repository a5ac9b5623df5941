"""SparseGPT: the weights that stay make up for those that go."""

from __future__ import annotations

import torch

from edgekit.compress.quantize.weight_only.gptq import damping_for, inverse_factor
from edgekit.compress.sparse.base import Evidence, Method
from edgekit.compress.sparse.masks import Pattern, Sparsity, mask_pattern, mask_ratio

__all__ = ["SparseGpt"]

#: Columns whose mask is chosen together; a multiple of every pattern's length.
_BLOCK = 128


class SparseGpt(Method):
    """Second-order pruning with the layer's own Hessian ``X^T X`` (Frantar & Alistarh, 2023,
    arXiv:2301.00774, algorithm 1).

    Columns are taken one after the other; what the zeros of a column cost is made up for by the
    columns after it. Masks are chosen block by block from the weights as updated so far. The
    Hessian is that of the dense model: all layers come from one pass over the data.
    """

    inputs = "moment"

    def score(self, weight: torch.Tensor, evidence: Evidence) -> torch.Tensor:
        """The rise of the output's error when a weight goes: ``w^2 / [H^-1]_jj`` up to a factor."""
        factors = _factors(evidence)
        return _cost(weight, torch.diagonal(factors, dim1=-2, dim2=-1).unsqueeze(-2))

    def sparsify(
        self, weight: torch.Tensor, evidence: Evidence, sparsity: Sparsity
    ) -> torch.Tensor:
        pairs = zip(weight, _factors(evidence), strict=True)
        return torch.stack([_prune(one.clone(), factor, sparsity) for one, factor in pairs])


def _factors(evidence: Evidence) -> torch.Tensor:
    """Upper Cholesky factors of the inverse damped Hessians, one a group.

    A group whose inputs are all zero has nothing to go by but the weights: the identity.
    """
    moment = evidence.moment
    assert moment is not None
    damping = damping_for(moment.shape[-1], evidence.rows)
    made = [
        torch.from_numpy(inverse_factor(one.double().numpy(), damping))
        if bool(one.any())
        else torch.eye(len(one))
        for one in moment.cpu()
    ]
    return torch.stack(made).to(moment.device)


def _cost(weight: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
    return (weight / diagonal).square()


def _prune(weight: torch.Tensor, factor: torch.Tensor, sparsity: Sparsity) -> torch.Tensor:
    """Prune ``weight``, float32 of shape ``(rows, columns)``, in place."""
    diagonal = factor.diagonal()
    for start in range(0, weight.shape[1], _BLOCK):
        stop = min(start + _BLOCK, weight.shape[1])
        errors = torch.zeros_like(weight[:, start:stop])
        width = sparsity.of if isinstance(sparsity, Pattern) else stop - start
        for first in range(start, stop, width):
            part = slice(first, first + width)
            cost = _cost(weight[:, part], diagonal[part])
            keep = (
                mask_pattern(cost, sparsity)
                if isinstance(sparsity, Pattern)
                else mask_ratio(cost, sparsity)
            )
            for column in range(first, first + width):
                lost = torch.where(keep[:, column - first], 0.0, weight[:, column])
                error = lost / diagonal[column]
                weight[:, column] -= lost
                weight[:, column + 1 : stop] -= torch.outer(
                    error, factor[column, column + 1 : stop]
                )
                errors[:, column - start] = error
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    return weight
