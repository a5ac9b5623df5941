"""What recipes that make a model smaller gain over edgekit's own int8, and what they cost.

    python benchmarks/smaller.py [--only MODEL] [--bundles FOLDER]

Builds both bundles, or takes those that are in FOLDER, then times their best OpenVINO artifacts,
each loaded afresh, in one interleaved run. ``zoo:minilm`` learns for 40 minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from edgekit.runtimes import SessionOptions

from edgekit import runtimes, zoo
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import Timing, make_bundle
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.sizes import resized
from edgekit.profile.stats import compare
from edgekit.reference import take_samples
from edgekit.targets import parse_targets
from edgekit.workload import Workload

THREADS = 2
HERE = Path(__file__).parent
#: Model, recipe, sizes of what pruning and factorizing is judged on, and sizes that are timed.
CASES = (
    ("resnet14-mnist", "small", {}, ({},)),
    (
        "minilm",
        str(HERE / "minilm-lowrank.yaml"),
        {"batch": 16, "sequence": 32},
        (
            {"batch": 16, "sequence": 32},
            {"batch": 8, "sequence": 64},
            *({"sequence": length} for length in (17, 32, 64, 128, 256)),
        ),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[model for model, *_ in CASES])
    parser.add_argument("--bundles", type=Path, help="keep the bundles here, or take them from it")
    options = parser.parse_args()
    for model, recipe, sizes, timed in CASES:
        if options.only not in {None, model}:
            continue
        workload = zoo.load(model)
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.bundles or Path(scratch)
            int8 = build(workload, "int8", folder / f"{model}-int8.edge", sizes)
            smaller = build(workload, recipe, folder / f"{model}-smaller.edge", sizes)
            for one in timed:
                print(model, Path(recipe).stem, one or "", against(workload, int8, smaller, one))


def build(workload: Workload, recipe: str, out: Path, sizes: dict[str, int]) -> Bundle:
    if out.exists():
        return Bundle.open(out)
    return make_bundle(
        workload,
        out,
        recipe=load_recipe(recipe),
        targets=parse_targets(["openvino"], None),
        timing=Timing(threads=THREADS, seconds=10, sizes=sizes),
    )


def against(workload: Workload, int8: Bundle, smaller: Bundle, sizes: dict[str, int]) -> str:
    """How many times as fast the second is, and the metric of both."""
    sample = take_samples(workload, workload.feeds(), 1)[0]
    with ExitStack() as stack:
        timed = [
            Timed(str(bundle.path), "openvino", stack.enter_context(loaded(bundle)))
            for bundle in (int8, smaller)
        ]
        before, after = profile_interleaved(
            timed,
            resized(sample, workload.dynamic, sizes),
            threads=THREADS,
            min_rounds=100,
            max_rounds=1000,
            max_seconds=30,
        )
    speed = compare(before, after)
    scores = " against ".join(f"{metric(one):.4f}" for one in (smaller, int8))
    return f"{speed.ratio:.2f}x [{speed.low:.2f}, {speed.high:.2f}], {scores}"


def loaded(bundle: Bundle) -> runtimes.Session:
    artifact = bundle.selected("openvino")
    return runtimes.get("openvino").load(bundle.file(artifact), SessionOptions(threads=THREADS))


def metric(bundle: Bundle) -> float:
    assert bundle.manifest.accuracy is not None
    return bundle.manifest.accuracy.artifacts[bundle.selected("openvino").id]


if __name__ == "__main__":
    main()
