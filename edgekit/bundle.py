"""``NAME.edge/``: one folder with every artifact of a model, hashed and never half written.

``bundle.json`` lists every file with its size and sha256, ``bundle.json.sha256`` seals
``bundle.json`` itself (``sha256sum -c`` reads it). A new bundle is built in a hidden sibling
folder, flushed to disk and exchanged with the old one in one step.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from edgekit import atomic
from edgekit.errors import BundleError, RuntimeUnavailableError
from edgekit.machine import Machine, this_machine
from edgekit.manifest import SCHEMA_VERSION, Artifact, FileEntry, Manifest
from edgekit.numerics import mismatch, parse_target

__all__ = ["Bundle", "hash_file", "seal", "writing"]

_log = logging.getLogger(__name__)

_MANIFEST = "bundle.json"
_SEAL = "bundle.json.sha256"
_REBUILD = "Build the bundle again with edgekit compress or edgekit export, or copy it again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: every file was present, of the recorded size and of the recorded hash."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path, *, signed_by: Path | None = None) -> Bundle:
        """Open and verify a bundle.

        Args:
            path: the folder.
            signed_by: a public key; what its holder did not sign is refused before it is read.

        Raises:
            BundleError: not a bundle, from another schema version, truncated, or any file is
                missing or differs from its recorded hash.
            SecurityError: it is not signed with that key.

        A machine on which the artifacts may compute something else than where they were validated
        is told in a logged warning.
        """
        atomic.recover(path)
        if not (path / _MANIFEST).is_file():
            what = "no such bundle" if not path.exists() else f"not a bundle: it has no {_MANIFEST}"
            raise BundleError(what, where=str(path), fix="Give the path of a NAME.edge folder")
        raw = (path / _MANIFEST).read_bytes()
        if signed_by is not None:
            from edgekit.security import signature  # needs cryptography, which is optional

            signature.check(raw, path / _MANIFEST, signed_by)
        manifest = _parse(raw, path)
        _check_seal(raw, path)
        for entry in _entries(manifest):
            _check_file(path, entry)
        bundle = cls(path, manifest)
        if warning := bundle.numerics_warning(this_machine()):
            _log.warning("%s: %s", path, warning)
        return bundle

    def numerics_warning(self, machine: Machine) -> str:
        """Why the selected artifacts may compute something else on ``machine``, or ""."""
        if not self.manifest.target:
            return ""
        selected = self.manifest.selected
        chosen = [a for a in self.manifest.artifacts if a.id in selected]
        precisions = [a.precision for a in chosen if a.target is None]
        made_for = parse_target(self.manifest.target)
        return mismatch(made_for, machine.features, precisions)

    @property
    def manifest_file(self) -> Path:
        """``bundle.json``."""
        return self.path / _MANIFEST

    def file(self, artifact: Artifact) -> Path:
        """The file that a runtime loads for ``artifact``."""
        return self.path / artifact.files[0].path

    def selected(self, runtime: str | None = None, gpu: str | None = None) -> Artifact:
        """The artifact chosen for ``runtime``, or the fastest choice of all runtimes.

        Args:
            runtime: its name.
            gpu: the GPU generation of this machine, where the runtime's artifacts are each built
                for one; None takes the first of them.

        Raises:
            RuntimeUnavailableError: the bundle has nothing selected for that runtime, or nothing
                for that GPU; says what to build.
        """
        decisions = self.manifest.decisions
        chosen = [d for d in decisions if runtime in {None, d.runtime}]
        if not chosen:
            has = ", ".join(dict.fromkeys(d.runtime for d in decisions)) or "no runtime"
            raise RuntimeUnavailableError(
                f"holds nothing for runtime {runtime!r}, only for {has}",
                where=str(self.path),
                fix="Choose one of those, or export the model again with --runtime",
            )
        fitting = [d for d in chosen if d.target is None or gpu in {None, d.target}]
        if not fitting:
            raise self._no_engine(str(runtime), [str(d.target) for d in chosen], str(gpu))
        return self.manifest.artifact(fitting[0].selected)

    def _no_engine(self, runtime: str, targets: Sequence[str], gpu: str) -> RuntimeUnavailableError:
        recipe = str((self.manifest.recipe or {}).get("name", "fp32"))
        command = "export" if recipe == "fp32" else "compress"
        option = "" if recipe == "fp32" else f" --recipe {recipe}"
        model = self.manifest.source or "MODEL"
        gpus = ",".join((*targets, gpu))
        return RuntimeUnavailableError(
            f"its {runtime} engines are for {', '.join(targets)}, this GPU is {gpu}",
            where=str(self.path),
            fix=f"Run: edgekit {command} {model}{option} --runtime {runtime} --gpu {gpus}",
        )


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A fresh folder that becomes the bundle ``path`` when the block ends without an error.

    The block puts every file in place and ends with :func:`seal`. Until then, and whenever the
    process dies, an existing bundle at ``path`` stays as it was.

    Raises:
        OutputError: ``path`` cannot be written, or exists and is not a bundle.
    """
    with atomic.replaced_folder(path, expect=_MANIFEST) as folder:
        yield folder


