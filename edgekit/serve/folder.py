"""The bundles in a model repository's folder: which models, which versions, changed or not.

``NAME.edge/`` is a bundle and version 1 of NAME. ``NAME/VERSION/`` (or ``NAME/VERSION.edge/``) are
bundles, too: several versions of NAME. A folder without ``bundle.json.sha256``, which is written
last, is not complete and not looked at; neither is a hidden one, or a link that leads out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import BundleError
from edgekit.security.names import is_name

__all__ = ["Found", "scan", "version_order"]

_SEAL = "bundle.json.sha256"
_SUFFIX = ".edge"


@dataclass(frozen=True, slots=True)
class Found:
    """A bundle on disk.

    Attributes:
        path: of the bundle.
        fingerprint: differs when the bundle was replaced.
    """

    path: Path
    fingerprint: tuple[int, str]


def scan(root: Path) -> dict[str, dict[str, Found]]:
    """The versions of every model below ``root``, oldest version first.

    Raises:
        BundleError: the folder cannot be read.
    """
    try:
        folders = sorted(path for path in root.iterdir() if _inside(path, root))
    except OSError as error:
        raise BundleError(
            f"cannot be read: {error.strerror}",
            where=str(root),
            fix="Give a bundle, or a folder of bundles",
        ) from error
    models: dict[str, dict[str, Found]] = {}
    for folder in folders:
        if (found := look(folder)) is not None:
            models.setdefault(folder.name.removesuffix(_SUFFIX), {})["1"] = found
            continue
        versions = {
            child.name.removesuffix(_SUFFIX): found
            for child in folder.iterdir()
            if _inside(child, root) and (found := look(child)) is not None
        }
        if versions:
            models.setdefault(folder.name, {}).update(versions)
    return {name: dict(sorted(v.items(), key=_by_version)) for name, v in models.items()}


def look(folder: Path) -> Found | None:
    """The bundle in ``folder``, None when there is none that is complete."""
    try:
        seal = folder / _SEAL
        return Found(folder, (seal.stat().st_mtime_ns, seal.read_text(encoding="utf-8")))
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
    if not is_name(path.name) or not path.is_dir():
        return False
    return path.resolve().is_relative_to(root.resolve())
