"""``edgekit compress``."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli._options import (
    Calib,
    Gpu,
    Json,
    Model,
    Opset,
    Output,
    Ranges,
    Refit,
    Runtimes,
    Sizes,
    Threads,
    Workspace,
)

__all__ = ["compress"]


def compress(
    model: Model,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A recipe's name (edgekit recipes) or .yaml file.")
    ] = "int8",
    output: Output = None,
    runtime: Runtimes = None,
    gpu: Gpu = None,
    opset: Opset = None,
    range_: Ranges = None,
    workspace: Workspace = None,
    refit: Refit = False,
    calib: Calib = None,
    threads: Threads = None,
    target: Annotated[
        str,
        typer.Option(
            help="Instruction set of the machine that will run it, such as x86-vnni, x86-avx2 or "
            "arm-dot; decides the range of int8 weights [default: this machine's]."
        ),
    ] = "native",
    max_drop: Annotated[
        float | None,
        typer.Option(min=0.0, help="Largest loss of the model's metric; overrides the recipe."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time limit of the profiling run.")] = 20,
    size: Sizes = None,
    json: Json = False,
) -> None:
    """Compress a model and write a verified, measured bundle.

    Exports to every runtime, compares each artifact with the original, evaluates and profiles
    it, and selects the fastest one inside the budget for each runtime.
    """
    from edgekit.cli._build import build_and_show
    from edgekit.targets import engine_settings

    build_and_show(
        model,
        recipe=recipe,
        output=output,
        runtimes=runtime or [],
        gpu=",".join(gpu or []),
        engines=engine_settings(range_ or [], workspace, refit=refit),
        opsets=opset or [],
        calib=calib,
        threads=threads,
        target=target,
        max_drop=max_drop,
        seconds=seconds,
        sizes=size or [],
        json=json,
    )
