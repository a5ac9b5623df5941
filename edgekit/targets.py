"""What to build for: runtimes, GPU generations and operator sets, as options name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekit import exporters
from edgekit.errors import ExportError, RuntimeUnavailableError, nearest
from edgekit.exporters.opset import OLDEST
from edgekit.exporters.tensorrt_engine import check_gpu

__all__ = ["Target", "parse_targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime to build for.

    Attributes:
        runtime: its name.
        gpu: the GPU generation for an engine that is tied to one.
        opset: the ONNX operator set that its artifacts are made in, None for that of the bundle's
            ``model.onnx``: the newest that all its runtimes read, unless one asks for less.
    """

    runtime: str
    gpu: str | None = None
    opset: int | None = None


def parse_targets(
    names: Sequence[str], gpu: str | None, opsets: Sequence[str] = ()
) -> tuple[Target, ...]:
    """The targets that ``--runtime``, ``--gpu`` and ``--opset`` ask for.

    Args:
        names: runtimes; empty for ONNX Runtime and OpenVINO.
        gpu: compute capability such as ``sm89``; asks for a TensorRT-RTX engine, too.
        opsets: a number for every runtime, or ``RUNTIME=NUMBER`` for one.

    Raises:
        RuntimeUnavailableError: a runtime is unknown, or TensorRT-RTX was named without a GPU.
        ExportError: the GPU is unknown, or an operator set is not one that the runtime reads.
    """
    wanted = list(names) or ["onnxruntime", "openvino"]
    if gpu is not None and not any(exporters.get(name).needs_gpu_target for name in wanted):
        wanted.append("tensorrt-rtx")
    wanted = list(dict.fromkeys(wanted))
    chosen = _opsets(opsets, wanted)
    return tuple(_target(name, gpu, chosen.get(name, chosen.get(""))) for name in wanted)


def _target(name: str, gpu: str | None, opset: int | None) -> Target:
    exporter = exporters.get(name)
    if opset is not None and not OLDEST <= opset <= exporter.newest_opset:
        raise ExportError(
            f"operator set {opset} is not one that runtime {name} reads",
            where=f"--opset {opset}",
            fix=f"Give {OLDEST} to {exporter.newest_opset}, or leave it out",
        )
    if not exporter.needs_gpu_target:
        return Target(name, opset=opset)
    if gpu is None:
        raise RuntimeUnavailableError(
            "an engine is built for one GPU generation",
            where=f"runtime {name}",
            fix="Name it with --gpu, for example --gpu sm89",
        )
    return Target(name, check_gpu(gpu), opset)


def _opsets(given: Iterable[str], runtimes: Sequence[str]) -> dict[str, int]:
    """The operator set for each runtime that has its own, and for ``""``, all others."""
    chosen: dict[str, int] = {}
    for text in given:
        runtime, _, number = text.rpartition("=")
        if runtime and runtime not in runtimes:
            guess = nearest(runtime, runtimes)
            hint = f", did you mean {guess!r}" if guess else ""
            raise ExportError(
                f"nothing is built for {runtime!r}{hint}",
                where=f"--opset {text}",
                fix=f"Name one of {', '.join(runtimes)}",
            )
        if not number.strip().isdecimal():
            raise ExportError(
                f"{number!r} is not a number",
                where=f"--opset {text}",
                fix="Give a number, such as 20, or RUNTIME=NUMBER",
            )
        if runtime in chosen:
            raise ExportError(
                f"an operator set for {runtime or 'every runtime'} was given before",
                where=f"--opset {text}",
                fix="Give it once",
            )
        chosen[runtime] = int(number)
    return chosen
