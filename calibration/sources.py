"""Calibration data from files: one ``.npz``, or a folder of ``.npz`` files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edgekit.errors import CalibrationError
from edgekit.spec import Array, Feeds, TensorSpec, as_stored

__all__ = ["file_source", "held_out", "kept"]

#: One sample in this many is held out of calibration to judge the result.
_HELD_OUT_EVERY = 5


def file_source(path: Path, inputs: Sequence[TensorSpec]) -> Callable[[], Iterator[Feeds]]:
    """Feeds out of a file or folder, one sample at a time.

    A ``.npz`` holds one array for each input under the input's name (a single array of any name
    will do for a model with one input); axis 0 counts samples. A folder holds such files, read
    in the order of their names, one in memory at a time.

    Args:
        path: the file or folder.
        inputs: what the model wants. An input whose axis 0 is fixed to n takes n rows a sample.

    Returns:
        A function giving a fresh iterator.

    Raises:
        CalibrationError: (also while iterating) missing, empty or unreadable files, or arrays
            that do not fit the inputs.
    """
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not path.exists() or not files:
        what = "has no .npz files" if path.is_dir() else "no such file or folder"
        raise CalibrationError(
            what, where=str(path), fix="Give a .npz file, or a folder of them, with --calib"
        )

    def feeds() -> Iterator[Feeds]:
        for file in files:
            yield from _slices(_arrays(file, inputs), file, inputs)

    return feeds


def kept(feeds: Callable[[], Iterable[Feeds]]) -> Callable[[], Iterator[Feeds]]:
    """The samples to calibrate on: all but every fifth (all of them when there are under five)."""
    return lambda: (f for i, f in enumerate(feeds()) if (i + 1) % _HELD_OUT_EVERY)


def held_out(feeds: Callable[[], Iterable[Feeds]]) -> Callable[[], Iterator[Feeds]]:
    """Every fifth sample, which :func:`kept` leaves out; the first when there are under five."""

    def chosen() -> Iterator[Feeds]:
        found = False
        first: Feeds | None = None
        for index, sample in enumerate(feeds()):
            first = sample if first is None else first
            if (index + 1) % _HELD_OUT_EVERY == 0:
                found = True
                yield sample
        if not found and first is not None:
            yield first

    return chosen


def _arrays(file: Path, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    try:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise CalibrationError(
                "holds one bare array", where=str(file), fix="Save it with numpy.savez(name=array)"
            )
        with loaded as archive:
            arrays = {name: as_stored(archive[name]) for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CalibrationError(
            f"cannot be read: {error}", where=str(file), fix="Save it with numpy.savez"
        ) from error
    if len(inputs) == 1 and len(arrays) == 1:
        return {inputs[0].name: next(iter(arrays.values()))}
    missing = [spec.name for spec in inputs if spec.name not in arrays]
    if missing:
        raise CalibrationError(
            f"has no array {missing[0]!r}, only {', '.join(arrays) or 'nothing'}",
            where=str(file),
            fix="Name one array after each input of the model",
        )
    return {spec.name: arrays[spec.name] for spec in inputs}


def _slices(arrays: dict[str, Array], file: Path, inputs: Sequence[TensorSpec]) -> Iterator[Feeds]:
    counts = set()
    steps = {}
    for spec in inputs:
        array = arrays[spec.name]
        if array.ndim != len(spec.shape) or array.ndim == 0:
            expected = "[" + ", ".join(map(str, spec.shape)) + "]"
            raise CalibrationError(
                f"array {spec.name!r} has shape {list(array.shape)}, the input is {expected}",
                where=str(file),
                fix="Stack the samples along axis 0",
            )
        steps[spec.name] = spec.shape[0] if isinstance(spec.shape[0], int) else 1
        counts.add(array.shape[0] // max(steps[spec.name], 1))
    if len(counts) != 1:
        raise CalibrationError(
            f"its arrays hold different numbers of samples: {sorted(counts)}",
            where=str(file),
            fix="Give every input the same number of samples along axis 0",
        )
    for index in range(counts.pop()):
        yield {
            name: array[index * steps[name] : (index + 1) * steps[name]]
            for name, array in arrays.items()
        }
