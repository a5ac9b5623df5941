"""Calibration's peak memory, measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import onnx_ir as ir
from edgekit.calibration import Calibrator, Estimator

def feeds():
    generator = np.random.default_rng(0)
    for _ in range(int(sys.argv[2]) // 8):
        yield {"image": generator.standard_normal((8, 3, 16, 16)).astype(np.float32)}

model = ir.load(sys.argv[1])
tensors = {str(v.name) for n in model.graph for v in n.outputs if v.dtype == ir.DataType.FLOAT}
for name in ("percentile", "entropy", "mse"):
    table = Calibrator(feeds, samples=10**9, divisible=True).table(
        model, tensors, Estimator(name=name)
    )
    assert table.samples == int(sys.argv[2])
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's VmHWM")
def test_peak_memory_does_not_grow_with_the_samples(onnx_file: Path) -> None:
    def peak(samples: int) -> int:
        command = [sys.executable, "-c", SCRIPT, str(onnx_file), str(samples)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout)

    # 4000 samples would be 12 MB of inputs and 100 MB of activations, if they were kept.
    few, many = peak(64), peak(4000)
    assert many < few + 8_000, f"{few} kB with 64 samples, {many} kB with 4000"
