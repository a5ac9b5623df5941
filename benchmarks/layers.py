"""What the layers of the zoo add up to, and how much of their time is of known PyTorch modules.

    python benchmarks/layers.py [--bundles FOLDER] [--threads 1] [MODEL ...]

Every artifact of every model (fp32 and int8, ONNX Runtime and OpenVINO) is profiled operator by
operator, in turns with inferences that are not profiled. Printed are a plain inference, what the
layers, the call and what is between layers take of it, what they would add up to if the layers
were not scaled to fit into it, and the mapped share of the layers' time.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from math import inf
from pathlib import Path

from edgekit.runtimes import SessionOptions

from edgekit import zoo
from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import Timing, make_bundle
from edgekit.profile.inputs import bundle_feeds
from edgekit.profile.layers import artifact_layers
from edgekit.targets import parse_targets

MODELS = (
    "mlp-digits", "resnet8-mnist", "lstm-digits", "resnet14-mnist", "efficientnet-lite0", "minilm",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", default=MODELS)
    parser.add_argument("--bundles", type=Path, help="where NAME.edge were built before")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each artifact")
    arguments = parser.parse_args()
    options = SessionOptions(threads=arguments.threads)
    heads = ("layers", "call", "between", "unscaled", "mapped")
    print(f"{'artifact':44} {'ms':>8}" + "".join(f"{head:>9}" for head in heads))
    with ExitStack() as stack:
        folder = arguments.bundles
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="layers-")))
        for name in arguments.models:
            bundle = built(name, folder / f"{name}.edge")
            for artifact in bundle.manifest.artifacts:
                feeds = bundle_feeds(bundle, 1, {})
                found = artifact_layers(bundle, artifact, feeds, options, seconds=arguments.seconds)
                if found is None:
                    continue
                parts = (found.layers_ns, found.call_ns, found.between_ns)
                unscaled = sum(parts[1:]) + (found.layers_ns / found.scale if found.scale else inf)
                shares = [part / found.plain_ns for part in (*parts, unscaled)]
                print(
                    f"{name + ' ' + artifact.id:44} {found.plain_ns / 1e6:8.3f}"
                    + "".join(f"{share:9.3f}" for share in shares)
                    + f"{found.mapped:9.1%}"
                )


def built(name: str, path: Path) -> Bundle:
    if path.exists():
        return Bundle.open(path)
    return make_bundle(
        zoo.load(name),
        path,
        recipe=load_recipe("int8"),
        targets=parse_targets([], None),
        timing=Timing(rounds=(3, 5), seconds=1),
    )


if __name__ == "__main__":
    main()
