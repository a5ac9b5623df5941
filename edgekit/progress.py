"""How long work tells what it is doing; the command line draws it, a library call ignores it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Receives the stages of a run."""

    def stage(self, name: str) -> None:
        """A stage begins; the one before it, if any, is done."""

    def update(self, detail: str) -> None:
        """Where the current stage is, in a few words."""


class Silent:
    """Tells nobody."""

    def stage(self, name: str) -> None:
        pass

    def update(self, detail: str) -> None:
        pass
