"""A student learns from its teacher what it cannot learn alone, and keeps nothing of it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import named_outputs
from edgekit.compress.train.data import training_data
from edgekit.compress.train.distill import Teacher
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.losses import kl
from edgekit.compress.train.settings import Distill, FineTune
from edgekit.errors import WorkloadError
from edgekit.workload import Workload
from edgekit.zoo import mlp_digits
from tests.compress.train.training import small_student, state, unlabelled


def _divergence(workload: Workload, student: nn.Module) -> float:
    """KL to the teacher on all calibration data."""
    assert isinstance(workload.model, nn.Module)
    with torch.no_grad():
        x = torch.cat([torch.from_numpy(feeds["pixels"]) for feeds in workload.feeds()])
        return float(kl(student(x), workload.model(x), 1.0, -1))


def _learn(workload: Workload, student: nn.Module, **keys: object) -> nn.Module:
    settings = FineTune.model_validate({"epochs": 20, "rate": 1e-2, **keys})
    finetune(workload, student, settings, ModuleContext(), label="test")
    return student


def test_a_student_with_a_teacher_comes_nearer_to_it_than_one_without() -> None:
    workload = mlp_digits.workload()
    alone = _learn(workload, small_student())
    taught = _learn(workload, small_student(), distill={})
    assert _divergence(workload, taught) < 0.7 * _divergence(workload, alone)


def test_no_label_is_needed() -> None:
    workload = unlabelled()
    before = _divergence(workload, small_student())
    assert _divergence(workload, _learn(workload, small_student(), distill={})) < 0.3 * before


def test_the_teacher_stays_as_it_is_and_in_its_mode() -> None:
    workload = mlp_digits.workload()
    assert isinstance(workload.model, nn.Module)
    workload.model.train()
    before = state(workload.model)
    _learn(workload, small_student(), distill={"features": ["0"]}, epochs=1)
    assert workload.model.training
    assert all(map(torch.equal, before, state(workload.model)))
    assert all(p.grad is None for p in workload.model.parameters())
    assert not any(module._forward_hooks for module in workload.model.modules())


def test_the_contexts_teacher_comes_before_the_workloads_model() -> None:
    workload = mlp_digits.workload()
    teacher = copy.deepcopy(workload.model)
    assert isinstance(teacher, nn.Module)
    workload.model = small_student(width=4)
    student = small_student()
    context = ModuleContext(teacher=teacher)
    finetune(
        workload, student, FineTune(epochs=6, rate=3e-3, distill=Distill()), context, label="test"
    )
    near, far = (
        _divergence(Workload("any", model, {"pixels": None}, workload.calibration), student)
        for model in (teacher, workload.model)
    )
    assert near < far


def test_features_of_other_widths_come_nearer_and_leave_nothing_behind() -> None:
    workload = unlabelled()
    student, plain = small_student(), small_student()
    names = [name for name, _ in student.named_parameters()]
    _learn(workload, student, distill={"features": ["0"]})
    _learn(workload, plain, distill={})
    assert [name for name, _ in student.named_parameters()] == names
    assert not any(module._forward_hooks for module in student.modules())
    assert _unexplained(workload, student) < _unexplained(workload, plain)


def _unexplained(workload: Workload, student: nn.Module) -> float:
    """What the best linear map from the student's features leaves of the teacher's."""
    assert isinstance(workload.model, nn.Sequential)
    assert isinstance(student, nn.Sequential)
    with torch.no_grad():
        x = torch.cat([torch.from_numpy(feeds["pixels"]) for feeds in workload.feeds()])
        wanted, got = workload.model[:1](x), student[:1](x)
        fitted = got @ (torch.linalg.pinv(got) @ wanted)
        return float((fitted - wanted).square().mean() / wanted.square().mean())


class _Maps(nn.Module):
    """Two feature maps of two sizes, two outputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.scores = nn.Linear(width, 3)
        self.where = nn.Linear(width, 2)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.second(torch.relu(self.first(image)))).mean((2, 3))
        return self.scores(x), self.where(x)


def _images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, 1, 8, 8, generator=generator) for _ in range(6)]


