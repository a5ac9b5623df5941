"""Train a workload's model on the int8 grid."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from edgekit.calibration import rows
from edgekit.compress.qat.attach import LearnedLayer, attach
from edgekit.compress.qat.fold import fold_batch_norm
from edgekit.compress.qat.observe import observe, shared_inputs
from edgekit.errors import EdgekitError, WorkloadError
from edgekit.spec import Feeds
from edgekit.workload import Workload

__all__ = ["train_quantized"]


def train_quantized(
    workload: Workload, epochs: int, *, samples: int = 512
) -> tuple[nn.Module, list[LearnedLayer]]:
    """Fine-tune a copy of the workload's model with int8 weights and uint8 activations.

    BatchNorm is folded before, so its statistics stay those of the float model.

    Args:
        workload: needs a PyTorch model, ``finetune`` and calibration data. Its model stays as it
            is, to the bit.
        epochs: what ``finetune`` is told.
        samples: calibrate the first ranges on about this many.

    Returns:
        A plain module in eval mode whose quantized weights lie on their grid, and what was
        learned of each quantized layer, in the order of ``named_modules``.

    Raises:
        WorkloadError: the model cannot be trained, ``finetune`` raised, or training diverged.
        CalibrationError: calibration data is missing or does not fit the model.
    """
    where = f"workload {workload.name!r}"
    finetune = _require_finetune(workload, where)
    model = _copy(workload, where)
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    fold_batch_norm(model)
    names = list(workload.example_inputs)
    ranges = observe(model, _first(workload.feeds(), samples), names)
    if not ranges:
        raise WorkloadError(
            "there is no Linear or Conv module to quantize",
            where=where,
            fix="Use a recipe that quantizes after training",
        )
    shared = shared_inputs(model, next(workload.feeds()), names)
    handle = attach(model, ranges, shared)
    try:
        finetune(model, epochs)
    except EdgekitError:
        raise
    except Exception as error:  # the user's own code
        raise WorkloadError(
            f"raised {type(error).__name__}: {error}",
            where=f"{where}, finetune",
            fix="Mend that function; --debug shows the traceback",
        ) from error
    learned = handle.finish()
    _require_finite(model, where)
    return model.to(device).eval(), learned


def _require_finetune(workload: Workload, where: str) -> Callable[[nn.Module, int], None]:
    if isinstance(workload.model, Path):
        raise WorkloadError(
            "an ONNX file cannot be trained",
            where=where,
            fix="Give the torch.nn.Module as its model, or quantize after training",
        )
    if workload.finetune is None:
        raise WorkloadError(
            "has no finetune function, which quantization-aware training needs",
            where=where,
            fix="Set finetune=train, where train(model, epochs) trains the module in place",
        )
    return workload.finetune


def _copy(workload: Workload, where: str) -> nn.Module:
    assert isinstance(workload.model, nn.Module)  # _require_finetune checked it
    try:
        return copy.deepcopy(workload.model).eval()
    except (RuntimeError, TypeError) as error:
        raise WorkloadError(
            f"the model cannot be copied: {error}",
            where=where,
            fix="Keep computed tensors and open files out of its attributes",
        ) from error


def _first(feeds: Iterable[Feeds], samples: int) -> Iterator[Feeds]:
    seen = 0
    for batch in feeds:
        if seen >= samples:
            return
        yield batch
        seen += rows(batch)


def _require_finite(model: nn.Module, where: str) -> None:
    """Also the layers that stayed float."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WorkloadError(
                f"training diverged, {name!r} is NaN or infinite",
                where=f"{where}, finetune",
                fix="Lower the learning rate in finetune",
            )
