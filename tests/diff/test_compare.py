"""A planted fault is found where it was planted, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.diff import Difference, compare, open_side, shared_feeds
from edgekit.diff.compare import _Pair
from edgekit.errors import EdgekitError, SpecError

PLANTS = 20


def _compare(first: str | Path, second: str | Path) -> Difference:
    sides = open_side(str(first)), open_side(str(second))
    return compare(*sides, shared_feeds(*sides))


def _readers(graph: onnx.GraphProto, name: str) -> Iterator[onnx.NodeProto]:
    """The operators that compute with a stored tensor, or with what is made from it alone."""
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if name in node.input:
            if stored.issuperset(node.input) or node.op_type == "QuantizeLinear":
                yield from _readers(graph, node.output[0])
            else:
                yield node


def _plant_weight(model: onnx.ModelProto, random: np.random.Generator) -> set[str]:
    """One element of a float weight, changed by its largest; what computes with it."""
    tensors = [t for t in model.graph.initializer if t.data_type == 1 and len(t.dims) > 1]
    tensor = tensors[random.integers(len(tensors))]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[random.integers(array.size)] += 2 * np.abs(array).max()
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return {node.output[0] for node in _readers(model.graph, tensor.name)}


def _plant_axis(model: onnx.ModelProto, random: np.random.Generator) -> set[str]:
    """An axis that is another one, or two axes exchanged."""
    nodes = [n for n in model.graph.node if n.op_type in {"Softmax", "Transpose", "ReduceMean"}]
    node = nodes[random.integers(len(nodes))]
    for attribute in node.attribute:
        if attribute.name == "axis":
            attribute.i = 1 if attribute.i in {-1, 2} else 2
        if attribute.name == "perm":
            i, j = random.permutation(np.arange(1, len(attribute.ints)))[:2]
            attribute.ints[i], attribute.ints[j] = attribute.ints[j], attribute.ints[i]
    if node.op_type == "ReduceMean":
        (axes,) = [t for t in model.graph.initializer if t.name == node.input[1]]
        axes.CopyFrom(numpy_helper.from_array(np.array([2], np.int64), axes.name))
    return {node.output[0]}


def _plant_scale(model: onnx.ModelProto, random: np.random.Generator) -> set[str]:
    """A scale four times as large; what is dequantized with it, or computes with that."""
    names = sorted({n.input[1] for n in model.graph.node if n.op_type == "DequantizeLinear"})
    name = names[random.integers(len(names))]
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    array = numpy_helper.to_array(tensor) * np.float32(4)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array, np.float32), name))
    return {node.output[0] for node in _readers(model.graph, name)}


_KINDS = (("fp32", _plant_weight), ("fp32", _plant_axis), ("int8", _plant_scale))


@pytest.mark.parametrize("seed", range(PLANTS))
def test_a_planted_fault_is_the_guilty_layer(mixed: Path, tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    precision, plant = _KINDS[seed % len(_KINDS)]
    good = {"fp32": mixed / "model.onnx", "int8": mixed / "onnxruntime-int8.onnx"}[precision]
    while True:  # an axis may be one that the engine refuses: then there is nothing to find
        model = onnx.load(good)
        wanted = plant(model, random)
        onnx.save(model, tmp_path / "bad.onnx")
        try:
            found = _compare(good, tmp_path / "bad.onnx")
        except EdgekitError:
            continue
        break
    assert found.guilty is not None
    assert found.guilty.tensor in wanted
    assert found.guilty.before_db > 120


def test_artifacts_of_two_runtimes_agree_and_none_is_guilty(mixed: Path) -> None:
    found = _compare(f"{mixed}:onnxruntime-fp32", f"{mixed}:openvino-fp32")
    assert found.guilty is None
    assert len(found.layers) > 10
    assert min(layer.sqnr_db for layer in found.layers) > 90


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_is_noisy_everywhere_and_no_layer_is_to_blame(mixed: Path, runtime: str) -> None:
    found = _compare(f"{mixed}:{runtime}-fp32", f"{mixed}:{runtime}-int8")
    assert found.guilty is None
    assert 5 < min(layer.sqnr_db for layer in found.layers) < 60


def test_layers_are_told_by_their_module(mixed: Path) -> None:
    found = _compare(f"{mixed}:openvino-fp32", f"{mixed}:openvino-int8")
    modules = {layer.module for layer in found.layers}
    assert {"stem.0 (Conv2d)", "query (Linear)", "norm (LayerNorm)", "head (Linear)"} <= modules


def test_the_ranking_has_the_noisiest_layer_first(mixed: Path) -> None:
    ranked = _compare(f"{mixed}:onnxruntime-fp32", f"{mixed}:onnxruntime-int8").ranked()
    assert [layer.own_db for layer in ranked] == sorted(layer.own_db for layer in ranked)


def test_models_with_other_inputs_cannot_be_compared(mixed: Path, onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    for node in model.graph.node:
        node.input[:] = ["picture" if name == "image" else name for name in node.input]
    model.graph.input[0].name = "picture"
    onnx.save(model, onnx_file.parent.parent / "renamed.onnx")
    with pytest.raises(SpecError, match="take different inputs: image and picture"):
        _compare(mixed / "model.onnx", onnx_file.parent.parent / "renamed.onnx")


def test_a_pair_that_moved_before_a_reshape_is_compared_by_its_values() -> None:
    right = np.arange(4, dtype=np.float32)[None]
    moved, still = _Pair(["x"], moved=True), _Pair(["x"], moved=False)
    for pair in (moved, still):
        pair.add({"x": right}, right.reshape(1, 4, 1, 1))
    assert moved.closest().sqnr_db == np.inf
    assert not moved.closest().same_shape  # so what comes after it computes with its own
    assert still.closest().problem == "shape [1, 4, 1, 1] instead of [1, 4]"
