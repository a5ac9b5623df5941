"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BundlePath", "Calib", "Cores", "Device", "Gpu", "Json", "Model", "Opset", "Output", "Ranges",
    "Refit", "Runtimes", "Sizes", "Threads", "Workspace",
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
    list[str] | None,
    typer.Option(
        help="Build a TensorRT-RTX engine for this GPU generation, too, such as sm89; repeat, or "
        "write sm89,sm120, for several.",
    ),
]
Ranges = Annotated[
    list[str] | None,
    typer.Option(
        "--range",
        metavar="NAME=MIN:TYPICAL:MAX",
        help="Sizes of a dynamic dimension that GPU engines and ExecuTorch take, such as "
        "batch=1:4:16; repeat for several [default: 1 to 8 times the example's].",
    ),
]
Workspace = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="MB",
        help="Scratch memory that one kernel of a GPU engine may use [default: no limit].",
    ),
]
Refit = Annotated[
    bool, typer.Option("--refit", help="GPU engines whose weights can be exchanged; needs a GPU.")
]
Opset = Annotated[
    list[str] | None,
    typer.Option(
        "--opset",
        metavar="N|RUNTIME=N",
        help="ONNX operator set of every artifact, such as 19, or of one runtime's, such as "
        "openvino=19; repeat for several. model.onnx has the least of them; a runtime with a newer "
        "one of its own gets it converted [default: the newest that all these runtimes read].",
    ),
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
