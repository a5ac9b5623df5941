"""Train a small model of the zoo again: ``python -m edgekit.zoo.train NAME``."""

from __future__ import annotations

import importlib
import sys

__all__ = ["main"]

TRAINED = ("mlp-digits", "resnet8-mnist", "resnet14-mnist", "lstm-digits")


def main(name: str) -> None:
    """Train it and its smaller variant, write the checkpoints, print the held-out accuracy."""
    if name not in TRAINED:
        raise SystemExit(f"edgekit.zoo.train: choose from {', '.join(TRAINED)}")
    classifier = importlib.import_module(f"edgekit.zoo.{name.replace('-', '_')}").CLASSIFIER
    for one in filter(None, (classifier.smaller, classifier)):
        sys.stdout.write(f"{one.name}: held-out accuracy {one.train():.4f}\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