def seal(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` and its seal as the last files of ``folder``."""
    raw = (manifest.model_dump_json(indent=1) + "\n").encode()
    (folder / _MANIFEST).write_bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    (folder / _SEAL).write_text(f"{digest}  {_MANIFEST}\n")


def hash_file(folder: Path, path: Path) -> FileEntry:
    """The manifest entry of ``path``, a file inside ``folder``."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    relative = path.relative_to(folder).as_posix()
    return FileEntry(path=relative, sha256=digest, size=path.stat().st_size)


def _parse(raw: bytes, path: Path) -> Manifest:
    where = str(path / _MANIFEST)
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise BundleError("is damaged: not valid JSON", where=where, fix=_REBUILD) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        newer = version > SCHEMA_VERSION
        raise BundleError(
            f"has schema version {version}, this edgekit reads {SCHEMA_VERSION}",
            where=where,
            fix="Upgrade edgekit: pip install -U edgekit" if newer else _REBUILD,
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "top level"
        if first["type"] == "extra_forbidden":
            raise BundleError(
                f"says {place}, which this edgekit does not know",
                where=where,
                fix="Upgrade edgekit: pip install -U edgekit",
            ) from error
        what = f"is damaged: {place}: {first['msg']}"
        raise BundleError(what, where=where, fix=_REBUILD) from error


def _check_seal(raw: bytes, path: Path) -> None:
    seal_path = path / _SEAL
    if not seal_path.is_file():
        raise BundleError("is missing", where=str(seal_path), fix=_REBUILD)
    if seal_path.read_bytes() != f"{hashlib.sha256(raw).hexdigest()}  {_MANIFEST}\n".encode():
        what = f"does not match its seal {_SEAL}: one of the two was changed"
        raise BundleError(what, where=str(path / _MANIFEST), fix=_REBUILD)


def _entries(manifest: Manifest) -> Iterable[FileEntry]:
    """Every file once, however many artifacts use it."""
    listed = [entry for artifact in manifest.artifacts for entry in artifact.files]
    listed += manifest.extras
    return {(entry.path, entry.sha256, entry.size): entry for entry in listed}.values()


def _check_file(path: Path, entry: FileEntry) -> None:
    relative = PurePosixPath(entry.path)
    file = path / relative
    if relative.is_absolute() or ".." in relative.parts or file.is_symlink():
        raise BundleError("points outside the bundle", where=str(file), fix=_REBUILD)
    if not file.is_file():
        raise BundleError("is missing", where=str(file), fix=_REBUILD)
    if file.stat().st_size != entry.size:
        what = f"has {file.stat().st_size} bytes, recorded were {entry.size}"
        raise BundleError(what, where=str(file), fix=_REBUILD)
    if hash_file(path, file).sha256 != entry.sha256:
        raise BundleError("was changed: its sha256 differs", where=str(file), fix=_REBUILD)
