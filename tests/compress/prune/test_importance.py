"""Every criterion finds the unit that was made not to matter."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compress.prune.importance import CRITERIA, score_units
from edgekit.errors import CalibrationError, WorkloadError
from edgekit.spec import Array
from tests.compress.prune.networks import CHANNELS, Net, channels, workload


def scores(criterion: str, model: Net, seed: int = 0) -> Array:
    return score_units(workload(), model, [channels()], criterion, seed)["conv"]


def net() -> Net:
    model = workload().model
    assert isinstance(model, Net)
    return model


@torch.no_grad()
def no_weights(model: Net, channel: int) -> None:
    model.conv.weight[channel] = 0
    model.second.weight[:, channel] = 0


@torch.no_grad()
def weak_weights(model: Net, channel: int) -> None:
    model.conv.weight[channel] *= 0.1
    model.second.weight[:, channel] *= 0.1


@torch.no_grad()
def small_scale(model: Net, channel: int) -> None:
    model.norm.weight.neg_()  # the sign does not matter
    model.norm.weight[channel] = 1e-3


@torch.no_grad()
def no_gradient(model: Net, channel: int) -> None:
    model.second.weight[:, channel] = 0


@torch.no_grad()
def faint_input(model: Net, channel: int) -> None:
    """The weights that read it are the largest, yet there is nothing to read."""
    model.norm.weight[channel] = 1e-4
    model.norm.bias[channel] = 0
    model.second.weight[:, channel] *= 3


@pytest.mark.parametrize("channel", [0, 5, 7])
@pytest.mark.parametrize(
    ("criterion", "plant"),
    [
        ("l1", no_weights),
        ("l1", weak_weights),
        ("l2", no_weights),
        ("l2", weak_weights),
        ("norm-scale", small_scale),
        ("taylor", no_gradient),
        ("taylor", weak_weights),
        ("obd", no_gradient),
        ("obd", weak_weights),
        ("wanda", faint_input),
        ("wanda", no_gradient),
    ],
)
def test_what_does_not_matter_is_ranked_lowest(
    criterion: str, plant: Callable[[Net, int], None], channel: int
) -> None:
    model = net()
    plant(model, channel)
    found = scores(criterion, model)
    assert found.shape == (CHANNELS,)
    assert int(found.argmin()) == channel


def test_weights_alone_do_not_tell_a_faint_input() -> None:
    model = net()
    faint_input(model, 5)
    assert int(scores("l2", model).argmin()) != 5


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_same_seed_gives_the_same_scores_and_the_model_stays(criterion: str) -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    np.testing.assert_array_equal(scores(criterion, model), scores(criterion, model))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_random_scores_depend_on_the_seed() -> None:
    assert not np.array_equal(scores("random", net(), 0), scores("random", net(), 1))


@pytest.mark.parametrize("criterion", ["l1", "l2", "norm-scale", "wanda", "random"])
def test_scores_that_are_no_losses_are_relative_to_their_group(criterion: str) -> None:
    assert scores(criterion, net()).mean() == pytest.approx(1.0)


def test_losses_can_be_compared_between_groups() -> None:
    model = net()
    before = scores("obd", model)
    with torch.no_grad():
        model.conv.weight *= 1.0001
    assert scores("obd", model) == pytest.approx(before, rel=0.1)
    assert scores("obd", model).mean() < 0.5


@pytest.mark.parametrize("criterion", ["taylor", "obd"])
def test_gradients_need_training(criterion: str) -> None:
    bare = workload()
    bare.training = None
    with pytest.raises(WorkloadError, match="has no training, which this importance needs"):
        score_units(bare, net(), [channels()], criterion, 0)


def test_activations_need_calibration_data_that_is_good() -> None:
    bad = workload()
    bad.calibration = None
    with pytest.raises(CalibrationError, match="no calibration data"):
        score_units(bad, net(), [channels()], "wanda", 0)
    bad.calibration = list
    with pytest.raises(CalibrationError, match="calibration set is empty"):
        score_units(bad, net(), [channels()], "wanda", 0)
    bad.calibration = lambda: [{"image": np.full((1, 3, 6, 6), np.nan, np.float32)}]
    with pytest.raises(CalibrationError, match="gives layer 'second' an input with NaN"):
        score_units(bad, net(), [channels()], "wanda", 0)


@settings(max_examples=25)
@given(order=st.permutations(range(CHANNELS)), criterion=st.sampled_from(["l1", "l2"]))
def test_channels_in_another_order_have_the_same_scores(order: list[int], criterion: str) -> None:
    model, mixed = net(), net()
    with torch.no_grad():
        mixed.conv.weight.copy_(model.conv.weight[order])
        mixed.second.weight.copy_(model.second.weight[:, order])
    np.testing.assert_allclose(scores(criterion, mixed), scores(criterion, model)[order])


@settings(max_examples=25)
@given(
    factor=st.floats(0.01, 100.0), channel=st.integers(0, CHANNELS - 1),
    criterion=st.sampled_from(["l1", "l2"]),
)  # fmt: skip
def test_a_channel_matters_more_with_larger_weights(
    factor: float, channel: int, criterion: str
) -> None:
    """As much more as they are larger, squared for l2; the others keep their proportions."""
    model, scaled = net(), net()
    with torch.no_grad():
        scaled.conv.weight[channel] *= factor
        scaled.second.weight[:, channel] *= factor
    gain = (scores(criterion, scaled) / scores(criterion, model))[[channel, channel - 1]]
    assert gain[0] / gain[1] == pytest.approx(factor if criterion == "l1" else factor**2, rel=1e-4)
