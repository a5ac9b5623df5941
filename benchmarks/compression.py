"""edgekit's pruning beside its peers: same model, same data, same epochs, one run.

    python benchmarks/compression.py [--model NAME ...] [--share S ...] [--epochs N] [--seeds N]

``make bench-compression`` sets up what it needs: Torch-Pruning and NNCF beside edgekit. Each tool
prunes the trained model to several sizes. Torch-Pruning goes first, and the others are asked for
just as many MACs as it left. Every result is then fine-tuned with the same loop, data and epochs,
in several orders of the data, exported by edgekit, and all artifacts of a model are timed together,
interleaved, on ONNX Runtime and OpenVINO, in float and as edgekit's int8. ``torch.nn.utils.prune``
and NNCF make weights zero and keep shapes: their MACs stay. The unpruned variant of half the width
stands beside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean

import compression_tools as tools
import torch
from edgekit.runtimes import SessionOptions
from matplotlib.figure import Figure

from edgekit import runtimes, zoo
from edgekit.build import Builder
from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import copied, count_macs, example_tensors
from edgekit.compress.recipe import load_recipe
from edgekit.compress.train.loop import finetune
from edgekit.compress.train.settings import Distill, FineTune
from edgekit.machine import this_machine
from edgekit.numerics import probe
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.stats import summarize
from edgekit.progress import Silent
from edgekit.reference import reference_predict, take_samples
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Training, Workload

THREADS = 2
SHARES = (0.7, 0.5, 0.35)
ENGINES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "int8")
ORIGINAL, HALF = "the original", "half the width, trained"


@dataclass
class Entry:
    """One pruned model. Latencies in ms by engine and precision, None for a share not given.

    ``after`` has one accuracy for each order of the training data.
    """

    tool: str
    share: float | None
    macs: float
    sparsity: float
    before: float
    after: list[float]
    p50_ms: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    model: str
    epochs: int
    entries: list[Entry]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", choices=("resnet8-mnist", "resnet14-mnist"))
    parser.add_argument("--share", action="append", type=float, help="of the MACs that may stay")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("build/compression.json"))
    parser.add_argument("--png", type=Path, default=Path("build/compression.png"))
    given = parser.parse_args()
    results = []
    for name in given.model or ["resnet8-mnist", "resnet14-mnist"]:
        workload = zoo.load(name)
        with tempfile.TemporaryDirectory() as folder:
            result = Result(name, given.epochs, [])
            pruned = make_all(workload, given.share or SHARES, given.seeds, result)
            time_all(workload, pruned, result, Path(folder))
        print_result(result)
        results.append(result)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps([asdict(one) for one in results], indent=1))
    plot(results, given.png)


def score(workload: Workload) -> float:
    with reference_predict(workload) as predict:
        return workload.score(predict)


def make_all(
    workload: Workload, shares: Sequence[float], seeds: int, result: Result
) -> list[Workload]:
    """Prune with every tool to every size, fine-tune, judge."""
    whole = count_macs(copied(workload), example_tensors(workload))
    made = []

    def add(tool: str, share: float | None, pruned: Workload, taught: Sequence[Workload]) -> None:
        model = copied(taught[0])
        macs = count_macs(model, example_tensors(workload)) / whole
        after = [score(one) for one in taught]
        entry = Entry(tool, share, macs, tools.sparsity(model), score(pruned), after)
        result.entries.append(entry)
        made.append(taught[0])
        print(f"{workload.name}: {entry}", flush=True)

    add(ORIGINAL, None, workload, [workload])
    smaller = tools.as_workload(workload, tools.smaller(workload, 0.0))
    add(HALF, None, smaller, [smaller])
    for share in shares:
        wanted = share
        for name, tool in tools.TOOLS.items():
            torch.manual_seed(0)
            pruned = tools.as_workload(workload, tool(workload, wanted))
            if tool is tools.torch_pruning_tool:
                wanted = count_macs(copied(pruned), example_tensors(workload)) / whole
            alone = FineTune(epochs=result.epochs)
            add(name, share, pruned, [tuned(workload, pruned, alone, n) for n in range(seeds)])
            if name == "edgekit l2":
                taught = FineTune(epochs=result.epochs, distill=Distill())
                students = [tuned(workload, pruned, taught, n) for n in range(seeds)]
                add("edgekit l2, distilled", share, pruned, students)
    return made


def tuned(workload: Workload, pruned: Workload, settings: FineTune, seed: int) -> Workload:
    """Fine-tuned on the workload's data in the order number ``seed``."""
    model, own = copied(pruned), workload.training
    assert own is not None
    shuffled = Training(lambda epoch: own.batches(epoch + 1000 * seed), own.loss, own.rate)
    context = ModuleContext(teacher=copied(workload), seed=seed)
    finetune(replace(workload, training=shuffled), model, settings, context, label="benchmark")
    return replace(pruned, model=model)


