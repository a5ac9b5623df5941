"""The contract of a runtime: say whether it is usable, load an artifact, run it.

A vendor adds a runtime by registering an object that satisfies :class:`Runtime` under the
entry-point group ``edgekit.runtimes``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from edgekit.runtimes.cores import on_cores
from edgekit.runtimes.limits import Limits, check_limits

from edgekit.closing import Closing
from edgekit.errors import RuntimeUnavailableError, SpecError
from edgekit.spec import Array, Feeds, Outputs, TensorSpec, check_feeds
from edgekit.state import State
from edgekit.tensors import is_bfloat16, to_array

if TYPE_CHECKING:
    from edgekit.runtimes.stateful import StatefulSession

__all__ = ["Layer", "Runtime", "RuntimeStatus", "Session", "SessionOptions", "given_name"]


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """Whether a runtime can be used here.

    Attributes:
        usable: True when :meth:`Runtime.load` can work on this machine.
        version: version of the engine, None when it is not installed.
        reason: why it is not usable (empty when it is).
        install: the command that would make it usable (empty when it is, or none would).
        gpu: generation of the GPU that artifacts run on (``sm89``), where each is built for one.
    """

    usable: bool
    version: str | None = None
    reason: str = ""
    install: str = ""
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to load an artifact.

    Attributes:
        threads: intra-op threads; None leaves the choice to the engine.
        device: the processor to run on, by the runtime's own name (``CPU``, ``GPU``, ``NPU``,
            ``CUDA``); None leaves the choice to the runtime.
        cores: run on these cores only, by number; then each has one thread, unless ``threads``
            says otherwise. Linux, ONNX Runtime, and OpenVINO for one core; others refuse it, as
            their sessions share threads. None leaves the choice to the system.
        optimize: let the engine rewrite the graph. Off for a reference run.
        cache: a folder for what the engine makes of the artifact when it loads it, so that the
            next load on this machine is faster. Made if it is missing.
        intermediates: return what is computed inside, too: see :attr:`Session.layers`. Slower, and
            the engine cannot fuse operators whose results are asked for.
        given: with ``intermediates``, results inside (by :attr:`Layer.tensor`) that shall not be
            read: whatever computes with one takes a further input, named by :func:`given_name`.
            So every layer can be run by itself.
        arena: keep the memory of the largest run for the next ones, where the engine works so (ONNX
            Runtime). Off, a run gives back what it took: less memory where sizes differ.
        trace: note the time of every operator, in this folder where the engine (ONNX Runtime)
            writes files of it. For :mod:`.timer` to read; only runtimes that have one look at it.
    """

    threads: int | None = None
    device: str | None = None
    cores: tuple[int, ...] | None = None
    optimize: bool = True
    cache: Path | None = None
    intermediates: bool = False
    given: tuple[TensorSpec, ...] = ()
    arena: bool = True
    trace: Path | None = None


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


#: Name, type, dtype and shape of each array of a call.
_Form: TypeAlias = "list[tuple[str, type, np.dtype[Any], tuple[int, ...]]]"


class Session(Closing):
    """A loaded artifact. Feeds are checked around the call, so variants only compute.

    Attributes:
        inputs: what :meth:`run` wants, every tensor by name.
        outputs: what :meth:`run` returns.
        layers: with :attr:`SessionOptions.intermediates`, every floating-point result inside, in
            the order of computation; :meth:`run` then returns those that have names, too, by
            their :attr:`Layer.tensor`.
        limits: the sizes of inputs, where the engine was built for some only.
        states: what the model wants carried from call to call, where the artifact says so.
            :meth:`run` does not; see :meth:`stateful`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...] = ()
    limits: Limits = MappingProxyType({})
    states: tuple[State, ...] = ()
    _worker: ThreadPoolExecutor | None = None
    _cores: tuple[int, ...] | None = None
    _accepted: _Form | None = None

    def run(self, feeds: Feeds, out: Outputs | None = None) -> Outputs:
        """Run one inference. Several threads may at once.

        Args:
            feeds: one array for each of :attr:`inputs`, or anything else with ``__dlpack__`` that
                lies in CPU memory, such as a PyTorch tensor. C-contiguous ones are not copied.
            out: arrays to write results into, by name of the output: C-contiguous, and of the
                very shape that the call gives. Outputs that are not named get arrays of their own.

        Returns:
            One array for each of :attr:`outputs`, owned by the caller; those of ``out``, where
            given, among them.

        Raises:
            SpecError: the feeds do not fit :attr:`inputs`, or ``out`` does not fit the outputs.
            OutOfRangeError: the feeds have sizes beyond :attr:`limits`.
        """
        if self._cores is None:
            return self._checked_run(feeds, out)
        with on_cores(self._cores):  # some engines compute in the calling thread, too
            return self._checked_run(feeds, out)

    def _checked_run(self, feeds: Feeds, out: Outputs | None) -> Outputs:
        # Checks take microseconds, a few per cent of a small model; most calls are like the last.
        arrays = feeds
        if self._accepted is None or _form(feeds) != self._accepted:
            arrays = {name: _array(name, value) for name, value in feeds.items()}
            check_feeds(self.inputs, arrays)
            check_limits(self.limits, arrays)
            self._accepted = _form(arrays)
        if not out:
            return self._run(arrays)
        self._check_out(out)
        return self._run_into(arrays, out)

    def stateful(self) -> StatefulSession:
        """This session with the state carried for the caller.

        Raises:
            SpecError: the model has no state.
        """
        from edgekit.runtimes.stateful import StatefulSession  # which is a session itself

        return StatefulSession(self)

    def submit(self, feeds: Feeds) -> Future[Outputs]:
        """Start one inference in another thread; see :meth:`run`.

        The arrays of ``feeds`` must not change before the result is there.
        """
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="edgekit-session")
        return self._worker.submit(self.run, feeds)

    def _check_out(self, out: Outputs) -> None:
        specs = {spec.name: spec for spec in self.outputs}
        for name, array in out.items():
            if name not in specs:
                raise SpecError(
                    f"{name!r} is not an output of this model",
                    where="out",
                    fix=f"The outputs are: {', '.join(specs)}",
                )
            specs[name].bind(array, {})
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise SpecError(
                    "is not contiguous or not writeable",
                    where=f"out, tensor {name!r}",
                    fix="Give it as np.empty(shape, dtype)",
                )

    @abstractmethod
    def _run(self, feeds: Feeds) -> Outputs: ...

    def _run_into(self, feeds: Feeds, out: Outputs) -> Outputs:
        """Write into ``out``, which was checked; an engine that can does so without a copy."""
        made = self._run(feeds)
        for name, array in out.items():
            if array.shape != made[name].shape:
                raise wrong_out(name, array.shape, made[name].shape)
            np.copyto(array, made[name])
        return {**made, **out}

    def close(self) -> None:
        """Release the engine's memory. Running a closed session is an error."""
        if self._worker is not None:
            self._worker.shutdown()
        self._release()

    @abstractmethod
    def _release(self) -> None: ...


