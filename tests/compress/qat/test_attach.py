"""Attaching, observing and finishing: what is there while training is gone afterwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from edgekit.calibration import MinMaxObserver, Range
from torch import nn

from edgekit.compress.qat.attach import LearnedLayer, attach
from edgekit.compress.qat.fake_quant import InputFakeQuant
from edgekit.compress.qat.observe import observe, shared_inputs
from edgekit.compress.quantize.arithmetic import asymmetric_uint8
from edgekit.errors import CalibrationError, WorkloadError
from edgekit.spec import Feeds


class _Attention(nn.Module):
    """Three layers read one tensor, one by keyword; one layer is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 6) for _ in range(3))
        self.out = nn.Linear(6, 2)
        self.unused = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * 2
        weights = torch.softmax(self.query(x) @ self.key(input=x).transpose(-1, -2), -1)
        return self.out(weights @ self.value(x))


def _feeds(count: int = 3) -> Iterator[Feeds]:
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield {"x": generator.standard_normal((4, 5, 6)).astype(np.float32)}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return _Attention().eval()


def _train(model: nn.Module, rate: float = 1e-2, steps: int = 5) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for feeds in _feeds(steps):
        optimizer.zero_grad()
        (model(torch.from_numpy(feeds["x"])) ** 2).sum().backward()
        optimizer.step()
    model.eval()


def _traces(model: nn.Module) -> tuple[object, ...]:
    return (
        {name: type(module) for name, module in model.named_modules()},
        {name: (p.shape, p.requires_grad) for name, p in model.named_parameters()},
        list(model.state_dict()),
        [name for name, _ in model.named_buffers()],
        {name: sorted(vars(module)) for name, module in model.named_modules()},
        sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()),
        sum(len(m._forward_pre_hooks_with_kwargs) for m in model.modules()),
    )


def _learn(model: nn.Module) -> list[LearnedLayer]:
    handle = attach(model, observe(model, _feeds(), ["x"]))
    _train(model)
    return handle.finish()


def test_observe_sees_the_input_of_every_called_layer(model: nn.Module) -> None:
    before = _traces(model)
    ranges = observe(model, _feeds(), ["x"], MinMaxObserver)
    assert set(ranges) == {"query", "key", "value", "out"}
    values = np.concatenate([feeds["x"] for feeds in _feeds()]) * 2
    assert ranges["query"] == ranges["key"] == (values.min(), values.max())
    assert _traces(model) == before


def test_observe_restores_training_flags(model: nn.Module) -> None:
    model.train()
    model.out.eval()
    observe(model, _feeds(), ["x"])
    assert model.training
    assert not model.out.training


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ([], "empty"),
        ([{"y": np.zeros((1, 5, 6), np.float32)}], "'x'"),
        ([{"x": np.zeros((1, 5, 7), np.float32)}], "forward raised"),
        ([{"x": np.full((1, 5, 6), np.nan, np.float32)}], "NaN"),
    ],
)
def test_observe_says_what_is_wrong_with_the_data(
    model: nn.Module, feeds: list[Feeds], message: str
) -> None:
    before = _traces(model)
    with pytest.raises(CalibrationError, match=message):
        observe(model, feeds, ["x"])
    assert _traces(model) == before


def test_layers_that_read_one_tensor_are_found(model: nn.Module) -> None:
    assert shared_inputs(model, next(_feeds()), ["x"]) == [("key", "query", "value")]


def test_a_tensor_changed_in_place_is_another_tensor() -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.one(x) + self.two(x.relu_())

    assert shared_inputs(Changing().eval(), next(_feeds()), ["x"]) == []


def test_a_layer_called_twice_ties_its_tensors() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.both = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(x)
            return self.one(x) + self.two(y) + self.both(x) + self.both(y)

    groups = shared_inputs(Tied().eval(), next(_feeds()), ["x"])
    assert groups == [("both", "one", "two")]


def test_layers_of_one_tensor_learn_one_range(model: nn.Module) -> None:
    feeds = next(_feeds())
    handle = attach(model, observe(model, _feeds(), ["x"]), shared_inputs(model, feeds, ["x"]))
    assert model.query.input_fake_quant is model.value.input_fake_quant
    _train(model)
    learned = {layer.name: (layer.scale, layer.zero_point) for layer in handle.finish()}
    assert learned["query"] == learned["key"] == learned["value"] != learned["out"]


def test_attach_rounds_weights_and_inputs(model: nn.Module) -> None:
    x = torch.from_numpy(next(_feeds())["x"])
    with torch.no_grad():
        float_output = model(x)
        handle = attach(model, observe(model, _feeds(), ["x"]))
        quantized_output = model(x)
    assert handle.names == ("query", "key", "value", "out")
    error = (quantized_output - float_output).norm() / float_output.norm()
    assert 1e-5 < error < 0.05


