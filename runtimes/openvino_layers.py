"""An OpenVINO model with what is computed inside it as outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from edgekit.runtimes.base import Layer, given_name

from edgekit.spec import TensorSpec

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["add_all_outputs"]


def add_all_outputs(model: ov.Model, given: Sequence[TensorSpec]) -> tuple[Layer, ...]:
    """Make every named floating-point result an output, in place, behind those that it has.

    Whatever reads a tensor of ``given`` reads a further input instead.

    Returns:
        The operators, in the order of computation, without those that compute constants.
    """
    tensors = {_port(port): port.get_any_name() for port in model.inputs}
    own = {_port(out.get_node().input_value(0)): out.get_any_name() for out in model.outputs}
    wanted = {spec.name: spec for spec in given}
    layers, added, cut = [], [], []
    for node in model.get_ordered_ops():
        if node.get_type_name() in {"Parameter", "Constant", "Result"}:
            continue
        read = (_port(source) for source in node.input_values())
        inputs = tuple(dict.fromkeys(tensors[port] for port in read if port in tensors))
        for port in node.outputs() if inputs else ():
            names = tuple(sorted(port.get_names()))
            name = own.get(_port(port)) or (names[0] if names else ":".join(map(str, _port(port))))
            tensors[_port(port)] = name
            layers.append(
                Layer(name, node.get_type_name(), node.get_friendly_name(), inputs, names)
            )
            if names and _port(port) not in own and port.get_element_type().is_real():
                added.append(port)
            if name in wanted:
                cut.append((port, wanted[name]))
    model.add_outputs(added)
    for port, spec in cut:
        _give(model, port, spec)
    return tuple(layers)


def _give(model: ov.Model, port: Any, spec: TensorSpec) -> None:
    from openvino import PartialShape
    from openvino import opset13 as ops

    name = given_name(spec.name)
    shape = PartialShape.dynamic(len(spec.shape))
    parameter = ops.parameter(shape, np.dtype(spec.dtype), name=name)
    parameter.output(0).set_names({name})
    for reader in port.get_target_inputs():
        if reader.get_node().get_type_name() != "Result":
            reader.replace_source_output(parameter.output(0))
    model.add_parameters([parameter])


def _port(port: Any) -> tuple[str, int]:
    """Which result of which node; names of nodes are unique in a model."""
    return port.get_node().get_name(), port.get_index()
