"""How a budget is spread over layers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.sparse.allocation import erdos_renyi_kernel, uniform

SHAPES = {"stem": (16, 3, 3, 3), "body": (64, 64, 3, 3), "head": (10, 64)}
DIMS = st.lists(st.integers(1, 64), min_size=2, max_size=4)


@given(st.lists(DIMS, min_size=1, max_size=6), st.floats(0.01, 0.99))
def test_the_whole_is_the_budget(shapes: list[list[int]], ratio: float) -> None:
    named = {str(index): shape for index, shape in enumerate(shapes)}
    counts = erdos_renyi_kernel(named, ratio)
    sizes = {name: math.prod(shape) for name, shape in named.items()}
    assert all(1 <= counts[name] <= sizes[name] for name in named)
    assert abs(sum(counts.values()) - (1 - ratio) * sum(sizes.values())) <= len(named)


def test_small_layers_are_denser() -> None:
    counts = erdos_renyi_kernel(SHAPES, 0.9)
    density = {name: counts[name] / math.prod(shape) for name, shape in SHAPES.items()}
    assert density["stem"] == 1.0
    assert density["head"] > density["body"]


def test_density_goes_with_the_sum_of_the_axes() -> None:
    counts = erdos_renyi_kernel({"a": (100, 100), "b": (50, 50)}, 0.9)
    assert counts["a"] / counts["b"] == pytest.approx(2.0, rel=0.01)


def test_uniform_gives_each_the_same() -> None:
    assert uniform(SHAPES, 0.9) == {"stem": 43, "body": 3686, "head": 64}
