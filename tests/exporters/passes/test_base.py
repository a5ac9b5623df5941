from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.exporters.passes.base import Rewrite, Undone, prove, rewrite
from edgekit.exporters.passes.fold_batch_norm import fold_batch_norm
from edgekit.exporters.passes.proof import UnprovableError
from onnx_ir.passes import common

from tests.compress.graphs import model_of, node, random, run


def _network() -> ir.Model:
    """Conv, BatchNorm, Conv, BatchNorm."""
    generator = np.random.default_rng(0)
    nodes, constants, last = [], {}, "x"
    for name in ("first", "second"):
        constants |= {f"{name}.w": random(1, 3, 3, 3, 3), f"{name}.b": random(2, 3)}
        norm = [f"{name}.{part}" for part in ("gamma", "beta", "mean", "var")]
        constants |= {part: generator.uniform(0.5, 2, 3).astype(np.float32) for part in norm}
        out = "y" if name == "second" else "n"
        nodes += [
            node("Conv", [last, f"{name}.w", f"{name}.b"], [f"{name}.c"], name=f"{name}_conv"),
            node("BatchNormalization", [f"{name}.c", *norm], [out], name=f"{name}_norm"),
        ]
        last = out
    return model_of(nodes, constants, {"x": ["batch", 3, 8, 8]})


def _scaled(name: str, factor: float) -> Rewrite:
    """A pass that spoils the weight of one convolution."""

    def edit(graph: ir.Graph) -> int:
        weight = graph.initializers[name]
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(factor), name=name)
        return 1

    return Rewrite("spoil", edit)


_FOLD = Rewrite("fold-batch-norm", fold_batch_norm)


def _operators(model: ir.Model) -> list[str]:
    return [one.op_type for one in model.graph]


def test_passes_that_keep_the_result_are_kept_and_the_given_model_as_it_was() -> None:
    model = _network()
    changed, undone = prove(model, [_FOLD])
    assert undone == ()
    assert _operators(changed) == ["Conv", "Conv"]
    assert _operators(model) == ["Conv", "BatchNormalization"] * 2


@pytest.mark.parametrize("factor", [1.01, -1.0, np.nan, 1e30])
def test_a_pass_that_changes_a_result_is_undone_and_the_others_are_not(factor: float) -> None:
    model = _network()
    feeds = {"x": random(5, 2, 3, 8, 8)}
    steps = [_scaled("second.w", factor), _FOLD, common.RemoveUnusedNodesPass()]
    changed, (undone,) = prove(model, steps)
    assert _operators(changed) == ["Conv", "Conv"]
    np.testing.assert_allclose(run(changed, feeds)["y"], run(model, feeds)["y"], atol=1e-4)
    assert undone.step == "spoil"
    assert str(undone).startswith("Graph pass spoil was undone: from node 'second_conv' on, output")


def test_a_change_of_rounding_is_kept() -> None:
    _, undone = prove(_network(), [_scaled("second.w", 1 + 1e-6)])
    assert undone == ()


def test_how_much_differs_is_told() -> None:
    _, (undone,) = prove(_network(), [_scaled("first.w", 1.5)])
    assert "'first_conv'" in undone.why
    assert "output 'y' differs by 0." in undone.why
    assert "(0.0001 is allowed)" in undone.why


def test_a_pass_after_which_nothing_runs_is_undone() -> None:
    def cut(graph: ir.Graph) -> int:
        graph.node(0).replace_input_with(0, ir.Value(name="nowhere"))
        return 1

    model = _network()
    changed, (undone,) = prove(model, [Rewrite("cut", cut), _FOLD])
    assert str(undone).startswith("Graph pass cut was undone: it cannot be run any more: ")
    assert _operators(changed) == ["Conv", "Conv"]


def test_a_pass_that_renames_an_output_is_undone() -> None:
    def rename(graph: ir.Graph) -> int:
        graph.outputs[0].name = "z"
        return 1

    changed, (undone,) = prove(_network(), [Rewrite("rename", rename)])
    assert "the outputs are ['z'] instead of ['y']" in str(undone)
    assert [value.name for value in changed.graph.outputs] == ["y"]


def test_a_mistake_that_one_size_hides_is_found_at_another() -> None:
    nodes = [node("Reshape", ["x", "to"], ["r"]), node("Relu", ["r"], ["y"])]
    model = model_of(nodes, {"to": np.array([-1, 4])}, {"x": ["batch", 2, 4]})

    def fixed(graph: ir.Graph) -> int:
        to = graph.initializers["to"]
        to.const_value = ir.tensor(np.array([4, 4]), name="to")  # right at batch 2 alone
        return 1

    _, undone = prove(model, [Rewrite("fixed", fixed)])
    assert [one.step for one in undone] == ["fixed"]


def test_random_results_cannot_be_proven() -> None:
    nodes = [node("RandomNormalLike", ["x"], ["r"], name="dice"), node("Relu", ["r"], ["y"])]
    with pytest.raises(UnprovableError, match="node 'dice' draws random numbers"):
        prove(model_of(nodes, {}, {"x": ["n", 2]}), [_FOLD])


def test_what_is_left_out_is_said_in_one_line() -> None:
    assert str(Undone("", "no kernel")) == "Graph passes were left out: no kernel."


def test_where_nothing_can_be_proven_only_the_form_changes_and_that_is_told() -> None:
    nodes = [
        node("RandomNormalLike", ["x"], ["r"], name="dice"),
        node("Identity", ["r"], ["i"]),
        node("Relu", ["i"], ["y"]),
    ]
    model = model_of(nodes, {}, {"x": ["n", 2]})

    def spoil(graph: ir.Graph) -> int:
        graph.node(0).op_type = "Relu"
        return 1

    told: list[str] = []
    form = (common.IdentityEliminationPass(),)
    changed = rewrite(model, [Rewrite("spoil", spoil)], told.append, form)
    assert _operators(changed) == ["RandomNormalLike", "Relu"]
    assert told == ["Graph passes were left out: node 'dice' draws random numbers."]


def test_what_is_only_timed_is_not_proven() -> None:
    changed = rewrite(_network(), [_scaled("first.w", 2.0), _FOLD], None)
    assert _operators(changed) == ["Conv", "Conv"]