def test_scales_are_parameters_that_an_optimizer_moves(model: nn.Module) -> None:
    attach(model, observe(model, _feeds(), ["x"]))
    ratios = {n: p for n, p in model.named_parameters() if n.endswith("learned")}
    assert len(ratios) == 8
    _train(model)
    assert all(bool((ratio != 0).any()) for ratio in ratios.values())


def test_finish_leaves_no_trace(model: nn.Module) -> None:
    before = _traces(model)
    handle = attach(model, observe(model, _feeds(), ["x"]))
    assert _traces(model) != before
    _train(model)
    handle.finish()
    assert _traces(model) == before
    assert handle.names == ()


def test_finish_without_training_changes_weights_by_half_a_step(model: nn.Module) -> None:
    floats = copy.deepcopy(model)
    for layer in attach(model, observe(model, _feeds(), ["x"])).finish():
        original = floats.get_submodule(layer.name).weight.detach().numpy()
        error = np.abs(layer.weight - original) / layer.weight_scale[:, None]
        assert error.max() <= 0.5001


def test_finished_weights_lie_on_the_grid_and_in_the_model(model: nn.Module) -> None:
    for layer in _learn(model):
        assert layer.weight.dtype == layer.weight_scale.dtype == np.float32
        assert layer.steps.dtype == np.int8
        assert np.abs(layer.steps.astype(int)).max() <= 127
        np.testing.assert_array_equal(
            layer.steps.astype(np.float32) * layer.weight_scale[:, None], layer.weight
        )
        module = model.get_submodule(layer.name)
        np.testing.assert_array_equal(module.weight.detach().numpy(), layer.weight)


def test_the_learned_range_gives_back_scale_and_zero_point(model: nn.Module) -> None:
    for layer in _learn(model):
        again = asymmetric_uint8(Range(low=layer.low, high=layer.high))
        assert float(again.scale) == layer.scale
        assert int(again.zero_point) == layer.zero_point


def test_any_learned_range_gives_back_scale_and_zero_point() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        low, high = (torch.rand(2, generator=generator) * 10).tolist()
        layer = nn.Linear(2, 2)
        handle = attach(layer, {"": (-low, high)})
        with torch.no_grad():
            layer.input_fake_quant.learned.normal_(std=0.1, generator=generator)
        (learned,) = handle.finish()
        again = asymmetric_uint8(Range(low=learned.low, high=learned.high))
        assert (float(again.scale), int(again.zero_point)) == (learned.scale, learned.zero_point)


def test_the_finished_model_computes_what_was_trained_but_for_the_inputs(
    model: nn.Module,
) -> None:
    handle = attach(model, observe(model, _feeds(), ["x"]))
    _train(model)
    x = torch.from_numpy(next(_feeds())["x"])
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, InputFakeQuant):
                module.forward = lambda values: values  # type: ignore[method-assign]
        trained = model(x)
        handle.finish()
        assert torch.equal(model(x), trained)


def test_two_layers_with_one_weight_are_both_on_their_grids() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    handle = attach(model, {"0": (-1.0, 1.0), "1": (-2.0, 2.0)})
    _train(model)
    for layer in handle.finish():
        np.testing.assert_array_equal(
            model.get_submodule(layer.name).weight.detach().numpy(), layer.weight
        )


def test_a_copy_made_while_training_stands_on_its_own(model: nn.Module) -> None:
    handle = attach(model, observe(model, _feeds(), ["x"]))
    x = torch.from_numpy(next(_feeds())["x"])
    with torch.no_grad():
        kept, expected = copy.deepcopy(model), model(x)
        with torch.enable_grad():
            _train(model)
        assert torch.equal(kept(x), expected)
        assert not torch.equal(model(x), expected)
    handle.finish()


def test_frozen_weights_stay_frozen(model: nn.Module) -> None:
    model.query.requires_grad_(requires_grad=False)
    _learn(model)
    assert not model.query.weight.requires_grad
    assert model.out.weight.requires_grad


def test_a_weight_that_is_computed_is_left_alone(model: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(model.query)
    handle = attach(model, observe(model, _feeds(), ["x"]))
    assert "query" not in handle.names


def test_nan_in_training_stops_at_the_next_step(model: nn.Module) -> None:
    handle = attach(model, observe(model, _feeds(), ["x"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model.train()
    x = torch.from_numpy(next(_feeds())["x"])
    (model(x).sum() * float("nan")).backward()
    optimizer.step()
    with pytest.raises(WorkloadError, match="diverged") as caught:
        model(x)
    assert "\n" not in str(caught.value)
    with pytest.raises(WorkloadError, match="query"):
        handle.finish()
