"""Quantization-aware training as a step of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgekit.compress.base import ModuleContext, ModulePass, PassReport, Trained
from edgekit.compress.quantize.learned import weight_key

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["QuantizationAwareTraining"]


class QuantizationAwareTraining(ModulePass):
    """Fine-tune with int8 weights and uint8 activations in the forward pass.

    The int8-ptq pass after it uses the scales that were learnt here instead of calibrating them;
    what training does not cover (residual sums, outputs) is calibrated on the trained model.

    Attributes:
        epochs: of fine-tuning.
        rate: the learning rate; None for a tenth of the workload's.
    """

    makes: ClassVar[frozenset[str]] = frozenset({"learnt scales"})
    undoes: ClassVar[frozenset[str]] = frozenset({"palette"})

    type: Literal["qat"]
    epochs: int = Field(default=2, gt=0)
    rate: float | None = Field(default=None, gt=0.0)

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.qat.train import train_quantized  # needs torch

        model, layers = train_quantized(workload, self.epochs, context, rate=self.rate)
        return Trained(
            model=model,
            learned={weight_key(layer.weight): layer for layer in layers},
            report=PassReport(self.type, len(layers), sum(1 for _ in model.modules())),
        )
