"""Finds the residual blocks that a model can do without, and takes them out."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Block", "find_blocks", "remove_blocks", "states_in", "states_out", "watch"]

#: A block without its weights passes its input on: at least this cosine. Without a shortcut it
#: gives zeros or a constant.
_PASSED_ON = 0.5


@dataclass(frozen=True, slots=True)
class Block:
    """A block whose input and output have the same shape, and which adds to its input.

    Attributes:
        container: qualified name of the ModuleList or Sequential that it is in; may be empty.
        child: its name there.
        siblings: how many modules are in the container.
    """

    container: str
    child: str
    siblings: int

    @property
    def name(self) -> str:
        """Its qualified name."""
        return f"{self.container}.{self.child}" if self.container else self.child


@contextmanager
def watch(
    model: nn.Module,
    names: Sequence[str],
    told: Callable[[str, tuple[Any, ...], Mapping[str, Any], Any], None],
) -> Iterator[None]:
    """Call ``told(name, arguments, keywords, result)`` after each forward of those modules."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _, arguments, keywords, result: told(name, arguments, keywords, result)

    handles = [
        model.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True)
        for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def states_in(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> torch.Tensor | None:
    """The first tensor that a block was called with."""
    values = (*arguments, *keywords.values())
    return next((value for value in values if isinstance(value, torch.Tensor)), None)


def states_out(result: Any) -> torch.Tensor | None:
    """The first tensor that a block returned."""
    values = result if isinstance(result, tuple | list) else (result,)
    return next((value for value in values if isinstance(value, torch.Tensor)), None)


def find_blocks(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[Block]:
    """The blocks that can be removed, in the order in which forward calls them.

    A block is a module with submodules of its own, beside others of its class in a
    ``ModuleList`` or ``Sequential``, called once, with input and output of one shape, that passes
    its input on when its weights are zero.

    Args:
        model: in eval mode; it is as before afterwards.
        inputs: what to run it on.
    """
    candidates = {block.name: block for block in _candidates(model)}
    calls: dict[str, int] = Counter()
    order: list[str] = []

    def told(
        name: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any], result: Any
    ) -> None:
        calls[name] += 1
        given, made = states_in(arguments, keywords), states_out(result)
        if given is None or made is None or given.shape != made.shape or given.dtype != made.dtype:
            return
        if given.is_floating_point() and _adds(model.get_submodule(name), arguments, keywords):
            order.append(name)

    with torch.no_grad(), watch(model, list(candidates), told):
        model(*inputs.values())
    found = [name for name in order if calls[name] == 1]
    # Of a stage and the blocks in it, the blocks are what to choose from.
    outer = {name for name in found for other in found if other.startswith(f"{name}.")}
    return [candidates[name] for name in found if name not in outer]


def _candidates(model: nn.Module) -> Iterator[Block]:
    for name, container in model.named_modules():
        if not isinstance(container, nn.ModuleList | nn.Sequential):
            continue
        for child, module in container.named_children():
            if _repeats(module, [one for one in container if one is not module]):
                yield Block(name, child, len(container))


def _repeats(module: nn.Module, others: Sequence[nn.Module]) -> bool:
    """Whether one of the others is like it, and it has no weights that none of them has.

    The first block of T5 has the position bias of all.
    """
    same = [other for other in others if type(other) is type(module)]
    names = {name for name, _ in module.named_parameters()}
    shared = {name for other in same for name, _ in other.named_parameters()}
    return bool(names) and names <= shared and next(module.children(), None) is not None


def _adds(block: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
    """Whether the block passes its input on when nothing is added to it."""
    empty = copy.deepcopy(block)
    for module in empty.modules():
        # hooks would tell of this call, too
        module._forward_hooks.clear()  # noqa: SLF001, no public way to clear them all
        norm = isinstance(module, nn.LayerNorm)  # behind the addition in post-norm blocks
        for name, parameter in module.named_parameters(recurse=False):
            parameter.data.fill_(1.0 if norm and name == "weight" else 0.0)
    arguments = tuple(_no_cache(value) for value in arguments)
    keywords = {name: _no_cache(value) for name, value in keywords.items()}
    given, made = states_in(arguments, keywords), states_out(empty(*arguments, **keywords))
    assert given is not None
    if made is None or not bool(torch.isfinite(made).all()):
        return False
    return float(nn.functional.cosine_similarity(given.flatten(), made.flatten(), 0)) > _PASSED_ON


def _no_cache(value: Any) -> Any:
    """None for a cache of keys and values of transformers: it has those of this call already."""
    return None if hasattr(value, "get_seq_length") else value


def remove_blocks(model: nn.Module, blocks: Sequence[Block]) -> None:
    """Take the blocks out of their containers, and mend what counts the layers.

    A ``ModuleList`` is renumbered, as it has to be; in a ``Sequential`` the others keep their
    names. Of transformers' models ``layer_idx``, ``num_hidden_layers`` and ``layer_types`` follow.
    """
    by_container: dict[str, list[str]] = {}
    for block in blocks:
        by_container.setdefault(block.container, []).append(block.child)
    for name, children in by_container.items():
        container = model.get_submodule(name)
        if isinstance(container, nn.ModuleList):
            gone = {int(child) for child in children}
            kept = [index for index in range(len(container)) if index not in gone]
            _mend_configs(model, name, len(container), kept)
            for index in sorted(gone, reverse=True):
                del container[index]
            for now, before in enumerate(kept):
                _renumber(container[now], before, now)
        else:
            for child in children:
                delattr(container, child)


def _renumber(block: nn.Module, before: int, now: int) -> None:
    for module in block.modules():
        if getattr(module, "layer_idx", None) == before:
            module.layer_idx = now  # type: ignore[assignment]


def _mend_configs(model: nn.Module, container: str, count: int, kept: list[int]) -> None:
    """Mend the configs of the modules around the container that count its layers."""
    parts = container.split(".")
    for end in range(len(parts) + 1):
        config: Any = getattr(model.get_submodule(".".join(parts[:end])), "config", None)
        if getattr(config, "num_hidden_layers", None) != count:
            continue
        types = getattr(config, "layer_types", None)
        if isinstance(types, list) and len(types) == count:
            config.layer_types = [types[index] for index in kept]
        config.num_hidden_layers = len(kept)
