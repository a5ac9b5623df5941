"""The contract of low rank: a site is a part of the model that a chain of smaller layers can be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Candidate", "Site"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to factorize a site.

    Attributes:
        ranks: of the factors, in the order of the method.
        error: ``|Y' - Y| / |Y|`` of the site's output in the method's own norm, 0 to 1: of real
            activations with activation-aware methods, of white noise else. With the rule
            ``output_loss`` it is what that rule measured.
        macs: multiply-accumulates of the factors in one call with the example inputs.
        parameters: of the factors' weights.
    """

    ranks: tuple[int, ...]
    error: float
    macs: int
    parameters: int

    @property
    def energy(self) -> float:
        """The share of the squared norm that is kept, 0 to 1."""
        return 1.0 - self.error**2

    def __str__(self) -> str:
        return f"rank {'x'.join(map(str, self.ranks))}"


class Site(ABC):
    """A layer or an attention block, with what it costs now.

    Attributes:
        name: qualified name of the module.
        kind: type and shape; sites of one kind are timed together.
        before: what it is, in words.
        macs: multiply-accumulates of its products in one call with the example inputs.
        parameters: of its weights.
    """

    name: str
    kind: str
    before: str
    macs: int
    parameters: int

    @abstractmethod
    def candidates(self, multiple: int) -> Sequence[Candidate]:
        """Every candidate whose ranks are multiples of ``multiple`` and that has fewer MACs."""

    @abstractmethod
    def replace(self, model: nn.Module, candidate: Candidate) -> None:
        """Put the factors into ``model``, a copy of the model that the site was found in."""
