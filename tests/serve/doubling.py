"""A session whose time and failures a test chooses; it computes in numpy."""

from __future__ import annotations

import threading

import numpy as np
from edgekit.runtimes import Session

from edgekit.spec import BATCH, Feeds, Outputs, TensorSpec

__all__ = ["Doubling", "feeds"]


class Doubling(Session):
    """``y = 2 x`` of shape ``[batch, length]``; refuses negative numbers.

    Attributes:
        shapes: of every call, in order.
        gate: each call waits for it.
    """

    inputs = (TensorSpec("x", "float32", (BATCH, "length")),)
    outputs = (TensorSpec("y", "float32", (BATCH, "length")),)

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.gate = threading.Event()
        self.gate.set()

    def _run(self, feeds: Feeds) -> Outputs:
        self.shapes.append(feeds["x"].shape)
        assert self.gate.wait(30)
        if (feeds["x"] < 0).any():
            raise RuntimeError("negative")
        return {"y": feeds["x"] * 2}

    def _release(self) -> None:
        self.gate.set()


def feeds(value: float, samples: int = 1, length: int = 3) -> dict[str, np.ndarray]:
    return {"x": np.full((samples, length), value, np.float32)}
