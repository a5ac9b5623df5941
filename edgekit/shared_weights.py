"""Weights of a bundle, kept once: the artifacts of one model hold the same bytes.

Large constants of ONNX files and of OpenVINO's IRs move into one file at the root of the bundle.
In ONNX they become external data, which any reader finds. An IR names offsets only: OpenVINO is
told the file, ``read_model(xml, weights)``, and a mark tells edgekit's runtime that it is this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Protocol
from xml.etree import ElementTree as ET

import onnx_ir as ir

from edgekit.bundle import hash_file
from edgekit.external_data import SHARED_MARK, SHARED_WEIGHTS, check_external_data
from edgekit.manifest import Artifact

__all__ = ["LEAST_SAVED", "share_weights"]

#: Where fewer bytes than these are there twice, every artifact keeps its own: files that stand
#: alone are easier to handle, and that is worth a megabyte.
LEAST_SAVED: Final = 2**20

#: Smaller tensors stay inside ONNX files: ONNX Runtime maps each of the others by itself, in pages.
_PAGE = 4096

#: Constants begin at a multiple of this: a cache line, the widest vector register.
_ALIGNMENT = 64


def share_weights(folder: Path, model: Path, artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Let artifacts that hold the same weights read them from one file.

    Args:
        folder: of a bundle that is being built; nobody else reads it yet.
        model: the uncompressed ONNX file in it, an artifact or not.
        artifacts: all of the bundle's.

    Returns:
        The artifacts with the files that they consist of now.
    """
    graphs: dict[Path, _Graph] = {model: _OnnxGraph(model)}
    for artifact in artifacts:
        if artifact.runtime in _READERS:
            path = folder / artifact.files[0].path
            graphs[path] = _READERS[artifact.runtime](path)
    if _repeated(graphs.values()) < LEAST_SAVED:
        return list(artifacts)
    with (folder / SHARED_WEIGHTS).open("xb") as stream:
        pool = _Pool(stream)
        used = {path: graph.move(pool) for path, graph in graphs.items()}
    weights = hash_file(folder, folder / SHARED_WEIGHTS)
    files = {
        path.relative_to(folder).as_posix(): (
            hash_file(folder, path),
            weights.model_copy(update={"used": count}),
        )
        for path, count in used.items()
    }
    return [
        artifact.model_copy(update={"files": files.get(artifact.files[0].path, artifact.files)})
        for artifact in artifacts
    ]


class _Pool:
    """The shared file while it is written: each constant once, wherever it is used."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._offsets: dict[bytes, int] = {}

    def add(self, data: bytes) -> int:
        """Where ``data`` begins."""
        digest = hashlib.sha256(data).digest()
        if digest not in self._offsets:
            self._stream.write(bytes(-self._stream.tell() % _ALIGNMENT))
            self._offsets[digest] = self._stream.tell()
            self._stream.write(data)
        return self._offsets[digest]


class _Graph(Protocol):
    """The file of one artifact. It is read anew each time: several may not fit into memory."""

    def constants(self) -> Iterator[bytes]:
        """What can be shared."""

    def move(self, pool: _Pool) -> int:
        """Write the file again, with these in the pool, and remove what held them.

        Returns:
            How many bytes of the pool it uses.
        """


def _repeated(graphs: Iterable[_Graph]) -> int:
    """How many bytes are there once more."""
    total, sizes = 0, {}
    for graph in graphs:
        for data in graph.constants():
            total += len(data)
            sizes[hashlib.sha256(data).digest()] = len(data)
    return total - sum(sizes.values())


class _OnnxGraph:
    def __init__(self, path: Path) -> None:
        self._path = path

    def constants(self) -> Iterator[bytes]:
        for _, tensor in _large(ir.load(self._path)):
            yield tensor.tobytes()

    def move(self, pool: _Pool) -> int:
        model = ir.load(self._path)
        before = check_external_data(self._path)
        used = {}
        for value, tensor in _large(model):
            offset = pool.add(tensor.tobytes())
            used[offset] = tensor.nbytes
            value.const_value = ir.ExternalTensor(
                SHARED_WEIGHTS,
                offset,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
                base_dir=self._path.parent,
            )
        ir.save(model, self._path)
        for file in before:
            file.unlink()
        return sum(used.values())


def _large(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """What lies outside already moves, whatever its size: its file goes."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.dtype == ir.DataType.STRING:
                continue
            if tensor.nbytes >= _PAGE or isinstance(tensor, ir.ExternalTensor):
                yield value, tensor


class _OpenVinoGraph:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._weights = path.with_suffix(".bin")

    def constants(self) -> Iterator[bytes]:
        with self._weights.open("rb") as stream:
            for place in _places(self._parsed()):
                yield _read(stream, place)

    def move(self, pool: _Pool) -> int:
        tree = self._parsed()
        used = {}
        with self._weights.open("rb") as stream:
            for place in _places(tree):
                offset = pool.add(_read(stream, place))
                used[offset] = int(place["size"])
                place["offset"] = str(offset)
        root = tree.getroot()
        assert root is not None
        root.set(*SHARED_MARK)
        tree.write(self._path, encoding="utf-8", xml_declaration=True)
        self._weights.unlink()
        return sum(used.values())

    def _parsed(self) -> ET.ElementTree[ET.Element]:
        return ET.parse(self._path)  # noqa: S314, OpenVINO has just written it


def _places(tree: ET.ElementTree[ET.Element]) -> Iterator[dict[str, str]]:
    """Offset and size of each constant, those of subgraphs too; they can be changed."""
    for layer in tree.iter("layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            yield data.attrib


def _read(stream: IO[bytes], place: Mapping[str, str]) -> bytes:
    stream.seek(int(place["offset"]))
    return stream.read(int(place["size"]))


#: The runtimes that read their weights from there.
_READERS: Mapping[str, type[_OnnxGraph | _OpenVinoGraph]] = {
    "onnxruntime": _OnnxGraph,
    "openvino": _OpenVinoGraph,
}
