"""edgekit: from a trained PyTorch model to a verified, measured deployment on an edge device."""

from __future__ import annotations

__version__ = "0.1.0"
