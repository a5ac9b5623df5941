"""A model of each family goes the whole way; ``make zoo`` takes all of them."""

from __future__ import annotations

import pytest

from edgekit import zoo
from edgekit.zoo.check.checked import Checks
from edgekit.zoo.check.model import check_model

#: Small ones, of as many kinds as can be: graphs of any size, several inputs and outputs.
NAMES = (
    "mlp-digits", "siamese-mnist", "gru-digits", "gcn-karate", "vit-mnist", "cgan-digits",
    "simclr-mnist", "clip-scenes", "nerf-balls", "ppo-cartpole",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_of_each_family_goes_the_whole_way(name: str) -> None:
    found = check_model(name, Checks(gpu="sm89"))
    assert found.passed, found.reasons
    assert {"onnxruntime", "openvino"} <= found.selected.keys()
    assert found.engine


def test_no_family_is_missing() -> None:
    found = {one.family for one in zoo.listed().values()}
    assert found == {zoo.listed()[name].family for name in NAMES}
