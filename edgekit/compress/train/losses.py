"""How far a student's tensors are from its teacher's: scalars, 0 where they agree.

Half precision is compared in float32.
"""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["attention_divergence", "cosine", "feature_map_distance", "kl", "relative_mse"]

#: Keeps quotients finite where a teacher's tensor is all zeros.
_TINY = 1e-12


def kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float, axis: int) -> torch.Tensor:
    """KL divergence of class scores softened by ``temperature``, times its square.

    The square keeps the gradient's size independent of it (Hinton et al. 2015, section 2).

    Args:
        student: scores of any shape.
        teacher: scores of the same shape.
        temperature: above 0.
        axis: that of the classes; the mean is over all others.
    """
    wanted = functional.log_softmax(_precise(teacher) / temperature, axis)
    got = functional.log_softmax(_precise(student) / temperature, axis)
    return (wanted.exp() * (wanted - got)).sum(axis).mean() * temperature**2


def relative_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean squared error in units of the teacher's mean square: 1 for a student of zeros."""
    size = _precise(teacher).square().mean().clamp(min=_TINY)
    return functional.mse_loss(_precise(student), _precise(teacher)) / size


def cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 minus the cosine over the last axis, mean over all others."""
    return (1.0 - functional.cosine_similarity(_precise(student), _precise(teacher), dim=-1)).mean()


def feature_map_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Distance of the maps of mean squares over channels, each of length 1.

    Attention transfer of activations (Zagoruyko and Komodakis 2017, equation 2), squared.

    Args:
        student: shape (N, C, H, W).
        teacher: shape (N, D, H, W); the numbers of channels may differ.
    """
    sizes = [_precise(x).square().mean(1).flatten(1) for x in (student, teacher)]
    maps = [functional.normalize(size, dim=1) for size in sizes]
    return (maps[0] - maps[1]).square().sum(1).mean()


def attention_divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL divergence of attention probabilities, mean over heads before and over queries after.

    Args:
        student: probabilities of shape (N, heads, queries, keys).
        teacher: the same, but for the number of heads.
    """
    got, wanted = (_precise(x).mean(1).clamp(min=_TINY) for x in (student, teacher))
    return (wanted * (wanted.log() - got.log())).sum(-1).mean()


def _precise(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
