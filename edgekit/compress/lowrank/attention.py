"""Attention blocks: found by the names of their projections, understood by trying.

A block is described in a few words (:class:`Attention`), and :func:`shrink` gives it smaller heads.
Whether that is right for the module's code is not read off but tried (:func:`probe`): only a module
that computes the same after a change that must not matter is one that is understood.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgekit.compress.lowrank.layers import linear_part

__all__ = ["Attention", "Maps", "by_head", "called", "find_attention", "probe", "shrink"]

#: What the projections are called: query, key, value, and the output's path from the module that
#: has these three, or from that one's parent.
_NAMES = (
    ("query", "key", "value", ("output.dense", "out", "dense", "proj", "output")),
    ("q_proj", "k_proj", "v_proj", ("o_proj", "out_proj")),
    ("q_lin", "k_lin", "v_lin", ("out_lin",)),
    ("q", "k", "v", ("o", "out", "proj")),
    ("to_q", "to_k", "to_v", ("to_out.0", "to_out")),
    ("wq", "wk", "wv", ("wo",)),
)
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "nhead", "heads")
#: Attributes that say how wide something is; only they are changed with the width.
_WIDTH = re.compile(r"^(?!num|n_).*(size|dim|width|d_head|d_k|d_v|d_model|features)")

#: Largest relative difference of outputs, in float64, of two ways to compute the same.
_SAME = 1e-5


@dataclass(frozen=True, slots=True)
class Attention:
    """A multi-head attention block.

    Attributes:
        name: qualified name of the module that has all four projections in it.
        owner: name of the module with query, key and value, from ``name``; may be empty.
        query: name of that Linear from ``name``; likewise the next three.
        key: its outputs are ``heads`` times ``head_size``, as those of query and value.
        value: see key.
        output: reads what the heads give.
        heads: how many.
        head_size: outputs of one head.
    """

    name: str
    owner: str
    query: str
    key: str
    value: str
    output: str
    heads: int
    head_size: int

    @property
    def projections(self) -> tuple[str, str, str, str]:
        """The four Linear layers' names from ``name``."""
        return self.query, self.key, self.value, self.output

    def full(self, name: str) -> str:
        """The qualified name of a module inside."""
        return ".".join(filter(None, (self.name, name)))


