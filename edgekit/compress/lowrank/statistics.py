"""What calibration data says about the layers' inputs, and training data about their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from edgekit.compress.observe import observe_inputs
from edgekit.compress.train.gradients import training_gradients
from edgekit.spec import Feeds
from edgekit.workload import Workload

__all__ = ["Moments", "fisher_rows", "input_moments"]

#: Vectors that are in float64 at once, which bounds the memory.
_CHUNK = 4096


@dataclass(slots=True)
class Moments:
    """Sums over the input vectors of a layer, float64.

    Attributes:
        outer: sum of ``x x^T``, shape ``(inputs, inputs)``.
        total: sum of ``x``, shape ``(inputs,)``.
        count: how many.
    """

    outer: torch.Tensor
    total: torch.Tensor
    count: int = 0

    @property
    def moment(self) -> torch.Tensor:
        """The second moment, about 0."""
        return self.outer / max(self.count, 1)

    @property
    def mean(self) -> torch.Tensor:
        return self.total / max(self.count, 1)

    def add(self, vectors: torch.Tensor) -> None:
        """Count vectors of shape ``(n, inputs)``."""
        for chunk in torch.split(vectors.detach(), _CHUNK):
            exact = chunk.double().cpu()
            self.outer += exact.T @ exact
            self.total += exact.sum(0)
            self.count += len(exact)


def input_moments(
    model: nn.Module,
    layers: Mapping[str, nn.Linear | nn.Conv2d],
    feeds: Iterable[Feeds],
    input_names: Sequence[str],
) -> dict[str, Moments]:
    """The first two moments of every layer's input, in one pass over ``feeds``.

    Of a convolution the vectors are those of the channels at one place.

    Args:
        model: in eval mode.
        layers: layers of ``model`` by name.
        feeds: batches of inputs, read once and not kept.
        input_names: the names of ``forward``'s parameters in ``feeds``, in order.

    Raises:
        CalibrationError: no data, data that does not fit the model, or an input of a layer that
            is not finite; names the layer.
    """
    sums = {
        name: Moments(
            torch.zeros(layer.weight.shape[1], layer.weight.shape[1], dtype=torch.float64),
            torch.zeros(layer.weight.shape[1], dtype=torch.float64),
        )
        for name, layer in layers.items()
    }

    def see(name: str, values: torch.Tensor) -> None:
        sums[name].add(_vectors(layers[name], values))

    observe_inputs(model, layers, feeds, input_names, see)
    return sums


def _vectors(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Shape ``(n, inputs)``: of ``(..., inputs)`` for a Linear, of (N, C, H, W) for a Conv2d."""
    if isinstance(layer, nn.Conv2d):
        values = values.movedim(-3, -1)
    return values.reshape(-1, values.shape[-1])


def fisher_rows(
    workload: Workload,
    model: nn.Module,
    layers: Mapping[str, nn.Linear | nn.Conv2d],
    batches: int = 64,
) -> dict[str, torch.Tensor]:
    """The square root of each row's empirical Fisher information.

    A row has the weights of one output. The gradient is that of a batch's loss, so the smaller the
    batches of ``workload.training`` are, the nearer it is to the information of single samples.

    Args:
        workload: needs ``training``.
        model: in eval mode; its gradients are not touched.
        layers: layers of ``model`` by name.
        batches: use the first ones of epoch 0 up to this many.

    Returns:
        Float64, shape ``(outputs,)``, mean square 1. Rows without any gradient count a little,
        too, so that no row is lost.

    Raises:
        WorkloadError: there is no ``training``, it raised, it has no batches, or a gradient is
            not finite.
    """
    weights = {name: layer.weight for name, layer in layers.items()}
    sums = {name: torch.zeros(len(w), dtype=torch.float64) for name, w in weights.items()}
    for gradients in training_gradients(
        workload,
        model,
        weights,
        batches=batches,
        needed_by="fisher-svd",
        otherwise="use method: activation-svd",
    ):
        for name, gradient in gradients.items():
            sums[name] += gradient.cpu().double().flatten(1).square().sum(1)
    return {name: _row_weights(total) for name, total in sums.items()}


def _row_weights(fisher: torch.Tensor) -> torch.Tensor:
    mean = float(fisher.mean())
    relative = fisher / mean if mean > 0 else torch.ones_like(fisher)
    return relative.clamp(min=1e-4).sqrt()
