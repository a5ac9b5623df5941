"""``edgekit zoo``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli._options import Json

__all__ = ["app"]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def zoo(context: typer.Context, json: Json = False) -> None:
    """List the models that come with edgekit, or take them and whole libraries the whole way."""
    if context.invoked_subcommand is None:
        list_models(json=json)


@app.command("list")
def list_models(json: Json = False) -> None:
    """List the models that come with edgekit: family, parameters, metric and its float32 score."""
    from edgekit.cli._console import print_json, stdout
    from edgekit.zoo import listed

    if json:
        print_json({name: one.model_dump() for name, one in listed().items()})
        return
    from rich.table import Column, Table

    figures = (Column(head, no_wrap=True) for head in ("parameters", "metric", "fp32"))
    table = Table("MODEL", *figures, box=None)
    for family, models in groupby(listed().items(), lambda pair: pair[1].family):
        table.add_row(f"[bold]{family}")
        for name, one in models:
            told = f"zoo:{name}\n  [dim]{one.description}"
            table.add_row(told, f"{one.parameters:,}", one.metric, f"{one.score:.4g}")
    stdout().print(table)


@app.command()
def check(
    suite: Annotated[
        str, typer.Option(help="zoo: all models that come with edgekit; transformers: a library.")
    ] = "zoo",
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only what has this in its name; repeat for several."),
    ] = None,
    plain: Annotated[
        bool, typer.Option(help="Try torch.onnx.export alone on a library, too, to compare with.")
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
    """Take the models of edgekit the whole way, or export a library's built small.

    Of edgekit's own each is compressed, exported, verified, judged before and after, and asked
    through a real server; exit code 1 when one fails. Of a library every architecture is built with
    random weights; exit code 1 when less than 95 % export, less than 99 % of these compute what
    PyTorch does on ONNX Runtime and OpenVINO, or, with --gpu, TensorRT-RTX builds less than 85 %.
    """
    from edgekit.cli._console import print_json, shown_progress, stdout
    from edgekit.exporters.tensorrt_engine import check_gpu
    from edgekit.zoo.check.checked import Checks
    from edgekit.zoo.check.journal import Journal
    from edgekit.zoo.check.suite import SUITES, chosen, run_suite

    kinds, wanted = chosen(suite, only or []), SUITES[suite]
    checks = Checks(plain=plain, gpu=None if gpu is None else check_gpu(gpu))
    journal = None if output is None else Journal(output, suite, checks, wanted.outcome)
    with shown_progress() as progress:
        found = run_suite(wanted, kinds, checks, progress=progress, journal=journal, jobs=jobs)
    if json:
        print_json([one.model_dump() for one in found])
    else:
        wanted.show(found, stdout())
    wanted.require(found)
