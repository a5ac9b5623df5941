"""What the inputs of the layers look like on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekit.calibration import Observer, PercentileObserver
from edgekit.compress.qat.fold import LAYERS, Layer
from edgekit.errors import CalibrationError
from edgekit.spec import Feeds

__all__ = ["layers", "observe", "run_batch", "shared_inputs"]

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
    observers = {name: make_observer() for name in layers(model)}
    batch = -1

    def see(name: str, values: torch.Tensor) -> None:
        array = values.detach().float().cpu().numpy()
        if not np.isfinite(array).all():
            raise CalibrationError(
                f"gives layer {name!r} an input with NaN or infinity",
                where=f"calibration batch {batch}",
                fix="Check that the data is scaled as in training",
            )
        observers[name].update(array)

    with _watched(model, see):
        for batch, feed in enumerate(feeds):  # see() reads batch, too
            run_batch(model, feed, input_names, batch)
    if batch < 0:
        raise CalibrationError(
            "the calibration set is empty",
            where="calibration",
            fix="Give at least one batch; a few hundred representative samples are usual",
        )
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

    with _watched(model, see):
        run_batch(model, feed, input_names, 0)
    return [tuple(sorted(group)) for group in groups if len(group) > 1]


@contextmanager
def _watched(model: nn.Module, see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Call ``see(layer name, input)`` before each layer runs, in eval mode without gradients."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with ExitStack() as stack, torch.no_grad():
            for name, layer in layers(model).items():
                stack.enter_context(_hooked(name, layer, see))
            yield
    finally:
        for module, flag in training.items():
            module.training = flag


@contextmanager
def _hooked(name: str, layer: Layer, see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(name, args[0] if args else next(iter(kwargs.values())))

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def run_batch(model: nn.Module, feed: Feeds, input_names: Sequence[str], batch: int) -> None:
    """Call ``model`` with one batch of calibration data.

    Args:
        model: called as it is: eval mode and gradients are the caller's.
        feed: ``{input: array}``.
        input_names: the names of ``forward``'s parameters in ``feed``, in order.
        batch: number of the batch, for errors.

    Raises:
        CalibrationError: an input is missing, or forward raised.
    """
    where = f"calibration batch {batch}"
    missing = [name for name in input_names if name not in feed]
    if missing:
        raise CalibrationError(
            f"has no input {missing[0]!r}", where=where, fix="Give every input by its name"
        )
    first = next(model.parameters(), None)
    device = first.device if first is not None else None
    tensors = [torch.from_numpy(np.array(feed[name])).to(device) for name in input_names]
    try:
        model(*tensors)
    except CalibrationError:
        raise
    except Exception as error:  # the user's forward may raise anything
        raise CalibrationError(
            f"forward raised {type(error).__name__}: {error}",
            where=where,
            fix="Give calibration data of the shapes and dtypes of example_inputs",
        ) from error
