"""State of a model: what one call hands to the next, such as a key-value cache or LSTM state.

A graph has no memory. What its model remembers goes in as inputs and comes out as outputs, and
somebody carries the one to the other. Which output replaces which input is written into the ONNX
file's metadata and into the bundle, so that a session can do it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from edgekit.errors import SpecError, did_you_mean
from edgekit.spec import TensorSpec

__all__ = ["STATE", "Start", "State", "from_text", "pairs", "resolved", "to_text"]

#: Key of an ONNX model's metadata that holds the states, see :func:`to_text`.
STATE = "edgekit.state"

#: One dimension of a state before the first call: a size, or an input and its axis of that size.
Start: TypeAlias = int | tuple[str, int]


@dataclass(frozen=True, slots=True)
class State:
    """A tensor that one call hands to the next.

    Attributes:
        input: name of the input that takes it.
        output: name of the output that replaces it for the next call.
        start: its shape before the first call; it is zeros then. A dynamic dimension that other
            inputs have too (the batch) is theirs, any other one (the length of a cache) is 0.
    """

    input: str
    output: str
    start: tuple[Start, ...]


def resolved(
    pairs: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[State, ...]:
    """The states of a model whose inputs and outputs are known.

    Args:
        pairs: ``{input: output that replaces it}``.
        inputs: of the model.
        outputs: of the model.

    Raises:
        SpecError: there is no such input or output, an output replaces two inputs, or it does not
            fit the input in dtype, rank or a fixed size.
    """
    takes = {spec.name: spec for spec in inputs}
    makes = {spec.name: spec for spec in outputs}
    sizes: dict[str, tuple[str, int]] = {}
    for spec in inputs:
        if spec.name not in pairs:
            for axis, dim in enumerate(spec.shape):
                if isinstance(dim, str):
                    sizes.setdefault(dim, (spec.name, axis))
    found = []
    for source, target in pairs.items():
        before, after = _named(takes, source, "input"), _named(makes, target, "output")
        if list(pairs.values()).count(target) > 1:
            raise _error(f"output {target!r} replaces more than one input", source)
        _require_fit(before, after)
        start = (dim if isinstance(dim, int) else sizes.get(dim, 0) for dim in before.shape)
        found.append(State(source, target, tuple(start)))
    return tuple(found)


def pairs(states: Sequence[State]) -> dict[str, str]:
    """``{input: output that replaces it}``."""
    return {state.input: state.output for state in states}


def to_text(states: Sequence[State]) -> str:
    """The states as JSON, for a file's metadata."""
    return json.dumps([[state.input, state.output, state.start] for state in states])


def from_text(text: str) -> tuple[State, ...]:
    """What :func:`to_text` wrote.

    Raises:
        SpecError: it is something else.
    """
    try:
        return tuple(
            State(str(source), str(target), tuple(_start(dim) for dim in start))
            for source, target, start in json.loads(text)
        )
    except (ValueError, TypeError) as error:
        raise SpecError(
            f"is not a list of states: {error}",
            where=f"metadata {STATE!r}",
            fix="Export the model again",
        ) from error


def _start(dim: int | list[str | int]) -> Start:
    if isinstance(dim, int):
        return dim
    name, axis = dim
    return str(name), int(axis)


def _named(specs: Mapping[str, TensorSpec], name: str, kind: str) -> TensorSpec:
    if name not in specs:
        hint = did_you_mean(name, specs)
        raise SpecError(
            f"{name!r} is not an {kind} of this model{hint}",
            where="state",
            fix=f"The {kind}s are: {', '.join(specs)}",
        )
    return specs[name]


def _require_fit(before: TensorSpec, after: TensorSpec) -> None:
    if before.dtype != after.dtype:
        raise _error(f"has dtype {after.dtype}, the input has {before.dtype}", after.name)
    differ = [
        axis
        for axis, (old, new) in enumerate(zip(before.shape, after.shape, strict=False))
        if isinstance(old, int) and isinstance(new, int) and old != new
    ]
    if differ or len(before.shape) != len(after.shape):
        shapes = [f"[{', '.join(map(str, spec.shape))}]" for spec in (after, before)]
        raise _error(f"has shape {shapes[0]}, the input has {shapes[1]}", after.name)


def _error(what: str, name: str) -> SpecError:
    return SpecError(
        what,
        where=f"state {name!r}",
        fix="Give {input: output} of one dtype and shape; only dynamic dimensions may grow",
    )
