"""The contract of what an engine tells of the operators it executes, and how long each takes."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes  # noqa: F401, which gives numpy the names of its types
import numpy as np
from edgekit.runtimes.base import Runtime, SessionOptions

from edgekit.closing import Closing
from edgekit.errors import RuntimeUnavailableError
from edgekit.spec import Array, Feeds

__all__ = ["Executed", "Graph", "LayerTimer", "Operator", "Tensor", "Timings", "open_timer",
           "warm_up"]  # fmt: skip

#: Calls before those that count: fewest and most; after the former no more than for so long.
_WARM_UPS, _WARM_SECONDS = (2, 12), 0.02
#: Two of these share a byte.
_HALVES = ("int4", "uint4")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of one call.

    Attributes:
        dtype: as numpy names it.
        shape: None where it is not known.
        stored: whether it is a constant of the model.
    """

    dtype: str
    shape: tuple[int, ...] | None
    stored: bool = False

    @property
    def size(self) -> int | None:
        """How many elements."""
        return None if self.shape is None else math.prod(self.shape)

    @property
    def nbytes(self) -> int | None:
        """In memory; None where the shape or the dtype is not known."""
        if self.size is None or not self.dtype:
            return None
        if self.dtype in _HALVES:
            return (self.size + 1) // 2
        kind = np.dtype(self.dtype)
        return None if kind.hasobject else self.size * kind.itemsize  # text has no fixed size


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the model as the engine was given it.

    Attributes:
        name: unique in its graph.
        op: type.
        inputs: names of tensors; empty where an optional one is left out.
        outputs: likewise.
        attributes: the integers among them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Graph:
    """The model as the engine was given it.

    Attributes:
        operators: in the order of computation.
        tensors: what is known of them in the call that was timed.
        notes: the PyTorch module that tensors come from, where the file says so.
    """

    operators: tuple[Operator, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Executed:
    """One operator as the engine executed it.

    Attributes:
        node: the engine's own name of it.
        op: type, such as ``QLinearConv``.
        precision: that it computes in: ``fp32``, ``bf16``, ``fp16`` or ``int8``; another dtype by
            its own name; empty where the engine does not say.
        kernel: what the engine says of its implementation.
        computes: names of what it computes, of operators or of tensors of the :class:`Graph`, by
            the engine's word; those that the graph does not have say nothing.
        reads: positions of the executed operators whose results it reads.
        bytes: of its inputs, outputs and weights; None where unknown.
        inserted: whether the engine added it to bring data into another form.
    """

    node: str
    op: str
    precision: str = ""
    kernel: str = ""
    computes: tuple[str, ...] = ()
    reads: tuple[int, ...] = ()
    bytes: int | None = None
    inserted: bool = False


@dataclass(frozen=True, slots=True)
class Timings:
    """What a :class:`LayerTimer` saw.

    Attributes:
        executed: in the order of execution.
        graph: what they compute.
        turns: the turn of each sample, from 0, shape ``(samples,)``. A sample is one inference, or
            the mean of its turn.
        whole_ns: of an inference, likewise.
        calls_ns: of it, what was around the engine's work (Python, the binding, inputs and
            outputs); 0 where the engine does not say.
        layers_ns: of each operator, shape ``(samples, executed)``.
        runs: inferences that count, in all samples.
        after_ns: from the end of each operator to the beginning of the next, likewise, where
            profiling adds to both, so that one tells of the other; None where the engine does not
            say, or its profiling costs next to nothing.
    """

    executed: tuple[Executed, ...]
    graph: Graph
    turns: Array
    whole_ns: Array
    calls_ns: Array
    layers_ns: Array
    runs: int
    after_ns: Array | None = None


class LayerTimer(Closing):
    """One artifact that is run to see where its time goes."""

    @abstractmethod
    def turn(self, feeds: Feeds, count: int) -> None:
        """Run ``count`` inferences that count, after some that do not."""

    @abstractmethod
    def finish(self) -> Timings:
        """What was seen in all turns; there is no turn after it."""

    @abstractmethod
    def close(self) -> None:
        """Release the engine's memory, and delete what it wrote."""


def warm_up(call: Callable[[], object]) -> int:
    """Call until what others left in the caches is gone; no longer than that takes.

    Measured, a small model takes 2 to 15 times as long in its first inference after another, and
    is within 5 % of its own time after six to ten.

    Returns:
        How often.
    """
    fewest, most = _WARM_UPS
    deadline = time.monotonic() + _WARM_SECONDS
    for count in range(1, most + 1):
        call()
        if count >= fewest and time.monotonic() > deadline:
            break
    return count


def open_timer(runtime: Runtime, artifact: Path, options: SessionOptions) -> LayerTimer:
    """A timer of one artifact.

    A runtime has one where it has a method ``timer(artifact, options) -> LayerTimer``.

    Raises:
        RuntimeUnavailableError: the runtime has none, or refuses the artifact.
    """
    timer = getattr(runtime, "timer", None)
    if timer is None:
        raise RuntimeUnavailableError(
            "it does not tell how long each operator takes",
            where=f"runtime {runtime.name}",
            fix="Look at the layers of the same model on ONNX Runtime or OpenVINO",
        )
    opened: LayerTimer = timer(artifact, options)
    return opened