def _form(feeds: Feeds) -> _Form | None:
    """What the checks of feeds look at; None where something is no array."""
    try:
        return [(name, type(x), x.dtype, x.shape) for name, x in feeds.items()]
    except AttributeError:
        return None


def _array(name: str, value: Any) -> Array:
    """``value`` without a copy."""
    if isinstance(value, np.ndarray):
        return value
    if is_bfloat16(value) and value.device.type == "cpu" and not value.requires_grad:
        return to_array(value)
    try:
        return np.from_dlpack(value)
    except (AttributeError, TypeError, ValueError, RuntimeError, BufferError) as error:
        raise SpecError(
            f"a {type(value).__name__} is neither an array nor readable by DLPack: {error}",
            where=f"tensor {name!r}",
            fix="Give a numpy array, or a tensor in CPU memory without a gradient",
        ) from error


def wrong_out(name: str, given: tuple[int, ...], made: tuple[int, ...]) -> SpecError:
    """The error of an array in ``out`` that has another shape than the result."""
    return SpecError(
        f"has shape {list(given)}, the result has {list(made)}",
        where=f"out, tensor {name!r}",
        fix=f"Give it as np.empty({list(made)}, dtype)",
    )


def wrong_results(engine: str, error: Exception) -> SpecError:
    """The error of an engine that cannot compute into the arrays of ``out``."""
    return SpecError(
        f"{engine} cannot write the results: {' '.join(str(error).split())[-200:]}",
        where="out",
        fix="Give arrays of the shapes that the call returns without out",
    )


def installed(package: str, extra: str = "") -> RuntimeStatus:
    """The status of a runtime that needs a package only; its extra is called so, or ``extra``."""
    if importlib.util.find_spec(package) is None:
        return RuntimeStatus(
            usable=False,
            reason=f"{package} is not installed",
            install=f"pip install 'edgekit[{extra or package}]'",
        )
    return RuntimeStatus(usable=True, version=importlib.metadata.version(package))


def only_cpu(engine: str, options: SessionOptions) -> None:
    """Refuse a choice of processor, for an engine that edgekit runs on the whole CPU alone.

    Raises:
        RuntimeUnavailableError: ``options`` ask for another device, or for some cores.
    """
    if options.device is not None and options.device.upper() != "CPU":
        raise RuntimeUnavailableError(
            f"edgekit runs {engine} on the CPU only",
            where=f"device {options.device!r}",
            fix="Leave the device out, or choose another runtime",
        )
    if options.cores is not None:
        raise RuntimeUnavailableError(
            f"edgekit cannot choose cores for {engine}, whose threads all sessions share",
            where="cores",
            fix="Leave them out, and start the whole process under taskset -c",
        )


def not_inside(engine: str, artifact: Path, options: SessionOptions) -> None:
    """Refuse to return what is computed inside, for an engine that does not give it.

    Raises:
        RuntimeUnavailableError: ``options`` ask for it.
    """
    if options.intermediates:
        raise RuntimeUnavailableError(
            f"edgekit cannot look inside {engine}'s models",
            where=str(artifact),
            fix="Compare the artifact of another runtime",
        )


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
