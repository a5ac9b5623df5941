"""What a file of the zoo tells of each of its models."""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save
from torch import nn

from edgekit.atomic import write_file
from edgekit.compress.modules import count_parameters
from edgekit.errors import WorkloadError
from edgekit.workload import Workload
from edgekit.zoo._fit import fit

__all__ = ["Entry", "Family", "Loaded", "Made", "Trained"]

Family = Literal[
    "feed-forward and convolutional", "dense prediction", "recurrent", "embeddings and graphs",
    "transformers", "generative", "self-supervised and metric", "multimodal", "neural fields",
    "control",
]  # fmt: skip

_log = logging.getLogger(__name__)

#: Models of more parameters are stored in half precision: the package ships the files.
_LARGE = 10**5


@dataclass(frozen=True, kw_only=True)
class Entry(ABC):
    """A model of the zoo.

    Attributes:
        name: what stands behind ``zoo:``.
        family: the group that it is listed in.
        description: one line.
        bar: what its metric is in float32 at least (at most, where less is better).
        source: where the bar comes from.
        recipe: what compresses it.
    """

    name: str
    family: Family
    description: str
    bar: float
    source: str
    recipe: str = "int8"

    @abstractmethod
    def workload(self) -> Workload:
        """The trained model with its data."""


@dataclass(frozen=True, kw_only=True)
class Loaded(Entry):
    """A model whose weights some package carries.

    Attributes:
        make: the model with its data.
    """

    make: Callable[[], Workload]

    def workload(self) -> Workload:
        """See :meth:`Entry.workload`."""
        return self.make()


@dataclass(frozen=True, kw_only=True)
class Trained(Entry):
    """A small model with a checkpoint beside its file, and what it was trained by.

    A copy of a file has no checkpoint: its model is trained when it is first asked for.

    Attributes:
        build: makes the untrained module.
        epochs: passes over the training data, from scratch.
        rate: the highest learning rate.
        smaller: a smaller variant, if any.
    """

    build: Callable[[], nn.Module]
    epochs: int = 40
    rate: float = 3e-3
    smaller: Trained | None = None

    @abstractmethod
    def around(self, model: nn.Module) -> Workload:
        """The data, the metric and the training for a module of its kind."""

    @property
    def checkpoint(self) -> Path:
        """The file of its weights, beside the one that :attr:`build` is written in."""
        build = self.build
        if isinstance(build, partial):  # it is a thing of functools; what it calls is of the file
            build = build.func
        file = sys.modules[build.__module__].__file__
        return Path(file or "").resolve().parent / "checkpoints" / f"{self.name}.safetensors"

    def workload(self) -> Workload:
        """See :meth:`Entry.workload`.

        Raises:
            WorkloadError: the checkpoint is of another model.
        """
        if not self.checkpoint.is_file():
            _log.warning("%s is trained first: there is no %s", self.name, self.checkpoint)
            self.fit_and_keep()
        model = self.build()
        try:
            model.load_state_dict(load_file(self.checkpoint))
        except RuntimeError as error:
            raise WorkloadError(
                f"does not fit the model: {' '.join(str(error).split())[:200]}",
                where=str(self.checkpoint),
                fix="Delete it, or give the model another name, and it is trained again",
            ) from error
        return self.around(model.eval())

    def fit_and_keep(self) -> None:
        """Train from scratch, and write the checkpoint."""
        torch.manual_seed(0)
        model = self.build()
        self._fit(model)
        _save(model, self.checkpoint)

    def _fit(self, model: nn.Module) -> None:
        fit(self.around(model), model, epochs=self.epochs, rate=self.rate)


@dataclass(frozen=True, kw_only=True)
class Made(Trained):
    """A small model whose file says itself what is around it, and how it is trained where the
    workload's ``training`` does not.

    Attributes:
        make: the data and the metric for a module of its kind.
        fit: trains the module in place; None trains by the workload's ``training``.
    """

    make: Callable[[nn.Module], Workload]
    fit: Callable[[nn.Module], None] | None = None

    def around(self, model: nn.Module) -> Workload:
        """See :meth:`Trained.around`."""
        return self.make(model)

    def _fit(self, model: nn.Module) -> None:
        if self.fit is None:
            super()._fit(model)
        else:
            self.fit(model)


def _save(model: nn.Module, path: Path) -> None:
    state = model.state_dict()
    if count_parameters(model) > _LARGE:
        state = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    path.parent.mkdir(exist_ok=True)
    write_file(path, save(state))
