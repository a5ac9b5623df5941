"""``edgekit export``."""

from __future__ import annotations

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
    Threads,
    Workspace,
)

__all__ = ["export"]


def export(
    model: Model,
    output: Output = None,
    runtime: Runtimes = None,
    gpu: Gpu = None,
    opset: Opset = None,
    range_: Ranges = None,
    workspace: Workspace = None,
    refit: Refit = False,
    calib: Calib = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Export a model as it is and write a verified bundle."""
    from edgekit.cli._build import build_and_show
    from edgekit.targets import engine_settings

    build_and_show(
        model,
        recipe="fp32",
        output=output,
        runtimes=runtime or [],
        gpu=",".join(gpu or []),
        engines=engine_settings(range_ or [], workspace, refit=refit),
        opsets=opset or [],
        calib=calib,
        threads=threads,
        json=json,
    )
