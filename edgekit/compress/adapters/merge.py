"""Make LoRA, DoRA and (IA)^3 adapters part of the weights that they adapt."""

from __future__ import annotations

import torch
from torch import nn

from edgekit.compress.adapters.checkpoint import Adapter
from edgekit.compress.base import Change
from edgekit.errors import CompressError, nearest

__all__ = ["merge_adapter"]

_LORA = frozenset({"lora_A", "lora_B"})
_EMBEDDING = frozenset({"lora_embedding_A", "lora_embedding_B"})
_MAGNITUDE = "lora_magnitude_vector"
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def merge_adapter(model: nn.Module, adapter: Adapter) -> list[Change]:
    """Put every tensor of ``adapter`` into ``model``, in place.

    A weight that several modules share is changed only for the one that was adapted. Sums and
    products are in float32; the weight keeps its dtype.

    Args:
        model: the base model, or one that holds it as a submodule.
        adapter: from :func:`.checkpoint.read_adapter`.

    Returns:
        What was merged, layer by layer.

    Raises:
        CompressError: a tensor finds no layer, or does not fit it.
    """
    prefix = _prefix(model, adapter)
    changes = [
        _put(model, prefix + name, tensor, adapter) for name, tensor in adapter.whole.items()
    ]
    for path, parts in adapter.parts.items():
        changes.append(_Layer(model, prefix, path, parts, adapter).merge())
    return changes


def _prefix(model: nn.Module, adapter: Adapter) -> str:
    """Where in the model the base lies that was adapted: ``encoder.``, or nothing."""
    modules = [name for name, _ in model.named_modules()]
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    wanted = [(path, modules) for path in adapter.parts]
    wanted += [(name, parameters) for name in adapter.whole]
    first, names = wanted[0]
    starts = [n.removesuffix(first) for n in names if n == first or n.endswith(f".{first}")]
    fitting = [s for s in starts if all(s + name in known for name, known in wanted)]
    if len(fitting) == 1 or "" in fitting:
        return "" if "" in fitting else fitting[0]
    if fitting:
        raise _misfit(
            adapter,
            f"it fits the model in {len(fitting)} places, under {', '.join(map(repr, fitting))}",
            "Merge it into that submodule before the model is given to edgekit",
        )
    start = max(starts, key=lambda s: sum(s + n in known for n, known in wanted), default="")
    lost = [name for name, known in wanted if start + name not in known]
    near = nearest(lost[0], modules)
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    raise _misfit(
        adapter,
        f"the model has no {', '.join(map(repr, lost[:3]))}{more}"
        + (f"; the nearest is {near!r}" if near else ""),
        "Give the adapter of this model, or the model that it was trained on",
    )


def _put(model: nn.Module, name: str, tensor: torch.Tensor, adapter: Adapter) -> Change:
    """Replace a parameter that was trained whole."""
    path, _, attribute = name.rpartition(".")
    module = model.get_submodule(path)
    old = module.get_parameter(attribute)
    if old.shape != tensor.shape:
        raise _misfit(
            adapter,
            f"{name!r} has shape {list(tensor.shape)}, the model's has {list(old.shape)}",
            "Give the adapter of this model",
        )
    _set(module, attribute, tensor)
    return Change(name, f"{list(old.shape)} of the base", "replaced")


def _set(module: nn.Module, attribute: str, values: torch.Tensor) -> None:
    """A parameter of its own, so that whatever shared the old one keeps that."""
    old = module.get_parameter(attribute)
    new = values.to(device=old.device, dtype=old.dtype).clone()
    setattr(module, attribute, nn.Parameter(new, requires_grad=old.requires_grad))


