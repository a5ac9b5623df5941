from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from edgekit.exporters.passes.recurrent import simplify_recurrent
from onnx_ir.passes import common
from torch import nn

from tests.compress.graphs import model_of, node, random, run
from tests.exporters.blocks import assert_same, exported, operators

#: PyTorch exports an RNN as its arithmetic, without the operator.
KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}


class Reader(nn.Module):
    """A recurrent network over a sequence; ``last`` gives its last step only."""

    def __init__(
        self, kind: str, *, layers: int = 1, bidirectional: bool = False, last: bool = True
    ) -> None:
        super().__init__()
        self.last = last
        self.cells = KINDS[kind](
            4, 6, num_layers=layers, bidirectional=bidirectional, batch_first=True
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.cells(x)[0]
        return states[:, -1].relu() if self.last else states


class Started(nn.Module):
    """A recurrent network that begins with a state of its own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cells = KINDS[kind](4, 6, batch_first=True)
        self.lstm = kind == "LSTM"
        self.state = nn.Parameter(torch.randn(1, 1, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.state.expand(1, x.shape[0], 6).contiguous()
        return self.cells(x, (state, state) if self.lstm else state)[0]


def _cells(path: Path, kind: str) -> list[ir.Node]:
    return [one for one in ir.load(path).graph if one.op_type == kind]


def _cases(*sizes: tuple[int, int]) -> list[dict[str, np.ndarray]]:
    return [{"x": random(batch, batch, steps, 4)} for batch, steps in sizes]


def _states(cell: ir.Node) -> list[ir.Value | None]:
    return [cell.inputs[p] for p in STATES[cell.op_type] if p < len(cell.inputs)]


@pytest.mark.parametrize("last", [False, True], ids=["every step", "last step"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_simplified_network_computes_the_same(
    tmp_path: Path, kind: str, bidirectional: bool, last: bool
) -> None:
    torch.manual_seed(0)
    module = Reader(kind, bidirectional=bidirectional, last=last)
    source, prepared = exported(module, {"x": torch.zeros(2, 5, 4)}, tmp_path, {0: "batch"})
    assert_same(source, prepared, _cases((2, 5), (1, 5), (7, 5)))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_states_of_zeros_are_dropped(tmp_path: Path, kind: str) -> None:
    _, prepared = exported(Reader(kind), {"x": torch.zeros(2, 5, 4)}, tmp_path, {0: "batch"})
    (cell,) = _cells(prepared, kind)
    assert not any(_states(cell))
    assert not operators(prepared).keys() & {"Expand", "Concat", "Shape"}


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_states_that_are_not_zero_are_kept(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    source, prepared = exported(Started(kind), {"x": torch.zeros(2, 5, 4)}, tmp_path, {0: "batch"})
    (cell,) = _cells(prepared, kind)
    assert all(_states(cell))
    assert_same(source, prepared, _cases((2, 5), (3, 5)))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_stacked_layers_stay_right(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    module = Reader(kind, layers=2)
    source, prepared = exported(module, {"x": torch.zeros(2, 5, 4)}, tmp_path, {0: "batch"})
    cells = _cells(prepared, kind)
    assert len(cells) == 2
    assert not any(state for cell in cells for state in _states(cell))
    assert_same(source, prepared, _cases((2, 5), (4, 5)))


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_only_states_of_zeros_are_dropped_from_the_operator(kind: str, start: float) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    nodes = [
        node("Expand", ["value", "shape"], ["state"]),
        node(kind, ["x", "w", "r", "", "", *["state"] * len(STATES[kind])], ["y"], hidden_size=6),
    ]
    constants = {"w": random(0, 1, gates * 6, 4), "r": random(1, 1, gates * 6, 6)}
    expanded = {"value": np.float32(start), "shape": np.array([1, 2, 6])}
    model = model_of(nodes, {**constants, **expanded}, {"x": ["steps", 2, 4]})
    cases = [{"x": random(steps, steps, 2, 4)} for steps in (1, 4, 9)]
    wanted = [run(model, feeds)["y"] for feeds in cases]
    assert simplify_recurrent(model.graph) == (start == 0.0)
    for feeds, y in zip(cases, wanted, strict=True):
        np.testing.assert_allclose(run(model, feeds)["y"], y, rtol=1e-6)


def test_one_direction_needs_no_transpose_of_its_result(tmp_path: Path) -> None:
    _, prepared = exported(Reader("GRU"), {"x": torch.zeros(2, 5, 4)}, tmp_path, {0: "batch"})
    assert operators(prepared)["Reshape"] == 0
    assert operators(prepared)["Squeeze"] == 1
    assert operators(prepared)["Transpose"] == 1  # of the input
    assert operators(prepared)["Gather"] == 0  # the last state instead


def _one_step(target: list[int]) -> ir.Model:
    """A GRU whose transposed result is reshaped to ``target``."""
    nodes = [
        node("GRU", ["x", "w", "r"], ["all"], hidden_size=6),
        node("Transpose", ["all"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "to"], ["m"]),
        node("Relu", ["m"], ["y"]),
    ]
    constants = {"w": random(0, 1, 18, 4), "r": random(1, 1, 18, 6), "to": np.array(target)}
    return model_of(nodes, constants, {"x": [5, 2, 4]})


@pytest.mark.parametrize("target", [[5, 2, 6], [5, 1, 12], [5, 4, 3], [2, 5, 6], [10, 1, 6]])
def test_only_the_reshape_that_drops_the_directions_is_replaced(target: list[int]) -> None:
    model = _one_step(target)
    feeds = {"x": random(2, 5, 2, 4)}
    wanted = run(model, feeds)
    assert simplify_recurrent(model.graph) == (target == [5, 2, 6])
    np.testing.assert_allclose(run(model, feeds)["y"], wanted["y"], rtol=1e-6)


def test_a_swapped_pair_of_axes_is_gathered_before() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("Gather", ["t", "last"], ["g"], axis=1),
        node("Relu", ["g"], ["y"]),
    ]
    model = model_of(nodes, {"last": np.array(-1)}, {"x": ["steps", "batch", 3]})
    feeds = {"x": random(0, 4, 2, 3)}
    wanted = run(model, feeds)
    assert simplify_recurrent(model.graph) == 1
    np.testing.assert_array_equal(run(model, feeds)["y"], wanted["y"])


def test_several_steps_are_gathered_where_they_were() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        node("Gather", ["t", "some"], ["g"], axis=1),
        node("Relu", ["g"], ["y"]),
    ]
    model = model_of(nodes, {"some": np.array([0, 2])}, {"x": ["steps", "batch", 3]})
    assert simplify_recurrent(model.graph) == 0


def _last_step(
    kind: str = "GRU",
    *,
    directions: str = "forward",
    lengths: bool = False,
    index: object = -1,
    axes: list[int] | None = None,
    batch: int = 2,
) -> ir.Model:
    """The step ``index`` of all the outputs of a recurrent operator."""
    count = 2 if directions == "bidirectional" else 1
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    inputs = ["x", "w", "r", *["", "lengths"] * lengths]
    more = {"activations": ["Tanh"] * count} if kind == "RNN" else {}
    nodes = [
        node(kind, inputs, ["all"], hidden_size=6, direction=directions, name="cells", **more),
        node("Transpose", ["all"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "to"], ["m"]),
        node("Gather", ["m", "index"], ["g"]),
        node("Relu", ["g"], ["y"]),
    ]
    if axes is not None:
        nodes[1:3] = [node("Squeeze", ["all", "axes"], ["m"])]
    constants = {
        "w": random(0, count, gates * 6, 4),
        "r": random(1, count, gates * 6, 6),
        "to": np.array([5, batch, count * 6]),
        "lengths": np.array([5, 3], np.int32),
        "axes": np.array(axes or [1]),
        "index": np.array(index),
    }
    used = {name for one in nodes for name in one.input}
    constants = {name: value for name, value in constants.items() if name in used}
    return model_of(nodes, constants, {"x": [5, batch, 4]})


def _gathers(model: ir.Model) -> int:
    common.RemoveUnusedNodesPass()(model)
    return operators(model)["Gather"]


@pytest.mark.parametrize("kind", STATES)
def test_the_last_step_of_all_outputs_is_the_last_state(kind: str) -> None:
    model = _last_step(kind)
    feeds = {"x": random(2, 5, 2, 4)}
    wanted = run(model, feeds)
    simplify_recurrent(model.graph)
    assert _gathers(model) == 0
    (cell,) = (one for one in model.graph if one.op_type == kind)
    assert [bool(value.uses()) for value in cell.outputs[:2]] == [False, True]
    np.testing.assert_allclose(run(model, feeds)["y"], wanted["y"], rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"directions": "bidirectional"},
        {"directions": "reverse"},
        {"lengths": True},
        {"index": 0},
        {"index": 4},
        {"index": [-1]},
        {"index": [-1, -1]},
        {"axes": [1, 2], "batch": 1},
    ],
    ids=str,
)
def test_other_steps_are_gathered_as_they_were(options: dict[str, Any]) -> None:
    model = _last_step(**options)
    feeds = {"x": random(2, 5, options.get("batch", 2), 4)}
    wanted = run(model, feeds)["y"]
    simplify_recurrent(model.graph)
    assert _gathers(model) == 1
    got = run(model, feeds)["y"]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_a_last_step_that_leaves_the_graph_keeps_its_name_and_value() -> None:
    model = _last_step()
    gather = next(one for one in model.graph if one.op_type == "Gather")
    model.graph.outputs.append(gather.outputs[0])
    feeds = {"x": random(2, 5, 2, 4)}
    wanted = run(model, feeds)
    simplify_recurrent(model.graph)
    got = run(model, feeds)
    assert list(got) == ["y", "g"]
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6)
