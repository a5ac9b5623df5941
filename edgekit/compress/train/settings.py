"""How a pass fine-tunes: keys of the recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Distill", "FineTune"]


class Distill(BaseModel):
    """What the model learns from the original, beside its own task.

    Attributes:
        temperature: softens class scores before they are compared (Hinton et al. 2015).
        weight: the teacher's share of the loss; the rest is the task's own. Where only calibration
            data is there, or ``training`` is missing, the teacher is all there is.
        outputs: how outputs are compared: ``kl`` for class scores (over axis 1 of images, else
            over the last), ``mse`` relative to the teacher's mean square, ``cosine`` over the last
            axis. None: ``kl`` for outputs that have as many classes as the workload has labels,
            ``mse`` for all others. For embeddings of length 1, ``mse`` is twice ``cosine``.
        features: modules whose outputs are compared, too (FitNets, Romero et al. 2015): a name or
            a glob for modules that have the same name in both, or ``[teacher's, student's]``; or
            ``blocks`` for all blocks that repeat, such as the layers of a transformer, if there
            are any. Where one axis differs in size, a linear map is learnt beside and thrown away.
        feature_weight: of the features' mean loss beside that of the outputs. Where the student
            has the teacher's architecture, 10 and more teach faster than 1.
        attention: compare where both look. Softmax of every ``scaled_dot_product_attention`` that
            the model's code calls, mean over heads; in a model without that, the mean square over
            channels of the last feature map of each size (Zagoruyko and Komodakis 2017).
            ``torch.nn.MultiheadAttention`` hides its calls, so it is not seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=4.0, gt=0.0)
    weight: float = Field(default=0.9, gt=0.0, le=1.0)
    outputs: Literal["kl", "mse", "cosine"] | None = None
    features: tuple[str | tuple[str, str], ...] | Literal["blocks"] = ()
    feature_weight: float = Field(default=1.0, gt=0.0)
    attention: bool = False


class FineTune(BaseModel):
    """The fine-tuning step of a pass.

    Attributes:
        epochs: passes over the training data; 0 for none.
        rate: learning rate of AdamW at its highest; None for the workload's own.
        distill: learn from the original model, too. The data is then the workload's ``training``
            or else its calibration data, which needs no labels; ``finetune`` is not used.
        patience: stop after this many epochs without a better metric, or a lower loss where the
            workload has no ``evaluate``, and take the best weights, which may be those from before.
            A metric that chose is a little too good: keep other data for the last word.
            None: train to the end and keep the last. Without effect on passes whose training
            follows a schedule of its own, such as gradual sparsity.
        bfloat16: multiply in bfloat16 (``torch.autocast``), with weights and losses in float32.
            Faster on CPUs with AVX512-BF16 or AMX and on GPUs, slower elsewhere.
        checkpoint_seconds: at most this much training is lost when the process is killed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=1, ge=0)
    rate: float | None = Field(default=None, gt=0.0)
    distill: Distill | None = None
    patience: int | None = Field(default=None, gt=0)
    bfloat16: bool = False
    checkpoint_seconds: float = Field(default=30.0, ge=0.0)
