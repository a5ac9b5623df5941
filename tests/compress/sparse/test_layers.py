"""Which layers become sparse, and their weights as matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.compress.sparse.layers import choose_layers, from_matrix, to_matrix
from edgekit.compress.sparse.masks import Pattern
from edgekit.errors import CompressError


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(6, 4))


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(5, 3), nn.Conv1d(4, 6, 3), nn.Conv2d(4, 6, (2, 3)), nn.Conv2d(4, 6, 3, groups=2)],
    ids=["linear", "conv1d", "conv2d", "grouped"],
)
def test_a_weight_goes_to_a_matrix_and_back(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> None:
    matrix = to_matrix(layer, layer.weight)
    groups = getattr(layer, "groups", 1)
    assert matrix.shape[:2] == (groups, layer.weight.shape[0] // groups)
    back = from_matrix(layer, matrix)
    assert torch.equal(back, layer.weight)
    assert back.is_contiguous()


def test_consecutive_columns_are_input_channels_at_one_position_of_the_kernel() -> None:
    layer = nn.Conv2d(4, 1, 2)
    matrix = to_matrix(layer, layer.weight)[0, 0]
    assert torch.equal(matrix[:4], layer.weight[0, :, 0, 0])
    assert torch.equal(matrix[4:8], layer.weight[0, :, 0, 1])


def test_the_first_convolution_and_the_last_layer_stay_dense_by_default() -> None:
    choice = choose_layers(network(), None, None)
    assert list(choice.layers) == ["1"]
    assert [change.where for change in choice.left] == ["0", "3"]
    assert all(not change.kept and "usually" in change.why for change in choice.left)


def test_a_first_linear_layer_does_not_stay_dense() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    assert list(choose_layers(model, None, None).layers) == ["0"]


def test_an_empty_list_excludes_nothing() -> None:
    assert list(choose_layers(network(), (), None).layers) == ["0", "1", "3"]


def test_globs_exclude() -> None:
    choice = choose_layers(network(), ("[01]",), None)
    assert list(choice.layers) == ["3"]
    assert choice.left[0].why == "excluded by '[01]'"


def test_a_glob_that_matches_nothing_names_the_nearest() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(CompressError, match="'encodr' matches no layer, did you mean 'encoder'"):
        choose_layers(model, ("encodr",), None)


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(CompressError, match=r"module '0'.*excluded by '\*'"):
        choose_layers(network(), ("*",), None)
    with pytest.raises(CompressError, match="no layer"):
        choose_layers(nn.ReLU(), None, None)


def test_input_channels_that_the_pattern_does_not_divide_leave_a_layer_dense() -> None:
    choice = choose_layers(network(), (), Pattern(2, 4))
    assert list(choice.layers) == ["1"]
    assert [change.why for change in choice.left] == [
        "its 3 input channels are not a multiple of 4",
        "its 6 input channels are not a multiple of 4",
    ]


def test_a_depthwise_convolution_has_one_input_channel() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8, 8))
    assert list(choose_layers(model, (), Pattern(2, 4)).layers) == ["1"]
    assert list(choose_layers(model, (), None).layers) == ["0", "1"]


def test_a_shared_weight_stays_dense() -> None:
    model = nn.ModuleList([nn.Embedding(7, 4), nn.Linear(4, 7), nn.Linear(4, 4)])
    model[1].weight = model[0].weight
    choice = choose_layers(model, (), None)
    assert list(choice.layers) == ["2"]
    assert choice.left[0].why == "another module has the same weight"


def test_weights_that_are_computed_half_or_not_finite_stay_dense() -> None:
    model = nn.ModuleList([nn.Linear(4, 4) for _ in range(4)])
    nn.utils.parametrizations.weight_norm(model[0])
    model[1].half()
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    choice = choose_layers(model, (), None)
    assert list(choice.layers) == ["3"]
    assert [change.why.split()[-1] for change in choice.left] == [
        "parameters", "float32", "infinity",
    ]  # fmt: skip
