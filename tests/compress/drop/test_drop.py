"""Dropping residual blocks of real models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from edgekit.exporters.torch_onnx import export_onnx
from pydantic import ValidationError
from torch import nn
from transformers import ResNetConfig, ResNetModel, T5Config, T5EncoderModel

from edgekit.compress.base import Measured, ModuleContext, Trained
from edgekit.compress.drop.blocks import find_blocks
from edgekit.compress.drop.recipe_pass import DropLayers
from edgekit.compress.modules import check_module, count_parameters
from edgekit.compress.train.settings import FineTune
from edgekit.errors import WorkloadError
from edgekit.workload import Training, Workload
from edgekit.zoo import minilm, resnet8_mnist
from tests.compress.attention.models import First, bert, gpt2, images, tokens, vit, workload
from tests.exporters.blocks import unoptimized

_CONTEXT = ModuleContext()


def _dropped(made: Workload, context: ModuleContext = _CONTEXT, **keys: object) -> Trained:
    trained = DropLayers(type="drop-layers", **keys).apply(made, context)
    check_module(made, trained.model, "drop-layers")
    return trained


def _gone(trained: Trained) -> list[str]:
    return [change.where for change in trained.report.changes if change.kept]


def _resnet() -> nn.Module:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[3, 2], layer_type="basic")
    return First(ResNetModel(config), "pixel_values").eval()


_MODELS = {
    "bert": (bert(4), tokens(), "model.encoder.layer.{}"),
    "vit": (vit(4), images(), "model.layers.{}"),
    "gpt2": (gpt2(4), tokens(), "model.h.{}"),
    "gpt2 with a cache": (gpt2(4, use_cache=True), tokens(), "model.h.{}"),
}


@pytest.mark.parametrize("how", ["similarity", "loss", "every-other", "last"])
@pytest.mark.parametrize("name", _MODELS)
def test_layers_of_transformers_are_really_gone(name: str, how: str) -> None:
    model, inputs, path = _MODELS[name]
    trained = _dropped(workload(model, inputs), count=2, how=how)
    assert trained.report.changed == 2
    assert trained.report.total == 4
    before = model.get_submodule(path.format(0))
    after = count_parameters(trained.model)
    assert count_parameters(model) - after == 2 * count_parameters(before)


def test_what_counts_the_layers_is_mended() -> None:
    changed = _dropped(workload(gpt2(4), tokens()), count=1, how="every-other").model.model
    assert changed.config.num_hidden_layers == len(changed.h) == 3
    assert [block.attn.layer_idx for block in changed.h] == [0, 1, 2]


def test_places_of_every_other_and_last() -> None:
    made = workload(bert(6), tokens())
    name = "model.encoder.layer.{}".format
    assert _gone(_dropped(made, count=3, how="every-other")) == [name(1), name(3), name(5)]
    assert _gone(_dropped(made, count=2, how="every-other")) == [name(2), name(5)]
    assert _gone(_dropped(made, ratio=0.35, how="last")) == [name(4), name(5)]


@pytest.mark.parametrize("how", ["similarity", "loss"])
def test_a_block_that_does_nothing_goes_first(how: str) -> None:
    model = vit(4)
    idle = model.get_submodule("model.layers.2")
    with torch.no_grad():
        for name in ("attention.o_proj", "mlp.fc2"):
            for parameter in idle.get_submodule(name).parameters():
                parameter.zero_()
    trained = _dropped(workload(model, images()), count=1, how=how)
    assert _gone(trained) == ["model.layers.2"]
    with torch.no_grad():
        got, wanted = (one(*images().values()) for one in (trained.model, model))
    torch.testing.assert_close(got, wanted)


def test_minilm_loses_two_of_six_layers_that_do_little() -> None:
    made = minilm.workload()
    trained = _dropped(made, count=2)
    assert trained.report.total == 6
    assert len(trained.model.encoder.encoder.layer) == 4
    feeds = next(iter(made.feeds()))
    inputs = [torch.as_tensor(feeds[name]) for name in made.example_inputs]

    def cosine(model: nn.Module) -> float:
        assert isinstance(made.model, nn.Module)
        with torch.no_grad():
            same = nn.functional.cosine_similarity(made.model(*inputs), model(*inputs))
        return float(same.mean())

    assert cosine(trained.model) > 0.75
    assert cosine(trained.model) > cosine(_dropped(made, count=2, how="last").model) + 0.2


def test_resnet8_loses_its_one_block_that_keeps_the_shape() -> None:
    made = resnet8_mnist.workload()
    trained = _dropped(made, count=1)
    assert _gone(trained) == ["3"]
    names = [name for name, _ in trained.model.named_children()]
    assert names == ["0", "1", "2", "4", "5", "6", "7", "8"]
    with pytest.raises(WorkloadError, match="2 blocks are to be removed and at most 1 can be"):
        _dropped(made, count=2)


def test_blocks_of_a_resnet_that_change_the_shape_stay() -> None:
    model = _resnet()
    found = [block.name for block in find_blocks(model, images())]
    stage = "model.encoder.stages.{}.layers.{}".format
    assert found == [stage(0, 0), stage(0, 1), stage(0, 2), stage(1, 1)]
    trained = _dropped(workload(model, images()), count=3)
    assert len(trained.model.get_submodule("model.encoder.stages.0.layers")) >= 1


def test_the_block_that_holds_what_all_use_stays() -> None:
    torch.manual_seed(0)
    config = T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=4, num_heads=2, vocab_size=50)
    model = First(T5EncoderModel(config), "input_ids", "attention_mask").eval()
    found = [block.name for block in find_blocks(model, tokens())]
    assert found == [f"model.encoder.block.{index}" for index in (1, 2, 3)]


def test_onnx_runtime_agrees_with_the_dropped_module(tmp_path: Path) -> None:
    axes = {name: {0: "batch", 1: "sequence"} for name in tokens()}
    made = workload(gpt2(2), tokens(), dynamic_shapes=axes)
    changed = _dropped(made, count=1).model
    path = export_onnx(
        changed,
        tokens(),
        tmp_path / "m.onnx",
        dynamic=made.dynamic,
        output_names=["y"],
        opset=20,
    )
    inputs = tokens(3, 7)
    with torch.no_grad():
        wanted = changed(*inputs.values()).numpy()
    got = unoptimized(path, {name: tensor.numpy() for name, tensor in inputs.items()})
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_it_is_deterministic_and_leaves_the_workload_alone() -> None:
    model = vit(4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    one, other = (_dropped(workload(model, images()), count=2) for _ in range(2))
    assert one.report == other.report
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert list(model.state_dict()) == list(before)


def test_finetuning_brings_the_outputs_back() -> None:
    teacher = vit(4)

    def batches(epoch: int) -> Iterator[Mapping[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(epoch + 1)
        for _ in range(4):
            pixels = torch.randn(8, 3, 16, 16, generator=generator)
            yield {"pixel_values": pixels, "wanted": teacher(pixels).detach()}

    made = workload(
        teacher,
        images(),
        training=Training(
            batches, lambda got, batch: nn.functional.mse_loss(got["output"], batch["wanted"])
        ),
    )
    errors = []
    for epochs in (0, 4):
        changed = _dropped(made, count=2, finetune=FineTune(epochs=epochs, rate=3e-3)).model
        with torch.no_grad():
            wanted, got = (one(*images().values()) for one in (teacher, changed))
        errors.append(float((wanted - got).square().mean()))
    assert errors[1] < errors[0]


@dataclass(frozen=True)
class _Told:
    """A clock that says how fast the candidate is."""

    low: float
    name: str = "openvino int8"

    def compare(self, baseline: Workload, candidate: Workload) -> Measured:
        assert isinstance(baseline.model, nn.Module)
        assert isinstance(candidate.model, nn.Module)
        assert count_parameters(candidate.model) < count_parameters(baseline.model)
        return Measured(self.low + 0.1, self.low)

    def medians(self, workloads: list[Workload]) -> list[float]:
        return [1.0 for _ in workloads]


def test_it_is_undone_where_it_is_not_measurably_faster() -> None:
    made = workload(vit(4), images())
    undone = _dropped(made, ModuleContext(clock=_Told(0.99)), count=2)
    assert undone.report.changed == 0
    assert _gone(undone) == []
    assert any("at least 0.99" in change.why for change in undone.report.changes)
    assert len(undone.model.get_submodule("model.layers")) == 4
    assert _dropped(made, ModuleContext(clock=_Told(1.5)), count=2).report.changed == 2


def test_a_model_in_which_nothing_repeats_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with pytest.raises(WorkloadError, match="no residual block that can be removed"):
        _dropped(Workload("plain", model, {"x": torch.randn(2, 4)}), count=1)


def test_blocks_without_a_shortcut_stay() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.layer(x))

    model = nn.Sequential(*(Plain() for _ in range(3)))
    with pytest.raises(WorkloadError, match="adds to its input"):
        _dropped(Workload("plain", model, {"x": torch.randn(2, 4)}), count=1)


def test_a_forward_that_counts_its_blocks_is_refused() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.TransformerEncoderLayer(4, 1, 4, batch_first=True) for _ in range(3)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for index in range(3):
                x = self.blocks[index](x)
            return x

    with pytest.raises(WorkloadError, match=r"IndexError with blocks dropped.*container has"):
        _dropped(Workload("counting", Counting().eval(), {"x": torch.randn(2, 3, 4)}), count=1)


def test_the_last_layer_stays() -> None:
    with pytest.raises(WorkloadError, match="4 blocks are to be removed and at most 3 can be"):
        _dropped(workload(vit(4), images()), count=4)


@pytest.mark.parametrize("keys", [{}, {"count": 1, "ratio": 0.5}])
def test_either_count_or_ratio_has_to_be_given(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="either count or ratio"):
        DropLayers(type="drop-layers", **keys)
