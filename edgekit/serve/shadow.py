"""Shadow traffic: a version that computes the requests of others, for comparison only.

The client has its answer before the shadow gets the request, and the shadow's outputs go nowhere
but into the comparison. Of a shadow that cannot keep up, requests are left out and counted.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.fidelity import FidelityMeter
from edgekit.manifest import Fidelity
from edgekit.serve.model import Inference, Servable
from edgekit.spec import Feeds, Outputs

__all__ = ["Comparison", "Shadow"]

#: Requests that a shadow may have at once: each keeps its tensors in memory.
_IN_FLIGHT = 8


@dataclass(slots=True)
class Comparison:
    """What the shadow computed beside one version, since both were loaded.

    Attributes:
        compared: requests that both computed.
        identical: those of them whose outputs are the same in every byte.
        incomparable: those whose outputs have other names, dtypes or shapes, or are not finite.
        dropped: requests that the shadow did not get, because it had too many or is not loaded.
        failed: requests that the shadow failed at.
        last_error: why it failed at the last of them.
    """

    compared: int = 0
    identical: int = 0
    incomparable: int = 0
    dropped: int = 0
    failed: int = 0
    last_error: str = ""
    _meters: dict[str, FidelityMeter] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, answer: Outputs, shadow: Outputs) -> None:
        """Compare the outputs for one request, in a thread of the caller's choice."""
        comparable = _comparable(answer, shadow)
        identical = comparable and all(
            array.tobytes() == shadow[name].tobytes() for name, array in answer.items()
        )
        with self._lock:
            self.compared += 1
            self.incomparable += not comparable
            self.identical += identical
            for name, array in answer.items() if comparable else ():
                self._meters.setdefault(name, FidelityMeter()).add(array, shadow[name])

    @property
    def outputs(self) -> dict[str, Fidelity]:
        """How close each output is over all requests but the incomparable."""
        with self._lock:
            return {name: meter.result() for name, meter in self._meters.items()}


class Shadow:
    """Hands requests to the shadow version of a model.

    Args:
        version: its name.
        priority: of its requests, the lowest that the model knows.
        find: gives the version when it is loaded, else None.
        spawn: runs a coroutine in a task that lives as long as the repository.
    """

    def __init__(
        self,
        version: str,
        priority: int,
        find: Callable[[], Servable | None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.version = version
        self.comparisons: dict[str, Comparison] = {}
        self._priority, self._find, self._spawn = priority, find, spawn
        self._under_way = 0

    def send(self, feeds: Feeds, answer: Inference) -> None:
        """Compute an answered request again, soon; returns at once."""
        comparison = self.comparisons.setdefault(answer.model.version, Comparison())
        if self._under_way >= _IN_FLIGHT:
            comparison.dropped += 1
            return
        self._under_way += 1
        self._spawn(self._compute(feeds, answer.outputs, comparison))

    async def _compute(self, feeds: Feeds, answer: Outputs, comparison: Comparison) -> None:
        try:
            servable = self._find()
            if servable is None:
                comparison.dropped += 1
                return
            inference = await servable.infer(feeds, priority=self._priority)
            await asyncio.to_thread(comparison.add, answer, inference.outputs)
        except EdgekitError as error:
            comparison.failed += 1
            comparison.last_error = str(error)
        finally:
            self._under_way -= 1


def _comparable(answer: Outputs, shadow: Outputs) -> bool:
    """Whether it makes sense to measure how far the two are apart."""
    return answer.keys() == shadow.keys() and all(
        array.shape == shadow[name].shape
        and array.dtype == shadow[name].dtype
        and bool(np.isfinite(array).all() and np.isfinite(shadow[name]).all())
        for name, array in answer.items()
    )
