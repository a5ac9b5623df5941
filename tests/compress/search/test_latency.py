from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgekit.compress.base import Measured
from edgekit.compress.quantize.placement import plan
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.compress.search.latency import (
    Group,
    group_units,
    leave_what_does_not_pay,
)
from tests.compress.graphs import model_of, node, random

GROUPS = [Group(name, frozenset(name)) for name in ("a", "bc", "d")]


def never() -> bool:
    return False


class Bench:
    """Measures what an engine with these costs an operator in int8 and float would take."""

    def __init__(self, cost: dict[str, tuple[float, float]], noise: float = 0.01) -> None:
        self.cost = cost
        self.noise = noise
        self.asked: list[tuple[frozenset[str], frozenset[str]]] = []

    def time(self, floats: frozenset[str]) -> float:
        return sum(pair[name in floats] for name, pair in self.cost.items())

    def __call__(self, candidate: frozenset[str], best: frozenset[str], _label: str) -> Measured:
        self.asked.append((candidate, best))
        ratio = self.time(best) / self.time(candidate)
        return Measured(ratio, ratio - self.noise)


def test_only_groups_that_are_faster_in_float_are_left_float() -> None:
    bench = Bench({"a": (2.0, 1.0), "b": (1.0, 2.0), "c": (1.0, 1.0), "d": (3.0, 1.0)})
    assert leave_what_does_not_pay(GROUPS, bench, never) == frozenset("ad")


def test_each_candidate_is_compared_with_the_best_so_far() -> None:
    bench = Bench({"a": (2.0, 1.0), "b": (1.0, 2.0), "c": (1.0, 1.0), "d": (3.0, 1.0)})
    leave_what_does_not_pay(GROUPS, bench, never)
    assert bench.asked == [
        (frozenset("a"), frozenset()),
        (frozenset("abc"), frozenset("a")),
        (frozenset("ad"), frozenset("a")),
    ]


def test_a_gain_inside_the_noise_is_no_gain() -> None:
    bench = Bench({"a": (1.005, 1.0), "b": (1, 1), "c": (1, 1), "d": (1, 1)})
    assert leave_what_does_not_pay(GROUPS, bench, never) == frozenset()


def test_a_candidate_that_cannot_be_built_is_passed_over() -> None:
    bench = Bench(dict.fromkeys("abcd", (2.0, 1.0)))
    found = leave_what_does_not_pay(
        GROUPS, lambda c, b, label: None if label == "bc" else bench(c, b, label), never
    )
    assert found == frozenset("ad")


def test_no_group_is_tried_once_the_time_is_out() -> None:
    bench = Bench(dict.fromkeys("abcd", (2.0, 1.0)))
    answers = iter([False, True])
    assert leave_what_does_not_pay(GROUPS, bench, lambda: next(answers)) == frozenset("a")
    assert len(bench.asked) == 1


def _mobile() -> ir.Model:
    nodes = [
        node("Conv", ["x", "stem"], ["c0"], name="stem"),
        node("Conv", ["c0", "deep"], ["c1"], group=16, pads=[1] * 4, name="depthwise"),
        node("Conv", ["c1", "point0"], ["c2"], name="point 0"),
        node("Conv", ["c2", "point1"], ["c3"], name="point 1"),
        node("Conv", ["c3", "point2"], ["c4"], strides=[2, 2], name="strided"),
        node("Conv", ["c1", "point3"], ["c5"], strides=[2, 2], name="other strided"),
        node("Add", ["c4", "c5"], ["y"], name="sum"),
    ]
    constants = {f"point{i}": random(i, 16, 16, 1, 1) for i in range(4)}
    constants |= {"stem": random(8, 16, 3, 1, 1), "deep": random(9, 16, 1, 3, 3)}
    return model_of(nodes, constants, {"x": ["n", 3, 8, 8]})


def test_operators_with_the_same_kernel_are_one_group() -> None:
    units = [chosen.node for chosen in plan(_mobile(), PROFILES["onnxruntime"]).nodes]
    groups = {group.names for group in group_units(units)}
    assert groups == {
        frozenset({"stem"}),
        frozenset({"depthwise"}),
        frozenset({"point 0", "point 1"}),
        frozenset({"strided", "other strided"}),
        frozenset({"sum"}),
    }


def test_where_int8_gains_least_is_asked_first() -> None:
    units = [chosen.node for chosen in plan(_mobile(), PROFILES["onnxruntime"]).nodes]
    order = [min(group.names) for group in group_units(units)]
    assert order[:3] == ["sum", "stem", "depthwise"] or order[:3] == ["sum", "depthwise", "stem"]


def test_labels_tell_the_groups_apart() -> None:
    units = [chosen.node for chosen in plan(_mobile(), PROFILES["onnxruntime"]).nodes]
    labels = [group.label for group in group_units(units)]
    assert len(set(labels)) == len(labels)
    assert np.any(["depthwise" in label for label in labels])
