"""Quantization-aware training: weights and ranges learn to live on the int8 grid.

The only package of ``edgekit.compress`` that imports torch; import it where a model is trained.
"""

from __future__ import annotations

from edgekit.compress.qat.attach import LearnedLayer, QatHandle, attach
from edgekit.compress.qat.fake_quant import InputFakeQuant, WeightFakeQuant
from edgekit.compress.qat.fold import fold_batch_norm
from edgekit.compress.qat.observe import observe, shared_inputs
from edgekit.compress.qat.train import train_quantized

__all__ = [
    "InputFakeQuant",
    "LearnedLayer",
    "QatHandle",
    "WeightFakeQuant",
    "attach",
    "fold_batch_norm",
    "observe",
    "shared_inputs",
    "train_quantized",
]
