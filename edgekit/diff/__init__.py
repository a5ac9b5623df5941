"""Find the first layer at which two artifacts part."""

from __future__ import annotations

from edgekit.diff.compare import Difference, LayerDifference, compare
from edgekit.diff.side import Side, open_side, shared_feeds, side_of

__all__ = [
    "Difference",
    "LayerDifference",
    "Side",
    "compare",
    "open_side",
    "shared_feeds",
    "side_of",
]
