"""Where profiles are kept: ``x-profiles/`` beside the bundle, one document a run.

A document is named by the UTC time its run began, so that names sort as time does.
"""

from __future__ import annotations

import logging
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from edgekit.atomic import write_file
from edgekit.bundle import Bundle
from edgekit.errors import OutputError, ProfileError
from edgekit.profile.export import check_samples_path, pack, unpack
from edgekit.profile.records import SCHEMA_VERSION, Profile

__all__ = ["folder_of", "history", "load", "new_path", "newest", "save", "save_somewhere"]

_log = logging.getLogger(__name__)

_AGAIN = "Measure again with edgekit profile, or copy the file again"


def folder_of(bundle: Path) -> Path:
    """The folder that holds the profiles of the bundle ``NAME.edge``: ``NAME-profiles``."""
    return bundle.with_name(f"{bundle.resolve().stem}-profiles")


def new_path(bundle: Path) -> Path:
    """A name for the document of a run that begins now; the folder is made if it is missing.

    Raises:
        OutputError: the folder cannot be made.
    """
    folder = folder_of(bundle)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot be made: {error.strerror}",
            where=str(folder),
            fix="Choose where the profile goes with --output",
        ) from error
    now = datetime.now(UTC)
    while (path := folder / _name(now)).exists():  # another run began within this millisecond
        now += timedelta(milliseconds=1)
    return path


def _name(began: datetime) -> str:
    return f"{began:%Y-%m-%dT%H-%M-%S}.{began.microsecond // 1000:03d}Z.json"


def save(profile: Profile, path: Path) -> None:
    """Write a profile, whole or not at all: ``.json``, ``.npz`` or ``.parquet``.

    Raises:
        EdgekitError: the suffix is another, or pyarrow is missing.
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    check_samples_path(path)
    write_file(path, pack(profile, path.suffix))


def save_somewhere(profile: Profile, path: Path) -> Path:
    """Write a profile to ``path``, or where that fails into a new folder for temporary files.

    Returns:
        The file that was written.

    Raises:
        OutputError: neither could be written.
    """
    try:
        save(profile, path)
    except OutputError:
        try:
            aside = Path(tempfile.mkdtemp(prefix="edgekit-")) / path.name
            save(profile, aside)
        except (OSError, OutputError) as error:
            raise OutputError(
                f"cannot be written, nor can {tempfile.gettempdir()}",
                where=str(path),
                fix="Make room, or choose another place with --output",
            ) from error
        return aside
    return path


def load(path: Path) -> Profile:
    """Read a profile, in any form that :func:`save` writes.

    Raises:
        ProfileError: no such file, damaged, or of another schema version.
    """
    try:
        data = unpack(path.read_bytes(), path.suffix)
    except OSError as error:
        raise ProfileError(
            f"cannot be read: {error.strerror}", where=str(path), fix="Check the path"
        ) from error
    except ValueError as error:
        raise ProfileError(f"is damaged: {error}", where=str(path), fix=_AGAIN) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        newer = version > SCHEMA_VERSION
        raise ProfileError(
            f"has schema version {version}, this edgekit reads {SCHEMA_VERSION}",
            where=str(path),
            fix="Upgrade edgekit: pip install -U edgekit" if newer else _AGAIN,
        )
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "top level"
        what = f"is not a profile, or damaged: {place}: {first['msg']}"
        raise ProfileError(what, where=str(path), fix=_AGAIN) from error


def history(folder: Path) -> list[Profile]:
    """Every profile in a folder, oldest first; a damaged one is told in a logged warning."""
    found = ((path, _load_or_warn(path)) for path in folder.glob("*.json"))
    known = [(profile.created, path.name, profile) for path, profile in found if profile]
    return [profile for *_, profile in sorted(known, key=lambda one: one[:2])]


def newest(bundle: Bundle) -> Profile | None:
    """The last profile that measured this very bundle on some machine, None where there is none.

    Every artifact that it measured must be in the bundle with the same hash: of a bundle that was
    built again under the same name, older profiles tell nothing.
    """
    hashes = {artifact.id: artifact.files[0].sha256 for artifact in bundle.manifest.artifacts}
    for path in sorted(folder_of(bundle.path).glob("*.json"), reverse=True):
        profile = _load_or_warn(path)
        if profile and profile.artifacts and profile.artifacts.items() <= hashes.items():
            return profile
    return None


def _load_or_warn(path: Path) -> Profile | None:
    try:
        return load(path)
    except ProfileError as error:
        _log.warning("left out: %s", error)
        return None
