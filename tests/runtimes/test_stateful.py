from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.exporters import ExportOptions
from edgekit.exporters.prepare import prepare_onnx
from edgekit.runtimes import Session, SessionOptions, StatefulSession

from edgekit import exporters, runtimes
from edgekit.errors import SpecError
from edgekit.state import State

STATE = {"past": "present", "total": "new_total"}


def _memory(folder: Path) -> Path:
    """Keeps every row of x, and their sum: a state that grows and one that does not."""
    x = ir.val("x", ir.DataType.FLOAT, ["batch", "length", 2])
    past = ir.val("past", ir.DataType.FLOAT, ["batch", "past", 2])
    total = ir.val("total", ir.DataType.FLOAT, ["batch", 2])
    axis = ir.val("axis", const_value=ir.tensor(np.array([1]), name="axis"))
    present = ir.val("present", ir.DataType.FLOAT, ["batch", "all", 2])
    summed = ir.val("summed", ir.DataType.FLOAT, ["batch", 2])
    new = ir.val("new_total", ir.DataType.FLOAT, ["batch", 2])
    y = ir.val("y", ir.DataType.FLOAT, ["batch", 2])
    nodes = [
        ir.node("Concat", [past, x], {"axis": 1}, outputs=[present]),
        ir.node("ReduceSum", [x, axis], {"keepdims": 0}, outputs=[summed]),
        ir.node("Add", [total, summed], outputs=[new]),
        ir.node("ReduceMax", [present, axis], {"keepdims": 0}, outputs=[y]),
    ]
    graph = ir.Graph(
        [x, past, total],
        [y, present, new],
        nodes=nodes,
        initializers=[axis],
        opset_imports={"": 20},
        name="memory",
    )
    ir.save(ir.Model(graph, ir_version=10), folder / "plain.onnx")
    return prepare_onnx(folder / "plain.onnx", folder / "memory.onnx", state=STATE)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _memory(tmp_path_factory.mktemp("memory"))


@pytest.fixture(params=["onnxruntime", "openvino", "openvino-onnx"])
def session(request: pytest.FixtureRequest, graph: Path, tmp_path: Path) -> Session:
    name, _, as_onnx = request.param.partition("-")
    path = graph
    if not as_onnx:
        path = exporters.get(name).export(graph, tmp_path / name, ExportOptions(None, {}))[0]
    return runtimes.get(name).load(path)


def _x(*rows: float) -> dict[str, np.ndarray]:
    """One sequence in a batch of one."""
    return {"x": np.array([[[row, -row] for row in rows]], np.float32)}


def test_state_starts_empty_and_is_carried_from_call_to_call(session: Session) -> None:
    with session.stateful() as memory:
        assert [spec.name for spec in memory.inputs] == ["x"]
        assert [spec.name for spec in memory.outputs] == ["y"]
        made = memory.run(_x(1, 5))
        np.testing.assert_array_equal(made["y"], [[5, -1]])
        assert list(made) == ["y"]
        np.testing.assert_array_equal(memory.run(_x(3))["y"], [[5, -1]])
        np.testing.assert_array_equal(memory.run(_x(9))["y"], [[9, -1]])
        assert memory.state["past"].shape == (1, 4, 2)
        np.testing.assert_array_equal(memory.state["total"], [[18, -18]])


def test_the_session_itself_stays_without_memory(session: Session) -> None:
    state = {"past": np.zeros((1, 0, 2), np.float32), "total": np.ones((1, 2), np.float32)}
    with session:
        for _ in range(2):
            made = session.run({**_x(1, 2), **state})
            np.testing.assert_array_equal(made["new_total"], [[4, -2]])
            assert made["present"].shape == (1, 2, 2)


def test_reset_starts_again_also_with_another_batch(session: Session) -> None:
    with session.stateful() as memory:
        memory.run(_x(7))
        memory.reset()
        assert memory.state == {}
        two = {"x": np.ones((2, 3, 2), np.float32)}
        np.testing.assert_array_equal(memory.run(two)["y"], np.ones((2, 2)))


def test_going_on_from_a_state_of_before_with_its_rows_chosen(session: Session) -> None:
    with session.stateful() as memory:
        memory.run({"x": np.stack([_x(1)["x"][0], _x(4)["x"][0]])})
        second = {name: array[[1, 1]] for name, array in memory.state.items()}
        memory.reset(second)
        made = memory.run({"x": np.zeros((2, 1, 2), np.float32)})
        np.testing.assert_array_equal(made["y"], [[4, 0], [4, 0]])


def test_a_call_of_another_batch_is_refused_and_changes_nothing(session: Session) -> None:
    with session.stateful() as memory:
        memory.run(_x(1))
        with pytest.raises(SpecError, match=r"'x': axis 0 is 2, in the calls before it was 1.*re"):
            memory.run({"x": np.zeros((2, 1, 2), np.float32)})
        with pytest.raises(SpecError, match="dtype is float64"):
            memory.run({"x": np.zeros((1, 1, 2))})
        assert memory.state["past"].shape == (1, 1, 2)


def test_results_go_into_given_arrays_and_calls_run_in_order(session: Session) -> None:
    with session.stateful() as memory:
        out = np.empty((1, 2), np.float32)
        assert memory.run(_x(6), {"y": out})["y"] is out
        np.testing.assert_array_equal(out, [[6, -6]])
        futures = [memory.submit(_x(row)) for row in (8, 2, 7)]
        made = [future.result()["y"][0, 0] for future in futures]
        assert made == [8, 8, 8]
        assert memory.state["past"][0, :, 0].tolist() == [6, 8, 2, 7]


def test_a_wrong_state_is_refused(session: Session) -> None:
    with session.stateful() as memory:
        with pytest.raises(SpecError, match=r"state: has past\. Give past, total, or nothing"):
            memory.reset({"past": np.zeros((1, 2, 2), np.float32)})
        wrong = {"past": np.zeros((1, 2, 2)), "total": np.zeros((1, 2), np.float32)}
        with pytest.raises(SpecError, match="dtype is float64, expected float32"):
            memory.reset(wrong)


def test_a_model_without_state_says_how_to_declare_it(graph: Path) -> None:
    with runtimes.get("onnxruntime").load(graph.with_name("plain.onnx")) as session:
        assert session.states == ()
        with pytest.raises(SpecError, match=r"the model has no state\. Set state="):
            session.stateful()
        with pytest.raises(SpecError, match="no input 'h' with an output 'h1'"):
            StatefulSession(session, [State("h", "h1", (1,))])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_state_is_known_of_an_artifact_from_the_engines_cache(
    graph: Path, tmp_path: Path, engine: str
) -> None:
    for _ in range(2):  # the second load reads what the first one kept
        with runtimes.get(engine).load(graph, SessionOptions(cache=tmp_path)) as session:
            assert [state.input for state in session.states] == list(STATE)


def test_closing_closes_the_session_below(session: Session) -> None:
    memory = session.stateful()
    memory.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.run({**_x(1), "past": np.zeros((1, 0, 2), "f4"), "total": np.zeros((1, 2), "f4")})