def time_all(workload: Workload, pruned: Sequence[Workload], result: Result, folder: Path) -> None:
    """Every model on every engine in every precision, one interleaved run an engine."""
    feeds = take_samples(workload, workload.feeds(), 1)[0]
    machine = probe(this_machine().features)
    for engine in ENGINES:
        with ExitStack() as stack:
            timed = []
            for index, one in enumerate(pruned):
                place = folder / f"{engine}-{index}"
                targets = parse_targets([engine], None)
                builder = Builder(one, targets, place, place, Silent(), machine)
                builder.export()
                compressor = builder.compressor(load_recipe("int8"))
                built = [*builder.originals(), builder.variant(compressor, targets[0])]
                for precision, artifact in zip(PRECISIONS, built, strict=True):
                    assert artifact is not None
                    session = runtimes.get(engine).load(
                        artifact.path, SessionOptions(threads=THREADS)
                    )
                    stack.enter_context(session)
                    timed.append(Timed(f"{index} {engine}-{precision}", engine, session))
            samples = interleaved(timed, feeds)
        for name, p50 in samples.items():
            index, form = name.split()
            result.entries[int(index)].p50_ms[form] = p50


def interleaved(timed: Sequence[Timed], feeds: Feeds) -> dict[str, float]:
    found = profile_interleaved(
        timed, feeds, threads=THREADS, min_rounds=40, max_rounds=400, max_seconds=60
    )
    return {one.artifact: summarize(one).p50 for one in found}


def print_result(result: Result) -> None:
    forms = [f"{engine}-{precision}" for engine in ENGINES for precision in PRECISIONS]
    base = result.entries[0].p50_ms
    print(f"\n{result.model}, {result.epochs} epochs; latency as a share of the original's int8")
    print("| tool | asked | MACs | zeros | before | after | " + " | ".join(forms) + " |")
    print("|" + "---|" * (6 + len(forms)))
    for one in result.entries:
        asked = "" if one.share is None else f"{one.share:.2f}"
        times = [f"{one.p50_ms[form] / base[form.replace('fp32', 'int8')]:.2f}x" for form in forms]
        cells = [one.tool, asked, f"{one.macs:.2f}", f"{one.sparsity:.2f}"]
        cells += [f"{one.before:.4f}"]
        cells += [f"{mean(one.after):.4f} ({min(one.after):.3f} to {max(one.after):.3f})"]
        cells += times
        print("| " + " | ".join(cells) + " |")


def plot(results: Sequence[Result], path: Path) -> None:
    """Accuracy after fine-tuning against MACs, and against measured latency."""
    figure = Figure(figsize=(15, 4.5 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 3, squeeze=False)
    views = ("MACs", "onnxruntime-int8", "openvino-int8")
    for row, result in zip(axes, results, strict=True):
        for axis, view in zip(row, views, strict=True):
            for tool in dict.fromkeys(one.tool for one in result.entries):
                own = [one for one in result.entries if one.tool == tool]
                x = [one.macs if view == "MACs" else one.p50_ms[view] for one in own]
                axis.plot(x, [mean(one.after) for one in own], "o-", label=tool, alpha=0.8)
            axis.set_xlabel("share of the MACs" if view == "MACs" else f"{view}, ms")
            axis.set_ylabel("accuracy")
            axis.set_title(result.model)
        row[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