def _two_headed() -> Workload:
    torch.manual_seed(0)
    return Workload(
        "two-headed",
        _Maps(8).eval(),
        {"image": torch.zeros(2, 1, 8, 8)},
        calibration=lambda: ({"image": x.numpy()} for x in _images()),
        output_names=["scores", "where"],
        labels=["a", "b", "c"],
    )


def _teacher(workload: Workload, student: nn.Module, **keys: object) -> Teacher:
    batch = next(training_data(workload, torch.device("cpu"), 0).probe())
    assert isinstance(workload.model, nn.Module)
    return Teacher(workload.model, student, Distill.model_validate(keys), workload, batch, 0)


def test_every_output_is_distilled_scores_by_kl_and_others_by_mse() -> None:
    workload = _two_headed()
    student = _Maps(4).eval()
    batch = {"image": _images()[0]}
    _, loss = _teacher(workload, student, temperature=2.0).loss(student, batch)
    assert isinstance(workload.model, nn.Module)
    names = workload.output_names
    wanted = named_outputs(workload.model(batch["image"]), names)
    got = named_outputs(student(batch["image"]), names)
    error = (got["where"] - wanted["where"]).square().mean() / wanted["where"].square().mean()
    expected = (kl(got["scores"], wanted["scores"], 2.0, -1) + error) / 2
    torch.testing.assert_close(loss, expected)


def test_without_labels_an_embedding_is_compared_by_its_distance() -> None:
    workload = mlp_digits.workload()
    workload.labels = ()
    student = small_student().eval()
    batch = {"pixels": torch.rand(4, 64)}
    _, loss = _teacher(workload, student).loss(student, batch)
    assert isinstance(workload.model, nn.Module)
    wanted = workload.model(batch["pixels"])
    error = (student(batch["pixels"]) - wanted).square().mean() / wanted.square().mean()
    torch.testing.assert_close(loss, error)


def test_attention_maps_of_a_cnn_come_nearer_for_any_width() -> None:
    workload = _two_headed()
    student = _Maps(4).eval()
    pairs = _teacher(workload, student, attention=True)._maps
    assert [(pair.teacher, pair.student) for pair in pairs] == [
        ("first", "first"),
        ("second", "second"),
    ]
    before = _map_distance(workload, student)
    _learn(workload, student, distill={"attention": True}, epochs=20, rate=1e-2)
    assert _map_distance(workload, student) < 0.7 * before


def _map_distance(workload: Workload, student: nn.Module) -> float:
    batch = {"image": _images()[0]}
    with torch.no_grad():
        _, total = _teacher(workload, student, attention=True).loss(student, batch)
        _, outputs = _teacher(workload, student).loss(student, batch)
    return float(total - outputs)


class _Encoder(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        sizes = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 50}
        config = BertConfig(num_hidden_layers=layers, num_attention_heads=2, **sizes)
        self.encoder = BertModel(config, add_pooling_layer=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.encoder(ids)[0]
        return states


def test_attention_of_a_transformer_is_learnt_also_with_fewer_layers() -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (4, 6))
    workload = Workload(
        "encoder", _Encoder(4).eval(), {"ids": ids}, calibration=lambda: [{"ids": ids.numpy()}]
    )
    student = _Encoder(2).eval()
    teacher = _teacher(workload, student, attention=True)
    plain = _teacher(workload, student)
    with torch.no_grad():
        gap = teacher.loss(student, {"ids": ids})[1] - plain.loss(student, {"ids": ids})[1]
    assert gap > 0
    teacher.loss(student, {"ids": ids})[1].backward()
    with torch.no_grad():
        itself = workload.model
        assert isinstance(itself, nn.Module)
        zero = _teacher(workload, itself, attention=True).loss(itself, {"ids": ids})[1]
    assert float(zero) == pytest.approx(0.0, abs=1e-6)


def _encoders() -> tuple[Workload, nn.Module]:
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (4, 6))
    workload = Workload(
        "encoder", _Encoder(3).eval(), {"ids": ids}, calibration=lambda: [{"ids": ids.numpy()}]
    )
    student = copy.deepcopy(workload.model)
    assert isinstance(student, _Encoder)
    for layer in student.encoder.encoder.layer:
        nn.init.normal_(layer.output.dense.weight, std=0.1)
    return workload, student


