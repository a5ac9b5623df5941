"""Mixed precision by measured latency: leave float what does not pay as int8 on this engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgekit.compress.base import Measured

__all__ = ["Group", "group_units", "leave_what_does_not_pay"]


@dataclass(frozen=True, slots=True)
class Group:
    """Operators that an engine runs with the same kernel, so that they pay together or not.

    Attributes:
        label: what they have in common, for people.
        names: the operators.
    """

    label: str
    names: frozenset[str]


def group_units(units: Sequence[ir.Node]) -> list[Group]:
    """Operators by kernel: type, weight shape, stride and groups; where int8 gains least, first.

    The first convolution reads the few channels of an image, depthwise convolutions and additions
    do little arithmetic for the memory that they touch: these are asked first.
    """
    groups: dict[str, list[ir.Node]] = {}
    for node in units:
        groups.setdefault(_label(node), []).append(node)
    order = sorted(groups.items(), key=lambda item: _intensity(item[1][0]))
    return [Group(label, frozenset(str(node.name) for node in nodes)) for label, nodes in order]


def leave_what_does_not_pay(
    groups: Sequence[Group],
    measure: Callable[[frozenset[str], frozenset[str], str], Measured | None],
    out_of_time: Callable[[], bool],
) -> frozenset[str]:
    """Greedy descent: a group becomes float when that is faster, whole interval considered.

    Args:
        groups: what may become float together.
        measure: compares (candidate, best so far, label of the change); None when the candidate
            cannot be built.
        out_of_time: asked before every try.

    Returns:
        The operators to leave float.
    """
    best: frozenset[str] = frozenset()
    for group in groups:
        if out_of_time():
            break
        found = measure(best | group.names, best, group.label)
        if found is not None and found.faster:
            best |= group.names
    return best


def _label(node: ir.Node) -> str:
    shape = _weight_shape(node)
    text = f"{node.op_type} {'x'.join(map(str, shape))}" if shape else node.op_type
    if node.op_type == "Conv":
        strides = node.attributes.get_ints("strides", [1])
        text += f" stride {strides[0]}" + (" depthwise" if _depthwise(node) else "")
    return text


def _intensity(node: ir.Node) -> float:
    """Multiplications for each value of the input, roughly: a proxy for the order only."""
    shape = _weight_shape(node)
    if not shape:
        return 0.0
    if node.op_type != "Conv":
        return float(max(shape))
    return 1.0 if _depthwise(node) else float(shape[0] * min(shape[1], 64) / 64)


def _depthwise(node: ir.Node) -> bool:
    return node.attributes.get_int("group", 1) > 1


def _weight_shape(node: ir.Node) -> tuple[int, ...]:
    weights = [v for v in node.inputs[1:2] if v is not None and v.const_value is not None]
    return tuple(weights[0].const_value.shape.numpy()) if weights else ()  # type: ignore[union-attr]
