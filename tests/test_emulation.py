from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from edgekit.runtimes import SessionOptions

from edgekit import runtimes
from edgekit.compress.half import HalfPrecision
from edgekit.emulation import emulated
from tests.compress.graphs import context, model_of, node, random

X = {"x": ["n", 16]}


def _saved(folder: Path, dtype: str) -> Path:
    model = model_of([node("MatMul", ["x", "w"], ["y"])], {"w": random(0, 16, 4)}, X)
    HalfPrecision(type="half", dtype=dtype).apply(model, context([{}], "tensorrt-rtx"))
    ir.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def _run(path: Path, x: np.ndarray) -> np.ndarray:
    with runtimes.get("onnxruntime").load(path, SessionOptions(optimize=False)) as session:
        return session.run({"x": x})["y"]


def test_a_bfloat16_product_is_rounded_as_bfloat16_rounds(tmp_path: Path) -> None:
    x = random(1, 8, 16)
    narrow = [a.astype(ml_dtypes.bfloat16).astype(np.float32) for a in (x, random(0, 16, 4))]
    wanted = (narrow[0] @ narrow[1]).astype(ml_dtypes.bfloat16).astype(np.float32)
    got = _run(emulated(_saved(tmp_path, "bf16")), x)
    np.testing.assert_allclose(got, wanted, rtol=2**-7)
    assert (got == wanted).mean() > 0.9  # sums in another order may round to the other side
    exact = x @ random(0, 16, 4)
    assert np.abs(got - exact).max() > 1e-3


def test_onnx_runtime_could_not_run_it_itself(tmp_path: Path) -> None:
    path = _saved(tmp_path, "bf16")
    with pytest.raises(Exception, match="implementation"):
        _run(path, random(1, 8, 16))
