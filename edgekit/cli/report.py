"""``edgekit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli._options import BundlePath

__all__ = ["report"]


def report(
    bundle: BundlePath,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the two files [default: NAME-report]."),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Run what was selected, and compare it with fp32 layer by layer."
        ),
    ] = False,
) -> None:
    """Write report.html and report.json of a bundle."""
    from edgekit.bundle import Bundle
    from edgekit.cli._console import stdout
    from edgekit.report import write_report
    from edgekit.report.table import print_summary

    opened = Bundle.open(bundle)
    folder = output or bundle.with_name(f"{bundle.resolve().stem}-report")
    folder.mkdir(parents=True, exist_ok=True)
    written = write_report(opened, folder, layers=layers)
    console = stdout()
    print_summary(opened.manifest, console)
    console.print(f"Wrote {written}", highlight=False, markup=False, soft_wrap=True)
