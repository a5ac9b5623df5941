"""The bundles in a model repository's folder: which models, which versions, changed or not.

``NAME.edge/`` is a bundle and version 1 of NAME. ``NAME/VERSION/`` (or ``NAME/VERSION.edge/``) are
bundles, too: several versions of NAME. ``NAME.ensemble.yaml`` puts models together, see
:mod:`edgekit.serve.ensemble_file`. A folder without ``bundle.json.sha256``, which is written
last, is not complete and not looked at; neither is a hidden one, or a link that leads out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import BundleError
from edgekit.security.names import is_name, signature_of

__all__ = ["Found", "Models", "look", "scan", "to_follow", "version_order"]

_SEAL = "bundle.json.sha256"
_SUFFIX = ".edge"
_ENSEMBLE = ".ensemble.yaml"


@dataclass(frozen=True, slots=True)
class Found:
    """A bundle on disk, or the file of an ensemble.

    Attributes:
        path: of the bundle or file.
        fingerprint: differs when it was replaced.
    """

    path: Path
    fingerprint: tuple[int, str]

    @property
    def is_ensemble(self) -> bool:
        return self.path.name.endswith(_ENSEMBLE)


Models = Mapping[str, Mapping[str, Found]]


def scan(root: Path) -> dict[str, dict[str, Found]]:
    """The versions of every model below ``root``, oldest version first; ensembles come last.

    Raises:
        BundleError: the folder cannot be read.
    """
    try:
        models = _scan(root)
    except OSError as error:
        raise BundleError(
            f"cannot be read: {error.strerror}",
            where=str(error.filename or root),
            fix="Give a bundle, or a folder of bundles",
        ) from error
    return {name: dict(sorted(v.items(), key=_by_version)) for name, v in models.items()}


def _scan(root: Path) -> dict[str, dict[str, Found]]:
    models: dict[str, dict[str, Found]] = {}
    inside = sorted(path for path in root.iterdir() if _inside(path, root))
    for folder in (path for path in inside if path.is_dir()):
        if (found := look(folder)) is not None:
            models.setdefault(folder.name.removesuffix(_SUFFIX), {})["1"] = found
            continue
        versions = {
            child.name.removesuffix(_SUFFIX): found
            for child in folder.iterdir()
            if _inside(child, root) and child.is_dir() and (found := look(child)) is not None
        }
        if versions:
            models.setdefault(folder.name, {}).update(versions)
    for file in inside:
        if file.name.endswith(_ENSEMBLE) and (found := _ensemble(file)) is not None:
            name = file.name.removesuffix(_ENSEMBLE)
            models.pop(name, None)  # to come last; loading it says that the name is taken
            models[name] = {"1": found}
    return models


def to_follow(seen: Models, found: Models) -> list[str]:
    """What to load or unload after a change, ensembles last: all may work now, or no longer."""
    changed = [name for name in {**seen, **found} if seen.get(name) != found.get(name)]
    ensembles = [
        name for name, has in found.items() if any(one.is_ensemble for one in has.values())
    ]
    return [name for name in changed if name not in ensembles] + ensembles if changed else []


def look(folder: Path) -> Found | None:
    """The bundle in ``folder``, None when there is none that is complete."""
    return _fingerprinted(folder, folder / _SEAL)


def _ensemble(file: Path) -> Found | None:
    """An ensemble's file; to sign it is to change it."""
    found, signature = _fingerprinted(file, file), signature_of(file)
    if found is None or not signature.is_file():
        return found
    moment, text = found.fingerprint
    return Found(file, (moment, text + signature.read_bytes().hex()))


def _fingerprinted(path: Path, file: Path) -> Found | None:
    try:
        return Found(path, (file.stat().st_mtime_ns, file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):
        return None


def version_order(version: str) -> tuple[tuple[int, str], ...]:
    """Sorts ``10`` behind ``9`` and ``1.10`` behind ``1.9``."""
    return tuple(
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[._-]", version)
    )


def _by_version(item: tuple[str, Found]) -> tuple[tuple[int, str], ...]:
    return version_order(item[0])


def _inside(path: Path, root: Path) -> bool:
    return is_name(path.name) and path.exists() and path.resolve().is_relative_to(root.resolve())
