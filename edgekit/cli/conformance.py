"""``edgekit conformance``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli._options import Json

if TYPE_CHECKING:
    from edgekit.conformance.clause import Outcome

__all__ = ["conformance"]

_MARKS = {"pass": "[green]pass[/]", "fail": "[red]fail[/]", "skipped": "[dim]skip[/]"}


def conformance(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as http://127.0.0.1:8000.")],
    model: Annotated[
        str | None, typer.Option(help="Model to ask [default: the first ready one].")
    ] = None,
    grpc: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Check the gRPC side, too.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--input",
            exists=True,
            dir_okay=False,
            help="The model's inputs as file.npz [default: made from its metadata].",
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="Send this header, such as an Authorization."),
    ] = None,
    unload: Annotated[
        bool, typer.Option("--unload", help="Also unload and load the model again.")
    ] = False,
    json: Json = False,
) -> None:
    """Check a server, edgekit's or another, against the Open Inference Protocol v2.

    Exit code 1: it breaks a clause that binds it, a must of the protocol or of an extension that it
    advertises. 2: it does not answer, or no valid request is known.
    """
    from edgekit.cli._console import print_json
    from edgekit.errors import RuntimeUnavailableError

    try:
        from edgekit.conformance import suite
        from edgekit.conformance.target import Target
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError(
            f"the package {error.name!r} is not installed",
            where="edgekit conformance",
            fix="Run: pip install 'edgekit[client,serve]'",
        ) from error

    target = Target(
        url,
        model=model,
        feeds=_feeds(data),
        grpc=grpc,
        headers=_headers(header or []),
        unload=unload,
    )
    outcomes = suite.run(target)
    if json:
        print_json(suite.as_json(target, outcomes))
    else:
        _show(f"{target.url}, model {target.model}", outcomes)
    target.close()
    if not suite.conforms(outcomes):
        raise typer.Exit(1)


def _show(title: str, outcomes: list[Outcome]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from edgekit.cli._console import stdout

    table = Table("", "clause", "level", "requires", box=None, title=title, title_justify="left")
    for outcome in outcomes:
        clause = outcome.clause
        told = clause.requires
        if outcome.status == "fail":
            told += f"\nexpected {outcome.expected}, got {outcome.got}"
        elif outcome.status == "skipped":
            told += f"\nskipped: {outcome.reason}"
        table.add_row(_MARKS[outcome.status], clause.id, clause.level, escape(told))
    console = stdout()
    console.print(table)
    counts = {status: sum(o.status == status for o in outcomes) for status in _MARKS}
    binding = sum(o.status == "fail" and o.binding for o in outcomes)
    console.print(
        f"{counts['pass']} pass, {counts['fail']} fail ({binding} of them binding), "
        f"{counts['skipped']} skipped"
    )


def _feeds(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    import zipfile

    import numpy as np

    from edgekit.errors import SpecError

    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile, TypeError) as error:
        raise SpecError(
            "is no .npz of arrays", where=str(path), fix="Write it with numpy.savez"
        ) from error


def _headers(listed: list[str]) -> dict[str, str]:
    from edgekit.errors import SpecError

    found = {}
    for text in listed:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise SpecError(f"{text!r} is no header", where="--header", fix="Write NAME:VALUE")
        found[name.strip()] = value.strip()
    return found
