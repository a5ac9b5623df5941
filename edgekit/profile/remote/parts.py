"""The part of a bundle that a board is sent."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from edgekit.bundle import Bundle, seal
from edgekit.errors import RuntimeUnavailableError
from edgekit.manifest import Artifact, Decision, FileEntry, Manifest

__all__ = ["Part", "choose", "extras_of"]

#: The extra of edgekit that installs each runtime; the core runs the others.
_EXTRAS = {
    "executorch": "executorch",
    "litert": "litert",
    "ncnn": "ncnn",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
    "torch": "torch",
}
#: Runtimes that bring PyTorch along: only where they are asked for by name.
_NEED_TORCH = ("executorch", "torch")
_NEED_GPU = ("tensorrt", "tensorrt-rtx")


def extras_of(artifacts: Sequence[Artifact]) -> list[str]:
    """What to install beside edgekit's core to run them."""
    return sorted({_EXTRAS[one.runtime] for one in artifacts if one.runtime in _EXTRAS})


def choose(
    bundle: Bundle, *, runtime: str | None, artifact: str | None, gpu: bool, board: str
) -> list[Artifact]:
    """The artifacts that the board may be able to run.

    Args:
        bundle: that is profiled.
        runtime: only this runtime's.
        artifact: only the one of this id.
        gpu: whether the board has an NVIDIA GPU.
        board: its name.

    Raises:
        RuntimeUnavailableError: there is none.
    """
    asked = runtime is not None or artifact is not None
    reasons = {}
    for one in bundle.manifest.artifacts:
        if runtime not in {None, one.runtime} or artifact not in {None, one.id}:
            reasons[one.id] = "not asked for"
        elif one.runtime in _NEED_GPU and not gpu:
            reasons[one.id] = "there is no NVIDIA GPU"
        elif one.runtime in _NEED_TORCH and not asked:
            reasons[one.id] = (
                f"would install PyTorch there: ask for it with --runtime {one.runtime}"
            )
    chosen = [one for one in bundle.manifest.artifacts if one.id not in reasons]
    if not chosen:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise RuntimeUnavailableError(
            f"holds no artifact for {board} ({told})",
            where=str(bundle.path),
            fix="Export the model with --runtime onnxruntime, too",
        )
    return chosen


@dataclass(frozen=True, slots=True)
class Part:
    """Some artifacts of a bundle, as a bundle of its own.

    Attributes:
        bundle: the whole one.
        manifest: of the part.
    """

    bundle: Bundle
    manifest: Manifest

    @classmethod
    def of(cls, bundle: Bundle, artifacts: Sequence[Artifact]) -> Part:
        whole = bundle.manifest
        ids = {one.id for one in artifacts}
        needed = {whole.reference, whole.labels, *(one.reference for one in artifacts)}
        changes = {
            "artifacts": tuple(artifacts),
            "extras": tuple(entry for entry in whole.extras if entry.path in needed),
            "decisions": tuple(
                _decision(one, artifacts)
                for one in whole.decisions
                if (one.runtime, one.target) in {(a.runtime, a.target) for a in artifacts}
            ),
            "verification": tuple(one for one in whole.verification if one.artifact in ids),
            "latency": (),
            "alternatives": (),
            "search": (),
        }
        return cls(bundle, whole.model_copy(update=changes))

    @property
    def digest(self) -> str:
        """Of all that is sent: files are in the manifest by their hashes."""
        return sha256(self.manifest.model_dump_json().encode()).hexdigest()

    def write(self, stream: IO[bytes]) -> None:
        """As a tar archive of one folder with the bundle's name."""
        name = self.bundle.path.resolve().name
        with TemporaryDirectory() as text, tarfile.open(fileobj=stream, mode="w|") as tar:
            seal(Path(text), self.manifest)
            for file in sorted(Path(text).iterdir()):
                add_bytes(tar, f"{name}/{file.name}", file.read_bytes())
            for path in sorted({entry.path for entry in _entries(self.manifest)}):
                tar.add(self.bundle.path / path, f"{name}/{path}")


def _decision(decision: Decision, artifacts: Sequence[Artifact]) -> Decision:
    """About what is there: its choice may have stayed behind."""
    ids = [a.id for a in artifacts if (a.runtime, a.target) == (decision.runtime, decision.target)]
    selected = decision.selected if decision.selected in ids else ids[0]
    rejected = {name: why for name, why in decision.rejected.items() if name in ids}
    return decision.model_copy(update={"selected": selected, "rejected": rejected})


def _entries(manifest: Manifest) -> list[FileEntry]:
    return [*manifest.extras, *(entry for one in manifest.artifacts for entry in one.files)]


def add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Put a file that is in memory into an archive."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))
