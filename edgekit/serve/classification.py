"""The protocol's classification extension: the best classes of an output instead of its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.serve.errors import ServeError
from edgekit.spec import Array

__all__ = ["best", "classified", "softmax"]


def best(scores: Array, count: int) -> Array:
    """Indices of the ``count`` largest along the last axis, the largest first."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :count]


def softmax(scores: Array) -> Array:
    """Probabilities along the last axis, of the same dtype and shape."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    total: Array = powers / powers.sum(axis=-1, keepdims=True)
    return total


def classified(name: str, array: Array, count: int, labels: Sequence[str] = ()) -> Array:
    """``VALUE:INDEX`` or ``VALUE:INDEX:LABEL`` of the best classes, best first.

    Args:
        name: of the output.
        array: scores; shape ``[..., classes]``.
        count: how many; all when there are fewer.
        labels: one a class, where there are some.

    Returns:
        ``bytes``, of shape ``[..., count]``.

    Raises:
        ServeError: the output has no axis of classes, or is not of numbers.
    """
    if not array.ndim or array.dtype.kind not in "fiuV":
        raise ServeError(f"output {name!r} has no scores to classify by")
    scores = array.astype(np.float64)
    found = best(scores, count)
    values = np.take_along_axis(scores, found, axis=-1)
    texts = np.empty(found.shape, dtype=object)
    named = len(labels) == array.shape[-1]
    for place, index in np.ndenumerate(found):
        label = f":{labels[index]}" if named else ""
        texts[place] = f"{values[place]:f}:{index}{label}".encode()
    return texts
