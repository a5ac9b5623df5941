from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgekit.dynamic_axes import differing
from edgekit.errors import WorkloadError


def _call(batch: int, length: int, width: int) -> dict[str, Any]:
    return {
        "tokens": torch.zeros(batch, length, dtype=torch.int64),
        "mask": np.zeros((batch, length), np.float32),
        "image": torch.zeros(batch, 3, width, 8),
        "scale": torch.zeros(4),
    }


def test_what_differs_is_dynamic_and_what_differs_alike_is_one_dimension() -> None:
    assert differing(_call(2, 5, 16), _call(3, 7, 24), "w") == {
        "tokens": {0: "batch", 1: "tokens_1"},
        "mask": {0: "batch", 1: "tokens_1"},
        "image": {0: "batch", 2: "image_2"},
        "scale": {},
    }


def test_without_a_batch_nothing_is_called_so() -> None:
    assert differing(_call(2, 5, 16), _call(2, 6, 16), "w")["mask"] == {1: "tokens_1"}


def test_equal_sizes_that_part_are_two_dimensions() -> None:
    found = differing(_call(2, 5, 5), _call(2, 6, 7), "w")
    assert found["tokens"] == {1: "tokens_1"}
    assert found["image"] == {2: "image_2"}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (_call(2, 5, 16), "have the sizes of example_inputs"),
        ({"tokens": _call(2, 5, 16)["tokens"]}, "have tokens, example_inputs have tokens, mask"),
        (_call(2, 5, 16) | {"scale": torch.zeros(4, 1)}, "'scale' has 2 dimensions instead of 1"),
        (
            _call(3, 5, 16) | {"mask": np.zeros((3, 5))},
            "'mask' has dtype float64 instead of float32",
        ),
    ],
)
def test_calls_that_differ_in_more_than_sizes_are_refused(other: dict[str, Any], told: str) -> None:
    with pytest.raises(WorkloadError, match=rf"^w, other_inputs: {told}"):
        differing(_call(2, 5, 16), other, "w")
