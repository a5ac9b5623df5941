"""Adaptive rounding: round each weight up or down so that the layer's output moves least.

The objective is that of Nagel et al., "Up or Down? Adaptive Rounding for Post-Training
Quantization", 2020 (arXiv:2004.10568), equation 20: ``tr(E H E^T)`` with the weight error ``E``
and the second moment ``H`` of the layer's input, over roundings up or down. They relax it and
descend by gradient; here single flips are taken greedily, all output channels side by side, so
the error never rises and there is nothing to tune.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgekit.calibration import Calibrator, Gram, PatchGram
from edgekit.compress.quantize.arithmetic import weight_scale
from edgekit.compress.quantize.placement import Placement, QuantizedNode
from edgekit.compress.quantize.qdq import WeightOptions, output_axis
from edgekit.spec import Array

__all__ = ["learn_rounding", "round_adaptively"]

_SAMPLES = 64
#: Second moments of layers are collected together up to this many float64 entries (512 MB).
_ENTRIES = 1 << 26


def learn_rounding(
    model: ir.Model, placement: Placement, options: WeightOptions, calibrator: Calibrator
) -> WeightOptions:
    """Decide the integers of every weighted operator that nothing has decided yet."""
    fixed = dict(options.fixed)
    open_nodes = [n for n in placement.nodes if n.weight is not None and n.node.name not in fixed]
    for nodes in _together(open_nodes):
        grams = {str(n.node.name): _gram(n) for n in nodes}
        # Several operators may read one tensor: observe it once for each of them.
        for part in _distinct(nodes):
            calibrator.observe(
                model, {str(n.tensors[0].name): grams[str(n.node.name)] for n in part}, _SAMPLES
            )
        for chosen in nodes:
            name = str(chosen.node.name)
            moment = _moment(grams[name])
            if moment is not None:
                fixed[name] = _round(chosen, moment, options)
    return replace(options, fixed=fixed)


def round_adaptively(weight: Array, scale: Array, moment: Array, levels: int = 127) -> Array:
    """Integers of ``weight`` that minimize ``tr(E H E^T)``, each off by less than one step.

    Args:
        weight: float array of shape ``(groups, rows, fan_in)``.
        scale: of shape ``(groups, rows)``.
        moment: ``H``, of shape ``(groups, fan_in, fan_in)``, symmetric positive semidefinite.
        levels: largest magnitude.

    Returns:
        int8 of the shape of ``weight``.
    """
    steps = weight / scale[..., None]
    rounded = np.clip(np.rint(steps), -levels, levels)
    other = np.clip(np.where(rounded > steps, np.floor(steps), np.ceil(steps)), -levels, levels)
    flip = (other - rounded).astype(np.float32)  # what flipping each weight would add
    error = (rounded - steps).astype(np.float32)
    moment = moment.astype(np.float32)
    slope = np.matmul(error, moment)
    diagonal = np.diagonal(moment, axis1=1, axis2=2)[:, None, :]
    places: Array = np.indices(weight.shape[:2])
    groups, rows = places
    for _ in range(weight.shape[2]):
        change = 2.0 * flip * slope + np.square(flip) * diagonal
        best = change.argmin(axis=2)
        gains = np.take_along_axis(change, best[..., None], 2)[..., 0]
        improving = gains < -1e-6 * np.abs(diagonal).max()
        if not improving.any():
            break
        at = (groups[improving], rows[improving], best[improving])
        amount = flip[at]
        rounded[at] += amount
        slope[at[:2]] += amount[:, None] * moment[at[0], at[2]]
        flip[at] = -amount
    return rounded.astype(np.int8)


def _round(chosen: QuantizedNode, moment: Array, options: WeightOptions) -> tuple[Array, Array]:
    weight = chosen.weight.const_value.numpy()  # type: ignore[union-attr]
    axis = output_axis(chosen.node, weight.ndim)
    scale = weight_scale(weight, axis, levels=options.levels, mse=options.mse)
    rows = np.moveaxis(weight, axis, 0)
    groups = len(moment)
    shaped = rows.reshape(groups, weight.shape[axis] // groups, -1)
    steps = round_adaptively(shaped, scale.reshape(groups, -1), moment, options.levels)
    return np.ascontiguousarray(np.moveaxis(steps.reshape(rows.shape), 0, axis)), scale


def _gram(chosen: QuantizedNode) -> Gram | PatchGram:
    node, shape = chosen.node, chosen.weight.const_value.shape.numpy()  # type: ignore[union-attr]
    if node.op_type != "Conv":
        axis = output_axis(node, len(shape))
        return Gram(shape[1 - axis])
    kernel = shape[2:]
    ones = [1] * len(kernel)
    same = node.attributes.get_string("auto_pad", "NOTSET")
    return PatchGram(
        kernel,
        list(node.attributes.get_ints("strides", ones)),
        same  # type: ignore[arg-type]
        if same.startswith("SAME")
        else list(node.attributes.get_ints("pads", [0] * 2 * len(kernel))),
        list(node.attributes.get_ints("dilations", ones)),
        node.attributes.get_int("group", 1),
    )


def _moment(gram: Gram | PatchGram) -> Array | None:
    """``(groups, fan_in, fan_in)``; None when the tensor was empty in every batch."""
    if not gram.count or gram.matrix is None:
        return None
    return gram.matrix[None] if gram.matrix.ndim == 2 else gram.matrix


def _together(nodes: list[QuantizedNode]) -> Iterator[list[QuantizedNode]]:
    """Batches of operators whose second moments fit in memory together."""
    batch: list[QuantizedNode] = []
    used = 0
    for node in nodes:
        shape = node.weight.const_value.shape.numpy()  # type: ignore[union-attr]
        fan_in = math.prod(shape) // shape[output_axis(node.node, len(shape))]
        groups = node.node.attributes.get_int("group", 1) if node.node.op_type == "Conv" else 1
        size = groups * fan_in**2
        if batch and used + size > _ENTRIES:
            yield batch
            batch, used = [], 0
        batch.append(node)
        used += size
    if batch:
        yield batch


def _distinct(nodes: list[QuantizedNode]) -> Iterator[list[QuantizedNode]]:
    """Parts in which no two operators read the same tensor."""
    rest = nodes
    while rest:
        seen: dict[str, QuantizedNode] = {}
        later = []
        for node in rest:
            if str(node.tensors[0].name) in seen:
                later.append(node)
            else:
                seen[str(node.tensors[0].name)] = node
        yield list(seen.values())
        rest = later
