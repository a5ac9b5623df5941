"""Inputs for a server's model: made up from what it says of itself, or a bundle's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgekit.errors import SpecError
from edgekit.profile.sizes import require_dimensions
from edgekit.serve import datatypes
from edgekit.spec import BATCH, Array, Dim, Feeds, TensorSpec, check_feeds

__all__ = ["made_up", "require_fit", "told_specs"]

#: Sizes that the protocol writes for a dimension of any size.
_ANY = frozenset({-1, 0})


def told_specs(inputs: Iterable[Mapping[str, Any]], where: str) -> tuple[TensorSpec, ...]:
    """The inputs that a server's metadata lists.

    The protocol has no names for dynamic dimensions. The first is called ``batch``; the others get
    the input's name and their place: ``input_ids.1``.

    Args:
        inputs: entries with ``name``, ``datatype`` and ``shape``.
        where: of the model, for errors.

    Raises:
        SpecError: an input cannot be made up: its datatype is one of strings.
    """
    found = []
    for entry in inputs:
        name = str(entry["name"])
        try:
            dtype = datatypes.dtype(entry["datatype"])
        except ValueError as error:
            raise SpecError(
                str(error), where=f"{where}, input {name!r}", fix="Ask another model"
            ) from error
        if dtype.kind == "O":
            raise SpecError(
                "takes strings, which are not made up",
                where=f"{where}, input {name!r}",
                fix="Profile a model that takes tensors of numbers",
            )
        shape = [_dim(name, axis, int(size)) for axis, size in enumerate(entry["shape"])]
        found.append(TensorSpec(name, dtype.name, tuple(shape)))
    return tuple(found)


def made_up(
    specs: Iterable[TensorSpec], batch: int, sizes: Mapping[str, int], seed: int = 0
) -> Feeds:
    """Random inputs: standard normal floats, any byte, and of other integers 0 and 1.

    Only these are in the range of every mask, token type and token.

    Args:
        specs: of the inputs; dynamic dimensions are 1 unless ``sizes`` says otherwise.
        batch: size of the first one.
        sizes: by dimension name.
        seed: of the values.

    Raises:
        SpecError: no dimension has such a name, or the model's batch is fixed.
    """
    specs = tuple(specs)
    axes = {s.name: {i: d for i, d in enumerate(s.shape) if isinstance(d, str)} for s in specs}
    require_dimensions(axes, sizes)
    if batch != 1 and not any(BATCH in spec.dynamic for spec in specs):
        raise SpecError(
            "the first dimension of its inputs is fixed",
            where=f"--batch {batch}",
            fix="Leave --batch out",
        )
    generator = np.random.default_rng(seed)
    wanted = {**sizes, BATCH: batch} if batch != 1 else sizes
    return {spec.name: _values(spec, spec.concrete(wanted), generator) for spec in specs}


def require_fit(specs: tuple[TensorSpec, ...], feeds: Feeds, where: str) -> None:
    """See that the inputs of a bundle are those that a server's model takes.

    Raises:
        SpecError: names, dtypes or shapes differ.
    """
    try:
        check_feeds(specs, feeds)
    except SpecError as error:
        raise SpecError(
            f"does not fit the server's model: {error}", where=where, fix="Give its own bundle"
        ) from error


def _dim(name: str, axis: int, size: int) -> Dim:
    if size not in _ANY:
        return size
    return BATCH if axis == 0 else f"{name}.{axis}"


def _values(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    dtype = np.dtype(spec.dtype)
    if dtype == np.uint8:
        return generator.integers(0, 256, shape, np.uint8)
    if dtype.kind in "iub":
        return generator.integers(0, 2, shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)
