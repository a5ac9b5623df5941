"""The whole way on real models, and every reason why it cannot be gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.compress.base import ModuleContext
from edgekit.compress.qat.attach import LearnedLayer, attach
from edgekit.compress.qat.observe import observe
from edgekit.compress.qat.train import train_quantized
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import FineTune
from edgekit.errors import CalibrationError, WorkloadError
from edgekit.numerics import parse_target
from edgekit.spec import Feeds, Outputs
from edgekit.workload import Workload
from edgekit.zoo import mlp_digits, resnet8_mnist


def _score(workload: Workload, model: nn.Module) -> float:
    def predict(feeds: Feeds) -> Outputs:
        with torch.no_grad():
            return {"logits": model(*(torch.from_numpy(a) for a in feeds.values())).numpy()}

    return workload.score(predict)


def _int8_score(workload: Workload, model: nn.Module, learned: list[LearnedLayer]) -> float:
    """With the inputs of the layers on their grids, too, as an int8 engine computes it."""
    handle = attach(model, {layer.name: (layer.low, layer.high) for layer in learned})
    try:
        return _score(workload, model.eval())
    finally:
        handle.finish()


def _state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def _train_and_compare(workload: Workload) -> None:
    assert isinstance(workload.model, nn.Module)
    before, reference = _state(workload.model), _score(workload, workload.model)
    model, learned = train_quantized(workload, 1)
    after = _state(workload.model)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not workload.model.training
    assert not model.training
    assert _score(workload, model) >= reference - 0.005
    assert _int8_score(workload, model, learned) >= reference - 0.005


def test_mlp_digits_keeps_its_accuracy() -> None:
    _train_and_compare(mlp_digits.workload())


def test_weights_stay_within_what_the_target_can_add_up() -> None:
    context = ModuleContext(target=parse_target("x86-avx2"))
    _, learned = train_quantized(mlp_digits.workload(), 1, context)
    largest = [int(np.abs(layer.steps).max()) for layer in learned]
    assert largest == [63] * len(learned)


def test_training_recovers_what_bad_ranges_cost() -> None:
    workload = mlp_digits.workload()
    model = workload.model
    assert isinstance(model, nn.Module)
    ranges = observe(model, workload.feeds(), ["pixels"])
    clipping = {name: (low, 0.3 * high) for name, (low, high) in ranges.items()}
    handle = attach(model, clipping)
    before = _score(workload, model)
    finetune(workload, model, FineTune(epochs=3), ModuleContext(), label="test")
    after = _score(workload, model)
    widened = [layer.high / clipping[layer.name][1] for layer in handle.finish()]
    assert after > before + 0.03
    assert min(widened) > 1.01


@pytest.mark.slow
def test_resnet8_mnist_keeps_its_accuracy() -> None:
    _train_and_compare(resnet8_mnist.workload())


def _no_training(model: nn.Module, epochs: int) -> None: ...


def _steps(model: nn.Module, rate: float, count: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    model.train()
    for seed in range(count):
        x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (model(x) ** 2).sum().backward()
        optimizer.step()


def test_norms_are_folded_and_stay_so(workload: Workload) -> None:
    workload.finetune = lambda model, epochs: _steps(model, 1e-4, epochs)
    model, learned = train_quantized(workload, 2)
    assert [layer.name for layer in learned] == ["stem.0", "body.0", "head"]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert not model.training


def test_the_trained_module_exports(workload: Workload, tmp_path: Path) -> None:
    from edgekit.exporters.torch_onnx import export_onnx

    workload.finetune = lambda model, epochs: _steps(model, 1e-4, epochs)
    model, _ = train_quantized(workload, 1)
    export_onnx(
        model,
        workload.example_inputs,
        tmp_path / "model.onnx",
        dynamic=workload.dynamic,
        output_names=workload.output_names,
        opset=20,
    )


def test_without_finetune_it_says_so(workload: Workload) -> None:
    with pytest.raises(WorkloadError, match="finetune"):
        train_quantized(workload, 1)


def test_an_onnx_file_cannot_be_trained(workload: Workload, tmp_path: Path) -> None:
    workload.model = tmp_path / "model.onnx"
    workload.finetune = _no_training
    with pytest.raises(WorkloadError, match="ONNX"):
        train_quantized(workload, 1)


def test_without_calibration_data_it_says_so(workload: Workload) -> None:
    workload.finetune = _no_training
    workload.calibration = None
    with pytest.raises(CalibrationError, match="no calibration data"):
        train_quantized(workload, 1)


def test_without_a_layer_to_quantize_it_says_so(workload: Workload) -> None:
    workload.finetune = _no_training
    workload.model = nn.ReLU()
    with pytest.raises(WorkloadError, match="no Linear or Conv"):
        train_quantized(workload, 1)


def test_an_error_in_finetune_is_told_in_one_line(workload: Workload) -> None:
    def finetune(model: nn.Module, epochs: int) -> None:
        raise RuntimeError("out of\ndata")

    workload.finetune = finetune
    with pytest.raises(WorkloadError, match="RuntimeError: out of data") as caught:
        train_quantized(workload, 1)
    assert "finetune" in str(caught.value)


def test_divergence_is_told_in_one_line(workload: Workload) -> None:
    workload.finetune = lambda model, epochs: _steps(model, 1e30, epochs)
    with pytest.raises(WorkloadError, match="diverged") as caught:
        train_quantized(workload, 10)
    assert "\n" not in str(caught.value)


def test_a_layer_that_stayed_float_may_not_be_nan_either(workload: Workload) -> None:
    def finetune(model: nn.Module, epochs: int) -> None:
        with torch.no_grad():
            model.get_submodule("head").bias.fill_(float("nan"))

    workload.finetune = finetune
    with pytest.raises(WorkloadError, match="diverged"):
        train_quantized(workload, 1)
