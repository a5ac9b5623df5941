"""The layers that can be factorized: found, described, replaced."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgekit.compress.lowrank.base import Candidate, Site
from edgekit.compress.modules import excluded

__all__ = ["Layer", "LayerSite", "barred", "conv_part", "find", "linear_part"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A Linear, or a convolution of one group, that the model calls.

    Attributes:
        names: every qualified name it has, the first one leading.
        module: the layer.
        input_positions: how many vectors it reads in one call with the example inputs.
        output_positions: how many it writes.
    """

    names: tuple[str, ...]
    module: nn.Linear | nn.Conv2d
    input_positions: int
    output_positions: int

    @property
    def weight(self) -> torch.Tensor:
        """Detached, on the CPU."""
        return self.module.weight.detach().cpu()

    @property
    def pointwise(self) -> bool:
        """Whether it is a matrix: a Linear or a 1x1 convolution."""
        return self.weight.dim() == 2 or self.weight.shape[2:].numel() == 1

    def positions(self, first: int, second: int) -> int:
        """MACs per rank of two pointwise factors of these widths."""
        return self.output_positions * (first + second)


class LayerSite(Site):
    """A site that is one layer; what replaces it is a Sequential under the same name."""

    def __init__(self, layer: Layer) -> None:
        shape = "x".join(map(str, layer.weight.shape))
        self.layer = layer
        self.name = layer.names[0]
        self.before = shape
        self.kind = f"{type(layer.module).__name__} {shape}"
        self.macs = layer.output_positions * layer.weight.numel()
        self.parameters = layer.weight.numel()

    def cheaper(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those with fewer MACs than the layer."""
        return [one for one in candidates if one.macs < self.macs]

    def replace(self, model: nn.Module, candidate: Candidate) -> None:
        made = self.build(candidate.ranks).train(self.layer.module.training)
        for name in self.layer.names:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, made)

    @abstractmethod
    def build(self, ranks: tuple[int, ...]) -> nn.Sequential:
        """The factors as plain layers; the last one has the bias."""


def linear_part(like: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """A Linear with this weight ``(outputs, inputs)``, of the dtype and device of ``like``."""
    outputs, inputs = weight.shape
    made = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    _fill(made, like, weight, bias)
    return made


def conv_part(
    like: nn.Conv2d,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    along: tuple[bool, bool] = (False, False),
    groups: int = 1,
) -> nn.Conv2d:
    """A convolution with this weight ``(outputs, inputs / groups, height, width)``.

    Args:
        like: gives dtype and device, and stride, padding and dilation of some axes.
        weight: its weight.
        bias: its bias, or None.
        along: whether it does what ``like`` does along the height, and along the width.
        groups: of channels.
    """

    def of(values: Sequence[int], other: int) -> tuple[int, int]:
        height, width = (value if on else other for value, on in zip(values, along, strict=True))
        return height, width

    padding = like.padding
    made = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride=of(like.stride, 1),
        padding=padding if isinstance(padding, str) else of(padding, 0),
        dilation=of(like.dilation, 1),
        padding_mode=like.padding_mode if any(along) else "zeros",
        groups=groups,
        bias=bias is not None,
        device="meta",  # takes no random numbers
    )
    _fill(made, like, weight, bias)
    return made


def _fill(
    made: nn.Linear | nn.Conv2d,
    like: nn.Linear | nn.Conv2d,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
) -> None:
    """Give ``made``, which has no memory yet, its weight and bias, as ``like`` has them."""
    for name, values in {"weight": weight, "bias": bias}.items():
        if values is not None:
            detached = values.detach().to(like.weight, copy=True).contiguous()
            setattr(made, name, nn.Parameter(detached, requires_grad=like.weight.requires_grad))


def find(
    model: nn.Module, inputs: Sequence[torch.Tensor]
) -> tuple[dict[str, Layer], dict[str, str]]:
    """Every layer that can be replaced, in the order of ``named_modules``.

    A layer that is never called as a module (as the projections of ``nn.MultiheadAttention``) is
    not one of them, nor is a subclass of Linear or Conv2d: it may do something else.

    Args:
        model: run once, in eval mode.
        inputs: the example inputs.

    Returns:
        Layers by name, and why others, which look like one, are left alone.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if type(module) in {nn.Linear, nn.Conv2d} and not hasattr(module, "parametrizations"):
            names.setdefault(module, []).append(name)
    seen = _positions(model, names, inputs)
    layers, refused = {}, {}
    users = _users(model)
    for module, known in names.items():
        why = _refusal(module, users)
        if module in seen and not why:
            layers[known[0]] = Layer(tuple(known), module, *seen[module])  # type: ignore[arg-type]
        elif module in seen:
            refused[known[0]] = why
    for name in _unreplaceable(model, layers, inputs):
        refused[name] = "the model reads attributes of the layer beside calling it"
        del layers[name]
    return layers, refused


def _users(model: nn.Module) -> dict[nn.Parameter, int]:
    """How many modules own each parameter."""
    count: dict[nn.Parameter, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            count[parameter] = count.get(parameter, 0) + 1
    return count


def _refusal(module: Any, users: Mapping[nn.Parameter, int]) -> str:
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return f"a convolution of {module.groups} groups is no dense product"
    if users.get(module.weight, 0) > 1:
        return "another module has the same weight"
    return ""


def _positions(
    model: nn.Module, layers: Iterable[nn.Module], inputs: Sequence[torch.Tensor]
) -> dict[nn.Module, tuple[int, int]]:
    """Vectors read and written by each layer that is called, all calls together."""
    seen: dict[nn.Module, tuple[int, int]] = {}

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        given = args[0] if args else kwargs["input"]
        read, written = seen.get(module, (0, 0))
        seen[module] = (
            read + given.numel() // module.weight.shape[1],
            written + result.numel() // module.weight.shape[0],
        )

    handles = [layer.register_forward_hook(hook, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _unreplaceable(
    model: nn.Module, layers: Mapping[str, Layer], inputs: Sequence[torch.Tensor]
) -> list[str]:
    """The layers that forward does more with than call them; usually found in one run."""
    if _runs_with(model, layers.values(), inputs):
        return []
    return [name for name, layer in layers.items() if not _runs_with(model, [layer], inputs)]


def _runs_with(model: nn.Module, layers: Iterable[Layer], inputs: Sequence[torch.Tensor]) -> bool:
    """Whether forward runs with those layers each inside a Sequential."""
    places = [
        (model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], layer.module)
        for layer in layers
        for name in layer.names
    ]
    try:
        for parent, child, module in places:
            setattr(parent, child, nn.Sequential(module))
        with torch.no_grad():
            model(*inputs)
    except (AttributeError, TypeError):
        return False
    finally:
        for parent, child, module in places:
            setattr(parent, child, module)
    return True


def barred(model: nn.Module, globs: Collection[str], where: str) -> set[str]:
    """The names of modules that one of the globs matches, and those inside them.

    Raises:
        CompressError: a glob matches no module; names the nearest.
    """
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    hits = excluded(globs, names, "module", where)
    return {name for name in names for hit in hits if f"{name}.".startswith(f"{hit}.")}
