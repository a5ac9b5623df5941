"""Efficient attention as a step of a recipe."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from edgekit.compress.base import ModuleContext, ModulePass, Trained
from edgekit.compress.train.settings import FineTune

if TYPE_CHECKING:
    from edgekit.workload import Workload

__all__ = ["EfficientAttention"]

_KEYS = {"window": {"window", "globals", "random"}, "linformer": {"rank", "max_length"}}


class EfficientAttention(ModulePass):
    """Replace full self-attention, which costs O(n**2), by one that costs O(n).

    Attributes:
        kind: ``window`` for blocks that see their neighbours and the global tokens, ``linformer``
            for learned means of keys and values.
        window: positions in a block.
        globals: how many of the first positions see all and are seen by all.
        random: how many random blocks each block sees beside.
        rank: how many means.
        max_length: the longest sequence; None for that of the example inputs, where it is fixed.
        only: patterns (``*``, ``?``) of qualified names; attention that none matches stays.
        exclude: patterns of what stays although ``only`` matches it.
        finetune: training afterwards; None for none.
        measured: keep it only if it is measurably faster, where there is a clock.
    """

    undoes: ClassVar[frozenset[str]] = frozenset({"palette", "learnt scales"})

    type: Literal["efficient-attention"]
    kind: Literal["window", "linformer"] = "window"
    window: int = Field(default=64, ge=1)
    globals: int = Field(default=1, ge=0)
    random: int = Field(default=0, ge=0)
    rank: int = Field(default=64, ge=1)
    max_length: int | None = Field(default=None, ge=1)
    only: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    finetune: FineTune | None = None
    measured: bool = True

    @model_validator(mode="after")
    def _fits(self) -> EfficientAttention:
        others = _KEYS["linformer" if self.kind == "window" else "window"]
        # Defaults are let through: a recipe as a bundle records it has all keys.
        fields = type(self).model_fields
        misplaced = sorted(n for n in others if getattr(self, n) != fields[n].default)
        if misplaced:
            raise ValueError(f"{misplaced[0]} does not go with kind {self.kind}")
        if self.globals > self.window:
            raise ValueError(f"globals {self.globals} is more than window {self.window}")
        if self.max_length is not None and self.rank > self.max_length:
            raise ValueError(f"rank {self.rank} is more than max_length {self.max_length}")
        return self

    def wants(self, name: str) -> bool:
        """Whether the attention of that qualified name is to be replaced."""
        wanted = any(fnmatchcase(name, pattern) for pattern in self.only)
        return wanted and not any(fnmatchcase(name, pattern) for pattern in self.exclude)

    @property
    def label(self) -> str | None:
        """What artifacts are called."""
        return self.kind

    def apply(self, workload: Workload, context: ModuleContext) -> Trained:
        from edgekit.compress.attention.rewrite import rewrite_attention  # needs torch

        return rewrite_attention(workload, self, context)
