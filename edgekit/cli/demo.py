"""``edgekit demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the bundle and the report.")
    ] = Path("demo"),
    model: Annotated[str, typer.Option(help="The model to show it on.")] = "zoo:resnet8-mnist",
    gpu: Annotated[str, typer.Option(help="GPU generation of the TensorRT-RTX engine.")] = "sm89",
) -> None:
    """Show the whole chain on a small model."""
    from edgekit.cli._build import build_and_show
    from edgekit.cli._console import shown_progress, stdout
    from edgekit.cli._served import request_once
    from edgekit.profile.bundle import profile_bundle
    from edgekit.profile.store import new_path, save
    from edgekit.report import write_report

    output.mkdir(parents=True, exist_ok=True)
    bundle = build_and_show(
        model,
        recipe="int8",
        output=output / f"{model.rpartition(':')[2]}.edge",
        runtimes=["onnxruntime", "openvino", "tensorrt-rtx"],
        gpu=gpu,
        calib=None,
        threads=None,
        seconds=10,
    )
    with shown_progress() as progress:
        progress.stage("Profile")
        profile = profile_bundle(bundle, seconds=3, costs=True, layers=True)
    save(profile, new_path(bundle.path))
    page = write_report(bundle, output, profile=profile)
    answer = request_once(bundle)
    console = stdout()
    console.print(f"Served: {answer}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"Serve it: edgekit serve {bundle.path}", highlight=False, markup=False, soft_wrap=True
    )
