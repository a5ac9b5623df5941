"""What ``edgekit diff`` is told to compare: an artifact of a bundle, or a model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import ModelReferenceError
from edgekit.exporters.graph import MODULE
from edgekit.manifest import Artifact
from edgekit.runtimes import Session, SessionOptions
from edgekit.spec import Array, Feeds, TensorSpec, is_float
from edgekit.verify import Reference

__all__ = ["Side", "open_side", "shared_feeds", "side_of"]

_RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}

#: Sizes of dynamic dimensions and number of samples where there are none to run.
_SIZE, _SAMPLES = 2, 4


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two.

    Attributes:
        name: for people.
        runtime: what runs it.
        path: the file to load.
        modules: the PyTorch module that each tensor comes from, where known.
        feeds: samples to run, where it brings some.
    """

    name: str
    runtime: str
    path: Path
    modules: Mapping[str, str] = field(default_factory=dict)
    feeds: Sequence[Feeds] = ()

    def load(self, given: Sequence[TensorSpec] = ()) -> Session:
        """The session that returns what is computed inside, too; see :class:`SessionOptions`.

        Raises:
            RuntimeUnavailableError: the runtime cannot be used here, or refuses the file.
        """
        options = SessionOptions(intermediates=True, given=tuple(given))
        return runtimes.require(self.runtime).load(self.path, options)


def open_side(name: str) -> Side:
    """``x.edge:ARTIFACT``, ``x.edge`` (its fastest), ``model.onnx``, ``.xml`` or ``.pt2``.

    Raises:
        ModelReferenceError: it is none of these.
        BundleError: the bundle is damaged.
    """
    path = Path(name)
    if path.suffix in _RUNTIMES:
        if not path.is_file():
            raise ModelReferenceError("no such file", where=name, fix="Check the path")
        modules = onnx_modules(path) if path.suffix == ".onnx" else {}
        return Side(name, _RUNTIMES[path.suffix], path, modules)
    folder, colon, wanted = name.rpartition(":")
    if path.exists() or not colon:
        folder, wanted = name, ""
    bundle = Bundle.open(Path(folder))
    ids = [artifact.id for artifact in bundle.manifest.artifacts]
    if wanted and wanted not in ids:
        raise ModelReferenceError(
            f"has no artifact {wanted!r}", where=folder, fix=f"Choose from {', '.join(ids)}"
        )
    artifact = bundle.manifest.artifact(wanted) if wanted else bundle.selected()
    return side_of(bundle, artifact)


def side_of(bundle: Bundle, artifact: Artifact) -> Side:
    """One artifact of an opened bundle."""
    feeds = Reference.of(bundle, artifact).like_data().feeds if bundle.manifest.reference else ()
    modules = onnx_modules(bundle.path / "model.onnx")
    return Side(
        f"{bundle.path}:{artifact.id}",
        artifact.runtime,
        bundle.file(artifact),
        modules,
        feeds,
    )


def onnx_modules(path: Path) -> dict[str, str]:
    """The PyTorch module of each tensor and operator, by name, of an ONNX file of edgekit's.

    What is no ONNX file has none: its runtime will tell.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except DecodeError:
        return {}
    found: dict[str, str] = {}
    for node in graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        if MODULE in notes:
            found |= dict.fromkeys(filter(None, (node.name, *node.output)), notes[MODULE])
    return found


def shared_feeds(first: Side, second: Side) -> Sequence[Feeds]:
    """The samples of the bundle of either; random ones where both are plain files."""
    for side in (first, second):
        if side.feeds:
            return side.feeds
    generator = np.random.default_rng(0)
    with runtimes.require(first.runtime).load(first.path) as session:
        specs = session.inputs
    return [{spec.name: _random(spec, generator) for spec in specs} for _ in range(_SAMPLES)]


def _random(spec: TensorSpec, generator: np.random.Generator) -> Array:
    """Normal numbers; 0 and 1 where the tensor holds integers, which may be indices or masks."""
    shape = spec.concrete({}, default=_SIZE)
    if is_float(spec.dtype):
        return generator.standard_normal(shape).astype(spec.dtype)
    return generator.integers(0, 2, shape).astype(spec.dtype)
