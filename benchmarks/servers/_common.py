"""What the servers share: the command line and the engine, with one thread."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort


@dataclass(frozen=True)
class Job:
    model: Path
    port: int
    batch: int
    delay: float

    @property
    def name(self) -> str:
        return "model"


def job(about: str | None) -> Job:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("model", type=Path, help="ONNX file")
    parser.add_argument("port", type=int)
    parser.add_argument("--batch", type=int, default=1, help="largest batch; 1 for no batching")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds to wait for a batch")
    given = parser.parse_args()
    return Job(given.model, given.port, given.batch, given.delay)


def session(model: Path) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return ort.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
