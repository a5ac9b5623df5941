"""Refuse ONNX files that want weights from anywhere but plain files beside them.

An ONNX tensor may name a file that holds its bytes. A hostile model names ``/etc/shadow``, climbs
out of its folder with ``..``, or brings a link that does, and whoever serves it hands the bytes
out (CVE-2022-25882, CVE-2024-27318, CVE-2024-5187). Engines differ in what they check, so edgekit
does it before any of them reads the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

import onnx
from google.protobuf.message import DecodeError, Message

from edgekit.errors import ExternalDataError

__all__ = ["SHARED_MARK", "SHARED_WEIGHTS", "check_external_data"]

#: The file at the root of a bundle that holds the weights of several artifacts.
SHARED_WEIGHTS: Final = "weights.bin"
#: The attribute of an OpenVINO IR's first element that says that it reads this file.
SHARED_MARK: Final = ("weights", SHARED_WEIGHTS)

_FIX = "Do not use this file, or save it again with onnx.save from a source that you trust"


def check_external_data(path: Path) -> list[Path]:
    """The files beside the ONNX file ``path`` that hold weights of it, each once.

    What is missing or is no ONNX file has none: that is told by who reads it.

    Raises:
        ExternalDataError: a tensor's file is not a plain file of its own inside the folder of
            ``path`` (it is absolute, climbs out, is a link, is missing), or its bytes lie beyond
            the end of it.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (FileNotFoundError, DecodeError):
        return []
    files = (_checked(path.parent, path.name, tensor) for tensor in _external_tensors(model))
    return list(dict.fromkeys(files))


def _external_tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Wherever one may be: initializers, attributes, subgraphs, functions, sparse tensors."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
            yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in (value,) if isinstance(value, Message) else value:
                yield from _external_tensors(one)


def _checked(folder: Path, model: str, tensor: onnx.TensorProto) -> Path:
    where = f"{model}, tensor {tensor.name!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise ExternalDataError("names its file twice", where=where, fix=_FIX)
    location = entries.get("location", "")
    parts = _inside(location, where)
    file = folder
    for part in parts:
        file = file / part
        if file.is_symlink():
            raise _refused(location, "is a symbolic link", where)
    if not file.is_file():
        raise _refused(location, "does not exist" if not file.exists() else "is no file", where)
    status = file.stat()
    if status.st_nlink > 1:
        raise _refused(location, "is a hard link to a file that has another name, too", where)
    _check_range(entries, status.st_size, location, where)
    return file


def _inside(location: str, where: str) -> tuple[str, ...]:
    """The parts of a relative path that stays inside, on Windows and elsewhere."""
    windows = PureWindowsPath(location)
    if not location or "\0" in location:
        raise _refused(location, "is not a file name", where)
    if PurePosixPath(location).is_absolute() or windows.drive or windows.root:
        raise _refused(location, "is absolute", where)
    if ".." in windows.parts:
        raise _refused(location, "leaves the folder", where)
    return PurePosixPath(location).parts


def _check_range(entries: dict[str, str], size: int, location: str, where: str) -> None:
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries["length"]) if "length" in entries else size - offset
    except ValueError:
        raise _refused(location, "has an offset or a length that is no number", where) from None
    if offset < 0 or length < 0 or offset + length > size:
        raise _refused(location, f"has no bytes {offset} to {offset + length}", where)


def _refused(location: str, why: str, where: str) -> ExternalDataError:
    return ExternalDataError(
        f"its data in {location!r} is refused: it {why}", where=where, fix=_FIX
    )
