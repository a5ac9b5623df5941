"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BundlePath", "Calib", "Cores", "Device", "Gpu", "Json", "Model", "Output", "Runtimes",
    "Sizes", "Threads",
]  # fmt: skip

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="file.py:factory, package.module:factory, zoo:NAME, model.onnx, model.pt2 or x.edge.",
    ),
]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A NAME.edge folder.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The bundle to write [default: NAME.edge].")
]
Calib = Annotated[
    Path | None,
    typer.Option(help="Calibration data for a plain model: data.npz, or a folder of .npz files."),
]
Runtimes = Annotated[
    list[str] | None,
    typer.Option(
        "--runtime",
        help="Build for this runtime; repeat for several [default: onnxruntime and openvino].",
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(help="Build a TensorRT-RTX engine for this GPU generation, such as sm89, too."),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of every session [default: all cores].")
]
Device = Annotated[
    str | None,
    typer.Option(help="Where to run, as the runtime calls it: CUDA, GPU, NPU [default: CPU]."),
]
Cores = Annotated[
    str | None, typer.Option(metavar="0,2-3", help="Run on these cores only (Linux).")
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="NAME=SIZE",
        help="Size of a dynamic dimension of what is timed, such as sequence=128; repeat for "
        "several [default: the data's].",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
