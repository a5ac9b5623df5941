"""A session that carries the state of its model from call to call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock

import numpy as np
from edgekit.runtimes.base import Session

from edgekit.errors import SpecError
from edgekit.spec import Array, Feeds, Outputs, TensorSpec
from edgekit.state import State

__all__ = ["StatefulSession"]


class StatefulSession(Session):
    """A session of a model with state, such as a key-value cache, without state in its calls.

    The state is zeros before the first call, empty where it grows. Each call reads it and
    replaces it; a call that fails leaves it as it was. Arrays are handed on as they are, without
    a copy. Calls from several threads run one after the other.

    Args:
        session: of any runtime; closed with this one.
        states: those of the model; by default what the artifact says.

    Raises:
        SpecError: the model has no state, or not this one.
    """

    def __init__(self, session: Session, states: Sequence[State] | None = None) -> None:
        self._session = session
        self._states = tuple(session.states if states is None else states)
        if not self._states:
            raise SpecError(
                "the model has no state",
                where="session",
                fix="Set state={input: output} in its Workload, or use the session as it is",
            )
        specs = {spec.name: spec for spec in session.inputs}
        outputs = {spec.name for spec in session.outputs}
        for state in self._states:
            if state.input not in specs or state.output not in outputs:
                raise SpecError(
                    f"the model has no input {state.input!r} with an output {state.output!r}",
                    where="state",
                    fix="Give the states of this very model",
                )
        carried = {state.input for state in self._states}
        returned = {state.output for state in self._states}
        self.inputs = tuple(spec for spec in session.inputs if spec.name not in carried)
        self.outputs = tuple(spec for spec in session.outputs if spec.name not in returned)
        self._specs: Mapping[str, TensorSpec] = specs
        self._carried: dict[str, Array] = {}
        self._lock = Lock()

    @property
    def state(self) -> dict[str, Array]:
        """The arrays that the next call reads, by name of the input; none before the first call.

        They are the session's own: copy what shall be changed.
        """
        return dict(self._carried)

    def reset(self, state: Feeds | None = None) -> None:
        """Forget everything, or go on from another state.

        Args:
            state: what :attr:`state` gave, of this session or of another one of the same model:
                after a common beginning, say, or with its rows in another order.

        Raises:
            SpecError: an array is missing or unknown, or has another dtype or rank.
        """
        given = dict(state or {})
        if given and given.keys() != {one.input for one in self._states}:
            raise SpecError(
                f"has {', '.join(given)}",
                where="state",
                fix=f"Give {', '.join(one.input for one in self._states)}, or nothing",
            )
        sizes: dict[str, int] = {}
        for name, array in given.items():
            self._specs[name].bind(array, sizes)
        with self._lock:
            self._carried = given

    def _run(self, feeds: Feeds) -> Outputs:
        with self._lock:
            carried = self._carried or self._started(feeds)
            self._require_same_sizes(carried, feeds)
            made = self._session.run({**feeds, **carried})
            self._carried = {state.input: made.pop(state.output) for state in self._states}
            return made

    def _started(self, feeds: Feeds) -> dict[str, Array]:
        return {
            state.input: np.zeros(
                [d if isinstance(d, int) else feeds[d[0]].shape[d[1]] for d in state.start],
                self._specs[state.input].dtype,
            )
            for state in self._states
        }

    def _require_same_sizes(self, carried: Feeds, feeds: Feeds) -> None:
        """Engines tell a batch that changes in the middle in words of their own, if at all."""
        for state in self._states:
            for axis, dim in enumerate(state.start):
                if isinstance(dim, tuple):
                    was, now = carried[state.input].shape[axis], feeds[dim[0]].shape[dim[1]]
                    if was != now:
                        raise SpecError(
                            f"axis {dim[1]} is {now}, in the calls before it was {was}",
                            where=f"tensor {dim[0]!r}",
                            fix="Keep it, or call reset() before another sequence",
                        )

    def _release(self) -> None:
        self._carried = {}
        self._session.close()
