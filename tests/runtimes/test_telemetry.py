from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys, time
from pathlib import Path
from edgekit import runtimes
session = runtimes.get("onnxruntime").load(
    Path(sys.argv[1]), runtimes.SessionOptions(threads=1)
)
time.sleep(0.3)
print(len(os.listdir("/proc/self/task")))
"""


def test_no_thread_of_onnx_runtime_reports_to_its_maker(built: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(built / "model.onnx")],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == "1"
