"""How long rounds of samples took."""

from __future__ import annotations

import numpy as np

from edgekit.profile.samples import Samples
from edgekit.spec import Array

__all__ = ["round_seconds"]


def round_seconds(samples: Samples) -> Array:
    """From the begin of each round's first inference to the end of its last one.

    Where the begins are not known, inferences are taken to have followed each other.

    Returns:
        Seconds, of shape ``[rounds]``.
    """
    took = np.reshape(samples.latencies_ns, (-1, samples.block))
    if not samples.starts_ns:
        return np.asarray(took.sum(axis=1) / 1e9)
    starts = np.reshape(samples.starts_ns, took.shape)
    return np.asarray(((starts + took).max(axis=1) - starts.min(axis=1)) / 1e9)
