"""What the inputs of layers are like on calibration data: second moments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from edgekit.compress.observe import observe_inputs
from edgekit.compress.sparse.base import Evidence
from edgekit.compress.sparse.layers import SparseLayer
from edgekit.spec import Feeds

__all__ = ["collect", "input_rows"]

#: Images are unfolded together up to about this many values, 64 MiB.
_VALUES = 1 << 24


def collect(
    model: nn.Module,
    layers: Mapping[str, SparseLayer],
    feeds: Iterable[Feeds],
    input_names: Sequence[str],
    *,
    samples: int,
    moments: bool,
) -> dict[str, Evidence]:
    """The inputs of the layers, summed up in one pass over ``feeds``.

    Args:
        model: run in eval mode.
        layers: modules of ``model`` by name.
        feeds: batches of inputs, read once.
        input_names: the names of ``forward``'s parameters, in order.
        samples: stop after about this many.
        moments: sum up ``X^T X``; else only its diagonal.

    Returns:
        Evidence by name, without layers that forward never called.

    Raises:
        CalibrationError: no data, data that does not fit the model, or an input of a layer that
            is not finite.
    """
    found: dict[str, Evidence] = {}
    add = _with_moment if moments else _with_squares

    def see(name: str, values: torch.Tensor) -> None:
        found[name] = _added(found.get(name, Evidence()), layers[name], values, add)

    observe_inputs(model, layers, feeds, input_names, see, samples=samples)
    return found


def input_rows(layer: SparseLayer, values: torch.Tensor) -> torch.Tensor:
    """What the layer multiplies its matrix with: float32 of shape ``(groups, rows, columns)``.

    For a convolution these are the patches under its kernel, columns as in :mod:`.layers`.

    Args:
        layer: a layer.
        values: its input.
    """
    if isinstance(layer, nn.Linear):
        return values.reshape(1, -1, layer.in_features).float()
    size = tuple(layer.weight.shape[2:])
    if values.ndim == len(size) + 1:  # forward takes one image without a batch axis, too
        values = values.unsqueeze(0)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = functional.pad(values.float(), _padding(layer, size), mode=mode)
    stride, dilation = tuple(layer.stride), tuple(layer.dilation)
    if len(size) == 1:
        padded, size, stride, dilation = (
            padded.unsqueeze(-2),
            (1, *size),
            (1, *stride),
            (1, *dilation),
        )
    patches = functional.unfold(padded, size, dilation=dilation, stride=stride)
    groups, channels = layer.groups, layer.weight.shape[1]
    split = patches.view(len(patches), groups, channels, -1, patches.shape[-1])
    return split.permute(1, 0, 4, 3, 2).reshape(groups, -1, split.shape[3] * channels)


def _padding(layer: nn.Conv1d | nn.Conv2d, size: tuple[int, ...]) -> list[int]:
    """What :func:`functional.pad` wants: (before, after) of each axis, the last axis first."""
    if layer.padding == "valid":
        return [0, 0] * len(size)
    if layer.padding == "same":
        total = [d * (s - 1) for d, s in zip(layer.dilation, size, strict=True)]
        pairs = [(one // 2, one - one // 2) for one in total]
    else:
        pairs = [(int(one), int(one)) for one in layer.padding]
    return [side for pair in reversed(pairs) for side in pair]


def _added(
    evidence: Evidence,
    layer: SparseLayer,
    values: torch.Tensor,
    add: Callable[[Evidence, torch.Tensor], Evidence],
) -> Evidence:
    """Evidence with that input, a few images at a time: unfolding multiplies their size."""
    if isinstance(layer, nn.Linear):
        return add(evidence, input_rows(layer, values))
    each = values[0].numel() * layer.weight[0, 0].numel()
    for part in torch.split(values, max(_VALUES // max(each, 1), 1)):
        evidence = add(evidence, input_rows(layer, part))
    return evidence


def _with_moment(evidence: Evidence, rows: torch.Tensor) -> Evidence:
    moment = rows.mT @ rows
    if evidence.moment is not None:
        moment += evidence.moment
    return replace(evidence, moment=moment, rows=evidence.rows + rows.shape[1])


def _with_squares(evidence: Evidence, rows: torch.Tensor) -> Evidence:
    squares = rows.square().sum(1)
    if evidence.squares is not None:
        squares += evidence.squares
    return replace(evidence, squares=squares, rows=evidence.rows + rows.shape[1])
