"""How sparsity grows while a model is trained."""

from __future__ import annotations

import math

from edgekit.compress.sparse.masks import Pattern, Sparsity

__all__ = ["at", "cubic", "is_update"]

#: The part of training in which sparsity grows: after a first look, and with time to recover.
_BEGIN, _END = 0.1, 0.75
#: Masks are chosen again at most about this often.
_UPDATES = 50


def cubic(progress: float) -> float:
    """The share of the final sparsity, 0 to 1, when ``progress`` (0 to 1) of the ramp is done.

    Many weights go early, while there are many to spare (Zhu & Gupta, 2017, arXiv:1710.01878).
    """
    left = 1.0 - min(max(progress, 0.0), 1.0)
    return 1.0 - left**3


def at(final: Sparsity, step: int, steps: int) -> Sparsity:
    """The sparsity after ``step`` of ``steps``. A pattern loses one weight a group at a time."""
    share = cubic((step / steps - _BEGIN) / (_END - _BEGIN))
    if isinstance(final, Pattern):
        return Pattern(final.of - round(share * (final.of - final.keep)), final.of)
    return share * final


def is_update(step: int, steps: int) -> bool:
    """Whether masks are chosen after this step."""
    every = max(steps // _UPDATES, 1)
    last = math.ceil(_END * steps)
    return (step % every == 0 and _BEGIN * steps <= step < last) or step == last
