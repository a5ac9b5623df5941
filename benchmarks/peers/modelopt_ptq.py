"""Quantize an ONNX model with NVIDIA ModelOpt, calibrated on the processor.

"int8" chooses ranges by entropy, ModelOpt's default; "int8-max" takes the largest values.
"""

from __future__ import annotations

from pathlib import Path

from _common import Batch, Job, main, read
from modelopt.onnx.quantization import quantize as modelopt_quantize
from onnxruntime.quantization import CalibrationDataReader


class Reader(CalibrationDataReader):
    """ModelOpt also wants the first batch apart, and to read everything again."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.rewind()

    def get_next(self) -> Batch | None:
        return next(self._batches, None)

    def get_first(self) -> Batch:
        return read(self._job.calibration[0])

    def rewind(self) -> None:
        self._batches = self._job.batches()


def quantize(job: Job) -> Path:
    path = job.output(".onnx")
    modelopt_quantize(
        str(job.model),
        quantize_mode="int8",
        calibration_data_reader=Reader(job),
        calibration_method="max" if job.variant == "int8-max" else "entropy",
        calibration_eps=["cpu"],
        # With every operator of MiniLM, entropy raises ValueError and max gives a cosine of 0.87.
        op_types_to_quantize=["MatMul", "Gemm"] if job.transformer else None,
        high_precision_dtype="fp32",
        dq_only=True,  # weights are stored in 8 bits
        output_path=str(path),
        log_level="WARNING",
    )
    return path


if __name__ == "__main__":
    main(__doc__, ("int8", "int8-max"), quantize)
