"""What the layers of a module are given when calibration data runs through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from edgekit.calibration import rows
from edgekit.errors import CalibrationError
from edgekit.spec import Feeds

__all__ = ["observe_inputs", "run_feed", "watched"]

#: ``see(layer name, its input)``.
See: TypeAlias = Callable[[str, torch.Tensor], None]


def observe_inputs(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    feeds: Iterable[Feeds],
    input_names: Sequence[str],
    see: See,
    *,
    samples: int | None = None,
) -> None:
    """Call ``see`` with the input of each call of each layer, in one pass over ``feeds``.

    Args:
        model: run in eval mode without gradients; its training flags are restored.
        layers: modules of ``model`` by name.
        feeds: batches of inputs, read once and not kept.
        input_names: the names of ``forward``'s parameters in ``feeds``, in order.
        see: what is told.
        samples: stop after about this many; None reads all.

    Raises:
        CalibrationError: no data, data that does not fit the model, or an input of a layer that
            is not finite.
    """
    batch, seen = -1, 0

    def checked(name: str, values: torch.Tensor) -> None:
        if not bool(torch.isfinite(values).all()):
            raise CalibrationError(
                f"gives layer {name!r} an input with NaN or infinity",
                where=f"calibration batch {batch}",
                fix="Check the data, and that it is scaled as in training",
            )
        see(name, values)

    with watched(model, layers, checked):
        for batch, feed in enumerate(feeds):  # checked() reads batch, too
            run_feed(model, feed, input_names, batch)
            seen += rows(feed)
            if samples is not None and seen >= samples:
                break
    if batch < 0:
        raise CalibrationError(
            "the calibration set is empty",
            where="calibration",
            fix="Give at least one batch; a few hundred representative samples are usual",
        )


@contextmanager
def watched(model: nn.Module, layers: Mapping[str, nn.Module], see: See) -> Iterator[None]:
    """Call ``see`` before each layer runs, in eval mode without gradients."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with ExitStack() as stack, torch.no_grad():
            for name, layer in layers.items():
                stack.enter_context(_hooked(name, layer, see))
            yield
    finally:
        for module, flag in training.items():
            module.training = flag


@contextmanager
def _hooked(name: str, layer: nn.Module, see: See) -> Iterator[None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(name, args[0] if args else next(iter(kwargs.values())))

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def run_feed(model: nn.Module, feed: Feeds, input_names: Sequence[str], batch: int) -> None:
    """Run ``model`` on calibration batch number ``batch``.

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
