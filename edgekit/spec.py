"""The shape language that every layer speaks: tensor names, dtypes and (dynamic) dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from edgekit.errors import SpecError, nearest

__all__ = [
    "BATCH",
    "DTYPES",
    "Array",
    "Dim",
    "Feeds",
    "Outputs",
    "TensorSpec",
    "as_stored",
    "check_feeds",
    "is_float",
]

Array: TypeAlias = npt.NDArray[Any]
Dim: TypeAlias = int | str
Feeds: TypeAlias = Mapping[str, Array]
Outputs: TypeAlias = dict[str, Array]

#: The name of the dynamic dimension that counts samples. Most calls on a device have one.
BATCH = "batch"

#: The dtypes a model's inputs and outputs may have, by numpy name; bfloat16 is that of ml_dtypes.
DTYPES: tuple[str, ...] = (
    "bool",
    "uint8", "uint16", "uint32", "uint64",
    "int8", "int16", "int32", "int64",
    "bfloat16", "float16", "float32", "float64",
)  # fmt: skip


def is_float(dtype: npt.DTypeLike) -> bool:
    """Whether it is a floating-point type; numpy does not count bfloat16 among them."""
    kind = np.dtype(dtype)
    return kind == ml_dtypes.bfloat16 or np.issubdtype(kind, np.floating)


def as_stored(array: Array) -> Array:
    """An array out of an ``.npz`` file, where bfloat16 is two bytes without a type."""
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one model input or output.

    Attributes:
        name: the tensor's name, the same in PyTorch, ONNX and every runtime.
        dtype: a numpy dtype name out of :data:`DTYPES`.
        shape: one entry a dimension; an int is fixed, a string names a dynamic dimension, and
            equal strings mean equal sizes across all tensors of one call.

    Raises:
        SpecError: the dtype is unknown or a fixed dimension is negative.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SpecError(
                f"dtype {self.dtype!r} is not supported",
                where=f"tensor {self.name!r}",
                fix=f"Use one of {', '.join(DTYPES)}",
            )
        if any(isinstance(dim, int) and dim < 0 for dim in self.shape):
            raise SpecError(
                f"shape {list(self.shape)} has a negative dimension",
                where=f"tensor {self.name!r}",
                fix="Name a dynamic dimension with a string, such as 'batch'",
            )

    @property
    def dynamic(self) -> tuple[str, ...]:
        """Names of the dynamic dimensions, in order."""
        return tuple(dim for dim in self.shape if isinstance(dim, str))

    def concrete(self, sizes: Mapping[str, int], default: int = 1) -> tuple[int, ...]:
        """The shape with every dynamic dimension replaced by its size (or ``default``)."""
        return tuple(sizes.get(d, default) if isinstance(d, str) else d for d in self.shape)

    def bind(self, array: Array, sizes: dict[str, int]) -> None:
        """Check ``array`` against this spec and record its dynamic sizes in ``sizes``.

        Raises:
            SpecError: wrong dtype, rank or size, or a dynamic dimension that differs from the
                size another tensor of the same call gave it.
        """
        if array.dtype != self.dtype:
            raise SpecError(
                f"dtype is {array.dtype}, expected {self.dtype}",
                where=f"tensor {self.name!r}",
                fix=f"Convert it with .astype({self.dtype!r})",
            )
        if array.ndim != len(self.shape):
            raise self._shape_error(array, f"{array.ndim} dimensions instead of {len(self.shape)}")
        for axis, (dim, size) in enumerate(zip(self.shape, array.shape, strict=True)):
            wanted = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
            if size != wanted:
                label = f" ({dim})" if isinstance(dim, str) else ""
                raise self._shape_error(array, f"axis {axis}{label} is {size}, expected {wanted}")

    def _shape_error(self, array: Array, why: str) -> SpecError:
        expected = "[" + ", ".join(map(str, self.shape)) + "]"
        return SpecError(
            f"shape {list(array.shape)} does not fit: {why}",
            where=f"tensor {self.name!r}",
            fix=f"Give it the shape {expected}",
        )


def to_rows(specs: Sequence[TensorSpec]) -> list[list[Any]]:
    """Name, dtype and shape of each, for JSON; :func:`from_rows` reads it."""
    return [[spec.name, spec.dtype, list(spec.shape)] for spec in specs]


def from_rows(rows: Iterable[tuple[str, str, Sequence[Dim]]]) -> tuple[TensorSpec, ...]:
    """What :func:`to_rows` wrote."""
    return tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in rows)


def check_feeds(specs: Sequence[TensorSpec], feeds: Feeds) -> dict[str, int]:
    """Check that ``feeds`` has exactly the tensors that ``specs`` asks for.

    Returns:
        The size of every dynamic dimension in this call.

    Raises:
        SpecError: a tensor is missing, unknown, or of the wrong dtype or shape.
    """
    sizes: dict[str, int] = {}
    for spec in specs:
        try:
            array = feeds[spec.name]
        except KeyError:
            raise _name_error("missing", spec.name, feeds) from None
        spec.bind(array, sizes)
    if len(feeds) != len(specs):
        known = [spec.name for spec in specs]
        unknown = next(name for name in feeds if name not in known)
        raise _name_error("unknown", unknown, known)
    return sizes


def _name_error(kind: str, name: str, others: Iterable[str]) -> SpecError:
    others = list(others)
    guess = nearest(name, others)
    listed = ", ".join(others) or "nothing"
    hint = f", did you mean {guess!r}" if guess else ""
    what = (
        f"input {name!r} is missing; given: {listed}{hint}"
        if kind == "missing"
        else f"input {name!r} is not an input of this model{hint}"
    )
    fix = "Give every input by its name" if kind == "missing" else f"The inputs are: {listed}"
    return SpecError(what, fix=fix)
