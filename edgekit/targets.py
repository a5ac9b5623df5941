"""What to build for: runtimes, GPU generations, and how their engines shall be built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgekit import exporters
from edgekit.engine_file import GPU_TARGETS
from edgekit.errors import RuntimeUnavailableError, SpecError
from edgekit.exporters import ShapeRange
from edgekit.exporters.tensorrt_engine import check_gpu
from edgekit.spec import BATCH, TensorSpec

__all__ = ["EngineSettings", "Target", "engine_settings", "parse_targets"]

#: The largest batch that an engine accepts by default; other dynamic dimensions scale likewise.
_LARGEST_DIM = 8


@dataclass(frozen=True, slots=True)
class Target:
    """A runtime to build for, and the GPU generation for an engine that is tied to one."""

    runtime: str
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How engines for GPUs are built.

    Attributes:
        ranges: smallest, typical and largest size of a dynamic dimension, by its name. An engine
            takes no others, and is fastest at the typical one.
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


def parse_targets(names: Sequence[str], gpu: str | None) -> tuple[Target, ...]:
    """The targets that ``--runtime`` and ``--gpu`` ask for.

    Args:
        names: runtimes; empty for ONNX Runtime and OpenVINO.
        gpu: compute capability such as ``sm89``, or several with commas between; asks for
            TensorRT-RTX engines, too.

    Raises:
        RuntimeUnavailableError: a runtime is unknown, or one that needs a GPU was named without.
        ExportError: a GPU is unknown.
    """
    gpus = [name for name in (gpu or "").split(",") if name.strip()]
    wanted = list(names) or ["onnxruntime", "openvino"]
    if gpus and not any(exporters.get(name).needs_gpu_target for name in wanted):
        wanted.append("tensorrt-rtx")
    found = (target for name in wanted for target in _targets(name, gpus))
    return tuple(dict.fromkeys(found))


def _targets(name: str, gpus: Sequence[str]) -> list[Target]:
    if not exporters.get(name).needs_gpu_target:
        return [Target(name)]
    if not gpus:
        raise RuntimeUnavailableError(
            "an engine is built for one GPU generation",
            where=f"runtime {name}",
            fix="Name it with --gpu, for example --gpu sm89",
        )
    return [Target(name, check_gpu(gpu, name) if name in GPU_TARGETS else gpu) for gpu in gpus]
