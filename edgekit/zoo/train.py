"""Train a small model of the zoo again: ``python -m edgekit.zoo.train NAME``."""

from __future__ import annotations

import sys

from edgekit.zoo._entry import Trained
from edgekit.zoo.index import entries
from edgekit.zoo.index import main as index

__all__ = ["main"]


def main(name: str) -> None:
    """Train it and its smaller variant, write the checkpoints, print the scores."""
    trained = {one.name: one for _, one in entries() if isinstance(one, Trained)}
    if name not in trained:
        raise SystemExit(f"edgekit.zoo.train: choose from {', '.join(trained)}")
    for one in filter(None, (trained[name].smaller, trained[name])):
        sys.stdout.write(f"{one.name}: {one.train():.4f}\n")
    index([name])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
