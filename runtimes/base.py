"""The contract of a runtime: say whether it is usable, load an artifact, run it.

A vendor adds a runtime by registering an object that satisfies :class:`Runtime` under the
entry-point group ``edgekit.runtimes``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from edgekit.spec import Feeds, Outputs, TensorSpec, check_feeds

__all__ = ["Runtime", "RuntimeStatus", "Session", "SessionOptions"]


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """Whether a runtime can be used here.

    Attributes:
        usable: True when :meth:`Runtime.load` can work on this machine.
        version: version of the engine, None when it is not installed.
        reason: why it is not usable (empty when it is).
        install: the command that would make it usable (empty when it is).
    """

    usable: bool
    version: str | None = None
    reason: str = ""
    install: str = ""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to load an artifact.

    Attributes:
        threads: intra-op threads; None leaves the choice to the engine.
        optimize: let the engine rewrite the graph. Off for a reference run.
    """

    threads: int | None = None
    optimize: bool = True


class Session(ABC):
    """A loaded artifact. Feeds are checked around the call, so variants only compute.

    Attributes:
        inputs: what :meth:`run` wants, every tensor by name.
        outputs: what :meth:`run` returns.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Feeds) -> Outputs:
        """Run one inference.

        Args:
            feeds: one C-contiguous array for each of :attr:`inputs`.

        Returns:
            One array for each of :attr:`outputs`, owned by the caller.

        Raises:
            SpecError: the feeds do not fit :attr:`inputs`.
        """
        check_feeds(self.inputs, feeds)
        return self._run(feeds)

    @abstractmethod
    def _run(self, feeds: Feeds) -> Outputs: ...

    @abstractmethod
    def close(self) -> None:
        """Release the engine's memory. Running a closed session is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Runtime(Protocol):
    """One inference engine."""

    @property
    def name(self) -> str: ...

    def status(self) -> RuntimeStatus:
        """Whether the engine can be used here; never raises and imports nothing heavy."""

    def load(self, artifact: Path, options: SessionOptions = ...) -> Session:
        """Load one artifact file.

        Raises:
            RuntimeUnavailableError: the engine is not installed, or refuses the artifact.
        """
