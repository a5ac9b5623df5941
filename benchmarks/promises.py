"""The speed that the README states, measured: one interleaved run a model, ratios only.

    python benchmarks/promises.py [--json FILE]

For each model of the zoo: the selected artifact of each runtime against the plain ONNX export on
ONNX Runtime (what a user has without edgekit), with a 95 % bootstrap interval. Exits 1 when
EfficientNet-Lite0 on OpenVINO is under 1.5x.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from edgekit import zoo
from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import Timing, make_bundle
from edgekit.report.table import rows
from edgekit.targets import parse_targets

LEAST = {("efficientnet-lite0", "openvino"): 1.5}


def measure(name: str, folder: Path) -> list[dict[str, object]]:
    """Compress one model of the zoo and compare what was selected with the plain export."""
    bundle = make_bundle(
        zoo.load(name),
        folder / f"{name}.edge",
        recipe=load_recipe("int8"),
        targets=parse_targets(["onnxruntime", "openvino"], None),
        timing=Timing(seconds=20),
    )
    return [
        {
            "model": name,
            "runtime": row.artifact.runtime,
            "selected": row.artifact.id,
            "speedup": row.speedup_plain.ratio if row.speedup_plain else 1.0,
            "low": row.speedup_plain.low if row.speedup_plain else 1.0,
            "high": row.speedup_plain.high if row.speedup_plain else 1.0,
            "score": row.score,
        }
        for row in rows(bundle.manifest)
        if row.status == "selected"
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in zoo.names():
            for line in measure(name, Path(folder)):
                found.append(line)
                print(
                    f"{line['model']:20} {line['runtime']:12} {line['selected']:18} "
                    f"{line['speedup']:.2f}x [{line['low']:.2f}, {line['high']:.2f}] "
                    f"score {line['score']:.4f}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    speeds = {(line["model"], line["runtime"]): line["speedup"] for line in found}
    missed = [key for key, least in LEAST.items() if float(str(speeds[key])) < least]
    for key in missed:
        print(f"{key[0]} on {key[1]} is under {LEAST[key]}x", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
