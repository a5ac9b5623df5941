"""The memory of what happened that off-policy learners draw from."""

from __future__ import annotations

import numpy as np
import torch

from edgekit.spec import Array

__all__ = ["Replay"]


class Replay:
    """All transitions, each an observation, an action, a reward, the observation after, and
    whether the episode ended there (rather than ran out of time).
    """

    def __init__(self) -> None:
        self._columns: list[Array] = []
        self._count = 0

    def add(self, valid: Array, *columns: Array) -> None:
        """Those of several environments (n, ...), where ``valid`` (n,)."""
        first, last = self._count, self._count + int(valid.sum())
        for index, column in enumerate(columns):
            kind = column.dtype if column.dtype.kind == "i" else np.dtype(np.float32)
            if len(self._columns) <= index:
                self._columns.append(np.empty((1024, *column.shape[1:]), kind))
            while len(self._columns[index]) < last:
                held = self._columns[index]
                self._columns[index] = np.concatenate([held, np.empty_like(held)])
            self._columns[index][first:last] = column[valid]
        self._count = last

    def draw(self, count: int, drawn: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """``count`` of them at random."""
        chosen = drawn.integers(0, self._count, count)
        return tuple(torch.from_numpy(column[chosen]) for column in self._columns)
