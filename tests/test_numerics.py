from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.compress.recipe import load_recipe
from edgekit.errors import EdgekitError
from edgekit.numerics import TARGETS, mismatch, parse_target, probe
from edgekit.pipeline import make_bundle
from edgekit.targets import parse_targets
from edgekit.workload import Workload


@pytest.mark.parametrize(
    ("features", "name"),
    [
        (["AVX2"], "x86-avx2"),
        (["AVX2", "AVX-512"], "x86-avx512"),
        (["AVX2", "AVX-VNNI"], "x86-vnni"),
        (["AVX2", "AVX-512", "AVX512-VNNI"], "x86-vnni"),
        (["AVX2", "AVX-512", "AVX512-VNNI", "AVX512-BF16"], "x86-vnni-bf16"),
        (["AVX2", "AVX-512", "AVX512-VNNI", "AVX512-BF16", "AMX-INT8", "AMX-BF16"], "x86-amx"),
        (["AVX2", "AVX-512", "AVX512-BF16"], "x86-avx512"),
        (["NEON"], "arm-neon"),
        (["NEON", "NEON dot product"], "arm-dot"),
        (["NEON", "NEON dot product", "NEON I8MM"], "arm-i8mm"),
        ([], "generic"),
    ],
)
def test_a_machine_belongs_to_the_best_class_it_can_run(features: list[str], name: str) -> None:
    assert probe(features).name == name
    assert parse_target(name) == probe(features)


def test_an_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(EdgekitError, match=r"did you mean 'x86-vnni'.*native") as caught:
        parse_target("x86-vni")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("made_for", "features", "precisions", "said"),
    [
        ("x86-vnni", ["AVX2"], ["int8"], "accuracy may be lost"),
        ("x86-vnni", ["AVX2"], ["fp32", "int8-mixed"], "accuracy may be lost"),
        ("arm-dot", ["AVX2"], ["int8"], "accuracy may be lost"),
        ("x86-vnni", ["AVX2"], ["fp32"], ""),
        ("x86-avx2", ["AVX2"], ["int8"], ""),
        ("x86-avx2", ["AVX-VNNI"], ["int8"], ""),
        ("x86-vnni", ["NEON dot product"], ["int8"], ""),
        ("x86-amx", ["AVX-VNNI"], ["int8-bf16"], "emulate it, slowly"),
        ("x86-amx", ["AVX-VNNI"], ["int8"], ""),
    ],
)
def test_a_mismatch_is_told_only_where_results_or_speed_change(
    made_for: str, features: list[str], precisions: list[str], said: str
) -> None:
    found = mismatch(parse_target(made_for), features, precisions)
    assert said in found
    assert bool(found) == bool(said)


def _vpmaddubsw(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Intel SDM: products of unsigned and signed bytes, added in pairs, saturated to int16."""
    products = activations.astype(np.int32) * weights.astype(np.int32)
    return np.clip(products.reshape(-1, 2).sum(axis=1), -(2**15), 2**15 - 1).astype(np.int16)


def _dot(activations: np.ndarray, weights: np.ndarray) -> int:
    """The dot product of an x86 machine without VNNI."""
    return int(_vpmaddubsw(activations, weights).astype(np.int32).sum())


bytes_ = arrays(np.uint8, 16, elements=st.integers(0, 255))


@given(bytes_, st.data())
def test_weights_of_a_saturating_machine_never_saturate(
    activations: np.ndarray, data: st.DataObject
) -> None:
    for target in TARGETS:
        if target.saturates:
            levels = st.integers(-target.levels, target.levels)
            weights = data.draw(arrays(np.int8, 16, elements=levels))
            exact = int(activations.astype(np.int64) @ weights.astype(np.int64))
            assert _dot(activations, weights) == exact


def test_the_largest_safe_weight_is_safe_and_the_full_range_is_not() -> None:
    activations = np.full(16, 255, np.uint8)
    for sign in (1, -1):
        assert _dot(activations, np.full(16, sign * 63, np.int8)) == sign * 255 * 63 * 16
        assert _dot(activations, np.full(16, sign * 127, np.int8)) != sign * 255 * 127 * 16


@pytest.mark.parametrize("recipe", ["int8", pytest.param("int8-accurate", marks=pytest.mark.slow)])
def test_an_artifact_for_a_saturating_machine_has_small_weights_only(
    workload: Workload, tmp_path: Path, recipe: str
) -> None:
    settings = load_recipe(recipe).model_copy(update={"search": None})
    bundle = make_bundle(
        workload,
        tmp_path / "m.edge",
        recipe=settings,
        targets=parse_targets(["onnxruntime"], None),
        timing=None,
        machine=parse_target("x86-avx2"),
    )
    assert bundle.manifest.target == "x86-avx2"
    artifact = next(a for a in bundle.manifest.artifacts if a.precision == "int8")
    graph = ir.load(bundle.path / artifact.files[0].path).graph
    stored = [
        value.const_value.numpy().astype(int)
        for value in graph.initializers.values()
        if value.dtype == ir.DataType.INT8 and value.const_value.size > 16
    ]
    assert len(stored) == 3
    assert all(np.abs(steps).max() in range(32, 64) for steps in stored)
