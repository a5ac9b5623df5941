"""Which version answers a request that names none: A/B tests and canaries."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from hashlib import blake2b

__all__ = ["choose"]


def choose(versions: Sequence[str], weights: Mapping[str, float], session: str | None) -> str:
    """One of the versions, by its share.

    Requests of a session always get the same version, by weighted rendezvous hashing with
    logarithmic scores (Schindelhauer and Schomaker, SPAA 2005): a version that comes, goes or
    changes its weight moves only the sessions that it gains or loses.

    Args:
        versions: what can answer, oldest first, at least one.
        weights: of versions; one without a weight gets nothing. The newest gets everything where
            no version here has one.
        session: who asks; None for a choice by chance.
    """
    shares = [weights.get(version, 0.0) for version in versions] if weights else []
    if not any(shares):
        return versions[-1]
    if session is None:
        return random.choices(versions, shares)[0]  # noqa: S311, chance is all it is for
    scores = {
        version: -share / math.log(_fraction(session, version))
        for version, share in zip(versions, shares, strict=True)
    }
    return max(scores, key=scores.__getitem__)


def _fraction(session: str, version: str) -> float:
    """A number between 0 and 1, neither of them, that belongs to the pair."""
    digest = blake2b(f"{session}\0{version}".encode(), digest_size=6).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**48
