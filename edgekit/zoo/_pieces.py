"""The memory of a learner that unrolls its model beside what happened, as MuZero does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from edgekit.spec import Array

__all__ = ["UNROLLED", "Pieces"]

#: How far the model is unrolled in training, and after how many steps a value is a guess again.
UNROLLED, _GUESS = 5, 20
#: Pieces begin in so many of the last steps.
_BATCH, _WINDOW = 128, 1000


class Pieces:
    """What every environment did, step by step, with what the searches said.

    Args:
        discount: of a step.
        steps: how many there will be.
    """

    def __init__(self, discount: float, steps: int) -> None:
        self._steps = steps
        self._rates = torch.from_numpy((discount ** np.arange(_GUESS + 1)).astype(np.float32))
        self._columns: dict[str, Array] = {}
        self._count = 0

    def add(self, **columns: Array) -> None:
        """A step of all environments.

        Args:
            columns: ``observation``, ``action``, ``reward`` and ``policy``; ``begins`` where the
                step only began the next episode, ``goes_on`` where the episode did not end by it,
                ``cut`` where it only ran out of time; (environments, ...).
        """
        for name, column in columns.items():
            if name not in self._columns:
                self._columns[name] = np.zeros((self._steps, *column.shape), column.dtype)
            self._columns[name][self._count] = column
        self._count += 1

    def draw(
        self, drawn: np.random.Generator, value: Callable[[torch.Tensor], torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Pieces of episodes: (batch, unrolled + 1, ...); those that are cut are left out.

        ``playing`` is 0 after an episode's end, where rewards, values and policies are 0, too.
        ``wanted`` are the rewards of the next steps, and ``value`` of what was seen after these:
        what the model says now, not what a search said when it was played.
        """
        last = self._count - UNROLLED - _GUESS
        step = drawn.integers(max(0, last - _WINDOW), last, _BATCH)[:, None]
        environment = drawn.integers(0, self._columns["reward"].shape[1], _BATCH)[:, None]
        rows = step + np.arange(UNROLLED + 1 + _GUESS)
        pieces = {
            name: torch.from_numpy(column[rows, environment])
            for name, column in self._columns.items()
        }
        going = pieces["goes_on"].float().cumprod(1)
        playing = torch.cat([torch.ones_like(going[:, :1]), going[:, :-1]], 1)
        whole = ~pieces["begins"][:, 0] & ~(pieces["cut"] & (playing > 0)).any(1)
        ahead = (pieces["reward"] * playing)[:, :-1].unfold(1, _GUESS, 1)
        later = pieces["observation"][:, _GUESS:]
        worth = value(later.flatten(0, 1)).reshape(later.shape[:2]) * playing[:, _GUESS:]
        pieces["wanted"] = ahead @ self._rates[:-1] + self._rates[-1] * worth
        pieces["policy"] = pieces["policy"] * playing.unsqueeze(2)
        pieces["reward"] = pieces["reward"] * playing
        return {
            name: piece[whole, : UNROLLED + 1]
            for name, piece in {**pieces, "playing": playing}.items()
        }