@dataclass(frozen=True, slots=True)
class Maps:
    """What smaller heads compute from the old ones: one matrix a head, float64.

    Attributes:
        query: shape ``(heads, rank, head size)``; new queries are ``query @`` old queries.
        key: likewise.
        value: likewise.
        output: shape ``(heads, head size, rank)``; takes new values back to old ones.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor

    @property
    def rank(self) -> int:
        return self.query.shape[1]


def find_attention(model: nn.Module) -> Iterator[Attention]:
    """Every block whose projections are plain Linear layers of known names and like widths."""
    modules = dict(model.named_modules())
    for name, module in modules.items():
        heads = next((h for h in (getattr(module, one, 0) for one in _HEADS) if h), 0)
        for query, key, value, outputs in _NAMES if isinstance(heads, int) and heads else ():
            inner = [_linear(module, one) for one in (query, key, value)]
            if None in inner:
                continue
            parent, _, owner = name.rpartition(".")
            names = (query, key, value)
            block = _block(module, name, "", names, outputs, heads)
            if block is None and owner:
                block = _block(modules[parent], parent, owner, names, outputs, heads)
            if block is not None:
                yield block
            break


def _linear(module: nn.Module, path: str) -> nn.Linear | None:
    for part in path.split("."):
        module = getattr(module, part, None)  # type: ignore[assignment]
    return module if type(module) is nn.Linear else None


def _block(
    module: nn.Module,
    name: str,
    owner: str,
    inner: tuple[str, str, str],
    outputs: Sequence[str],
    heads: int,
) -> Attention | None:
    paths = [f"{owner}.{one}" if owner else one for one in inner]
    output = next((one for one in outputs if _linear(module, one) is not None), None)
    if output is None:
        return None
    layers = [_linear(module, path) for path in (*paths, output)]
    widths = {layer.out_features for layer in layers[:3] if layer is not None}
    last = layers[3]
    if last is None or widths != {last.in_features} or last.in_features % heads:
        return None
    query, key, value = paths
    size = last.in_features // heads
    return Attention(name, owner, query, key, value, output, heads, size)


def shrink(block: nn.Module, attention: Attention, maps: Maps) -> None:
    """Give the block's heads the size ``maps.rank``, in place.

    Args:
        block: the module that ``attention.name`` is the name of.
        attention: its description.
        maps: from :func:`.joint.maps`, with the softmax scale already corrected where needed.
    """
    for path, matrices in zip(
        attention.projections, (maps.query, maps.key, maps.value), strict=False
    ):
        _set(block, path, _mapped(_get(block, path), matrices))
    last = _get(block, attention.output)
    weight = by_head(last.weight, attention.heads, axis=1)
    made = torch.einsum("ohd,hdr->ohr", weight, maps.output.to(weight.device)).flatten(1)
    _set(block, attention.output, linear_part(last, made, last.bias))
    owner = block.get_submodule(attention.owner)
    width = attention.heads * attention.head_size
    new = {attention.head_size: maps.rank, width: attention.heads * maps.rank}
    for name, value in list(vars(owner).items()):
        if type(value) is int and value in new and _WIDTH.match(name):
            setattr(owner, name, new[value])


def by_head(values: torch.Tensor, heads: int, axis: int = 0) -> torch.Tensor:
    """A weight or bias in float64, with an axis of heads before the axis of a head's values."""
    shape = list(values.shape)
    shape[axis : axis + 1] = [heads, shape[axis] // heads]
    return values.detach().double().reshape(shape)


def _mapped(layer: nn.Linear, matrices: torch.Tensor) -> nn.Linear:
    heads = len(matrices)
    matrices = matrices.to(layer.weight.device)
    weight = by_head(layer.weight, heads)
    made = torch.einsum("hrd,hdi->hri", matrices, weight).flatten(0, 1)
    bias = None
    if layer.bias is not None:
        split = by_head(layer.bias, heads)
        bias = torch.einsum("hrd,hd->hr", matrices, split).flatten()
    return linear_part(layer, made, bias)


def _get(block: nn.Module, path: str) -> nn.Linear:
    layer = block.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    return layer


def _set(block: nn.Module, path: str, layer: nn.Linear) -> None:
    parent, _, child = path.rpartition(".")
    setattr(block.get_submodule(parent), child, layer)


#: Positional and keyword arguments of one call.
Call = tuple[tuple[Any, ...], dict[str, Any]]


def called(
    model: nn.Module, blocks: Sequence[Attention], inputs: Sequence[torch.Tensor]
) -> Mapping[str, Call]:
    """What each block is called with, by name, in one call of the model; a block may be missing."""
    calls: dict[str, Call] = {}

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(name, (args, kwargs))

        return hook

    handles = [
        model.get_submodule(one.name).register_forward_pre_hook(hook_of(one.name), with_kwargs=True)
        for one in blocks
    ]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def probe(block: nn.Module, attention: Attention, call: Call) -> tuple[float | None, str]:
    """How the queries of smaller heads have to be scaled so that the softmax stays what it was.

    Heads are projected to a random subspace, once at the old size (which needs no knowledge of the
    module's code), once at a smaller size. Both compute the same, unless something lies between
    the projections that does not commute with it (rotary positions, a norm of queries), or the
    module's code does not follow its attributes.

    Args:
        block: not changed.
        attention: its description.
        call: what it is called with.

    Returns:
        ``f``: with head size r instead of d, queries are to be multiplied by ``(r / d) ** f``: 0
        where the module keeps its scale as a number, 1/2 where it computes it of the size. None
        and why where the block cannot be shrunk.
    """
    size = attention.head_size
    rank = max(1, size // 2)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(attention.heads, size, size, generator=generator, dtype=torch.float64)
    down = torch.linalg.qr(noise)[0][:, :, :rank].mT
    exact = copy.deepcopy(block).double()
    projected = down.mT @ down
    same = copy.deepcopy(exact)
    shrink(same, attention, Maps(projected, projected, projected, projected))
    small = []
    try:
        wanted = _run(same, call)
        for power in (0.0, 0.5):
            one = copy.deepcopy(exact)
            shrink(one, attention, Maps(down * (rank / size) ** power, down, down, down.mT))
            small.append(_run(one, call))
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        return None, f"smaller heads do not run: {type(error).__name__}: {error}"
    apart = [float((one - wanted).norm() / wanted.norm()) for one in small]
    if not min(apart) < _SAME:
        return None, "something lies between its projections that smaller heads would change"
    if max(apart) < 10 * _SAME:
        return None, "the scale of its softmax makes no difference on the example inputs"
    return (0.0 if apart[0] < apart[1] else 0.5), ""


def _run(block: nn.Module, call: Call) -> torch.Tensor:
    """The first output, computed in float64."""
    args, kwargs = _double(call)
    with torch.no_grad():
        result = block(*args, **kwargs)
    while not isinstance(result, torch.Tensor):
        result = next(iter(result.values() if isinstance(result, Mapping) else result))
    return result


def _double(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.double()
    if type(value) in {tuple, list}:
        return type(value)(_double(one) for one in value)
    if type(value) is dict:
        return {key: _double(one) for key, one in value.items()}
    return value
