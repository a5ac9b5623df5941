"""Quantize an ONNX model with edgekit, measured as the peers are: for OpenVINO or ONNX Runtime."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from _common import Job, main, read

from edgekit.build import Builder
from edgekit.compress.recipe import load_recipe
from edgekit.machine import this_machine
from edgekit.numerics import probe
from edgekit.progress import Silent
from edgekit.targets import parse_targets
from edgekit.workload import Workload

RUNTIMES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}


def quantize(job: Job) -> Path:
    workload = Workload(
        name=job.stem.name,
        model=job.model,
        example_inputs=read(job.calibration[0]),
        calibration=job.batches,
    )
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as work:
        targets = parse_targets([RUNTIMES[job.variant]], None)
        machine = probe(this_machine().features)
        builder = Builder(workload, targets, Path(folder), Path(work), Silent(), machine)
        builder.export()
        built = builder.variant(builder.compressor(load_recipe("int8")), targets[0])
        assert built is not None
        files = [Path(folder) / entry.path for entry in built.artifact.files]
        for file in files:
            shutil.copyfile(file, job.output(file.suffix))
    return job.output(files[0].suffix)


if __name__ == "__main__":
    main(__doc__, tuple(RUNTIMES), quantize)
