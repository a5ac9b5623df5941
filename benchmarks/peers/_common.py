"""What the peers' scripts share: the command line, the calibration data, the measurement."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Batch = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Job:
    model: Path
    calibration: tuple[Path, ...]
    stem: Path
    variant: str
    transformer: bool

    def output(self, suffix: str) -> Path:
        """The file to write; a stem such as ``v1.2`` keeps its dot."""
        return self.stem.with_name(self.stem.name + suffix)

    def batches(self) -> Iterator[Batch]:
        return map(read, self.calibration)


def read(path: Path) -> Batch:
    with np.load(path) as arrays:
        return dict(arrays)


def main(about: str | None, variants: Sequence[str], quantize: Callable[[Job], Path]) -> None:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("model", type=Path, help="ONNX file")
    parser.add_argument("calibration", type=Path, help="folder of .npz files, one batch each")
    parser.add_argument("stem", type=Path, help="file to write, without its suffix")
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("--transformer", action="store_true", help="settings for transformers")
    given = parser.parse_args()
    files = tuple(sorted(given.calibration.glob("*.npz")))
    if not files:
        parser.error(f"{given.calibration}: no .npz files")
    given.stem.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    file = quantize(Job(given.model, files, given.stem, given.variant, given.transformer))
    wall = time.perf_counter() - started
    print(json.dumps({"file": str(file), "wall_s": wall, "peak_rss_mb": peak_rss_mb()}), flush=True)


def peak_rss_mb() -> float:
    """Linux's peak of this program alone: getrusage's may be that of the process it came from."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]) / 1024
