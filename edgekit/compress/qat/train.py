"""Train a workload's model on the int8 grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from edgekit.calibration import rows
from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import copied, require_training
from edgekit.compress.qat.attach import LearnedLayer, attach
from edgekit.compress.qat.fold import fold_batch_norm
from edgekit.compress.qat.observe import observe, shared_inputs
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.errors import WorkloadError
from edgekit.spec import Feeds
from edgekit.workload import Workload

__all__ = ["train_quantized"]


def train_quantized(
    workload: Workload,
    epochs: int,
    context: ModuleContext = ModuleContext(),  # noqa: B008, frozen
    *,
    rate: float | None = None,
    samples: int = 512,
) -> tuple[nn.Module, list[LearnedLayer]]:
    """Fine-tune a copy of the workload's model with int8 weights and uint8 activations.

    BatchNorm is folded before, so its statistics stay those of the float model.

    Args:
        workload: needs a PyTorch model, ``training`` or ``finetune``, and calibration data. Its
            model stays as it is, to the bit.
        epochs: of fine-tuning.
        context: seed, progress, and the target, which says how large steps of weights may be.
        rate: the learning rate; None for a tenth of the workload's.
        samples: calibrate the first ranges on about this many.

    Returns:
        A plain module in eval mode whose quantized weights lie on their grid, and what was
        learned of each quantized layer, in the order of ``named_modules``.

    Raises:
        WorkloadError: the model cannot be trained, training raised, or training diverged.
        CalibrationError: calibration data is missing or does not fit the model.
    """
    require_training(workload, "quantization-aware training")
    model = copied(workload)
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    fold_batch_norm(model)
    names = list(workload.example_inputs)
    ranges = observe(model, _first(workload.feeds(), samples), names)
    if not ranges:
        raise WorkloadError(
            "there is no Linear or Conv module to quantize",
            where=f"workload {workload.name!r}",
            fix="Use a recipe that quantizes after training",
        )
    shared = shared_inputs(model, next(workload.feeds()), names)
    levels = context.target.levels
    handle = attach(model, ranges, shared, levels)
    if rate is None and workload.training is not None:
        rate = workload.training.rate / 10
    finetune(workload, model, FineTune(epochs=epochs, rate=rate), context, label="qat")
    learned = handle.finish()
    return model.to(device).eval(), learned


def _first(feeds: Iterable[Feeds], samples: int) -> Iterator[Feeds]:
    seen = 0
    for batch in feeds:
        if seen >= samples:
            return
        yield batch
        seen += rows(batch)
