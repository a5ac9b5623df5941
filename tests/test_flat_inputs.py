from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.flat_inputs import FlatInputs
from edgekit.pipeline import make_bundle
from edgekit.targets import parse_targets
from edgekit.workload import Workload


class Reader(nn.Module):
    """An LSTM with its state as a pair, and an output with names."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, num_layers=2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, hx: tuple[torch.Tensor, torch.Tensor]) -> dict[str, Any]:
        y, hx = self.lstm(x, hx)
        return {"logits": self.head(y), "hx": hx}


def _call(batch: int, length: int) -> dict[str, Any]:
    return {
        "x": torch.zeros(batch, length, 4),
        "hx": (torch.zeros(2, batch, 8), torch.zeros(2, batch, 8)),
    }


def _reader() -> Workload:
    torch.manual_seed(0)
    return Workload(
        name="reader",
        model=Reader(),
        example_inputs=_call(2, 5),
        other_inputs=_call(3, 7),
        state={"hx.0": "hx.0.next", "hx.1": "hx.1.next"},
        output_names=["logits", "hx.0.next", "hx.1.next"],
    )


@pytest.fixture(scope="module")
def reader() -> Workload:
    return _reader()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, reader: Workload) -> Bundle:
    return make_bundle(
        reader,
        tmp_path_factory.mktemp("reader") / "reader.edge",
        recipe=load_recipe("fp32"),
        targets=parse_targets([], None),
        timing=None,
    )


def test_nested_inputs_and_outputs_have_names_and_dimensions(bundle: Bundle) -> None:
    inputs = {spec.name: spec.shape for spec in bundle.manifest.inputs}
    assert inputs == {"x": ("batch", "x_1", 4), "hx.0": (2, "batch", 8), "hx.1": (2, "batch", 8)}
    assert bundle.manifest.outputs[0].shape == ("batch", "x_1", 3)
    assert [one.start for one in bundle.manifest.state] == [(2, ("x", 0), 8)] * 2


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_lstm_read_piece_by_piece_equals_one_read_at_once(
    bundle: Bundle, reader: Workload, engine: str
) -> None:
    x = torch.randn(2, 20, 4, generator=torch.Generator().manual_seed(0))
    hx = torch.zeros(2, 2, 8)
    assert isinstance(reader.model, nn.Module)
    with torch.no_grad():
        wanted = reader.model.eval()(x, hx, hx)["logits"].numpy()
    with runtimes.get(engine).load(bundle.file(bundle.selected(engine))).stateful() as session:
        got = [session.run({"x": piece.numpy()})["logits"] for piece in x.split([1, 7, 12], dim=1)]
    np.testing.assert_allclose(np.concatenate(got, axis=1), wanted, atol=1e-5)


class Keyword(nn.Module):
    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return x * scale


@pytest.mark.parametrize(
    "example", [{"x": 2.0, "scale": 3.0}, {"scale": 3.0, "x": 2.0}], ids=["keyword", "out of order"]
)
def test_inputs_that_are_not_positional_are_given_by_name(example: dict[str, float]) -> None:
    inputs = {name: torch.tensor([value]) for name, value in example.items()}
    workload = Workload(name="w", model=Keyword(), example_inputs=inputs)
    assert isinstance(workload.model, FlatInputs)
    assert workload.model(*inputs.values()).item() == 6.0
    assert list(workload.example_inputs) == list(example)


def test_a_model_with_plain_inputs_stays_as_it_is() -> None:
    model = nn.Linear(4, 3)
    assert Workload(name="w", model=model, example_inputs={"x": torch.zeros(1, 4)}).model is model


def test_the_mode_of_the_model_stays() -> None:
    for training in (True, False):
        model = FlatInputs(nn.Dropout().train(training), {"input": torch.zeros(1)})
        assert model.training is training
        assert model.model.training is training


def test_outputs_are_named_after_their_place_by_default() -> None:
    inputs = {"x": torch.zeros(1, 5, 4), "hx": (torch.zeros(2, 1, 8),) * 2}
    workload = Workload(name="w", model=Reader().train(), example_inputs=inputs)
    assert tuple(workload.output_names) == ("logits", "hx.0", "hx.1")
    assert workload.model.training  # type: ignore[union-attr]
    plain = Workload(name="w", model=nn.Linear(4, 3), example_inputs={"x": torch.zeros(1, 4)})
    assert tuple(plain.output_names) == ("output",)


def test_calibration_may_be_nested_too() -> None:
    workload = Workload(
        name="w",
        model=Reader(),
        example_inputs=_call(2, 5),
        calibration=lambda: [_call(1, 2)],
    )
    (batch,) = workload.feeds()
    assert [name for name in batch if isinstance(batch[name], np.ndarray)] == ["x", "hx.0", "hx.1"]
