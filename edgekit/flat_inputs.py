"""A module that takes its inputs one by one, whatever structure its ``forward`` wants."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgekit.compress.modules import flat_tensors
from edgekit.nested import is_nested, leaves, mapped

__all__ = ["FlatInputs", "flat_inputs", "output_names"]


class FlatInputs(nn.Module):
    """Calls a module with its inputs put back into their structure, and by name where it has to.

    Args:
        model: the module, ``model`` in the paths of this one.
        example_inputs: by parameter of its ``forward``: tensors, or structures of them.
    """

    def __init__(self, model: nn.Module, example_inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)
        self.names = list(leaves(dict(example_inputs)))
        self._arguments = mapped(dict(example_inputs), lambda name, _: name)
        self._by_name = not _in_order(model, list(example_inputs))

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = dict(zip(self.names, tensors, strict=True))
        arguments = mapped(self._arguments, lambda name, _: given[name])
        return self.model(**arguments) if self._by_name else self.model(*arguments.values())


def flat_inputs(
    model: nn.Module, example_inputs: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The model and its inputs so that the inputs are tensors in the order of ``forward``.

    A model that takes them like that already is given back as it is.
    """
    nested = any(is_nested(value) for value in example_inputs.values())
    if nested or not _in_order(model, list(example_inputs)):
        return FlatInputs(model, example_inputs), leaves(dict(example_inputs))
    return model, dict(example_inputs)


def output_names(model: nn.Module, example_inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the tensors are in what ``forward`` returns; ``output`` where it raises.

    Why it raises is told where the model is exported.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            made = model(*(torch.as_tensor(value) for value in example_inputs.values()))
    except Exception:  # noqa: BLE001, the user's forward may raise anything
        return ("output",)
    finally:
        model.train(training)
    return tuple(flat_tensors(made))


def _in_order(model: nn.Module, names: list[str]) -> bool:
    """Whether the inputs can be given by position: names of one's own are in order."""
    parameters = inspect.signature(model.forward).parameters
    positional = [name for name, one in parameters.items() if one.kind is not one.KEYWORD_ONLY]
    return names == positional[: len(names)] or not set(names) <= set(parameters)
