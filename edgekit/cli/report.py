"""``edgekit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="BUNDLE...",
            help="A NAME.edge folder; two to see them side by side. With --history a bundle or a "
            "folder of profiles.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the files [default: NAME-report]."),
    ] = None,
    profile: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="What edgekit profile measured; twice for two bundles [default: the newest beside "
            "each bundle].",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="md,csv,trace",
            help="Write these, too: Markdown for a pull request, a table for spreadsheets, a trace "
            "for Perfetto.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Write every format.")] = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Run what was selected, and compare it with fp32 layer by layer."
        ),
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Show the profiles of one bundle by time.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of report.json, and do no more.")
    ] = False,
) -> None:
    """Write report.html and report.json of a bundle, of two, or of all profiles of one."""
    if schema:
        from importlib.resources import files

        typer.echo((files("edgekit.report") / "report.schema.json").read_text("utf-8"), nl=False)
        return
    from edgekit.cli._console import stdout
    from edgekit.errors import EdgekitError

    given = paths or []
    if not given or len(given) > (1 if history else 2):
        what = "one bundle or folder" if history else "one bundle, or two to compare"
        raise EdgekitError(f"{len(given)} paths were given", where="report", fix=f"Give {what}")
    if history:
        _refuse_if(layers or bool(profile))
        written = _history(given[0], output, formats or [])
    elif len(given) == 2:
        _refuse_if(layers)
        written = _comparison(given[0], given[1], output, profile or [], formats or [], every)
    else:
        written = _report(given[0], output, profile or [], formats or [], every, layers)
    stdout().print(f"Wrote {written}", highlight=False, markup=False, soft_wrap=True)


def _refuse_if(given: bool) -> None:
    if given:
        from edgekit.errors import EdgekitError

        raise EdgekitError(
            "works on one bundle only", where="--layers or --profile", fix="Leave it out"
        )


def _report(
    path: Path,
    output: Path | None,
    profiles: list[Path],
    formats: list[str],
    every: bool,
    layers: bool,
) -> Path:
    from edgekit.bundle import Bundle
    from edgekit.cli._console import stdout
    from edgekit.report import FORMATS, parse_formats, profile_for, write_report
    from edgekit.report.table import print_summary

    chosen = tuple(FORMATS) if every else parse_formats(formats)
    opened = Bundle.open(path)
    found = profile_for(opened, profiles[0] if profiles else None)
    folder = _folder(output, path.with_name(f"{path.resolve().stem}-report"))
    written = write_report(opened, folder, layers=layers, profile=found, formats=chosen)
    print_summary(opened.manifest, stdout())
    return written


def _comparison(
    first: Path,
    second: Path,
    output: Path | None,
    profiles: list[Path],
    formats: list[str],
    every: bool,
) -> Path:
    from edgekit.bundle import Bundle
    from edgekit.cli._console import stdout
    from edgekit.errors import EdgekitError
    from edgekit.report import parse_formats, profile_for, write_comparison

    if len(profiles) not in {0, 2}:
        raise EdgekitError(
            "one profile for two bundles", where="--profile", fix="Give one for each, in order"
        )
    chosen = parse_formats(["md"] if every else formats)
    one, other = Bundle.open(first), Bundle.open(second)
    files: list[Path | None] = [*profiles] or [None, None]
    found = profile_for(one, files[0]), profile_for(other, files[1])
    folder = _folder(output, Path(f"{first.resolve().stem}-{second.resolve().stem}-report"))
    written = write_comparison((one, other), found, folder, formats=chosen)
    stdout().print(
        f"Compared {first} with {second}.", highlight=False, markup=False, soft_wrap=True
    )
    return written


def _history(path: Path, output: Path | None, formats: list[str]) -> Path:
    from edgekit.report import parse_formats, write_history

    folder = _folder(output, path.with_name(f"{path.resolve().stem}-history"))
    return write_history(path, folder, formats=parse_formats(formats))


def _folder(chosen: Path | None, default: Path) -> Path:
    folder = chosen or default
    folder.mkdir(parents=True, exist_ok=True)
    return folder
