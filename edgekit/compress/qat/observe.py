"""What the inputs of the layers look like on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from edgekit.calibration import Observer, PercentileObserver
from edgekit.compress.observe import observe_inputs, run_feed, watched
from edgekit.compress.qat.fold import LAYERS, Layer
from edgekit.spec import Feeds

__all__ = ["layers", "observe", "shared_inputs"]

#: As in the ``int8-ptq`` pass, in percent.
_PERCENTILE = 99.999


def layers(model: nn.Module) -> dict[str, Layer]:
    """Every Linear and Conv with a float32 weight of its own, by its dotted name.

    A weight that something else computes (``weight_norm``) is no parameter and left alone.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LAYERS)
        and not hasattr(module, "parametrizations")
        and isinstance(module.weight, nn.Parameter)
        and module.weight.dtype == torch.float32
    }


def observe(
    model: nn.Module,
    feeds: Iterable[Feeds],
    input_names: Sequence[str],
    make_observer: Callable[[], Observer] = lambda: PercentileObserver(_PERCENTILE),
) -> dict[str, tuple[float, float]]:
    """The range (low, high) of the input of every Linear and Conv, in one pass over ``feeds``.

    Args:
        model: observed in eval mode; its training flags are restored.
        feeds: batches of inputs, read once.
        input_names: the names of ``forward``'s parameters in ``feeds``, in order.
        make_observer: gives a fresh range estimator for each layer.

    Returns:
        Ranges by dotted module name. A layer that was never called is not among them.

    Raises:
        CalibrationError: no data, data that does not fit the model, or an input of a layer that
            is not finite.
    """
    found = layers(model)
    observers = {name: make_observer() for name in found}

    def see(name: str, values: torch.Tensor) -> None:
        observers[name].update(values.float().cpu().numpy())

    observe_inputs(model, found, feeds, input_names, see)
    ranges = {name: observer.range() for name, observer in observers.items() if observer.count}
    return {name: (found.low, found.high) for name, found in ranges.items()}


def shared_inputs(
    model: nn.Module, feed: Feeds, input_names: Sequence[str]
) -> list[tuple[str, ...]]:
    """The layers that read one and the same tensor, as the query, key and value projections do.

    A graph has one Q/DQ pair a tensor, so these have to learn one range together.

    Args:
        model: run once, in eval mode.
        feed: one batch.
        input_names: the names of ``forward``'s parameters in ``feed``, in order.

    Returns:
        Groups of two or more dotted module names.
    """
    groups: list[set[str]] = []
    owner: dict[tuple[int, int], set[str]] = {}
    alive = []  # an id names a tensor only as long as the tensor lives

    def see(name: str, values: torch.Tensor) -> None:
        alive.append(values)
        key = (id(values), values._version)  # noqa: SLF001, relu_ makes it another tensor
        mine = next((group for group in groups if name in group), None)
        group = owner.get(key, mine)
        if group is None:
            group = set()
            groups.append(group)
        if mine is not None and mine is not group:  # called twice: it ties both tensors together
            group |= mine
            groups.remove(mine)
            owner.update({tensor: group for tensor, old in owner.items() if old is mine})
        group.add(name)
        owner[key] = group

    with watched(model, layers(model), see):
        run_feed(model, feed, input_names, 0)
    return [tuple(sorted(group)) for group in groups if len(group) > 1]
