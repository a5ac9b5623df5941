"""What calibration data says about the layers' inputs, and training data about their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from edgekit.compress.modules import named_outputs
from edgekit.compress.qat.observe import run_feed
from edgekit.compress.train.loop import blaming
from edgekit.errors import CalibrationError, WorkloadError
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
    batch = -1

    def see(name: str, values: torch.Tensor) -> None:
        if not bool(torch.isfinite(values).all()):
            raise CalibrationError(
                f"gives layer {name!r} an input with NaN or infinity",
                where=f"calibration batch {batch}",
                fix="Check that the data is scaled as in training",
            )
        sums[name].add(_vectors(layers[name], values))

    with _watched(layers, see), torch.no_grad():
        for batch, feed in enumerate(feeds):  # see() reads batch, too
            run_feed(model, feed, input_names, batch)
    if batch < 0:
        raise CalibrationError(
            "the calibration set is empty",
            where="calibration",
            fix="Give at least one batch; a few hundred representative samples are usual",
        )
    return sums


def _vectors(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Shape ``(n, inputs)``: of ``(..., inputs)`` for a Linear, of (N, C, H, W) for a Conv2d."""
    if isinstance(layer, nn.Conv2d):
        values = values.movedim(-3, -1)
    return values.reshape(-1, values.shape[-1])


@contextmanager
def _watched(
    layers: Mapping[str, nn.Module], see: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Call ``see(layer name, input)`` before each layer runs."""

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        return lambda _, args, kwargs: see(name, args[0] if args else kwargs["input"])

    handles = [
        layer.register_forward_pre_hook(hook_of(name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
    where = f"workload {workload.name!r}, training"
    if workload.training is None:
        raise WorkloadError(
            "has no training, which fisher-svd takes the gradients of",
            where=f"workload {workload.name!r}",
            fix="Set training=Training(batches, loss), or use method: activation-svd",
        )
    weights = {name: layer.weight for name, layer in layers.items()}
    sums = {name: torch.zeros(len(w), dtype=torch.float64) for name, w in weights.items()}
    count = 0
    with _differentiable(list(weights.values())), blaming(where):
        for batch in islice(workload.training.batches(0), batches):
            result = model(*(batch[name] for name in workload.example_inputs))
            loss = workload.training.loss(named_outputs(result, workload.output_names), batch)
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    sums[name] += gradient.cpu().double().flatten(1).square().sum(1)
            count += 1
    if count == 0:
        raise WorkloadError("gives no batches", where=where, fix="Give at least one batch")
    return {name: _row_weights(name, total, where) for name, total in sums.items()}


@contextmanager
def _differentiable(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Frozen ones, too, have gradients here."""
    flags = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_()
        yield
    finally:
        for tensor, flag in zip(tensors, flags, strict=True):
            tensor.requires_grad_(flag)


def _row_weights(name: str, fisher: torch.Tensor, where: str) -> torch.Tensor:
    if not bool(torch.isfinite(fisher).all()):
        raise WorkloadError(
            f"the gradient of layer {name!r} is NaN or infinite",
            where=where,
            fix="Check the loss on the first batches",
        )
    mean = float(fisher.mean())
    relative = fisher / mean if mean > 0 else torch.ones_like(fisher)
    return relative.clamp(min=1e-4).sqrt()
