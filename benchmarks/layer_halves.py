"""Whether the layers' times are true: those of the first half of a model against that half alone.

    python benchmarks/layer_halves.py [--bundles FOLDER] [--threads 1] [MODEL ...]

A model is cut where one tensor alone goes on. What the profiler says of the operators before the
cut, in the whole model, with their part of what is between operators, is compared with what an
inference of that half takes by the wall clock without profiling, less the call. Printed are the
median of their ratios and its quartiles.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles

import onnx
from edgekit.runtimes import SessionOptions
from layers import built

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.profile.inputs import bundle_feeds
from edgekit.profile.layers.measure import measure_layers
from edgekit.profile.records import LayerTimes
from edgekit.spec import Feeds

MODELS = (
    "resnet8-mnist", "mobilenet-mnist", "densenet22-mnist", "vgg16-mnist", "vit-mnist",
    "prelu-mnist", "linformer-mnist", "pointnet-shapes", "resnet14-mnist", "efficientnet-lite0",
)  # fmt: skip
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", default=MODELS)
    parser.add_argument("--bundles", type=Path, help="where NAME.edge were built before")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    options = SessionOptions(threads=arguments.threads)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="halves-")))
        for name in arguments.models:
            bundle = built(name, (arguments.bundles or scratch) / f"{name}.edge")
            whole, first = scratch / "whole.onnx", scratch / "first.onnx"
            inside = halved(bundle, whole, first)
            feeds = bundle_feeds(bundle, 1, {})
            for runtime in ("onnxruntime", "openvino"):
                ratios = []
                for _ in range(ROUNDS):
                    times = measured(runtime, whole, feeds, options)
                    alone = measured(runtime, first, feeds, options)
                    ratios.append(told(times, inside) / (alone.plain_ns - alone.call_ns))
                low, middle, high = quantiles(ratios, n=4)
                print(
                    f"{name:20} {runtime:12} "
                    f"told over alone {middle:.3f} (quartiles {low:.3f} to {high:.3f})",
                    flush=True,
                )


def measured(runtime: str, path: Path, feeds: Feeds, options: SessionOptions) -> LayerTimes:
    engine = runtimes.require(runtime)
    with engine.load(path, options) as session:
        given = {spec.name: feeds[spec.name] for spec in session.inputs}
        return measure_layers(engine, path, options, session, given, {}, seconds=0.5)


def told(times: LayerTimes, inside: set[str]) -> float:
    """Nanoseconds up to the last layer that computes something named in ``inside``."""
    layers = times.layers
    end = max(place for place, layer in enumerate(layers) if inside & {*layer.onnx}) + 1
    return sum(layer.ns for layer in layers[:end]) + times.between_ns * end / len(layers)


def halved(bundle: Bundle, whole: Path, first: Path) -> set[str]:
    """Write the model and the first half of it; the names of what that computes."""
    model = onnx.load(bundle.path / "model.onnx")
    onnx.save(model, whole)
    stored = {tensor.name for tensor in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in {*node.input} - stored if name)
    readers.update(value.name for value in model.graph.output)
    alive = {value.name for value in model.graph.input} - stored
    cuts = []
    for index, node in enumerate(model.graph.node):
        for name in {*node.input} & alive:
            readers[name] -= 1
        alive = {name for name in alive | {*node.output} if readers[name] > 0}
        if len(alive) == 1 and alive <= {*node.output}:
            cuts.append((abs(index - len(model.graph.node) / 2), index, *alive))
    _, index, cut = min(cuts)
    inputs = [value.name for value in model.graph.input]
    onnx.save(onnx.utils.Extractor(model).extract_model(inputs, [cut]), first)
    return {name for node in model.graph.node[: index + 1] for name in (node.name, *node.output)}


if __name__ == "__main__":
    main()
