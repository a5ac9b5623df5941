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

__all__ = ["Layer", "Runtime", "RuntimeStatus", "Session", "SessionOptions", "given_name"]


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
        intermediates: return what is computed inside, too: see :attr:`Session.layers`. Slower, and
            the engine cannot fuse operators whose results are asked for.
        given: with ``intermediates``, results inside (by :attr:`Layer.tensor`) that shall not be
            read: whatever computes with one takes a further input, named by :func:`given_name`.
            So every layer can be run by itself.
    """

    threads: int | None = None
    optimize: bool = True
    intermediates: bool = False
    given: tuple[TensorSpec, ...] = ()


def given_name(tensor: str) -> str:
    """The input that is read instead of ``tensor``, see :attr:`SessionOptions.given`."""
    return f"given:{tensor}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator's result inside a model.

    Attributes:
        tensor: its name, unique in the session.
        op: type of the operator.
        node: name of the operator.
        inputs: the ``tensor`` of each layer, or the name of each input of the model, that it is
            computed from; constants are left out.
        names: what the tensor is called in the ONNX graph; empty where an engine's own rewriting
            made it, several where it merged tensors into one.
    """

    tensor: str
    op: str
    node: str
    inputs: tuple[str, ...]
    names: tuple[str, ...]


class Session(ABC):
    """A loaded artifact. Feeds are checked around the call, so variants only compute.

    Attributes:
        inputs: what :meth:`run` wants, every tensor by name.
        outputs: what :meth:`run` returns.
        layers: with :attr:`SessionOptions.intermediates`, every floating-point result inside, in
            the order of computation; :meth:`run` then returns those that have names, too, by
            their :attr:`Layer.tensor`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...] = ()

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
