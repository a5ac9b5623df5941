"""OpenVINO, on the CPU unless another device is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from edgekit.runtimes.base import (
    RuntimeStatus,
    Session,
    SessionOptions,
    installed,
    wrong_out,
    wrong_results,
)
from edgekit.runtimes.cores import check_cores
from edgekit.runtimes.files import check_file, refused
from edgekit.runtimes.openvino_form import Form, Request
from edgekit.runtimes.openvino_forms import Forms
from edgekit.runtimes.openvino_tensors import as_tensor, from_tensor
from edgekit.runtimes.timer import LayerTimer

from edgekit.errors import RuntimeUnavailableError
from edgekit.external_data import SHARED_MARK, SHARED_WEIGHTS, check_external_data
from edgekit.spec import Array, Feeds, Outputs
from edgekit.state import from_text

__all__ = ["OpenVino", "OpenVinoSession"]


class OpenVino:
    """Runs OpenVINO IR (``.xml``) and ``.onnx`` files.

    On a CPU float operators compute in float32, or in the half precision that the artifact asks
    for where this CPU has it; on other devices in what their plugin prefers. Devices are named as
    OpenVINO does: ``CPU``, ``GPU``, ``GPU.1``, ``NPU``, ``AUTO``, ``HETERO:GPU,CPU``.
    """

    name = "openvino"

    def status(self) -> RuntimeStatus:
        return installed("openvino")

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        forms = self.forms(artifact, options)
        with self._refusing(artifact):
            return OpenVinoSession(forms, options.cores)

    def timer(self, artifact: Path, options: SessionOptions) -> LayerTimer:
        """What tells how long each operator takes; see :func:`~.timer.open_timer`."""
        from edgekit.runtimes.openvino_timer import OpenVinoTimer  # which loads by this class

        return OpenVinoTimer(self, artifact, options)

    def forms(self, artifact: Path, options: SessionOptions) -> Forms:
        """What :meth:`load` makes a session of."""
        check_file(artifact, ".xml", ".onnx")
        check_cores(options.cores)
        if options.cores is not None and len(options.cores) * (options.threads or 1) > 1:
            raise RuntimeUnavailableError(
                "OpenVINO can be held to one core with one thread, not to some of several",
                where="cores",
                fix="Name one, or start the whole process under taskset -c",
            )
        if artifact.suffix == ".onnx":
            sources = [artifact, *check_external_data(artifact)]
        else:
            sources = [artifact, _weights(artifact)]
            if not sources[1].is_file():  # it may be empty: not every model has constants
                check_file(sources[1], ".bin")
        with self._refusing(artifact):
            return Forms(sources, options)

    @contextmanager
    def _refusing(self, artifact: Path) -> Iterator[None]:
        """Say of what OpenVINO raises which file it is about."""
        try:
            yield
        except RuntimeUnavailableError:
            raise
        except Exception as error:  # the binding raises bare RuntimeError and GeneralFailure
            raise refused(f"OpenVINO {self.status().version}", artifact, error) from error


def _weights(artifact: Path) -> Path:
    """The IR's own file, or the one that it shares with other artifacts of its bundle."""
    own = artifact.with_suffix(".bin")
    if own.exists():
        return own
    marked = '{}="{}"'.format(*SHARED_MARK).encode() in artifact.read_bytes()
    return artifact.absolute().parent.parent / SHARED_WEIGHTS if marked else own


class OpenVinoSession(Session):
    """Up to two compiled forms of one model: for the usual shapes, and for any other.

    OpenVINO plans a graph of known shapes once (memory, kernels, loop bounds) and one of dynamic
    shapes at every call: measured at batch 1, the static form takes 0.91x the time of the dynamic
    one on EfficientNet-Lite0, 0.82x on ResNet-8. The general form costs a second copy of the packed
    weights, so it is compiled when the first call needs it.
    """

    def __init__(self, forms: Forms, cores: tuple[int, ...] | None) -> None:
        plan = forms.plan
        self._cores = cores
        self.inputs = plan.inputs
        self.outputs = plan.outputs
        self.layers = forms.layers
        self.states = from_text(plan.states)
        self._names = forms.names
        self._shapes = {name: tuple(shape) for name, shape in plan.shapes.items()}
        self._forms: Forms | None = forms
        self._usual: Form | None = forms.usual()
        self._general: Form | None = None
        self._compiling = Lock()

    def _run(self, feeds: Feeds) -> Outputs:
        form = self.form(feeds)
        request = form.take()
        try:
            results = zip(self._names, self._infer(form, request, feeds), strict=True)
            return {name: result.copy() for name, result in results}
        finally:
            form.give_back(request)

    def _run_into(self, feeds: Feeds, out: Outputs) -> Outputs:
        form = self.form(feeds)
        request = form.take()
        places = {name: index for index, name in enumerate(self._names)}
        inner = request.own
        own = {name: inner.get_output_tensor(places[name]) for name in out}
        try:
            for name, array in out.items():
                inner.set_output_tensor(places[name], as_tensor(array))
            self._infer(form, request, feeds)
            results = {n: from_tensor(inner.get_output_tensor(i)) for n, i in places.items()}
        except RuntimeError as error:
            raise wrong_results("OpenVINO", error) from error
        else:
            for name, array in out.items():
                if results[name].shape != array.shape:
                    raise wrong_out(name, array.shape, results[name].shape)
            return {name: out[name] if name in out else x.copy() for name, x in results.items()}
        finally:
            # Later calls must not write into these arrays.
            for name, tensor in own.items():
                inner.set_output_tensor(places[name], tensor)
            form.give_back(request)

    def _infer(self, form: Form, request: Request, feeds: Feeds) -> list[Array]:
        held = request.feed([feeds[spec.name] for spec in self.inputs])
        results = form.compute(request)
        del held  # not before
        return results

    def form(self, feeds: Feeds) -> Form:
        """What computes this call."""
        forms, usual = self._forms, self._usual
        if forms is None or usual is None:
            raise RuntimeError("the session is closed")
        if all(_fits(feeds[name].shape, shape) for name, shape in self._shapes.items()):
            return usual
        if self._general is None:
            with self._compiling:
                self._general = self._general or forms.general()
        return self._general

    def _release(self) -> None:
        self._usual = self._general = self._forms = None


def _fits(shape: tuple[int, ...], usual: tuple[int, ...]) -> bool:
    """-1 of the usual shape is any size."""
    return shape == usual or all(b in {a, -1} for a, b in zip(shape, usual, strict=True))
