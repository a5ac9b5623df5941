"""What an engine makes of a model when it loads it, kept for the next load."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from edgekit.machine import this_machine

__all__ = ["KeptFile"]


class KeptFile:
    """One file in a cache: good for these sources, this version of the engine, this processor.

    Args:
        sources: the files that it is made from.
        cache: an existing folder that can be written.
        maker: what made it; not two kinds of file of one source may have the same.
        version: of the engine.
        suffix: of the file's name.

    Attributes:
        path: where it is, if it is there.
        partial: where to write it, for :meth:`keep` to move it.
    """

    def __init__(
        self, sources: Sequence[Path], cache: Path, maker: str, version: str, suffix: str
    ) -> None:
        machine = this_machine()
        states = [(path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
        made_of = _digest(states, version, machine.cpu, machine.features)
        self._same_source = f"{maker}-{_digest(sources[0].resolve())}-"
        self.path = cache / f"{self._same_source}{made_of}{suffix}"
        self.partial = cache / f".{self.path.name}.{os.getpid()}-{threading.get_ident()}"

    def keep(self) -> None:
        """What was written is whole; what was made of older sources goes."""
        self.partial.replace(self.path)
        for other in self.path.parent.glob(f"{self._same_source}*{self.path.suffix}"):
            if other != self.path:
                other.unlink(missing_ok=True)

    def drop(self) -> None:
        """After a failure: what is kept, or half written, may be to blame."""
        self.partial.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
