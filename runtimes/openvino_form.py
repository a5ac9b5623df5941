"""A model that OpenVINO compiled, and the requests that compute with it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from edgekit.runtimes.openvino_tensors import as_tensor, dtype_of

from edgekit.spec import Array

if TYPE_CHECKING:
    import openvino as ov
    from openvino.utils.data_helpers import OVDict

__all__ = ["Form", "Request", "compute"]

#: How often each way to compute is timed before the faster is kept.
_TRIALS = 5
#: Inputs of no more bytes than this are copied: a microsecond or two, where making OpenVINO's
#: tensors of arrays and setting them takes ten to twenty when the caches are cold.
_COPIED = 1 << 16


class Form:
    """A compiled model with its idle requests: one for each thread that ever ran at once.

    A request computes in the calling thread (``infer``), or in OpenVINO's own while that one waits
    (``start_async``). Measured on two cores, waking the others costs a model of one small layer
    100 us, four times its own time, and EfficientNet-Lite0 in int8 takes 0.96x the time with
    them. So the first calls try both, and the faster one stays.

    Args:
        compiled: the model.
        data: what it was read from, which has to outlive it.
        keeps: whether its requests keep the memory of small inputs, and of outputs of known shapes,
            from call to call: those of the CPU do.

    Attributes:
        compiled: the model.
    """

    def __init__(
        self, compiled: ov.CompiledModel, data: Array | None = None, *, keeps: bool
    ) -> None:
        self.compiled = compiled
        self._keeps = keeps
        self._idle = deque([self._make()])
        self._data = data
        self._trials: deque[_Way] = deque((_wait, compute) * _TRIALS)
        self._seconds: dict[_Way, list[float]] = {_wait: [], compute: []}
        self._way: _Way | None = None

    def take(self) -> Request:
        """A request that nobody else has, until it is given back."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give_back(self, request: Request) -> None:
        """Let other calls have the request."""
        self._idle.append(request)

    def compute(self, request: Request) -> list[Array]:
        """Run a request whose inputs are set.

        Returns:
            What it computed, in its own memory: until it computes again.
        """
        return self._try(request) if self._way is None else request.compute(self._way)

    def hold(self, way: _Way) -> None:
        """Compute in this way from now on."""
        self._way = way

    def _make(self) -> Request:
        return Request(self.compiled.create_infer_request(), keeps=self._keeps)

    def _try(self, request: Request) -> list[Array]:
        try:
            way = self._trials.popleft()
        except IndexError:
            # The median: beside other work the least time of waking threads is a rare luck.
            self._way = way = min(self._seconds, key=lambda w: median(self._seconds[w] or [inf]))
        start = time.perf_counter()
        results = request.compute(way)
        self._seconds[way].append(time.perf_counter() - start)
        return results


class Request:
    """Computes one inference at a time.

    Attributes:
        own: OpenVINO's.
    """

    def __init__(self, own: ov.InferRequest, *, keeps: bool) -> None:
        self.own = own
        self._keeps = keeps
        self._inputs: list[Array] = []
        self._shapes: list[tuple[int, ...]] | None = None  # of these, where it reads them
        self._outputs: list[Array] = []
        model = own.get_compiled_model()
        self._dtypes = [np.dtype(dtype_of(port)) for port in model.outputs]
        if keeps and not any(p.partial_shape.is_dynamic for p in (*model.inputs, *model.outputs)):
            self._outputs = self._typed(self._seen())

    def feed(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """Set its inputs.

        Returns:
            What has to live until it has run: it may point into these arrays without holding them.
        """
        if [array.shape for array in arrays] == self._shapes:
            for place, array in zip(self._inputs, arrays, strict=True):
                np.copyto(place, array)
            return ()
        if self._keeps and sum(array.nbytes for array in arrays) <= _COPIED:
            self._inputs = [np.array(array, order="C") for array in arrays]
            self._shapes = [array.shape for array in arrays]
            return self._point_to(self._inputs)
        self._shapes = None
        return self._point_to([np.require(array, requirements="C") for array in arrays])

    def compute(self, way: _Way) -> list[Array]:
        """See :meth:`Form.compute`."""
        found = way(self.own)
        return self._outputs or self._typed(found.to_tuple() if found else self._seen())

    def _seen(self) -> list[Array]:
        # All at once, as ``output_tensors``, they take 30 us.
        return [self.own.get_output_tensor(index).data for index in range(len(self._dtypes))]

    def _typed(self, arrays: Iterable[Array]) -> list[Array]:
        return [array.view(dtype) for array, dtype in zip(arrays, self._dtypes, strict=True)]

    def _point_to(self, arrays: Sequence[Array]) -> Sequence[Array]:
        for index, array in enumerate(arrays):
            self.own.set_input_tensor(index, as_tensor(array))
        return arrays


def compute(request: ov.InferRequest) -> OVDict:
    """Run it in the calling thread."""
    return request.infer(share_outputs=True)


def _wait(request: ov.InferRequest) -> None:
    request.start_async()
    request.wait()


#: Computes with a request, and returns its results where it has them at hand.
_Way: TypeAlias = Callable[["ov.InferRequest"], "OVDict | None"]