class _Layer:
    """One adapted layer: its weight in the adapter's orientation, outputs first."""

    def __init__(
        self,
        model: nn.Module,
        prefix: str,
        path: str,
        parts: dict[str, torch.Tensor],
        adapter: Adapter,
    ) -> None:
        self._module = model.get_submodule(prefix + path)
        self._name, self._path, self._adapter = prefix + path, path, adapter
        self._parts = {name: tensor.float() for name, tensor in parts.items()}
        attention = isinstance(self._module, nn.MultiheadAttention)
        self._attribute = "in_proj_weight" if attention else "weight"
        weight = getattr(self._module, self._attribute, None)
        if not isinstance(weight, nn.Parameter) or weight.ndim < 2:
            raise self._error(f"{type(self._module).__name__} has no weight matrix")
        if isinstance(self._module, _CONVS) and self._module.groups > 1:
            raise self._error("a convolution with groups has no plain product to add")
        # GPT-2's Conv1D, and embeddings, keep their inputs in the first axis.
        self._transposed = isinstance(self._module, nn.Embedding) or (
            not isinstance(self._module, (nn.Linear, *_CONVS, nn.MultiheadAttention))
            and (adapter.config.fan_in_fan_out or type(self._module).__name__ == "Conv1D")
        )
        self._weight = weight.detach().float().cpu()
        if self._transposed:
            self._weight = self._weight.T

    @torch.no_grad()
    def merge(self) -> Change:
        names = set(self._parts) - {_MAGNITUDE, "lora_B.bias"}
        if names == {"ia3_l"} and len(self._parts) == 1:
            weight, after = self._rescaled(), "times (IA)^3"
        elif names in {_LORA, _EMBEDDING}:
            weight, after = self._added()
        else:
            raise self._error(f"has {', '.join(sorted(self._parts))}, which is not one adapter")
        before = f"weight {list(self._weight.shape)}"
        _set(self._module, self._attribute, weight.T if self._transposed else weight)
        return Change(self._name, before, after)

    def _added(self) -> tuple[torch.Tensor, str]:
        names = sorted(_EMBEDDING if "lora_embedding_A" in self._parts else _LORA)
        first, second = (self._parts[name] for name in names)
        rank = first.shape[0]
        outputs, inputs = self._weight.shape[0], self._weight.shape[1:]
        if first.shape[1:] != inputs or list(second.flatten(1).shape) != [outputs, rank]:
            raise self._error(
                f"{names[0]} has shape {list(first.shape)} and {names[1]} {list(second.shape)}, "
                f"the weight {list(self._weight.shape)}"
            )
        scaling = self._adapter.config.scaling(self._path, rank)
        product = (second.flatten(1) @ first.flatten(1)).reshape(self._weight.shape)
        weight = self._weight + scaling * product
        if "lora_B.bias" in self._parts:
            self._add_bias(scaling * self._parts["lora_B.bias"])
        after = f"plus rank {rank} times {scaling:.4g}"
        if _MAGNITUDE not in self._parts:
            if self._adapter.config.use_dora:
                raise self._error("DoRA, and has no magnitudes")
            return weight, after
        return self._with_magnitude(weight), f"{after}, with magnitudes"

    def _with_magnitude(self, weight: torch.Tensor) -> torch.Tensor:
        """DoRA (Liu et al. 2024, equation 5): the direction of each output, and how long it is."""
        magnitude = self._parts[_MAGNITUDE].flatten()
        outputs = weight.shape[0]
        if len(magnitude) != outputs:
            raise self._error(f"has {len(magnitude)} magnitudes for {outputs} outputs")
        factors: torch.Tensor = magnitude / weight.flatten(1).norm(dim=1)
        return weight * factors.reshape(-1, *[1] * (weight.ndim - 1))

    def _rescaled(self) -> torch.Tensor:
        """(IA)^3 (Liu et al. 2022): a factor for each input, or for each output and its bias."""
        factors = self._parts["ia3_l"].flatten()
        on_input = self._adapter.config.scales_input(self._path)
        axis = 1 if on_input else 0
        if len(factors) != self._weight.shape[axis]:
            raise self._error(
                f"has {len(factors)} factors for {self._weight.shape[axis]} "
                f"{'inputs' if on_input else 'outputs'}"
            )
        shape = [1] * self._weight.ndim
        shape[axis] = -1
        bias = getattr(self._module, "bias", None)
        if not on_input and isinstance(bias, nn.Parameter):
            _set(self._module, "bias", bias.detach().float().cpu() * factors)
        return self._weight * factors.reshape(shape)

    def _add_bias(self, added: torch.Tensor) -> None:
        bias = getattr(self._module, "bias", None)
        if not isinstance(bias, nn.Parameter) or bias.shape != added.shape:
            raise self._error("a bias is added, and the layer has none of that shape")
        _set(self._module, "bias", bias.detach().float().cpu() + added)

    def _error(self, what: str) -> CompressError:
        return _misfit(
            self._adapter, f"layer {self._name!r}: {what}", "Give the adapter of this model"
        )


def _misfit(adapter: Adapter, what: str, fix: str) -> CompressError:
    return CompressError(what, where=f"adapter {adapter.where}", fix=fix)
