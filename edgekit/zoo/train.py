"""Train a small model of the zoo again: ``python -m edgekit.zoo.train NAME``."""

from __future__ import annotations

import sys

from edgekit.zoo._entry import Trained
from edgekit.zoo.index import entries
from edgekit.zoo.index import main as index

__all__ = ["main"]


def main(name: str) -> None:
    """Train it and its smaller variant, write the checkpoints, and the index with its score."""
    trained = {one.name: one for _, one in entries() if isinstance(one, Trained)}
    if name not in trained:
        raise SystemExit(f"edgekit.zoo.train: choose from {', '.join(trained)}")
    for one in filter(None, (trained[name].smaller, trained[name])):
        one.fit_and_keep()
    sys.stdout.write(f"{name}: {index([name])[name].score:.4f}\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
