"""The numbers in modules that have to follow the sizes of their parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from edgekit.compress.prune.groups import Edit
from edgekit.compress.prune.labels import Index

__all__ = ["Undo", "apply_edits", "mend_torch_modules", "numbers"]


@dataclass(slots=True)
class Undo:
    """Changes of attributes, which can be taken back."""

    _done: list[tuple[Any, str, Any]] = field(default_factory=list)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute and remember what it was."""
        self._done.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def back(self) -> None:
        """Take every change back, the last one first."""
        while self._done:
            owner, name, value = self._done.pop()
            setattr(owner, name, value)


def _convolution(module: Any) -> dict[str, Any]:
    first, second = module.weight.shape[:2]
    if module.transposed:
        return {"in_channels": first, "out_channels": second * module.groups}
    return {"in_channels": second * module.groups, "out_channels": first}


def _linear(module: Any) -> dict[str, Any]:
    return {"in_features": module.weight.shape[1], "out_features": module.weight.shape[0]}


def _batch_norm(module: Any) -> dict[str, Any]:
    vector = module.weight if module.weight is not None else module.running_mean
    return {} if vector is None else {"num_features": len(vector)}


def _layer_norm(module: Any) -> dict[str, Any]:
    return {} if module.weight is None else {"normalized_shape": tuple(module.weight.shape)}


def _group_norm(module: Any) -> dict[str, Any]:
    return {} if module.weight is None else {"num_channels": len(module.weight)}


def _embedding(module: Any) -> dict[str, Any]:
    return {"embedding_dim": module.weight.shape[1]}


def _recurrent(module: Any) -> dict[str, Any]:
    return {
        "input_size": module.weight_ih_l0.shape[1],
        "hidden_size": module.weight_hh_l0.shape[0] // {"LSTM": 4, "GRU": 3}.get(module.mode, 1),
    }


def _attention(module: Any) -> dict[str, Any]:
    width = module.out_proj.weight.shape[0]
    apart = module.in_proj_weight is None
    return {
        "embed_dim": width,
        "kdim": module.k_proj_weight.shape[1] if apart else width,
        "vdim": module.v_proj_weight.shape[1] if apart else width,
        "head_dim": width // module.num_heads,
    }


#: What the attributes of torch's own modules say of their parameters.
_TORCH: tuple[tuple[type[nn.Module], Callable[[Any], dict[str, Any]]], ...] = (
    (nn.modules.conv._ConvNd, _convolution),  # noqa: SLF001, the only common base
    (nn.Linear, _linear),
    (nn.modules.batchnorm._NormBase, _batch_norm),  # noqa: SLF001, the same
    (nn.LayerNorm, _layer_norm),
    (nn.RMSNorm, _layer_norm),
    (nn.GroupNorm, _group_norm),
    (nn.Embedding, _embedding),
    (nn.RNNBase, _recurrent),
    (nn.MultiheadAttention, _attention),
)
#: Numbers of torch's own modules that do not follow from the shapes of their parameters.
_TORCH_NUMBERS = frozenset({"groups", "num_groups", "num_heads"})


def mend_torch_modules(model: nn.Module, undo: Undo) -> None:
    """Make the attributes of torch's own modules say what their parameters are."""
    for module in model.modules():
        for kind, attributes in _TORCH:
            if isinstance(module, kind):
                for name, value in attributes(module).items():
                    if getattr(module, name) != value:
                        undo.set(module, name, value)


def numbers(module: nn.Module, *, config: bool) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """The numbers that a module holds, with the paths to them; of its ``config`` if asked for."""
    held: Mapping[str, Any] = vars(module)
    if type(module).__module__.startswith("torch.nn."):
        held = {name: held[name] for name in sorted(_TORCH_NUMBERS & held.keys())}
    if config:
        inside = vars(module.config) if "config" in held else {}
        for path, number in _flat(inside):
            yield ("config", *path), number
        return
    yield from _flat(held)


def _flat(held: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    for name, value in held.items():
        if name.startswith("_"):
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            yield (name,), value
        elif isinstance(value, list | tuple):
            for place, item in enumerate(value):
                if isinstance(item, int) and not isinstance(item, bool):
                    yield (name, place), item


def apply_edits(
    model: nn.Module, edits: Sequence[Edit], kept: Sequence[Index | None], undo: Undo
) -> None:
    """Set the numbers that follow sizes; a config that modules share is copied first."""
    own_config: dict[str, Any] = {}
    for edit in edits:
        owner: Any = model.get_submodule(edit.module)
        path = edit.path
        if path[0] == "config":
            if edit.module not in own_config:
                own_config[edit.module] = copy.copy(owner.config)
                undo.set(owner, "config", own_config[edit.module])
            owner, path = owner.config, path[1:]
        size = edit.use.left(kept)
        name = str(path[0])
        if len(path) == 1:
            undo.set(owner, name, size)
        else:
            items = list(getattr(owner, name))
            items[int(path[1])] = size
            undo.set(owner, name, _as(getattr(owner, name), items))


def _as(old: Any, items: list[Any]) -> Any:
    """Items in a container of the old one's kind."""
    return torch.Size(items) if isinstance(old, torch.Size) else type(old)(items)
