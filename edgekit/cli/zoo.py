"""``edgekit zoo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli._options import Json

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def zoo(context: typer.Context, json: Json = False) -> None:
    """List the models that come with edgekit, or check whole libraries of architectures."""
    if context.invoked_subcommand is not None:
        return
    from edgekit.cli._console import print_json, stdout
    from edgekit.zoo import describe, names

    if json:
        print_json({name: describe(name) for name in names()})
        return
    from rich.table import Table

    table = Table("MODEL", "what it is", box=None)
    for name in names():
        table.add_row(f"zoo:{name}", describe(name))
    stdout().print(table)


@app.command()
def check(
    suite: Annotated[str, typer.Option(help="Which library: transformers.")] = "transformers",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only architectures with this in their name; repeat for several."),
    ] = None,
    plain: Annotated[
        bool, typer.Option(help="Try torch.onnx.export alone, too, to compare with.")
    ] = True,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Build a TensorRT-RTX engine for this GPU generation, such as sm89, too."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write outcomes there one by one; go on with what is there."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at once, of one thread each.")] = 1,
    json: Json = False,
) -> None:
    """Export and verify every architecture of a library, built small with random weights.

    Exit code 1 when less than 95 % export, less than 99 % of these compute what PyTorch does on
    ONNX Runtime and OpenVINO, or, with --gpu, TensorRT-RTX builds less than 85 % of them.
    """
    from edgekit.cli._console import print_json, shown_progress, stdout
    from edgekit.exporters.tensorrt_engine import check_gpu
    from edgekit.zoo.check.coverage import print_coverage, require_coverage
    from edgekit.zoo.check.journal import Journal
    from edgekit.zoo.check.outcome import Checks
    from edgekit.zoo.check.suite import chosen, run_suite

    kinds = chosen(suite, only or [])
    checks = Checks(plain=plain, gpu=None if gpu is None else check_gpu(gpu))
    journal = None if output is None else Journal(output, suite, checks)
    with shown_progress() as progress:
        outcomes = run_suite(kinds, checks, progress=progress, journal=journal, jobs=jobs)
    if json:
        print_json([one.model_dump() for one in outcomes])
    else:
        print_coverage(outcomes, stdout())
    require_coverage(outcomes)
