"""How ``edgekit profile`` keeps what it measures: a journal at first, a document at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.profile.journal import Journal
    from edgekit.profile.records import Profile

__all__ = ["begun", "keeping", "kept", "stored"]

#: Options that do not change what is measured, so that a run may go on with others.
_NOT_MEASURED = frozenset({
    "baseline", "gate", "goal", "json", "output", "resume", "source", "write",
})  # fmt: skip


def begun(
    bundle: Bundle, output: Path | None, options: Mapping[str, Any], *, resume: bool
) -> tuple[Path, Journal]:
    """Where the document goes, and its journal: a new one, or that of the run to go on with.

    Args:
        bundle: that is measured.
        output: where the document shall go; None for a new place beside the bundle.
        options: of the command line.
        resume: go on with a run that was stopped.

    Raises:
        OutputError: nothing can be written there.
        ProfileError: there is no run to go on with.
    """
    from edgekit.errors import OutputError, ProfileError
    from edgekit.profile import store
    from edgekit.profile.export import check_samples_path
    from edgekit.profile.journal import Journal, document_of, journal_of, journals, unfinished

    if output is not None:
        check_samples_path(output)
    if output is not None and output.exists() and not output.is_file():
        raise OutputError("is no file", where=str(output), fix="Name a file with --output")
    folder = store.folder_of(bundle.path)
    identity = _identity(bundle, options)
    found = unfinished([journal_of(output)] if output is not None else journals(folder), identity)
    if resume and found is None:
        raise ProfileError(
            "no run of this very command, bundle and machine was stopped",
            where=str(output or folder),
            fix="Leave --resume out to begin one",
        )
    if resume and found is not None:
        return output or document_of(found), Journal(found, identity)
    path = output or store.new_path(bundle.path)
    journal = journal_of(path)
    if journal.exists():
        old = journal.replace(journal.with_name(f"{journal.name}.old"))
        typer.echo(f"The samples of a run that was stopped are in {old}", err=True)
    elif found is not None:
        told = (
            f"{found} is of a run of this command that was stopped. Add --resume to go on with it."
        )
        typer.echo(told, err=True)
    return path, Journal(journal, identity)


@contextmanager
def keeping(journal: Journal) -> Iterator[None]:
    """Say where the samples are when the run is stopped or fails."""
    try:
        yield
    except KeyboardInterrupt:
        if journal.empty:
            typer.echo("It ended before anything was measured.", err=True)
        _tell_samples(journal)
        raise typer.Exit(130) from None
    except Exception:
        _tell_samples(journal)
        raise


def kept(profile: Profile, path: Path, journal: Journal) -> bool:
    """As :func:`stored`; the journal stays where the document could be written nowhere."""
    written = _written(profile, path)
    if written is not None:
        journal.close(done=True)
    return written == path


def stored(profile: Profile, path: Path | None) -> bool:
    """Write the document; whether it is where it was asked for.

    Where it cannot be written it goes to the folder for temporary files, and where that fails, too,
    it is printed.
    """
    return path is None or _written(profile, path) == path


def _written(profile: Profile, path: Path) -> Path | None:
    from edgekit.errors import OutputError
    from edgekit.profile.store import save_somewhere

    try:
        written = save_somewhere(profile, path)
    except OutputError as error:
        typer.echo(f"edgekit: {error} The profile is printed instead.", err=True)
        sys.stdout.write(profile.model_dump_json() + "\n")
        return None
    if written == path:
        typer.echo(f"Wrote {path}", err=True)
    else:
        told = f"edgekit: {path} cannot be written; the profile is in {written}."
        typer.echo(told, err=True)
    return written


def _tell_samples(journal: Journal) -> None:
    if journal.empty:
        journal.close(done=True)
    elif rest := journal.rest():
        typer.echo(f"edgekit: {journal.place}. What it lacks follows.", err=True)
        sys.stdout.write(rest.decode())
    else:
        what = f"{journal.count} samples are" if journal.count else "What was measured is"
        told = f"{what} kept in {journal.place}. Add --resume to go on."
        typer.echo(told, err=True)
    journal.close()


def _identity(bundle: Bundle, options: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    from edgekit import runtimes
    from edgekit.machine import this_machine

    names = {artifact.runtime for artifact in bundle.manifest.artifacts}
    return {
        "options": {key: options[key] for key in options if key not in _NOT_MEASURED},
        "artifacts": {one.id: one.files[0].sha256 for one in bundle.manifest.artifacts},
        "machine": this_machine().model_dump(mode="json"),
        "versions": {name: runtimes.get(name).status().version for name in sorted(names)},
    }
