"""Every two passes in every order: refused by the recipe in one line, or done.

Each pass is applied once to a tiny model; whatever may follow is applied to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from edgekit.calibration import Calibrator
from torch import nn

from edgekit import runtimes
from edgekit.build import Builder
from edgekit.built import Changed
from edgekit.compress.base import GraphPass, ModuleContext, ModulePass, pass_types
from edgekit.compress.compressor import Compressor
from edgekit.compress.modules import check_module, count_macs, count_parameters, example_tensors
from edgekit.compress.recipe import Recipe, load_recipe
from edgekit.compress.sparse.zeros import zero_share
from edgekit.errors import RecipeError
from edgekit.judge import verification_feeds
from edgekit.machine import this_machine
from edgekit.module_passes import run_module_passes
from edgekit.numerics import probe
from edgekit.pipeline import make_bundle
from edgekit.progress import Silent
from edgekit.reference import reference_predict
from edgekit.targets import parse_targets
from edgekit.verify import Reference, verify_artifact
from edgekit.workload import Workload
from tests.compress.tiny import SETTINGS, adapter, cnn, transformer

MODULE = sorted(name for name, kind in pass_types().items() if issubclass(kind, ModulePass))
GRAPH = sorted(name for name, kind in pass_types().items() if issubclass(kind, GraphPass))
QUANTIZERS = {"int8-ptq", "dynamic-int8", "fp8-ptq", "weight-only"}
MACHINE = probe(this_machine().features)
PER_ENGINE = QUANTIZERS | {"half", "store-palettes"}

#: By pass those that it must not come after, beside graph passes for one on the module.
REFUSED = {
    "distill": {"palettize", "qat"},
    "drop-layers": {"palettize", "qat"},
    "dynamic-int8": {*QUANTIZERS, "half", "store-palettes", "qat"},
    "efficient-attention": {"palettize", "qat"},
    "equalize": {*PER_ENGINE, "palettize", "qat"},
    "fp8-ptq": {*QUANTIZERS, "half", "store-palettes", "qat"},
    "half": {"half"},
    "int8-ptq": {*QUANTIZERS, "half", "store-palettes"},
    "lowrank": {"palettize", "qat", "sparse", "sparse-training"},
    "merge-adapter": {*MODULE} - {"merge-adapter"},
    "palettize": {"qat"},
    "prune": {"palettize", "qat", "sparse", "sparse-training"},
    "qat": {"palettize"},
    "recalibrate": {"palettize", "qat"},
    "smooth-quant": {*PER_ENGINE, "palettize", "qat"},
    "sparse": {"palettize", "qat"},
    "sparse-training": {
        "distill", "merge-adapter", "palettize", "qat", "recalibrate", "sparse", "sparse-training",
    },
    "store-palettes": {"half"},
    "weight-only": {*QUANTIZERS, "half", "store-palettes", "qat"},
}  # fmt: skip
#: What is smaller afterwards than before.
SMALLER = {"drop-layers", "lowrank", "prune"}


def _refused(first: str, second: str) -> bool:
    if second in MODULE and first in GRAPH:
        return True
    return first in REFUSED.get(second, ())


PAIRS = list(product(sorted(pass_types()), repeat=2))
#: Its numbers are followed through dozens of traces.
SLOW = {("efficient-attention", "prune")}


def _cases(firsts: list[str], seconds: list[str]) -> list[Any]:
    return [
        pytest.param(*pair, marks=pytest.mark.slow if pair in SLOW else (), id=" then ".join(pair))
        for pair in product(firsts, seconds)
        if not _refused(*pair)
    ]


class Bench:
    """What each pass makes of a tiny model, made once.

    Attributes:
        workload: the tiny workload of that name.
        first: what a pass makes of it.
        exported: the ONNX file of that, and the workload with the changed module.
    """

    def __init__(self, folder: Path) -> None:
        self._adapters = {"cnn": folder / "8", "transformer": folder / "16"}
        for width, path in ((8, self._adapters["cnn"]), (16, self._adapters["transformer"])):
            path.mkdir()
            adapter(path, width)
        self._folder = folder
        self.workload = cache(lambda model: {"cnn": cnn, "transformer": transformer}[model]())
        self.first = cache(self._first)
        self.exported = cache(self._exported)

    def step(self, kind: str, model: str = "cnn", **keys: Any) -> Any:
        """The pass with its tiny settings."""
        more = {"path": self._adapters[model]} if kind == "merge-adapter" else {}
        return pass_types()[kind].model_validate({"type": kind, **SETTINGS[kind], **more, **keys})

    def run(self, workload: Workload, model: str, step: ModulePass) -> Changed:
        """The pass, learning from the tiny model."""
        teacher = self.workload(model).model
        assert isinstance(teacher, nn.Module)
        return run_module_passes(workload, [step], ModuleContext(teacher=teacher, target=MACHINE))

    def _first(self, kind: str, model: str, **keys: Any) -> Changed:
        return self.run(self.workload(model), model, self.step(kind, model, **keys))

    def _exported(self, kind: str | None, model: str) -> tuple[Path, Changed]:
        workload = self.workload(model)
        changed = Changed(workload) if kind is None else self.first(kind, model)
        work = self._folder / f"export-{kind}-{model}"
        work.mkdir()
        targets = parse_targets(["onnxruntime"], None)
        builder = Builder(changed.workload, targets, work / "b", work, Silent(), MACHINE)
        builder.export()
        return builder.model, changed


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they gain at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _model_for(first: str, second: str) -> str:
    """What both find something in; smooth-quant does not look at a CNN."""
    smooth = "smooth-quant" in {first, second} and first in {*GRAPH, "lowrank", "prune"}
    return "transformer" if smooth or "efficient-attention" in {first, second} else "cnn"


def _module(workload: Workload) -> nn.Module:
    assert isinstance(workload.model, nn.Module)
    return workload.model


def _weights(workload: Workload) -> dict[str, torch.Tensor]:
    found = _module(workload).named_parameters()
    return {name: parameter.detach() for name, parameter in found if parameter.ndim > 1}


def test_every_pass_has_its_place_here() -> None:
    """Whoever adds a pass says what it must not follow, and with what it is tried."""
    assert SETTINGS.keys() == pass_types().keys()
    assert REFUSED.keys() == pass_types().keys()


@pytest.mark.parametrize(
    ("first", "second"), [pytest.param(*p, id=" then ".join(p)) for p in PAIRS]
)
def test_a_recipe_takes_two_passes_or_says_in_one_line_what_to_do(
    bench: Bench, tmp_path: Path, first: str, second: str
) -> None:
    # As a bundle records them: with all keys.
    steps = [bench.step(kind).model_dump(mode="json", by_alias=True) for kind in (first, second)]
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump({"name": "two", "passes": steps}))
    if not _refused(first, second):
        assert [step.type for step in load_recipe(str(file)).passes] == [first, second]
        return
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(file))
    told = str(caught.value)
    assert "\n" not in told
    assert f"'{second}'" in told
    assert any(way in told for way in ("has to come ", "put it before ", "leave one of them out"))
    if "put it before" in told:  # then that has to be right
        Recipe.model_validate({"name": "two", "passes": steps[::-1]})


def test_a_smaller_student_comes_first(bench: Bench) -> None:
    student = bench.step("distill", student="smaller")
    Recipe(name="r", passes=(bench.step("merge-adapter"), student, bench.step("prune")))
    with pytest.raises(ValueError, match="'distill' has to come before the others that change"):
        Recipe(name="r", passes=(bench.step("prune"), student))


@pytest.mark.parametrize(("first", "second"), _cases(MODULE, MODULE))
def test_a_pass_on_the_module_runs_after_another(bench: Bench, first: str, second: str) -> None:
    model = _model_for(first, second)
    keys: dict[str, Any] = {}
    if first == second == "efficient-attention":
        keys = {"only": ("layers.0.*",)}  # what is replaced cannot be replaced again
    original = bench.workload(model)
    once = bench.first(first, model, **keys).workload
    done = bench.run(once, model, bench.step(second, model))
    twice = done.workload
    assert bool(done.passes[0].changed) == (first != "palettize")  # which leaves nothing to share
    check_module(original, _module(twice), second)
    _learns(original, _module(twice))
    for before, after, kind in ((original, once, first), (once, twice, second)):
        if kind in SMALLER:
            assert all(np.less(_size(after), _size(before)))
    weights = _weights(twice)
    if {"sparse", "sparse-training"} & {first, second}:
        assert zero_share(torch.cat([weight.flatten() for weight in weights.values()])) >= 0.3
    if first in {"sparse", "sparse-training"}:
        for name, weight in _weights(once).items():
            if name in weights and zero_share(weight) > 0.1:  # fewer are nobody's
                assert not bool(weights[name][weight == 0].any())
    if "palettize" in {first, second}:
        assert all(len(weight.unique()) <= 8 for weight in weights.values())


def _size(workload: Workload) -> tuple[int, int]:
    return (
        count_macs(_module(workload), example_tensors(workload)),
        count_parameters(_module(workload)),
    )


def _learns(workload: Workload, model: nn.Module) -> None:
    """Any batch size goes forward, and gradients come back to every weight."""
    training = workload.training
    assert training is not None
    batch = next(iter(training.batches(0)))
    (name,) = workload.example_inputs
    outputs = {"logits": model(batch[name])}
    assert outputs["logits"].shape == (len(batch[name]), 4)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(training.loss(outputs, batch), parameters, allow_unused=True)
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def _build(
    bench: Bench, model: str, first: str | None, *seconds: str
) -> tuple[Path, Compressor, bool]:
    path, changed = bench.exported(first, model)
    calibrator = Calibrator(changed.workload.feeds, samples=48, divisible=True, cache=None)
    steps = [bench.step(kind) for kind in seconds]
    engine = _engine(*seconds)
    made = Compressor(path, steps, [engine], calibrator, MACHINE, changed.learned)
    out = path.parent / f"{'-'.join(seconds)}.onnx"
    return out, made, made.build(engine, out)


def _engine(*passes: str) -> str:
    """One that has something for these passes to do."""
    return "tensorrt-rtx" if "fp8-ptq" in passes else "onnxruntime"


def _verified(path: Path, workload: Workload, precision: str) -> bool:
    with reference_predict(workload) as predict:
        reference = Reference.record(predict, verification_feeds(workload))
    with runtimes.require("onnxruntime").load(path) as session:
        return verify_artifact("it", precision, session.run, reference).passed


def _stored(path: Path) -> set[str]:
    """Types of the large constants."""
    constants = onnx.load(path).graph.initializer
    large = [one for one in constants if np.prod(one.dims) >= 16]
    return {onnx.TensorProto.DataType.Name(one.data_type) for one in large}


@pytest.mark.parametrize(("first", "second"), _cases(MODULE, GRAPH))
def test_a_pass_on_the_graph_runs_after_one_on_the_module(
    bench: Bench, first: str, second: str
) -> None:
    model = _model_for(first, second)
    path, compressor, changed = _build(bench, model, first, second)
    stored: dict[str, Callable[[set[str]], bool]] = {
        "dynamic-int8": lambda types: "INT8" in types,
        "fp8-ptq": lambda types: "FLOAT8E4M3FN" in types,
        "half": lambda types: "FLOAT16" in types and "FLOAT" not in types,
        "int8-ptq": lambda types: "INT8" in types and (model != "cnn" or types == {"INT8"}),
        "weight-only": lambda types: bool({"UINT8", "INT8"} & types),
        "store-palettes": lambda types: bool({"UINT4", "UINT8"} & types),
    }
    if not changed:  # nothing there to store, or to scale
        assert second in {"equalize", "smooth-quant", "store-palettes"}
        assert (first, second) != ("palettize", "store-palettes")
        return
    assert second not in stored or stored[second](_stored(path))
    label = compressor.precision_for(_engine(second))
    assert _verified(path, bench.exported(first, model)[1].workload, label)


@pytest.mark.parametrize(("first", "second"), _cases(GRAPH, GRAPH))
@pytest.mark.parametrize("start", [None, "palettize"])
def test_a_pass_on_the_graph_runs_after_another(
    bench: Bench, start: str | None, first: str, second: str
) -> None:
    if start and (_refused(start, first) or _refused(start, second)):
        start = None
    model = _model_for(first, second)
    path, compressor, changed = _build(bench, model, start, first, second)
    if changed:
        label = compressor.precision_for(_engine(first, second))
        assert _verified(path, bench.exported(start, model)[1].workload, label)
    for kind in {first, second} & QUANTIZERS:
        (note,) = [one for one in compressor.notes if f": {kind} changed" in one]
        assert "changed 0 of" not in note


BUNDLES = {
    "prune and int8": ["prune", "int8-ptq"],
    "sparse and int8": ["sparse", "int8-ptq"],
    "low rank, equalized, int8": ["lowrank", "recalibrate", "equalize", "int8-ptq"],
    "palettes stored": ["palettize", "store-palettes"],
    "learnt scales": ["prune", "qat", "int8-ptq"],
    "all": ["prune", "lowrank", "recalibrate", "distill", "equalize", "int8-ptq"],
}


@pytest.mark.parametrize("kinds", BUNDLES.values(), ids=BUNDLES)
def test_a_recipe_of_several_makes_a_verified_bundle(
    bench: Bench, tmp_path: Path, kinds: list[str]
) -> None:
    bundle = make_bundle(
        replace(bench.workload("cnn"), smaller=None),
        tmp_path / "it.edge",
        recipe=Recipe(name="it", passes=tuple(bench.step(kind) for kind in kinds)),
        targets=parse_targets(["onnxruntime", *(["openvino"] if "prune" in kinds else [])], None),
        timing=None,
    )
    manifest = bundle.manifest
    assert [record.name for record in manifest.passes] == [k for k in kinds if k in MODULE]
    assert all(record.passed and record.ran for record in manifest.verification)
    for record in manifest.passes:
        assert record.changed
        if record.name in SMALLER:
            assert record.macs[1] < record.macs[0]
            assert record.parameters[1] < record.parameters[0]
    (artifact,) = [
        one
        for one in manifest.artifacts
        if one.runtime == "onnxruntime" and not one.precision.endswith("fp32")
    ]
    stored = _stored(bundle.path / artifact.files[0].path)
    assert stored == {"INT8"} if "int8-ptq" in kinds else "UINT4" in stored
