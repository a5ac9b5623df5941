"""What to build for: runtimes, GPU generations and operator sets, and how engines are built."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgekit import exporters
from edgekit.engine_file import GPU_TARGETS
from edgekit.errors import ExportError, RuntimeUnavailableError, SpecError, did_you_mean
from edgekit.exporters import ShapeRange
from edgekit.exporters.opset import OLDEST
from edgekit.exporters.tensorrt_engine import check_gpu
from edgekit.spec import BATCH, TensorSpec

__all__ = ["EngineSettings", "Target", "engine_settings", "parse_targets"]

#: The largest batch that an engine accepts by default; other dynamic dimensions scale likewise.
_LARGEST_DIM = 8


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


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How engines for GPUs are built, and others that take some sizes only.

    Attributes:
        ranges: smallest, typical and largest size of a dynamic dimension, by its name. An engine
            takes no others, and one for a GPU is fastest at the typical one.
        workspace: bytes of scratch memory that a kernel may use; None for what there is.
        refit: let the weights be exchanged later.
    """

    ranges: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    workspace: int | None = None
    refit: bool = False

    def shapes(
        self, specs: Sequence[TensorSpec], example: Mapping[str, tuple[int, ...]]
    ) -> dict[str, ShapeRange]:
        """The shapes that an engine shall take, for each input with a dynamic dimension.

        A dimension without a range goes from 1 to eight times its size in the example, which is
        typical; batch 1 is typical whatever the example has.

        Args:
            specs: the inputs.
            example: the shape of each in one call.
        """
        ranges = {
            dim: (1, usual, _LARGEST_DIM * usual)
            for spec in specs
            for dim, size in zip(spec.shape, example[spec.name], strict=True)
            if isinstance(dim, str)
            for usual in (1 if dim == BATCH else size,)
        } | dict(self.ranges)
        least, typical, most = ({dim: r[i] for dim, r in ranges.items()} for i in range(3))
        return {
            spec.name: ShapeRange(spec.concrete(least), spec.concrete(typical), spec.concrete(most))
            for spec in specs
            if spec.dynamic
        }


def engine_settings(
    ranges: Sequence[str], workspace_mb: int | None, *, refit: bool
) -> EngineSettings:
    """The settings from the command line.

    Args:
        ranges: ``NAME=SMALLEST:TYPICAL:LARGEST`` each.
        workspace_mb: scratch memory in MiB.
        refit: see :class:`EngineSettings`.

    Raises:
        SpecError: a range is not of that form, or its sizes do not increase from 1.
    """
    found = {}
    for text in ranges:
        name, _, sizes = text.partition("=")
        parts = sizes.split(":")
        if not name or len(parts) != 3 or not all(part.isdecimal() for part in parts):
            raise _range_error(text, "is no range of a dimension")
        least, typical, most = map(int, parts)
        if not 1 <= least <= typical <= most:
            raise _range_error(text, "has sizes that do not increase from 1")
        found[name] = (least, typical, most)
    return EngineSettings(found, None if workspace_mb is None else workspace_mb * 2**20, refit)


def _range_error(text: str, why: str) -> SpecError:
    fix = "Write the smallest, typical and largest size: batch=1:4:16, say"
    return SpecError(f"{text!r} {why}", where="--range", fix=fix)


def parse_targets(
    names: Sequence[str], gpu: str | None, opsets: Sequence[str] = ()
) -> tuple[Target, ...]:
    """The targets that ``--runtime``, ``--gpu`` and ``--opset`` ask for.

    Args:
        names: runtimes; empty for ONNX Runtime and OpenVINO.
        gpu: compute capability such as ``sm89``, or several with commas between; asks for
            TensorRT-RTX engines, too.
        opsets: a number for every runtime, or ``RUNTIME=NUMBER`` for one.

    Raises:
        RuntimeUnavailableError: a runtime is unknown, or one that needs a GPU was named without.
        ExportError: a GPU is unknown, or an operator set is not one that the runtime reads.
    """
    gpus = [name for name in (gpu or "").split(",") if name.strip()]
    wanted = list(names) or ["onnxruntime", "openvino"]
    if gpus and not any(exporters.get(name).needs_gpu_target for name in wanted):
        wanted.append("tensorrt-rtx")
    chosen = _opsets(opsets, wanted)
    found = (
        Target(name, gpu, _readable(name, chosen.get(name, chosen.get(""))))
        for name in wanted
        for gpu in _gpus(name, gpus)
    )
    return tuple(dict.fromkeys(found))


def _gpus(name: str, gpus: Sequence[str]) -> Sequence[str | None]:
    """The GPU generations to build for; None for a runtime whose artifacts fit any device."""
    if not exporters.get(name).needs_gpu_target:
        return [None]
    if not gpus:
        raise RuntimeUnavailableError(
            "an engine is built for one GPU generation",
            where=f"runtime {name}",
            fix="Name it with --gpu, for example --gpu sm89",
        )
    return [check_gpu(gpu, name) if name in GPU_TARGETS else gpu for gpu in gpus]


def _readable(name: str, opset: int | None) -> int | None:
    """``opset``, when the runtime reads it."""
    newest = exporters.get(name).newest_opset
    if opset is not None and not OLDEST <= opset <= newest:
        raise ExportError(
            f"operator set {opset} is not one that runtime {name} reads",
            where=f"--opset {opset}",
            fix=f"Give {OLDEST} to {newest}, or leave it out",
        )
    return opset


def _opsets(given: Iterable[str], runtimes: Sequence[str]) -> dict[str, int]:
    """The operator set for each runtime that has its own, and for ``""``, all others."""
    chosen: dict[str, int] = {}
    for text in given:
        runtime, _, number = text.rpartition("=")
        if runtime and runtime not in runtimes:
            hint = did_you_mean(runtime, runtimes)
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