def test_blocks_are_the_layers_of_a_transformer_and_weigh_what_is_said() -> None:
    workload, student = _encoders()
    teacher = _teacher(workload, student, features="blocks")
    names = [f"encoder.encoder.layer.{index}" for index in range(3)]
    assert [(pair.teacher, pair.student) for pair in teacher._features] == [
        (name, name) for name in names
    ]
    batch = {"ids": torch.randint(0, 50, (4, 6))}

    def loss(**keys: object) -> float:
        with torch.no_grad():
            return float(_teacher(workload, student, **keys).loss(student, batch)[1])

    alone, once, thrice = loss(), loss(features=names), loss(features="blocks", feature_weight=3.0)
    assert once == loss(features="blocks") > alone
    assert thrice - alone == pytest.approx(3 * (once - alone), rel=1e-5)


def test_a_model_without_blocks_has_its_outputs_to_learn() -> None:
    teacher = _teacher(mlp_digits.workload(), small_student().eval(), features="blocks")
    assert teacher._features == []


def test_embeddings_of_the_teacher_stay_and_others_learn() -> None:
    workload, student = _encoders()
    assert isinstance(student, _Encoder)
    tables = student.encoder.embeddings
    with torch.no_grad():
        tables.position_embeddings.weight.add_(0.01)
    kept = tables.word_embeddings.weight.detach().clone()
    moved = tables.position_embeddings.weight.detach().clone()
    _learn(workload, student, distill={}, epochs=2)
    assert torch.equal(tables.word_embeddings.weight, kept)
    assert not torch.equal(tables.position_embeddings.weight, moved)
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["4.x"], "no module of both models is called so"),
        ([["0", "first"]], "'first', and no module of the student is called so"),
        ([["first", "0"]], "'first', and no module of the teacher is called so"),
        (["never*"], "no module of both models"),
    ],
)
def test_a_feature_that_does_not_exist_is_told(features: list[object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        _learn(mlp_digits.workload(), small_student(), distill={"features": features})


def test_features_that_differ_in_more_than_one_axis_are_told() -> None:
    workload = _two_headed()
    with pytest.raises(WorkloadError, match=r"shapes \[8, 8, 8, 8\] and \[8, 4, 4, 4\]"):
        _teacher(workload, _Maps(4).eval(), features=[["first", "second"]])


def test_a_feature_that_forward_does_not_call_is_told() -> None:
    workload = _two_headed()
    student = _Maps(8).eval()
    for model in (workload.model, student):
        assert isinstance(model, nn.Module)
        model.add_module("spare", nn.Linear(2, 2))
    with pytest.raises(WorkloadError, match="returned 0 and 0 tensors"):
        _teacher(workload, student, features=["spare"])


def test_attention_where_there_is_none_is_told() -> None:
    with pytest.raises(WorkloadError, match="attention is asked for"):
        _learn(mlp_digits.workload(), small_student(), distill={"attention": True})


def test_outputs_of_another_shape_are_told() -> None:
    student = nn.Linear(64, 7)
    with pytest.raises(WorkloadError, match=r"'logits' has shape \[50, 7\]"):
        _learn(mlp_digits.workload(), student, distill={})


def test_outputs_that_are_no_numbers_are_told() -> None:
    workload = unlabelled()
    workload.model = nn.Sequential(nn.Linear(64, 10), _Argmax()).eval()
    with pytest.raises(WorkloadError, match="no output is a floating-point tensor"):
        _learn(workload, copy.deepcopy(workload.model), distill={})


class _Argmax(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(-1)


def test_an_onnx_file_cannot_teach() -> None:
    workload = unlabelled()
    workload.model = Path("model.onnx")
    with pytest.raises(WorkloadError, match="an ONNX file cannot be learnt from"):
        _learn(workload, small_student(), distill={})


def test_without_any_data_it_says_what_to_give() -> None:
    workload = unlabelled()
    workload.calibration = None
    with pytest.raises(WorkloadError, match=r"no data to learn from the original on.*--calib"):
        _learn(workload, small_student(), distill={})
