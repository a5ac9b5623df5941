"""The ``edgekit`` command. One file a command; heavy modules are imported when one runs."""

from __future__ import annotations

import sys
import traceback

import typer

from edgekit.cli._many import ManyValues
from edgekit.cli.client import client
from edgekit.cli.compress import compress
from edgekit.cli.conformance import conformance
from edgekit.cli.demo import demo
from edgekit.cli.diff import diff
from edgekit.cli.doctor import doctor
from edgekit.cli.export import export
from edgekit.cli.pack import pack, unpack
from edgekit.cli.profile import profile
from edgekit.cli.recipes import recipes
from edgekit.cli.report import report
from edgekit.cli.serve import serve
from edgekit.cli.sign import keygen, sign
from edgekit.cli.token import token
from edgekit.cli.verify import verify
from edgekit.cli.zoo import app as zoo

__all__ = ["app", "main"]

app = typer.Typer(
    name="edgekit",
    help="From a trained PyTorch model to a verified, measured deployment on an edge device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help without importing rich answers in half the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="MODEL: a.py:factory, package.module:factory, zoo:NAME, model.onnx, model.pt2, x.edge",
)
COMMANDS = (
    compress, export, verify, diff, profile, report, serve, client, conformance,
    pack, unpack, sign, keygen, token, demo, recipes, doctor,
)  # fmt: skip
for command in COMMANDS:
    app.command(cls=ManyValues)(command)
app.add_typer(zoo, name="zoo")


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    del debug  # main() looks for it: it decides about errors that happen before this runs, too
    if version:
        from edgekit import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line: exit code 0, 1 (a gate failed) or 2 (bad usage or input)."""
    from edgekit.errors import EdgekitError

    debug = "--debug" in sys.argv
    if debug:  # accepted anywhere, not only before the command
        sys.argv.remove("--debug")
    try:
        app()
    except EdgekitError as error:
        _fail(str(error), error.exit_code, debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        what = f"{place}{error.strerror or error}. Check the path, its rights and the free space."
        _fail(what, EdgekitError.exit_code, debug)


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(f"edgekit: {message}", err=True)
    raise SystemExit(code)
