"""Attention replaced in real models: equality, masks, training, the gate, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgekit.compress.attention.recipe_pass import EfficientAttention
from edgekit.compress.base import Measured, ModuleContext, Trained
from edgekit.compress.drop.recipe_pass import DropLayers
from edgekit.compress.modules import check_module, example_tensors
from edgekit.compress.recipe import Recipe
from edgekit.compress.train.settings import FineTune
from edgekit.errors import WorkloadError
from edgekit.workload import Training, Workload
from edgekit.zoo import minilm
from tests.compress.attention.models import (
    LENGTH,
    bert,
    difference,
    encoder,
    gpt2,
    images,
    sharp_vit,
    states,
    tokens,
    vit,
    workload,
)

_CONTEXT = ModuleContext()


def _rewritten(made: Workload, context: ModuleContext = _CONTEXT, **keys: object) -> Trained:
    return EfficientAttention(type="efficient-attention", **keys).apply(made, context)


_MODELS = {
    "bert": (bert(), tokens()),
    "vit": (vit(), images()),
    "gpt2": (gpt2(), tokens()),
    "batch first": (encoder(), states()),
    "batch second": (encoder(batch_first=False), states()),
    "nested": (encoder(nested=True), states()),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # PyTorch's own encoder
@pytest.mark.parametrize("name", _MODELS)
def test_a_window_over_all_gives_the_outputs_of_full_attention(name: str) -> None:
    model, inputs = _MODELS[name]
    made = workload(model, inputs)
    trained = _rewritten(made, window=32, globals=2, random=1)
    check_module(made, trained.model, "efficient-attention")
    assert trained.report.changed == trained.report.total > 0
    assert difference(model, trained.model, inputs) < 1e-5


@pytest.mark.parametrize("name", ["bert", "vit", "batch first", "batch second"])
def test_a_linformer_of_full_rank_gives_the_outputs_of_full_attention(name: str) -> None:
    model, inputs = _MODELS[name]
    trained = _rewritten(workload(model, inputs), kind="linformer", rank=20, max_length=20)
    assert difference(model, trained.model, inputs) < 1e-5


@pytest.mark.parametrize("keys", [{"window": 3}, {"kind": "linformer", "rank": 4}])
@pytest.mark.parametrize("name", ["bert", "batch first"])
def test_padding_is_not_seen(name: str, keys: dict[str, object]) -> None:
    model, inputs = _MODELS[name]
    changed = _rewritten(workload(model, inputs), **keys).model
    first, mask = inputs.values()
    other = first.clone()
    other[mask == 0] = 7
    with torch.no_grad():
        moved = (changed(first, mask) - changed(other, mask)).abs() * mask[..., None]
    assert moved.max() < 1e-6


def test_minilm_keeps_its_meaning_in_a_window_of_eight_tokens() -> None:
    made = minilm.workload()
    trained = _rewritten(made, window=8)
    assert [change.kept for change in trained.report.changes] == [True] * 6
    assert trained.report.changes[0].after == "window 8, 1 global tokens"
    feeds = next(iter(made.feeds()))
    inputs = [torch.as_tensor(feeds[name]) for name in made.example_inputs]
    assert isinstance(made.model, nn.Module)
    with torch.no_grad():
        cosines = nn.functional.cosine_similarity(made.model(*inputs), trained.model(*inputs))
    assert inputs[0].shape[1] > 16
    assert cosines.min() > 0.98


def test_weights_are_kept_and_the_workload_is_untouched() -> None:
    model, inputs = bert(), tokens()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = _rewritten(workload(model, inputs), window=4)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    weights = trained.model.state_dict()
    assert all(torch.equal(weights[name], before[name]) for name in before)


def test_globs_choose_what_is_replaced() -> None:
    made = workload(bert(), tokens())
    only = _rewritten(made, window=4, only=["*layer.0.*"]).report.changes
    exclude = _rewritten(made, window=4, exclude=["*layer.0.*"]).report.changes
    assert [change.kept for change in only] == [True, False]
    assert [change.kept for change in exclude] == [False, True]
    assert "only or exclude" in exclude[0].why


def test_it_is_deterministic_in_the_seed() -> None:
    made = workload(vit(), images())
    outputs = []
    for seed in (1, 1, 2):
        model = _rewritten(made, ModuleContext(seed=seed), window=1, globals=0, random=1).model
        with torch.no_grad():
            outputs.append(model(*images().values()))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("keys", [{"window": 2}, {"kind": "linformer", "rank": 3}])
def test_a_short_distillation_lowers_the_output_error(keys: dict[str, object]) -> None:
    teacher = sharp_vit()
    made = workload(teacher, images(), training=_distillation(teacher))
    errors = []
    for epochs in (0, 8):
        trained = _rewritten(made, finetune=FineTune(epochs=epochs, rate=1e-3), **keys)
        with torch.no_grad():
            wanted, got = (one(*images().values()) for one in (teacher, trained.model))
        errors.append(float((wanted - got).square().mean()))
    assert errors[1] < 0.85 * errors[0]


def _distillation(teacher: nn.Module) -> Training:
    def batches(epoch: int) -> Iterator[Mapping[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(epoch + 1)
        for _ in range(4):
            pixels = torch.randn(8, 3, 16, 16, generator=generator)
            yield {"pixel_values": pixels, "wanted": teacher(pixels).detach()}

    def loss(
        outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return nn.functional.mse_loss(outputs["output"], batch["wanted"])

    return Training(batches, loss)


@dataclass(frozen=True)
class _Told:
    """A clock that says how fast the candidate is."""

    low: float
    name: str = "openvino int8"

    def compare(self, baseline: Workload, candidate: Workload) -> Measured:
        for one in (baseline, candidate):
            assert isinstance(one.model, nn.Module)
            one.model(*example_tensors(one).values())
        return Measured(self.low + 0.1, self.low)

    def medians(self, workloads: list[Workload]) -> list[float]:
        return [1.0 for _ in workloads]


def test_what_is_not_measurably_faster_is_undone() -> None:
    model, inputs = bert(), tokens()
    trained = _rewritten(workload(model, inputs), ModuleContext(clock=_Told(0.97)), window=2)
    assert trained.report.changed == 0
    assert all(not change.kept for change in trained.report.changes)
    why = "not measurably faster, 1.07 times as fast on openvino int8, at least 0.97"
    assert trained.report.changes[0].why == why
    assert difference(model, trained.model, inputs) == 0.0


def test_what_is_measurably_faster_or_not_to_be_measured_is_kept() -> None:
    made = workload(bert(), tokens())
    faster = _rewritten(made, ModuleContext(clock=_Told(1.2)), window=2).report
    assert faster.changed == 2
    assert faster.details == ("1.30 times as fast on openvino int8, at least 1.20",)
    clock = _Told(0.5)
    assert _rewritten(made, ModuleContext(clock=clock), window=2, measured=False).report.changed


def test_it_composes_with_dropped_layers_in_both_orders() -> None:
    steps = [
        EfficientAttention(type="efficient-attention", window=4),
        DropLayers(type="drop-layers", count=2),
    ]
    for order in (steps, steps[::-1]):
        made = workload(bert(4), tokens())
        for step in order:
            made.model = step.apply(made, _CONTEXT).model
        kinds = [type(module).__name__ for module in made.model.modules()]
        assert kinds.count("WindowAttention") == 2
        assert kinds.count("BertLayer") == 2


def test_a_recipe_may_hold_it() -> None:
    steps = [
        {"type": "drop-layers", "ratio": 0.3, "how": "loss", "finetune": {"epochs": 2}},
        {"type": "efficient-attention", "kind": "linformer", "rank": 8, "max_length": 64},
        {"type": "half"},
    ]
    recipe = Recipe.model_validate({"name": "long", "passes": steps})
    assert [type(step) for step in recipe.module_passes] == [DropLayers, EfficientAttention]


def test_a_model_without_attention_is_refused_with_what_was_looked_at() -> None:
    model = nn.Sequential(nn.Linear(16, 4), nn.ReLU())
    made = Workload("plain", model, {"x": torch.randn(2, 16)})
    with pytest.raises(WorkloadError, match=r"plain.*query, key and value in Linear, ReLU"):
        _rewritten(made)


def test_attention_that_is_not_understood_is_refused_with_the_reason() -> None:
    made = workload(gpt2(use_cache=True), tokens())
    with pytest.raises(WorkloadError, match=r"h\.0\.attn: is called with past_key_values"):
        _rewritten(made)
    with pytest.raises(WorkloadError, match="is causal"):
        _rewritten(workload(gpt2(), tokens()), kind="linformer", rank=2)


def test_a_cache_given_later_is_refused() -> None:
    model = _rewritten(workload(gpt2(), tokens()), window=4).model
    model.keywords = {"use_cache": True}
    with pytest.raises(WorkloadError, match="past_key_values"):
        model(*tokens().values())


def test_an_onnx_file_is_refused() -> None:
    with pytest.raises(WorkloadError, match="an ONNX file is not a module"):
        _rewritten(Workload("file", Path("model.onnx"), tokens()))


def test_linformer_wants_the_longest_sequence() -> None:
    dynamic = {name: {0: "batch", 1: "sequence"} for name in tokens()}
    made = workload(bert(), tokens(), dynamic_shapes=dynamic)
    with pytest.raises(WorkloadError, match="longest sequence"):
        _rewritten(made, kind="linformer", rank=4)
    with pytest.raises(WorkloadError, match=f"max_length 8.*sequence of {LENGTH}"):
        _rewritten(made, kind="linformer", rank=4, max_length=8)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"window": 4, "globals": 5}, "globals 5 is more than window 4"),
        ({"kind": "linformer", "rank": 9, "max_length": 8}, "rank 9 is more than max_length 8"),
        ({"kind": "linformer", "window": 8}, "window does not go with kind linformer"),
        ({"kind": "window", "rank": 8}, "rank does not go with kind window"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EfficientAttention(type="efficient-attention", **keys)
