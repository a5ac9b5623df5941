"""What keeping weights once does to a bundle: its size, its loads, its latency.

    python benchmarks/weights.py

Each artifact of the zoo's models is compared with itself standing alone: ONNX with its weights
inside, an IR with a ``.bin`` of its own. Loads are processes of their own, with nothing cached and
with what that load cached, in turns; calls take turns in one process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles

import onnx_ir as ir
import openvino as ov
import torch
from edgekit.exporters.save import save_onnx
from edgekit.runtimes import SessionOptions
from sessions import START, exported, timed

from edgekit import runtimes, zoo
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.external_data import SHARED_WEIGHTS
from edgekit.manifest import Artifact
from edgekit.pipeline import make_bundle
from edgekit.targets import parse_targets
from edgekit.verify import Reference

MODELS, LOADS, ROUNDS, THREADS = ("efficientnet-lite0", "minilm"), 7, 30, 1


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny = exported(torch.nn.Linear(8, 8), {"x": torch.zeros(1, 8)}, folder / "tiny.onnx")
        for name in MODELS:
            bundle = make_bundle(
                zoo.load(name),
                folder / f"{name}.edge",
                recipe=load_recipe("int8"),
                targets=parse_targets([], None),
                timing=None,
            )
            artifacts = bundle.manifest.artifacts
            alone = {one.id: stand_alone(bundle, one, folder / name) for one in artifacts}
            print(f"{name}: {size(bundle.path):.1f} MB, {size(folder / name):.1f} MB all alone")
            for one in [one for one in artifacts if one.precision in {"fp32", "int8"}]:
                print(f"  {one.id}")
                pair = (bundle.file(one), alone[one.id])
                loads(one.runtime, pair, tiny, folder / "cache")
                calls(bundle, one, pair)


def stand_alone(bundle: Bundle, artifact: Artifact, folder: Path) -> Path:
    """The same artifact with weights of its own."""
    folder.mkdir(exist_ok=True)
    source = bundle.file(artifact)
    path = folder / f"{artifact.id}{source.suffix}"
    if source.suffix == ".onnx":
        return save_onnx(ir.load(source), path)[0]
    model = ov.Core().read_model(source, bundle.path / SHARED_WEIGHTS)
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def size(folder: Path) -> float:
    """Of all files, in MB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def loads(runtime: str, pair: tuple[Path, Path], tiny: Path, cache: Path) -> None:
    """Load both in turns: with an empty cache, then with what that load kept."""

    def load(path: Path) -> float:
        command = [sys.executable, "-c", START, runtime, str(path), str(tiny), str(cache)]
        return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    turns = []
    for _ in range(LOADS):
        shutil.rmtree(cache, ignore_errors=True)
        turns.append([(load(path), load(path)) for path in pair])
    for place, name in enumerate(("first", "second")):
        shared, own = (median(turn[which][place] for turn in turns) * 1e3 for which in (0, 1))
        print(f"    {name} load {shared:.0f} ms, {own:.0f} alone")


def calls(bundle: Bundle, artifact: Artifact, pair: tuple[Path, Path]) -> None:
    """Run both in turns on one sample; they have to compute the same bits."""
    feeds = Reference.of(bundle, artifact).feeds[0]
    runtime = runtimes.require(artifact.runtime)
    with (
        runtime.load(pair[0], SessionOptions(threads=THREADS)) as shared,
        runtime.load(pair[1], SessionOptions(threads=THREADS)) as alone,
    ):
        wanted = alone.run(feeds)
        same = all(x.tobytes() == wanted[name].tobytes() for name, x in shared.run(feeds).items())
        ratios = [
            timed(lambda: shared.run(feeds)) / timed(lambda: alone.run(feeds))
            for _ in range(ROUNDS)
        ]
    low, _, high = quantiles(ratios, n=4)
    print(
        f"    a call takes {median(ratios):.3f}x the time (quartiles {low:.3f} to {high:.3f}), "
        f"{'the same' if same else 'OTHER'} bits"
    )


if __name__ == "__main__":
    main()
