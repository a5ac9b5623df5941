"""The forms of a profile's file: JSON for everything, ``.npz`` and ``.parquet`` for other tools.

Each form holds the whole :class:`~edgekit.profile.records.Profile` and is read back to the same
one. ``.npz`` has the arrays ``latencies_ns.0``, ``starts_ns.0``, ``latencies_ns.1``, ... of the
results, and the rest as JSON text in ``profile``. ``.parquet`` is one table with a row for each
inference, and the rest as JSON in its metadata.
"""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit import strict_json
from edgekit.errors import EdgekitError
from edgekit.profile.records import Profile
from edgekit.spec import Array

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check_samples_path", "pack", "unpack"]

_METADATA: Final = b"edgekit.profile"


def check_samples_path(path: Path) -> None:
    """See that a profile can be written to a file of that name, before anything is measured.

    Raises:
        EdgekitError: its suffix is unknown, or pyarrow is missing.
    """
    if path.suffix not in _WRITERS:
        raise EdgekitError(
            f"samples cannot be kept as {path.suffix or 'a file without suffix'}",
            where=str(path),
            fix=f"End its name in {', '.join(_WRITERS)}",
        )
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise EdgekitError(
            "pyarrow is not installed",
            where=str(path),
            fix="pip install 'edgekit[parquet]', or write .npz or .json",
        )


def pack(profile: Profile, suffix: str) -> bytes:
    """The profile in the form that the suffix names."""
    return _WRITERS[suffix](profile)


def unpack(data: bytes, suffix: str) -> Any:
    """The JSON form of what :func:`pack` made, not yet validated; other suffixes hold JSON.

    Raises:
        ValueError: it is damaged, or of another kind.
    """
    try:
        return _READERS.get(suffix, _from_json)(data)
    except (KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error


def _to_json(profile: Profile) -> bytes:
    return (profile.model_dump_json() + "\n").encode()


def _from_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:  # where in it says nothing to who measured
        raise ValueError("not valid JSON") from error


def _split(profile: Profile) -> tuple[str, list[tuple[Array, Array]]]:
    """The profile as JSON without samples, and the samples of each result."""
    document = profile.model_dump(mode="json")
    arrays = []
    for result in document["results"]:
        samples = result["samples"]
        arrays.append(
            (np.array(samples.pop("latencies_ns"), np.int64),
             np.array(samples.pop("starts_ns"), np.int64))
        )  # fmt: skip
    return strict_json.dumps(document), arrays


def _joined(text: str | bytes, arrays: Sequence[tuple[Array, Array]]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    for result, (latencies, starts) in zip(document["results"], arrays, strict=True):
        result["samples"] |= {"latencies_ns": latencies.tolist(), "starts_ns": starts.tolist()}
    return document


def _to_npz(profile: Profile) -> bytes:
    text, arrays = _split(profile)
    named = {"profile": np.array(text)}
    for index, (latencies, starts) in enumerate(arrays):
        named |= {f"latencies_ns.{index}": latencies, f"starts_ns.{index}": starts}
    stream = io.BytesIO()
    np.savez_compressed(stream, **named)  # type: ignore[arg-type]  # numpy's stub means allow_pickle
    return stream.getvalue()


def _from_npz(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        count = sum(name.startswith("latencies_ns.") for name in file.files)
        arrays = [(file[f"latencies_ns.{i}"], file[f"starts_ns.{i}"]) for i in range(count)]
        return _joined(str(file["profile"]), arrays)


def _to_parquet(profile: Profile) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    text, arrays = _split(profile)
    tables = [
        _table(index, profile.results[index].samples.artifact, *both)
        for index, both in enumerate(arrays)
    ]
    table = pa.concat_tables(tables).replace_schema_metadata({_METADATA: text.encode()})
    stream = io.BytesIO()
    parquet.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def _table(index: int, artifact: str, latencies: Array, starts: Array) -> pa.Table:
    import pyarrow as pa

    count = len(latencies)
    return pa.table(
        {
            "result": pa.array(np.full(count, index, np.int32)),
            "artifact": pa.array([artifact] * count).dictionary_encode(),
            "sample": pa.array(np.arange(count, dtype=np.int64)),
            "start_ns": pa.array(starts) if len(starts) else pa.nulls(count, pa.int64()),
            "latency_ns": pa.array(latencies),
        }
    )


def _from_parquet(data: bytes) -> dict[str, Any]:
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(data))
    text = (table.schema.metadata or {})[_METADATA]
    results = table["result"].to_numpy()
    latencies = table["latency_ns"].to_numpy()
    starts = table["start_ns"].to_numpy()  # of floating point where all are null
    arrays = []
    for index in range(int(results.max()) + 1 if len(results) else 0):
        own = results == index
        known = starts[own][~np.isnan(starts[own].astype(np.float64))]
        arrays.append((latencies[own], known.astype(np.int64)))
    return _joined(text, arrays)


_WRITERS: Final[dict[str, Callable[[Profile], bytes]]] = {
    ".json": _to_json,
    ".npz": _to_npz,
    ".parquet": _to_parquet,
}
_READERS: Final[dict[str, Callable[[bytes], Any]]] = {
    ".json": _from_json,
    ".npz": _from_npz,
    ".parquet": _from_parquet,
}
