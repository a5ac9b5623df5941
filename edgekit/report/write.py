"""Write the files of a report: of one bundle, of two side by side, of profiles by time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from edgekit import strict_json
from edgekit.atomic import write_file
from edgekit.bundle import Bundle
from edgekit.errors import ProfileError, SpecError, nearest
from edgekit.manifest import Manifest
from edgekit.profile.records import Profile, Result
from edgekit.profile.store import folder_of, history, load, newest
from edgekit.report.compare import compare_views, comparison_page
from edgekit.report.document import report_document
from edgekit.report.history import history_document, history_page
from edgekit.report.layers import compare_layers
from edgekit.report.markdown import comparison_markdown, markdown
from edgekit.report.page import render_view
from edgekit.report.spreadsheet import spreadsheet
from edgekit.report.trace import trace
from edgekit.report.view import View, view_of

__all__ = [
    "FORMATS",
    "parse_formats",
    "profile_for",
    "write_comparison",
    "write_history",
    "write_report",
]

#: The files of a report by the name of their format; the first two are written always.
FORMATS: Final = {
    "html": "report.html",
    "json": "report.json",
    "md": "report.md",
    "csv": "report.csv",
    "trace": "trace.json",
}
_ALWAYS = ("html", "json")


def parse_formats(texts: Sequence[str]) -> tuple[str, ...]:
    """Formats from ``md,csv`` and the like, beside those that are written always.

    Raises:
        SpecError: there is no such format.
    """
    named = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    for name in named:
        if name not in FORMATS:
            near = nearest(name, FORMATS)
            raise SpecError(
                f"there is no format {name!r}" + (f", did you mean {near!r}?" if near else ""),
                where="--format",
                fix=f"The formats are {', '.join(FORMATS)}",
            )
    return tuple(dict.fromkeys((*_ALWAYS, *named)))


def profile_for(bundle: Bundle, file: Path | None = None) -> Profile | None:
    """The profile to report on: of ``file``, else the newest that measured this very bundle.

    Raises:
        ProfileError: ``file`` cannot be read, or measured other artifacts.
    """
    if file is None:
        return newest(bundle)
    found = load(file)
    hashes = {artifact.id: artifact.files[0].sha256 for artifact in bundle.manifest.artifacts}
    for name, sha256 in found.artifacts.items():
        if hashes.get(name) != sha256:
            raise ProfileError(
                f"measured another {name} than this bundle holds",
                where=str(file),
                fix=f"Measure this one: edgekit profile {bundle.path}",
            )
    return found


def write_report(
    bundle: Bundle,
    folder: Path,
    *,
    layers: bool = False,
    profile: Profile | None = None,
    formats: Sequence[str] = _ALWAYS,
) -> Path:
    """Write ``report.html`` (self-contained) and ``report.json`` into ``folder``.

    Args:
        bundle: what to report on.
        folder: an existing folder.
        layers: run the selected artifacts and compare them layer by layer, too.
        profile: what was measured of it; see :func:`profile_for`.
        formats: of :data:`FORMATS`.

    Returns:
        The path of the page.

    Raises:
        OutputError: the folder is missing or not writable.
        ProfileError: a trace is asked for, and nothing was measured.
    """
    noise = compare_layers(bundle) if layers else ()
    view = view_of(bundle.manifest, path=bundle.path, profile=profile, noise=noise)
    made: dict[str, Callable[[View], str]] = {
        "html": render_view,
        "json": lambda view: _json(report_document(view)),
        "md": markdown,
        "csv": spreadsheet,
        "trace": lambda view: trace(view.profile or _when_built(view.manifest)),
    }
    for name in formats:
        write_file(folder / FORMATS[name], made[name](view).encode())
    return folder / FORMATS["html"]


def write_comparison(
    bundles: tuple[Bundle, Bundle],
    profiles: tuple[Profile | None, Profile | None],
    folder: Path,
    *,
    formats: Sequence[str] = _ALWAYS,
) -> Path:
    """Write the report of two bundles side by side; Markdown is the only other format of it.

    Raises:
        OutputError: the folder is missing or not writable.
        SpecError: another format is asked for.
    """
    names = _names(bundles)
    first, second = (
        view_of(bundle.manifest, path=name, profile=profile)
        for bundle, name, profile in zip(bundles, names, profiles, strict=True)
    )
    found = compare_views(first, second)
    made = {
        "html": lambda: comparison_page(first, second, found),
        "json": lambda: _json(found),
        "md": lambda: comparison_markdown(found),
    }
    return _write_some(folder, made, formats, "two bundles")


def write_history(path: Path, folder: Path, *, formats: Sequence[str] = _ALWAYS) -> Path:
    """Write the report of profiles by time.

    Args:
        path: a bundle, whose profiles lie beside it, or a folder of profiles.
        folder: an existing folder.
        formats: ``html`` and ``json``.

    Raises:
        OutputError: the folder is missing or not writable.
        ProfileError: there are no profiles.
        SpecError: another format is asked for.
    """
    is_bundle = (path / "bundle.json").is_file()
    source = folder_of(path) if is_bundle else path
    profiles = history(source)
    if not profiles:
        name = path if is_bundle else "NAME.edge"
        raise ProfileError(
            "holds no profiles", where=str(source), fix=f"Measure some: edgekit profile {name}"
        )
    found = history_document(profiles[-1].model, profiles)
    made = {"html": lambda: history_page(profiles, found), "json": lambda: _json(found)}
    return _write_some(folder, made, formats, "a history")


def _write_some(
    folder: Path, made: dict[str, Callable[[], str]], formats: Sequence[str], what: str
) -> Path:
    for name in formats:
        if name not in made:
            raise SpecError(
                f"{what} cannot be written as {name}",
                where="--format",
                fix=f"The formats are {', '.join(made)}",
            )
    for name in formats:
        write_file(folder / FORMATS[name], made[name]().encode())
    return folder / FORMATS["html"]


def _names(bundles: tuple[Bundle, Bundle]) -> tuple[str, str]:
    """What tells them apart: the names of the folders, or with those that they are in."""
    first, second = (bundle.path.resolve() for bundle in bundles)
    if first.name != second.name:
        return first.name, second.name
    names = f"{first.parent.name}/{first.name}", f"{second.parent.name}/{second.name}"
    return names if names[0] != names[1] else (f"{first.name} (1)", f"{second.name} (2)")


def _when_built(manifest: Manifest) -> Profile:
    """What was measured when the bundle was built, as a profile."""
    if not manifest.latency:
        raise ProfileError(
            "there is nothing to trace: no inference was measured",
            where=f"{manifest.name}.edge",
            fix=f"Measure some: edgekit profile {manifest.name}.edge",
        )
    return Profile(
        edgekit=manifest.versions.get("edgekit", ""),
        created=manifest.created,
        model=manifest.name,
        machine=manifest.machine,
        results=tuple(Result(samples=samples) for samples in manifest.latency),
    )


def _json(document: BaseModel) -> str:
    dumped: dict[str, Any] = document.model_dump(mode="json")
    return strict_json.dumps(dumped)
