"""Bad input and odd data: one clear line, or the right result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from edgekit.calibration import ESTIMATORS

from edgekit.compress.quantize.ptq import Int8Ptq
from edgekit.errors import CalibrationError, CompressError, EdgekitError
from edgekit.spec import Feeds
from tests.compress.graphs import context, model_of, node, random, run, sqnr
from tests.conftest import SHAPE, batches

ENGINES = ["onnxruntime", "openvino", "tensorrt-rtx"]
EVERYTHING = {"weights": "mse", "rounding": "adaround", "bias_correction": True}


def _apply(
    model: ir.Model, data: list[Feeds], engine: str = "onnxruntime", **settings: object
) -> ir.Model:
    changed = model.clone()
    Int8Ptq(type="int8-ptq", **settings).apply(changed, context(data, engine))
    return changed


def _one_line(error: EdgekitError) -> bool:
    return "\n" not in str(error) and len(str(error)) < 300


@pytest.mark.parametrize("observer", ESTIMATORS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_estimator_gives_a_model_close_to_float(
    graph: ir.Model, engine: str, observer: str
) -> None:
    data = list(batches())
    quantized = _apply(graph, data, engine, observer=observer)
    assert sqnr(run(graph, data[0]), run(quantized, data[0])) > 20


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_batch(
    graph: ir.Model, bad: float
) -> None:
    data = list(batches())
    data[2]["image"][3, 1, 2, 2] = bad
    with pytest.raises(CalibrationError, match="batch 2: input 'image' has 1 NaN") as caught:
        _apply(graph, data)
    assert _one_line(caught.value)


@pytest.mark.parametrize(
    "feeds",
    [
        {"image": np.zeros((1, *SHAPE))},
        {"image": np.zeros((1, *SHAPE), np.int32)},
        {"image": np.zeros((1, 1, 16, 16), np.float32)},
        {"picture": np.zeros((1, *SHAPE), np.float32)},
        {},
    ],
    ids=["float64", "int32", "shape", "name", "nothing"],
)
def test_data_that_does_not_fit_the_model_is_one_line(graph: ir.Model, feeds: Feeds) -> None:
    with pytest.raises(CalibrationError, match="calibration") as caught:
        _apply(graph, [feeds], **EVERYTHING)
    assert _one_line(caught.value)


def test_an_empty_calibration_set_is_one_line(graph: ir.Model) -> None:
    with pytest.raises(CalibrationError, match="the calibration set is empty"):
        _apply(graph, [])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quantized_model_is_not_quantized_again(graph: ir.Model, engine: str) -> None:
    data = list(batches())
    with pytest.raises(CompressError, match="is quantized already") as caught:
        _apply(_apply(graph, data), data, engine)
    assert _one_line(caught.value)


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_single_sample_is_enough(graph: ir.Model, engine: str, settings: dict) -> None:
    one = [{"image": random(0, 1, *SHAPE)}]
    quantized = _apply(graph, one, engine, **settings)
    assert sqnr(run(graph, one[0]), run(quantized, one[0])) > 20


@pytest.mark.parametrize("observer", ESTIMATORS)
@pytest.mark.parametrize("engine", ENGINES)
def test_data_of_zeros_gives_a_model_that_is_right_on_zeros(
    graph: ir.Model, engine: str, observer: str
) -> None:
    zeros = [{"image": np.zeros((2, *SHAPE), np.float32)}]
    quantized = _apply(graph, zeros, engine, observer=observer, **EVERYTHING)
    got = run(quantized, zeros[0])["logits"]
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, run(graph, zeros[0])["logits"], atol=0.05)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_constant_channel_is_exact_to_a_step(graph: ir.Model, engine: str) -> None:
    data = list(batches())
    for feeds in data:
        feeds["image"][:, 1] = 0.75
    quantized = _apply(graph, data, engine, **EVERYTHING)
    assert sqnr(run(graph, data[0]), run(quantized, data[0])) > 20


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_of_zeros_give_the_bias(engine: str) -> None:
    model = model_of(
        [node("Conv", ["x", "w", "b"], ["y"])],
        {"w": np.zeros((4, 3, 1, 1), np.float32), "b": np.array([1, -2, 3, 0], np.float32)},
        {"x": ["n", 3, 4, 4]},
    )
    data = [{"x": random(0, 2, 3, 4, 4)}]
    got = run(_apply(model, data, engine, **EVERYTHING), data[0])["y"]
    np.testing.assert_allclose(got, run(model, data[0])["y"], atol=0.03)


def test_the_least_instruction_set_gets_weights_that_cannot_overflow(graph: ir.Model) -> None:
    for settings in ({}, EVERYTHING):
        changed = graph.clone()
        step = Int8Ptq(type="int8-ptq", **settings)
        step.apply(changed, context(list(batches()), target="x86-avx2"))
        stored = [
            value.const_value.numpy()
            for value in changed.graph.initializers.values()
            if value.dtype == ir.DataType.INT8 and len(value.shape) > 1
        ]
        assert len(stored) == 3
        assert max(np.abs(steps.astype(int)).max() for steps in stored) <= 63


def test_one_table_serves_all_engines(graph: ir.Model, tmp_path: Path) -> None:
    from dataclasses import replace

    from edgekit.compress.quantize.profiles import PROFILES

    asked = replace(context(list(batches())), profiles=tuple(PROFILES.values()))
    step = Int8Ptq(type="int8-ptq")
    tables = [
        step.apply(graph.clone(), replace(asked, profile=profile)).table
        for profile in PROFILES.values()
    ]
    assert all(table is tables[0] for table in tables)
