"""Throughput, and what else is derived from rounds of samples."""

from __future__ import annotations

import numpy as np

from edgekit.profile.samples import Samples
from edgekit.spec import Array

__all__ = ["round_seconds", "throughput"]


def round_seconds(samples: Samples) -> Array:
    """How long each round took, from its first inference's begin to its last one's end.

    Where the begins are not known, inferences are taken to have followed each other.

    Returns:
        Seconds, of shape ``[rounds]``.
    """
    took = np.reshape(samples.latencies_ns, (-1, samples.block))
    if not samples.starts_ns:
        return np.asarray(took.sum(axis=1) / 1e9)
    starts = np.reshape(samples.starts_ns, took.shape)
    return np.asarray(((starts + took).max(axis=1) - starts.min(axis=1)) / 1e9)


def throughput(samples: Samples, batch: int) -> float:
    """Samples a second, all sessions together, while they run."""
    return len(samples.latencies_ns) * batch / float(round_seconds(samples).sum())
