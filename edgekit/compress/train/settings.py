"""How a pass fine-tunes: keys of the recipe."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FineTune"]


class FineTune(BaseModel):
    """The fine-tuning step of a pass.

    Attributes:
        epochs: passes over the training data; 0 for none.
        rate: learning rate of AdamW at its highest; None for the workload's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=1, ge=0)
    rate: float | None = Field(default=None, gt=0.0)
