"""Inputs made up from what a server says of its model."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import SpecError
from edgekit.profile.targets.feeds import made_up, require_fit, told_specs
from edgekit.spec import TensorSpec, check_feeds

TOLD = [
    {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
    {"name": "image", "datatype": "UINT8", "shape": ["-1", "3", "4", "4"]},  # gRPC's JSON has text
    {"name": "scale", "datatype": "FP16", "shape": [2]},
    {"name": "flag", "datatype": "BOOL", "shape": []},
]


def test_dynamic_dimensions_get_names() -> None:
    shapes = {spec.name: spec.shape for spec in told_specs(TOLD, "m")}
    assert shapes == {
        "ids": ("batch", "ids.1"), "image": ("batch", 3, 4, 4), "scale": (2,), "flag": (),
    }  # fmt: skip


def test_made_up_inputs_fit_and_are_in_every_range() -> None:
    specs = told_specs(TOLD, "m")
    feeds = made_up(specs, 3, {"ids.1": 7})
    assert check_feeds(specs, feeds) == {"batch": 3, "ids.1": 7}
    assert set(np.unique(feeds["ids"])) == {0, 1}
    assert feeds["image"].max() > 200
    assert np.isfinite(feeds["scale"]).all()


def test_dynamic_dimensions_are_1_unless_told() -> None:
    assert made_up(told_specs(TOLD, "m"), 1, {})["ids"].shape == (1, 1)


@pytest.mark.parametrize(
    ("batch", "sizes", "told"),
    [(1, {"ids.2": 7}, "no input has a dynamic dimension 'ids.2', did you mean 'ids.1'"),
     (1, {"scale.0": 7}, "--size: ")],
)  # fmt: skip
def test_sizes_of_what_is_not_there_are_refused(
    batch: int, sizes: dict[str, int], told: str
) -> None:
    with pytest.raises(SpecError, match=told):
        made_up(told_specs(TOLD, "m"), batch, sizes)


def test_a_batch_of_a_model_without_one_is_refused() -> None:
    with pytest.raises(SpecError, match="--batch 2"):
        made_up([TensorSpec("x", "float32", (2, 3))], 2, {})


@pytest.mark.parametrize("datatype", ["BYTES", "FP8"])
def test_datatypes_that_cannot_be_made_up_are_refused(datatype: str) -> None:
    told = [{"name": "text", "datatype": datatype, "shape": [1]}]
    with pytest.raises(SpecError, match="m, input 'text'"):
        told_specs(told, "m")


def test_a_bundle_of_another_model_does_not_fit() -> None:
    with pytest.raises(SpecError, match=r"x\.edge: does not fit the server's model"):
        require_fit(told_specs(TOLD, "m"), {"x": np.zeros(1, np.float32)}, "x.edge")
