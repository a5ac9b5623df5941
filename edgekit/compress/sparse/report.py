"""What a sparsity pass tells: zeros layer by layer, bytes, and time where it was measured."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import nn

from edgekit.compress.base import Change, ModuleContext, PassReport
from edgekit.compress.sparse.layers import Choice, SparseLayer
from edgekit.compress.sparse.zeros import zero_share
from edgekit.workload import Workload

__all__ = ["make_report"]

#: Who skips zeros. Everyone else multiplies with them.
_GAINS = (
    "latency was not measured: ONNX Runtime computes with the zeros, OpenVINO unpacks sparse int8 "
    "weights on CPUs with AMX only, TensorRT-RTX may use 2:4 on GPUs; elsewhere only size on disk "
    "is won"
)


def make_report(
    name: str,
    workload: Workload,
    model: nn.Module,
    choice: Choice,
    context: ModuleContext,
    notes: Iterable[str] = (),
) -> PassReport:
    """The report of a pass that made the layers of ``choice`` in ``model`` sparse.

    Args:
        name: the pass.
        workload: its model is the dense one.
        model: the sparse one, of the same structure.
        choice: layers of ``model``.
        context: its clock, if there is one, measures both.
        notes: further details.

    Raises:
        EdgekitError: there is a clock, and the model cannot be exported.
    """
    assert isinstance(workload.model, nn.Module)
    before = {name: _weight(workload.model, name) for name in choice.layers}
    after = {name: layer.weight.detach() for name, layer in choice.layers.items()}
    changes = [Change(name, _zeros(before[name]), _zeros(after[name])) for name in choice.layers]
    return PassReport(
        name,
        changed=len(choice.layers),
        total=len(choice.layers) + len(choice.left),
        details=(
            *notes,
            _share(choice.layers),
            _bytes(before.values(), after.values()),
            _speed(workload, model, context),
        ),
        changes=(*changes, *choice.left),
    )


def _weight(model: nn.Module, name: str) -> torch.Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach()


def _zeros(weight: torch.Tensor) -> str:
    return f"{zero_share(weight):.1%} zeros of {weight.numel()} weights"


def _share(layers: Mapping[str, SparseLayer]) -> str:
    count = sum(layer.weight.numel() for layer in layers.values())
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers.values())
    return f"{zeros / count:.1%} of {count} weights in {len(layers)} layers are zero"


def _bytes(before: Iterable[torch.Tensor], after: Iterable[torch.Tensor]) -> str:
    old, new = (sum(map(_packed, weights)) for weights in (before, after))
    return (
        f"size on disk: zlib packs these weights into {new / 1e6:.3f} MB as float32, "
        f"{old / 1e6:.3f} MB before ({new / old:.2f}x); unpacked files keep their size"
    )


def _packed(weight: torch.Tensor) -> int:
    return len(zlib.compress(weight.cpu().contiguous().numpy().tobytes(), level=1))


def _speed(workload: Workload, model: nn.Module, context: ModuleContext) -> str:
    if context.clock is None:
        return _GAINS
    measured = context.clock.compare(workload, replace(workload, model=model))
    gain = "" if measured.faster else ": only size on disk is won there"
    return f"against the dense model: {measured.told(context.clock.name)}{gain}"
